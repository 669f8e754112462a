"""Rollback: bring back an earlier release's audiences, as a new release that is held until somebody says to go on.

What comes back are the profiles and memberships of that time. What is known of people is today's: nobody comes back who
may not be mailed by what is known now, nor anything worked out about those who may no longer be profiled, and records
that merged since stay one customer. So withdrawals are never undone, and undoing adds nothing to what was agreed to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from activation import comparison, history, releases, retention
from activation.comparison import Comparison
from activation.consent import refusals
from activation.releases import STATES, Draft, Hold, Release, quoted
from core.errors import ReleaseError
from core.files import replacing
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# What a profile says that nobody worked out. Whatever else it holds needs permission for profiling, a new column too.
SAID = ("email", "customer_id", "given_name", "surname", "country_code", "language", "account_type")
# What is known of people, taken over from the newest release.
_KNOWLEDGE = ("addresses", "bindings", "suppressed", "funnel")


@dataclass(frozen=True)
class Preview:
    """What going back would change, before it is done.

    Attributes:
        reverts_to: the release that would be brought back.
        number: of the release that would be made.
        withheld: profiles of `reverts_to` that may not be mailed any more.
        unprofiled: profiles that come back without what was worked out about them.
        comparison: between the newest release and the one that would be made.
    """

    reverts_to: int
    number: int
    withheld: int
    unprofiled: int
    comparison: Comparison

    def summary(self) -> dict[str, str | int]:
        """Label to value, for people."""
        compared = self.comparison
        said: dict[str, str | int] = {
            "newest release": compared.before,
            "goes back to": self.reverts_to,
            "profiles that come back": compared.profiles_added,
            "profiles that go": compared.profiles_removed,
            "fields that change": sum(compared.fields.values()),
            "segment entries": sum(segment.entered for segment in compared.segments),
            "segment exits": sum(segment.left for segment in compared.segments),
        }
        if self.withheld:
            said["left out: may not be mailed any more"] = self.withheld
        if self.unprofiled:
            said["without segments and scores: may not be profiled any more"] = self.unprofiled
        return said


def preview(settings: Settings, home: Home, number: int) -> Preview:
    """What `rollback` to that release would make the next plan undo. Changes nothing.

    Raises:
        ReleaseError: as `rollback`.
    """
    with releases.exclusively(home):
        releases.clear(home)
        with _draft(settings, home, number) as (_, made, newest, connection):
            found = _withheld(connection)
            compared = comparison.between(connection, home, newest, made)
    return Preview(number, made.number, *found, compared)


def rollback(settings: Settings, home: Home, number: int) -> Release:
    """Make a new release with the audiences of release `number`, and hold it over further refreshes.

    Raises:
        ReleaseError: there is no such release, retention removed it, it or the newest one is not as it was frozen, or
            the newest one was made by an earlier version, which did not note who may be profiled.
        WarehouseBusyError: another process makes a release.
    """
    with releases.exclusively(home):
        releases.clear(home)
        history.heal(settings, home)
        with _draft(settings, home, number) as (draft, made, newest, connection):
            history.write(connection, home, made, newest, history.ROLLBACK)
            # It holds nothing until its release is there.
            releases.set_hold(home, Hold(made.number, number))
            draft.commit(made)
        _withdrawals_file(home).unlink(missing_ok=True)
        retention.prune(settings, home)
        return releases.read(home, made.number, outcome="new")


def resume(home: Home) -> Hold | None:
    """End the hold, so that the next refresh freezes what it finds. Returns what was held, or None if nothing was."""
    with releases.exclusively(home):
        found = releases.hold(home)
        releases.end_hold(home)
        _withdrawals_file(home).unlink(missing_ok=True)
        return found


def note_withdrawals(home: Home, held: Release, connection: duckdb.DuckDBPyConnection) -> None:
    """Note whom of a held release a refresh finds not to be mailed or not to be profiled any more.

    A refresh freezes nothing while a release is held, yet what people withdrew binds: plans heed this beside the release.
    """
    with replacing(_withdrawals_file(home)) as beside:
        beside.touch(mode=0o600)
        connection.execute(f"""
            copy (
                select
                    profiles.email,
                    coalesce(audience.is_sendable, false) as is_sendable,
                    coalesce(audience.may_profile, false) as may_profile
                from read_parquet('{quoted(held.file("profiles"))}') as profiles
                left join activation.sendable_audience as audience on profiles.email = audience.email
                where not coalesce(audience.is_sendable, false) or not coalesce(audience.may_profile, false)
                order by profiles.email
            ) to '{quoted(beside)}' (format parquet)
        """)
        beside.chmod(0o600)


def create_profiles(connection: duckdb.DuckDBPyConnection, home: Home, release: Release) -> None:
    """Make the view `profiles` of a release; of one that is held, less what refreshes since found to be withdrawn."""
    source = f"read_parquet('{quoted(release.file('profiles'))}')"
    held = releases.hold(home)
    if held is None or held.release != release.number or not _withdrawals_file(home).exists():
        connection.execute(f"create view profiles as from {source}")
        return
    connection.execute(f"create table withdrawn as from read_parquet('{quoted(_withdrawals_file(home))}')")
    connection.execute(f"create view profiles_as_released as from {source}")
    columns = _without_profiling(
        connection, "profiles_as_released", "email in (select email from withdrawn where not may_profile)"
    )
    connection.execute(
        f"create view profiles as select {columns} from profiles_as_released"
        " where email not in (select email from withdrawn where not is_sendable)"
    )


@contextmanager
def _draft(
    settings: Settings, home: Home, number: int
) -> Iterator[tuple[Draft, Release, Release, duckdb.DuckDBPyConnection]]:
    """Write the files of the release that goes back to `number`; gives it, the newest release and a connection."""
    newest = releases.latest(home)
    target = releases.read(home, number)
    assert newest is not None  # else there were no release of that number
    releases.verify(home, newest)
    releases.verify(home, target)
    if newest.layout == 1:
        raise ReleaseError(
            f"release {newest.number} was made by an earlier version, which did not note who may be profiled: run"
            " `mailwright refresh` first, then roll back"
        )
    refused = refusals(settings, home, newest)
    with Draft(home, newest) as draft, in_memory(settings) as connection:
        connection.register("refused", _emails(refused.kinds))
        _create_today(connection, home, newest, target)
        draft.write(connection, "profiles", _PROFILES.format(columns=_columns(connection)))
        draft.write(connection, "memberships", _MEMBERSHIPS)
        for table in _KNOWLEDGE:
            draft.copy(table, newest)
        draft.copy(STATES, newest)
        members = dict(
            connection.execute(
                f"select segment, count(*) from read_parquet('{quoted(draft.file('memberships'))}') group by 1"
            ).fetchall()
        )
        states = {name: replace(state, members=members.get(name, 0)) for name, state in target.states.items()}
        made = Release(
            draft.number,
            newest.as_of,
            releases.content_hash_of(connection, home, draft.folder, states),
            draft.counts,
            states,
            newest.number,
            draft.folder,
            code_revision=releases.code_revision(settings.project_dir),
            versions=target.versions,
            reverts_to=number,
        )
        yield draft, made, newest, connection


def _create_today(connection: duckdb.DuckDBPyConnection, home: Home, newest: Release, target: Release) -> None:
    """What is known today: `allowed` addresses, `holding` customers; and then and now's profiles and memberships."""
    for name, release in (("then", target), ("now", newest)):
        for table in ("profiles", "memberships"):
            connection.execute(f"create view {table}_{name} as from read_parquet('{quoted(release.file(table))}')")
    connection.execute(f"""
        create view holding as select email, customer_id from read_parquet('{quoted(newest.file("addresses"))}');
        create table allowed as
        select email, coalesce(bool_or(may_profile), false) as may_profile
        from read_parquet('{quoted(newest.file("addresses"))}')
        where email not in (select email from refused)
        group by email
        having bool_or(is_sendable)
    """)
    create_survivors(connection, home)


def create_survivors(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    """Make `survivors`: today's customer of one who was merged away, whom the identity journal tells."""
    import pyarrow as pa

    connection.execute("create table survivors (customer_id varchar, survivor_id varchar)")
    files = sorted((home.identity / "journal").glob("*.parquet"))
    if not files:
        return
    listed = ", ".join(f"'{quoted(path)}'" for path in files)
    # What happened last to a customer's name: gone in a merge, or (back) in the world.
    rows = connection.execute(f"""
        with happened as (
            select run, entry, other_customer_id as customer_id, customer_id as survivor_id
            from read_parquet([{listed}], union_by_name = true)
            where event = 'merged' and other_customer_id is not null and other_customer_id <> customer_id
            union all
            select run, entry, customer_id, null
            from read_parquet([{listed}], union_by_name = true)
            where event <> 'merged'
        )
        select customer_id, arg_max(coalesce(survivor_id, ''), (run, entry)) from happened group by customer_id
    """).fetchall()
    merged = {customer: survivor for customer, survivor in rows if survivor}
    last: dict[str, str] = {}
    for customer in merged:
        seen, found = {customer}, merged[customer]
        while found in merged and found not in seen:
            seen.add(found)
            found = merged[found]
        last[customer] = found
    found_table = pa.table({  # noqa: F841  # read by DuckDB under its name
        "customer_id": pa.array(last.keys(), pa.string()), "survivor_id": pa.array(last.values(), pa.string()),
    })  # fmt: skip
    connection.execute("insert into survivors from found_table")


def _columns(connection: duckdb.DuckDBPyConnection) -> str:
    connection.execute("""
        -- Also the columns that came since, empty: what they hold at a destination is undone with the rest.
        create view profiles_mapped as
        select profiles.* replace (coalesce(survivors.survivor_id, profiles.customer_id) as customer_id)
        from profiles_then as profiles
        left join survivors on profiles.customer_id = survivors.customer_id
        union all by name
        select * from profiles_now where false
    """)
    return _without_profiling(
        connection, "profiles_mapped", "email not in (select email from allowed where may_profile)"
    )


# An address that is another's by now keeps what the newest release says of it: the profile of then is about a stranger.
_PROFILES = """
    select {columns} from profiles_mapped
    where email in (select email from allowed) and (email, customer_id) in (select (email, customer_id) from holding)
    union all by name
    select * from profiles_now
    where
        email in (
            select email from profiles_mapped where (email, customer_id) not in (select (email, customer_id) from holding)
        )
        and email in (select email from allowed)
"""

_MEMBERSHIPS = """
    select distinct coalesce(survivors.survivor_id, memberships.customer_id) as customer_id, memberships.segment
    from memberships_then as memberships
    left join survivors on memberships.customer_id = survivors.customer_id
"""


def _withheld(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Profiles of then that may not be mailed any more, and those that may be mailed but not profiled."""
    row = connection.execute("""
        select
            count(*) filter (where allowed.email is null),
            count(*) filter (where not allowed.may_profile and len(profiles.segments) > 0)
        from profiles_then as profiles
        left join allowed on profiles.email = allowed.email
    """).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _without_profiling(connection: duckdb.DuckDBPyConnection, view: str, condition: str) -> str:
    """SQL of a profile's columns, with nothing that was worked out where `condition` holds."""
    shown = []
    for name, *_ in connection.execute(f"describe {view}").fetchall():
        column = '"' + str(name).replace('"', '""') + '"'
        nothing = "[]" if name == "segments" else "null"
        shown.append(column if name in SAID else f"case when {condition} then {nothing} else {column} end as {column}")
    return ", ".join(shown)


def _emails(kinds: dict[str, str]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"email": pa.array(kinds.keys(), pa.string())})


def _withdrawals_file(home: Home) -> Path:
    return home.releases / "withdrawn.parquet"
