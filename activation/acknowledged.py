"""Which operations the ledger shows as done: it has what they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activation.ledger import Ledger, State

if TYPE_CHECKING:
    import duckdb


def create_tag_ids(connection: duckdb.DuckDBPyConnection, ledger: Ledger, target: str) -> None:
    """Make the table `tag_ids`: name, and id as the ledger's rows have it, in four hexadecimal digits."""
    connection.execute("create table tag_ids (name varchar, id varchar)")
    ids = [(name, f"{number:04X}") for number, name in ledger.tags(target).items()]
    if ids:
        connection.executemany("insert into tag_ids values (?, ?)", ids)


def undone_sql(operations: str) -> str:
    """SQL of those rows of a table of operations that the ledger does not show as done.

    An operation on a contact in doubt asks for what the ledger may show already: it never counts as done. Reads `known`,
    the ledger's rows, and `tag_ids`.
    """
    states = {state.name.lower(): int(state) for state in State}
    return _UNDONE.format(operations=operations, **states)


# Tags are two bytes each in the ledger, four digits here.
_UNDONE = """
with standing as (
    select
        lower(hex(key)) as key, state, content_hash,
        list_transform(range(0, octet_length(tags) // 2), lambda i: substr(hex(tags), 4 * i + 1, 4)) as tags
    from known
    semi join (
        select unhex(key) as key from {operations}
        union select unhex(old_key) from {operations} where old_key is not null
    ) using (key)
),

ids as (select coalesce(map_from_entries(list(row(name, id))), map()::map(varchar, varchar)) as of_tag from tag_ids),

asked as (
    select
        {operations}.*,
        list_transform(if(tag <> '' and action = 'tag_add', [tag], add), lambda name: coalesce(ids.of_tag[name], '?')) as adding,
        list_transform(if(tag <> '' and action = 'tag_remove', [tag], remove), lambda name: coalesce(ids.of_tag[name], '?')) as removing
    from {operations}
    cross join ids
)

select asked.* exclude (adding, removing)
from asked
left join standing on asked.key = standing.key
where
    asked.is_doubtful
    or not coalesce(
        case asked.action
            when 'unsubscribe' then standing.state in ({unsubscribed}, {erased})
            when 'erase' then standing.state = {erased}
            when 'archive' then standing.state in ({archived}, {erased})
            when 'rekey' then standing.key is not null and asked.old_key not in (select key from standing)
            else
                (asked.action not in ('create', 'update') or standing.content_hash = asked.content_hash)
                and (asked.action not in ('create', 'update') or standing.state in ({synced}, {unsubscribed}, {left}))
                and list_has_all(standing.tags, asked.adding)
                and not list_has_any(standing.tags, asked.removing)
        end,
        asked.action in ('tag_remove', 'leave') and standing.key is null
        -- Who is still to come under this key brings tags along.
        and asked.key not in (select key from {operations} where action = 'rekey')
    )
"""
