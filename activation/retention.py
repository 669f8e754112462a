"""Which releases are kept: the newest `MAILWRIGHT_RELEASES_KEPT`, and those that something still goes back to.

The history of memberships is never removed. Of the releases that go, the addresses stay whose contacts a destination
still has from us and no other release knows: without them, the tags of who left could only be removed by key.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from activation import releases
from activation.connector import key_sql
from activation.ledger import Ledger
from activation.releases import Release, quoted
from core.files import replacing
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory


def departed(home: Home) -> Path:
    """Addresses (`email`) of releases that are gone, as far as a destination may still have them."""
    return home.releases / "departed.parquet"


def prune(settings: Settings, home: Home) -> list[int]:
    """Remove what need not be kept; returns the numbers of what went. The caller has the releases to itself."""
    there = releases.numbers(home)
    going = [number for number in there[: -settings.releases_kept] if number not in _needed(settings, home)]
    if not going:
        return []
    _keep_addresses(settings, home, [number for number in there if number not in going], going)
    for number in going:
        hidden = home.releases / f".pruning-{number:06}"
        os.rename(home.releases / f"{number:06}", hidden)
        shutil.rmtree(hidden)
    return going


def _needed(settings: Settings, home: Home) -> set[int]:
    """What a hold goes back to, and what stands at the destinations."""
    held = releases.hold(home)
    needed = {held.release, held.reverts_to} if held is not None else set()
    newest = releases.latest(home)
    if newest is not None and newest.previous is not None and newest.reverts_to is not None:
        needed.add(newest.previous)  # the next release tells by it what the rollback had taken
    if _is_there(settings, home):
        with Ledger(home, settings) as ledger:
            needed |= ledger.bases()
    return needed


def _keep_addresses(settings: Settings, home: Home, staying: list[int], going: list[int]) -> None:
    """Add to `departed` the addresses that only releases that go have and a ledger's key is of; drop all others."""
    if not _is_there(settings, home):
        return
    with in_memory(settings) as connection, Ledger(home, settings) as ledger:
        connection.register("keys", ledger.keys())
        gone = _files([releases.read(home, number) for number in going])
        kept = _files([releases.read(home, number) for number in staying])
        before = f" union all select email from read_parquet('{quoted(departed(home))}')"
        with replacing(departed(home)) as beside:
            beside.touch(mode=0o600)
            connection.execute(f"""
                copy (
                    select distinct email
                    from (
                        select email from read_parquet({gone}, union_by_name = true)
                        {before if departed(home).exists() else ""}
                    )
                    anti join (select email from read_parquet({kept}, union_by_name = true)) using (email)
                    where {key_sql("email")} in (select key from keys)
                    order by email
                ) to '{quoted(beside)}' (format parquet)
            """)
            beside.chmod(0o600)


def _is_there(settings: Settings, home: Home) -> bool:
    return settings.ledger_url is not None or home.ledger.exists()


def _files(found: list[Release]) -> str:
    return "[" + ", ".join(f"'{quoted(release.file('addresses'))}'" for release in found) + "]"
