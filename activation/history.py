"""Who entered and who left which segment with which release, and why: one file per release, never removed.

A release's changes are written just before the release appears. Until it does, nobody counts them (they are of a number
that is not there), so the two come about together; and changes that are missing, as for releases of earlier versions,
are worked out again from the releases themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from activation import releases
from activation.releases import Release, quoted
from core.files import replacing
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb

ROLLBACK = "rollback"


def folder(home: Home) -> Path:
    """Where the files of changes are."""
    return home.releases / "history"


def file(home: Home, number: int) -> Path:
    """The file of one release's changes."""
    return folder(home) / f"{number:06}.parquet"


def write(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    release: Release,
    previous: Release | None,
    cause: str | None = None,
) -> None:
    """Write the changes from `previous` to `release`, whose files are written but which need not be there yet.

    Args:
        connection: the warehouse, if causes are to be read from it.
        cause: the one cause of all changes, instead of asking the warehouse.
    """
    if cause is None and previous is not None:
        causes, joins = _causes(connection, home, previous)
    else:
        causes, joins = f"'{cause}'" if cause else "cast(null as varchar)", ""
    before = f"from read_parquet('{quoted(previous.file('memberships'))}')" if previous else "from after where false"
    moment = release.as_of.replace(tzinfo=None)
    with replacing(file(home, release.number)) as beside:
        connection.execute(f"""
            copy (
                with after as (select customer_id, segment from read_parquet('{quoted(release.file("memberships"))}')),
                before as (select customer_id, segment {before}),
                changes as (
                    select customer_id, segment, 'entered' as change from after
                    anti join before using (customer_id, segment)
                    union all
                    select customer_id, segment, 'left' from before
                    anti join after using (customer_id, segment)
                )
                select
                    cast({release.number} as bigint) as release,
                    timestamp '{moment}' as as_of,
                    changes.customer_id,
                    changes.segment,
                    changes.change,
                    {causes} as cause
                from changes
                {joins}
                order by changes.segment, changes.customer_id
            ) to '{quoted(beside)}' (format parquet, compression zstd)
        """)
        beside.chmod(0o400)


def heal(settings: Settings, home: Home) -> None:
    """Work out the changes that are missing, as far as the releases are there. Their causes are known no more."""
    there = releases.numbers(home)
    missing = [number for number in there if not file(home, number).exists()]
    if not missing:
        return
    with in_memory(settings) as connection:
        for number in missing:
            release = releases.read(home, number)
            if release.previous is not None and release.previous not in there:
                continue
            previous = releases.read(home, release.previous) if release.previous is not None else None
            write(connection, home, release, previous, ROLLBACK if release.reverts_to is not None else None)


def changes_view(connection: duckdb.DuckDBPyConnection, home: Home, name: str = "membership_changes") -> None:
    """Make a view of all changes of releases that came about."""
    there = releases.numbers(home)
    columns = "release bigint, as_of timestamp, customer_id varchar, segment varchar, change varchar, cause varchar"
    connection.execute(f"create table {name}_typed ({columns})")
    files = sorted(folder(home).glob("[0-9]*.parquet"))
    known = [path for path in files if there and int(path.stem) <= there[-1]]
    listed = ", ".join(f"'{quoted(path)}'" for path in known)
    more = f" union all by name from read_parquet([{listed}])" if known else ""
    connection.execute(f"create view {name} as from {name}_typed{more}")


def _causes(connection: duckdb.DuckDBPyConnection, home: Home, previous: Release) -> tuple[str, str]:
    """SQL of the cause of a row of `changes`, and the joins that it needs.

    The warehouse's activation.membership_causes says why somebody moved; where there is no such table, nobody knows.
    """
    cause, joins = "cast(null as varchar)", ""
    if releases.has_table(connection, "membership_causes"):
        cause = "known.cause"
        joins = " left join activation.membership_causes as known using (customer_id, segment, change)"
    origin = _before_rollback(home, previous)
    if origin is None:
        return cause, joins
    # The release after a rollback gives back what that had taken.
    joins += f" left join read_parquet('{quoted(origin.file('memberships'))}') as origin using (customer_id, segment)"
    return f"if((change = 'entered') = (origin.segment is not null), '{ROLLBACK}', {cause})", joins


def _before_rollback(home: Home, release: Release) -> Release | None:
    """The release that stood before a rollback, or the first of several in a row; None if `release` is none."""
    found: Release | None = release
    while found is not None and found.reverts_to is not None:
        there = found.previous in releases.numbers(home)
        found = releases.read(home, found.previous) if there and found.previous is not None else None
    return found if found is not release else None
