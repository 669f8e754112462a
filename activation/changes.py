"""The difference between the desired state and the ledger: a plan's operations.

Most contacts of a large audience do not change. They are told apart by one hash over their content and by their packed
tags, the tags by the few combinations that occur; only what differs is looked at field by field.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from activation import doubtful, releases, retention
from activation.consent import PUSHED
from activation.desired import Desired, binary_key, hash_sql, one, value_sql
from activation.ledger import Ledger, State
from activation.releases import Release, quoted
from activation.rollback import create_survivors
from activation.sync import Sync
from core.home import Home

if TYPE_CHECKING:
    import duckdb

# Beyond this many contacts their field hashes are read with all others, which is faster than one by one.
_MANY = 100_000


@dataclass(frozen=True)
class TagRules:
    """What decides about a contact's tags beside its segments.

    Attributes:
        starting: tag of a segment to the second tag on which its automation starts.
        blocked: tags that are neither added nor taken away, as their segment is too old.
        silent: no automation may start.
        full: tags are added whether or not they are known to be there.
    """

    starting: Mapping[str, str] = field(default_factory=dict)
    blocked: frozenset[str] = frozenset()
    silent: bool = False
    full: bool = False


@dataclass(frozen=True)
class TagChange:
    """Tags to add and to remove, and those that would be but for a segment that is too old."""

    add: frozenset[str]
    remove: frozenset[str]
    left_out: frozenset[str]


@dataclass
class Changes:
    """What was counted on the way.

    Attributes:
        members: contacts at the destination by tag.
        left_out: changes of tags of segments that are too old, by tag.
        held_back: rows that the platform refused before and that have not changed since.
    """

    members: Counter[str]
    left_out: Counter[str]
    held_back: int = 0


def change_tags(
    member_of: frozenset[str],
    has: frozenset[str],
    rules: TagRules,
    *,
    in_doubt: frozenset[str] = frozenset(),
    is_invalid: bool,
    is_losing: bool,
    is_moved: bool = False,
) -> TagChange:
    """What becomes of a contact's tags.

    Args:
        member_of: tags of the segments that it is in.
        has: tags that the destination has acknowledged.
        in_doubt: tags that it may have or not, whatever it has acknowledged.
        is_invalid: the platform would not take its row: nothing is added.
        is_losing: it is no longer in the audience or may no longer be profiled: it loses tags however old a segment is.
        is_moved: its tags go to another key with it, and are written there as to a new contact.
    """
    wanted = set(member_of)
    may_have, surely_has = has | in_doubt, has - in_doubt
    for tag, start in rules.starting.items():
        if tag not in member_of:
            continue
        # A start that was to be made, and may have been, is made now, unless nothing may start.
        if start in surely_has or (not rules.silent and (start in in_doubt or tag not in may_have)):
            wanted.add(start)
    add = frozenset() if is_invalid else frozenset(wanted if rules.full or is_moved else wanted - surely_has)
    remove = may_have - wanted
    left_out = ((add - surely_has) & rules.blocked) | (frozenset() if is_losing else remove & rules.blocked)
    return TagChange(add - left_out, remove - left_out, left_out)


def create(
    connection: duckdb.DuckDBPyConnection,
    ledger: Ledger,
    target: str,
    home: Home,
    release: Release,
    base: Release | None,
    sync: Sync,
    desired: Desired,
    *,
    silent: bool,
    full: bool,
    retry_rejected: bool,
) -> Changes:
    """Make the table `operations`, from `desired`, `known`, `refused`, `letters` and the release.

    Args:
        base: the release that the destination stands at, if it is still there.
        silent: no automation may start.
        full: every contact is written whole, whatever the ledger knows.
        retry_rejected: rows that the platform refused before are planned too.
    """
    blocked = [name for segment in desired.stale for name in (sync.tag_of(segment), sync.start_tag_of(segment))]
    rules = TagRules(
        {sync.tag_of(segment): sync.start_tag_of(segment) for segment in sync.automations},
        frozenset(blocked),
        silent,
        full,
    )
    if retry_rejected:
        connection.execute("delete from letters")
    doubtful.create(connection, home, ledger, target)
    tags_in_doubt = _create_in_doubt(connection)
    _create_withdrawals(connection, sync, release, base)
    _create_compared(connection, full)
    _create_rekeys(connection, home, sync, release, base, tags_in_doubt)
    _create_unprofiled(connection, sync, desired)
    with_contact = sync.connector.platform.membership == "attributes"
    changes = _create_changed(connection, desired, rules, ledger.tags(target), tags_in_doubt, with_contact)
    _create_contacts(connection, ledger, target, desired, with_contact, full)
    _create_operations(connection, sync, desired, with_contact)
    if sync.key == "email":
        _find_addresses(connection, home, release, base)
    changes.held_back = one(connection, "select count(*) from operations where is_held")
    connection.execute("delete from operations where is_held")
    connection.execute("alter table operations drop column is_held")
    return changes


def _create_in_doubt(connection: duckdb.DuckDBPyConnection) -> dict[int, frozenset[str]]:
    """Gather `doubts` by contact. Returns tags in doubt by the number that their combination has in it; 0 is none."""
    connection.execute(f"""
        create table in_doubt as
        with gathered as (
            select
                unhex(key) as key,
                bool_or(what in ('{doubtful.CONTENT}', '{doubtful.GONE}')) as has_content,
                bool_or(what = '{doubtful.GONE}') as is_gone,
                coalesce(
                    list(what order by what) filter (what not in ('{doubtful.CONTENT}', '{doubtful.GONE}')), []
                ) as tags
            from doubts
            group by key
        )
        select
            gathered.*, if(len(tags) = 0, 0, cast(dense_rank() over (order by tags) as integer)) as combination
        from gathered
    """)
    found = connection.execute("select distinct combination, tags from in_doubt where combination > 0").fetchall()
    return {0: frozenset(), **{number: frozenset(tags) for number, tags in found}}


def _create_withdrawals(
    connection: duckdb.DuckDBPyConnection, sync: Sync, release: Release, base: Release | None
) -> None:
    """Contacts at the destination who refused, or who may be there: to be unsubscribed there, or erased."""
    pushed = ", ".join(f"'{kind}'" for kind in sorted(PUSHED))
    if sync.key == "email":
        refusing = f"select {binary_key(sync)} as key, email, null::varchar as customer_id, kind from refused"
    else:
        refusing = f"""
            select {binary_key(sync)} as key, min(email) as email, customer_id, min(kind) as kind
            from refused
            inner join ({_holders(release, base)}) as holders using (email)
            where kind in ({pushed})
            group by customer_id
        """
    connection.execute(f"""
        create table withdrawals as
        select
            known.key, if(kind = 'erasure', 'erase', 'unsubscribe') as action, refusing.email, refusing.customer_id,
            known.content_hash
        from (
            select key, state, content_hash from known
            union all
            select key, {int(State.FOUND)}, ''::blob from in_doubt anti join known using (key)
        ) as known
        inner join ({refusing}) as refusing on known.key = refusing.key
        where
            kind in ({pushed})
            and (
                (kind = 'erasure' and known.state <> {int(State.ERASED)})
                or known.state in ({int(State.SYNCED)}, {int(State.FOUND)})
            )
            and known.key not in (select key from desired where key is not null)
    """)


def _create_compared(connection: duckdb.DuckDBPyConnection, full: bool) -> None:
    """Each contact that should be there or is: its number of segments, its tags, and whether its content differs."""
    connection.execute(f"""
        create table compared as
        select
            coalesce(desired.key, known.key, in_doubt.key) as key,
            known.key as known_key,
            known.state,
            desired.key is not null or desired.email is not null as is_desired,
            desired.reason is not null as is_invalid,
            false as is_rekeyed,
            coalesce(desired.combination, -1) as combination,
            coalesce(known.tags, ''::blob) as tags,
            coalesce(in_doubt.combination, 0) as doubt,
            -- Under another key since, and what was written to it is not acknowledged.
            coalesce(in_doubt.has_content, false)
            or coalesce(known.state = {int(State.SYNCED)} and known.layout is null, false) as is_doubtful,
            -- Taken out, as far as we know.
            coalesce(known.state = {int(State.ARCHIVED)} or in_doubt.is_gone, false) as is_out,
            desired.email is not null and desired.reason is null and (
                {"true" if full else "false"} or known.key is null or known.state = {int(State.ARCHIVED)}
                or known.content_hash is distinct from desired.content_hash or coalesce(in_doubt.has_content, false)
            ) as differs
        from desired
        full join known on desired.key = known.key
        full join in_doubt on coalesce(desired.key, known.key) = in_doubt.key
        where
            desired.email is not null or known.state <> {int(State.ERASED)}
            or (known.key is null and in_doubt.key is not null)
    """)


def _create_rekeys(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    sync: Sync,
    release: Release,
    base: Release | None,
    tags_in_doubt: dict[int, frozenset[str]],
) -> None:
    """Contacts that go by another key now: a customer's only key there goes, and a new one comes."""
    connection.execute("create table rekeys (key blob, old_key blob, old_email varchar)")
    coming = "is_desired and not is_invalid and known_key is null"
    going = (
        f"not is_desired and state = {int(State.SYNCED)}"
        " and key not in (select key from withdrawals) and key not in (select unhex(md5(lower(email))) from refused)"
        # Who may have gone to a third key already is not there to come from.
        " and key not in (select unhex(key) from doubts where new_key is not null and unhex(new_key) not in"
        " (select key from desired where key is not null))"
    )
    for condition in (coming, going):
        if not connection.execute(f"select 1 from compared where {condition} limit 1").fetchone():
            return
    create_survivors(connection, home)
    connection.execute(f"create table holders as {_holders(release, base)}")
    if sync.key == "email":
        # An address of several customers says of none of them where they went.
        leaving = f"""
            select gone.key as old_key, any_value(holders.email) as old_email,
                any_value(coalesce(survivors.survivor_id, holders.customer_id)) as customer_id
            from (select key from compared where {going}) as gone
            inner join holders on gone.key = {binary_key(sync, "holders.email")}
            left join survivors on holders.customer_id = survivors.customer_id
            group by gone.key
            having count(distinct coalesce(survivors.survivor_id, holders.customer_id)) = 1
        """
    else:
        leaving = f"""
            select gone.key as old_key, min(holders.email) as old_email, survivors.survivor_id as customer_id
            from (select key from compared where {going}) as gone
            inner join survivors on gone.key = {binary_key(sync, "''", "survivors.customer_id")}
            left join holders on survivors.customer_id = holders.customer_id
            group by gone.key, survivors.survivor_id
        """
    connection.execute(f"""
        insert into rekeys
        with leaving as ({leaving}),
        alone as (select customer_id from leaving group by customer_id having count(*) = 1),
        staying as (
            select customer_id, any_value(compared.key) as key
            from desired
            inner join compared on desired.key = compared.key
            where customer_id in (select customer_id from alone)
            group by customer_id
            having count(*) = 1 and bool_and({coming})
        )
        select staying.key, leaving.old_key, leaving.old_email
        from leaving
        semi join alone on leaving.customer_id = alone.customer_id
        inner join staying on leaving.customer_id = staying.customer_id;

        update compared
        set known_key = rekeys.old_key, state = {int(State.SYNCED)}, is_rekeyed = true, differs = true, tags = known.tags
        from rekeys
        inner join known on rekeys.old_key = known.key
        where compared.key = rekeys.key;

        delete from compared where not is_desired and key in (select old_key from rekeys);
    """)
    _move_doubts(connection, tags_in_doubt)


def _move_doubts(connection: duckdb.DuckDBPyConnection, tags_in_doubt: dict[int, frozenset[str]]) -> None:
    """Tags of the old key that are in doubt go to the new one."""
    moved = connection.execute("""
        select rekeys.key, compared.doubt, in_doubt.combination
        from rekeys
        inner join in_doubt on rekeys.old_key = in_doubt.key
        inner join compared on rekeys.key = compared.key
    """).fetchall()
    for key, new, old in moved:
        number = max(tags_in_doubt) + 1
        tags_in_doubt[number] = tags_in_doubt[new] | tags_in_doubt[old]
        connection.execute("update compared set doubt = ?, is_doubtful = true where key = ?", [number, key])


def _create_unprofiled(connection: duckdb.DuckDBPyConnection, sync: Sync, desired: Desired) -> None:
    """Who may no longer be profiled. Asked only where a segment is too old: else they are in no segment anyway."""
    connection.execute("create table unprofiled (key blob)")
    if not desired.stale:
        return
    columns = {name for name, *_ in connection.execute("describe addresses").fetchall()}
    may_profile = "bool_or(may_profile)" if "may_profile" in columns else "false"
    connection.execute(f"""
        insert into unprofiled
        select key
        from desired
        anti join (
            select email from addresses group by email having coalesce({may_profile}, false)
        ) as profiled using (email)
    """)


def _create_changed(
    connection: duckdb.DuckDBPyConnection,
    desired: Desired,
    rules: TagRules,
    names: Mapping[int, str],
    tags_in_doubt: Mapping[int, frozenset[str]],
    with_contact: bool,
) -> Changes:
    """Contacts whose content or tags differ. Tags are compared once for each combination of what should be and what is."""
    import pyarrow as pa

    losing = "not is_desired"
    # Where memberships are the contact's own attributes, one that goes by another key may be made anew there.
    moved = "is_rekeyed" if with_contact else "false"
    if desired.stale:
        losing += " or compared.key in (select key from unprofiled)"
    connection.execute("alter table compared add column is_losing boolean default false")
    connection.execute(f"update compared set is_losing = true where {losing}")
    found = Changes(Counter(), Counter())
    said: list[tuple[int, bytes, int, bool, bool, bool, list[str], list[str]]] = []
    cases = connection.execute(f"""
        select combination, tags, doubt, is_invalid, is_losing, {moved} as is_moved, count(*) from compared group by all
    """).fetchall()
    for combination, packed, doubt, is_invalid, is_losing, is_moved, contacts in cases:
        has = unpack(packed, names)
        found.members.update(dict.fromkeys(has, contacts))
        change = change_tags(
            desired.tags.get(combination, frozenset()),
            has,
            rules,
            in_doubt=tags_in_doubt[doubt],
            is_invalid=is_invalid,
            is_losing=is_losing,
            is_moved=is_moved,
        )
        found.left_out.update(dict.fromkeys(change.left_out, contacts))
        if change.add or change.remove:
            add, remove = sorted(change.add), sorted(change.remove)
            said.append((combination, packed, doubt, is_invalid, is_losing, is_moved, add, remove))
    kinds = {
        "combination": pa.int32(), "tags": pa.binary(), "doubt": pa.int32(), "is_invalid": pa.bool_(), "is_losing": pa.bool_(),
        "is_moved": pa.bool_(), "add": pa.list_(pa.string()), "remove": pa.list_(pa.string()),
    }  # fmt: skip
    columns = list(zip(*said, strict=True)) if said else [()] * len(kinds)
    connection.register(
        "tag_cases",
        pa.table({name: pa.array(column, kind) for (name, kind), column in zip(kinds.items(), columns, strict=True)}),
    )
    connection.execute(f"""
        create table changed as
        select
            compared.*, coalesce(tag_cases.add, []) as add, coalesce(tag_cases.remove, []) as remove
        from compared
        left join tag_cases
            on
                compared.combination = tag_cases.combination and compared.tags = tag_cases.tags
                and compared.doubt = tag_cases.doubt and compared.is_invalid = tag_cases.is_invalid and compared.is_losing = tag_cases.is_losing
                and {moved} = tag_cases.is_moved
        where compared.differs or tag_cases.combination is not null
    """)
    connection.unregister("tag_cases")
    return found


def unpack(packed: bytes, names: Mapping[int, str]) -> frozenset[str]:
    """Tags from the ledger's two bytes each."""
    ids = (int.from_bytes(packed[start : start + 2], "big") for start in range(0, len(packed), 2))
    return frozenset(names[number] for number in ids)


def _create_contacts(
    connection: duckdb.DuckDBPyConnection,
    ledger: Ledger,
    target: str,
    desired: Desired,
    with_contact: bool,
    full: bool,
) -> None:
    """Contacts to be created or updated, with only those fields that change."""
    connection.execute(f"""
        create table candidates as
        select
            changed.key, lower(hex(changed.key)) as key_hex,
            changed.known_key, coalesce(lower(hex(changed.known_key)), '') as known_hex,
            desired.email, desired.customer_id, desired.content_hash, changed.add, changed.remove, changed.is_rekeyed,
            if(changed.known_key is null or (changed.is_out and not changed.is_rekeyed), 'create', 'update') as action,
            case
                when {"true" if full else "false"} or changed.is_doubtful then 'everything'
                when changed.known_key is null then 'what there is'
                when changed.is_out or changed.is_rekeyed then 'what there is or was'
                else 'what changed'
            end as sending
        from changed
        inner join desired on changed.key = desired.key
        where desired.reason is null and (changed.differs or {"true" if with_contact else "false"})
    """)
    keys = connection.execute("select known_key from candidates where known_key is not null").fetchall()
    connection.register(
        "known_fields", ledger.field_hashes(target, [key for (key,) in keys] if len(keys) <= _MANY else None)
    )
    layouts = ledger.layouts(target)
    numbered = list(enumerate(desired.fields))
    values = [f"{value_sql(mapped)} as v{i}" for i, mapped in numbered]
    known = [f"{_known_hash(mapped.name, layouts)} as k{i}" for i, mapped in numbered]
    hashes = [f"{hash_sql('key_hex', mapped, f'v{i}')} as h{i}" for i, mapped in numbered]
    empty = [hash_sql("known_hex", mapped, "''") for _, mapped in numbered]
    cells = [
        f"{{'name': '{mapped.name}', 'value': nullif(v{i}, ''), 'is_sent': case sending"
        f" when 'everything' then true when 'what there is' then v{i} <> ''"
        f" when 'what changed' then coalesce(k{i}, {empty[i]}) <> h{i}"
        f" else v{i} <> '' or coalesce(k{i}, {empty[i]}) <> {empty[i]} end}}"
        for i, mapped in numbered
    ]
    connection.execute(f"""
        create table contacts as
        with wide as (
            select {", ".join(["candidates.*", *values, *known])}
            from candidates
            inner join profiles using (email)
            left join known_fields on candidates.known_key = known_fields.key
        ),
        hashed as (select {", ".join(["*", *hashes])} from wide),
        compared_fields as (
            select
                *,
                list_filter(
                    cast([{", ".join(cells)}] as struct(name varchar, value varchar, is_sent boolean)[]),
                    lambda cell: cell.is_sent
                ) as sent
            from hashed
        )
        select
            key, known_key, email, customer_id, content_hash, add, remove, is_rekeyed, action,
            cast(to_json(map_from_entries(list_transform(sent, lambda cell: row(cell.name, cell.value)))) as varchar)
                as fields,
            len(sent) as sent,
            unhex(concat('', {", ".join(["''", *(f"h{i}" for i, _ in numbered)])})) as field_hashes
        from compared_fields
        where
            action = 'create' or is_rekeyed or len(sent) > 0
            or ({"true" if with_contact else "false"} and len(add) + len(remove) > 0)
    """)
    connection.unregister("known_fields")


def _known_hash(name: str, layouts: Mapping[int, Sequence[str]]) -> str:
    """SQL of what the ledger knows of a field: where it is depends on the layout that the row was written with."""
    whens = [
        f" when {layout} then lower(hex(known_fields.field_hashes[{5 * fields.index(name) + 1}:"
        f"{5 * fields.index(name) + 5}]))"
        for layout, fields in layouts.items()
        if name in fields
    ]
    return f"case known_fields.layout{''.join(whens)} end" if whens else "cast(null as varchar)"


def _create_operations(connection: duckdb.DuckDBPyConnection, sync: Sync, desired: Desired, with_contact: bool) -> None:
    """All operations in one table; `is_held` marks those that the platform refused before and that are as they were."""
    platform = sync.connector.platform
    layout = "[" + ", ".join(f"'{mapped.name}'" for mapped in desired.fields) + "]::varchar[]"
    points = platform.points_per_change
    erased = "(select key from withdrawals where action = 'erase')"
    # A contact that left loses its tags by an operation of its own, which needs no consent.
    memberships = f"""
        select
            4 as phase, 'leave' as action, key, []::varchar[] as add, remove, '' as tag,
            {points} * len(remove) as points
        from changed
        where len(remove) > 0 and (not is_desired or is_invalid)
    """
    if not with_contact:
        memberships = f"""
                select
                4 as phase, 'tag_add' as action, key, []::varchar[] as add, []::varchar[] as remove,
                unnest(add) as tag, {points} as points
            from changed
            union all
            select 4, 'tag_remove', key, [], [], unnest(remove), {points} from changed
        """
    archived = f"""
        select 5, 'archive', key, [], [], '', 0
        from compared
        where
            not is_desired and key not in (select key from withdrawals)
            and (state = {int(State.SYNCED)} or (known_key is null and is_doubtful))
    """
    connection.execute(f"""
        create table operations as
        with gathered as (
            select 1 as phase, action, key, email, customer_id, null::blob as old_key, null::varchar as old_email,
                '{{}}' as fields, []::varchar[] as add, []::varchar[] as remove, '' as tag,
                content_hash, ''::blob as field_hashes, 0 as points
            from withdrawals
            union all
            select 2, 'rekey', rekeys.key, contacts.email, contacts.customer_id, rekeys.old_key, rekeys.old_email,
                contacts.fields, {"contacts.add, contacts.remove" if with_contact else "[], []"}, '',
                contacts.content_hash, ''::blob, 0
            from rekeys
            inner join contacts on rekeys.key = contacts.key
            union all
            select 3, action, key, email, customer_id, null, null, fields,
                {"add, remove" if with_contact else "[], []"}, '', content_hash, field_hashes,
                {points} * (sent{" + len(add) + len(remove)" if with_contact else ""})
            from contacts
            union all
            select phase, action, following.key, desired.email, desired.customer_id, null, null, '{{}}',
                following.add, following.remove, tag, coalesce(desired.content_hash, ''::blob), ''::blob, following.points
            from ({memberships}{" union all " + archived if sync.on_leave == "archive" else ""}) as following
            left join desired on following.key = desired.key
            where following.key not in {erased}
        ),
        refused_contacts as (
            select gathered.key
            from gathered
            inner join letters on gathered.key = letters.key and gathered.content_hash = letters.content_hash
            where
                (gathered.action = 'create' and letters.action in ('create', 'update'))
                or (gathered.action = 'rekey' and letters.action = 'rekey')
        )
        select
            cast(phase as tinyint) as phase, gathered.action, lower(hex(gathered.key)) as key, email, customer_id,
            lower(hex(old_key)) as old_key, old_email, fields, add, remove, gathered.tag, gathered.content_hash,
            {layout} as layout, field_hashes, gathered.action = 'create' as is_new, cast(points as integer) as points,
            gathered.key in (select key from in_doubt) as is_doubtful,
            letters.key is not null
            -- Someone whom the platform does not take can't be changed there.
            or (gathered.action in ('update', 'tag_add') and gathered.key in (select key from refused_contacts)) as is_held
        from gathered
        left join (
            select distinct if(action = 'update', 'create', action) as action, key, tag, content_hash from letters
        ) as letters
            on
                if(gathered.action = 'update', 'create', gathered.action) = letters.action
                and gathered.key = letters.key and gathered.tag = letters.tag
                and gathered.content_hash = letters.content_hash
    """)


def _find_addresses(connection: duckdb.DuckDBPyConnection, home: Home, release: Release, base: Release | None) -> None:
    """The ledger holds no address: look those of leavers up in this release, then in ever older ones."""
    connection.execute("""
        create table addressless as select distinct key from operations where email is null
    """)
    older = [number for number in reversed(releases.numbers(home)) if number < release.number]
    if base is not None and base.number in older:
        older.remove(base.number)
        older.insert(0, base.number)
    files = [release.file("addresses"), *(releases.read(home, number).file("addresses") for number in older)]
    for file in [*files, retention.departed(home)]:
        if not one(connection, "select count(*) from addressless"):
            return
        if not file.exists():
            continue
        columns = {name for name, *_ in connection.execute(f"describe from read_parquet('{quoted(file)}')").fetchall()}
        customer = "any_value(customer_id)" if "customer_id" in columns else "null"
        connection.execute(f"""
            create or replace temp table found as
            select md5(lower(email)) as key, any_value(email) as email, {customer} as customer_id
            from read_parquet('{quoted(file)}')
            where md5(lower(email)) in (select key from addressless)
            group by 1;

            update operations
            set email = found.email, customer_id = found.customer_id
            from found
            where operations.key = found.key and operations.email is null;

            delete from addressless where key in (select key from found);
        """)


def _holders(release: Release, base: Release | None) -> str:
    """SQL of whose addresses are, by this release and by the one that the destination stands at."""
    files: Collection[str] = {
        f"'{quoted(one_release.file('addresses'))}'"
        for one_release in (release, base)
        if one_release is not None and one_release.file("addresses").exists()
    }
    return (
        f"select distinct email, customer_id from read_parquet([{', '.join(sorted(files))}], union_by_name = true)"
        " where customer_id is not null"
    )
