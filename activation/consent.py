"""Who must not be mailed, read straight from the lake, so that a refusal binds as soon as it is delivered.

The release already leaves out whoever had refused when it was computed. This is the second look, beyond the clock,
taken when planning and again before each batch: it may only take people away. It needs no release: then nothing is known
of customers, and contacts and addresses are all that a refusal can bind.

- Unsubscribe, complaint, objection, legal suppression, erasure: bind the person, that is every address of the
  customers whom the release knows by the contact or contact point that it came by, or knew as one with them when it was
  said, and every address that the refusing contact ever had.
- Hard bounce, expiry of a consent: bind the address.
- A later consent for the same address, confirmed where its country needs that, lifts a refusal, if it was known before
  the release's as_of; implied consent lifts none, and erasure, legal suppression and hard bounce are not lifted.

The rules are those of the models fct_consents, refusal_bindings and suppressed_addresses, so that right after a refresh
both find the same.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from activation.refusal_cache import Row, cached, key_of
from activation.releases import Release
from core.contract import load_contract
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb

# The tables that can hold a refusal, or say whose it is.
TABLES = (("crm", "consents"), ("crm", "contacts"), ("shop", "orders"), ("email", "events"))

# Kinds that are told to the platform as an unsubscribe. A bounce is the platform's own matter; an expiry is no refusal.
PUSHED = frozenset({"unsubscribe", "complaint", "objection", "legal", "erasure"})

# The gravest first: which one an address is said to have. Lower-case words, so safe inside SQL.
_GRAVITY = ("erasure", "legal", "complaint", "objection", "unsubscribe", "hard_bounce", "expired")


# A folder's time is trusted when it lies this far back: file systems tell times in steps of some milliseconds.
_SETTLED_NS = 2_000_000_000


def _email(table: str) -> str:
    """SQL for a table's address in the one way that it is written, beside `emails` joined as `<table>_emails`."""
    return f"case when {table}_emails.given is not null then {table}_emails.email else normal_email({table}.email) end"


# Which of the platforms' events are refusals. Nearly all others are mails that were delivered and opened.
_REFUSES = (
    "(lower(trim(event_type)) in ('unsubscribed', 'complained')"
    " or (lower(trim(event_type)) = 'bounced' and lower(trim(bounce_type)) = 'hard'))"
)

_REFUSALS = f"""
with

deliveries as (
    select
        delivery_id,
        max(sequence) as sequence,
        max(case when historical then timestamp '1900-01-01' else received_at end) as received_at
    from lake_deliveries
    group by delivery_id
),

contact_versions as (
    select
        contacts.contact_id,
        key_of('crm|contact_id|' || contacts.contact_id) as contact_key,
        {_email("contacts")} as email,
        contacts.accepts_marketing,
        contacts.created_at,
        coalesce(contacts.updated_at, contacts.created_at) as updated_at,
        greatest(
            coalesce(contacts.updated_at, contacts.created_at, deliveries.received_at), deliveries.received_at
        ) as known_at,
        deliveries.sequence,
        contacts.row_number
    from crm_contacts as contacts
    left join emails as contacts_emails on trim(contacts.email) = contacts_emails.given
    left join deliveries on contacts.delivery_id = deliveries.delivery_id
),

contact_emails as (
    select contact_id, contact_key, email, min(known_at) as shown_from
    from contact_versions
    where email is not null
    group by contact_id, contact_key, email
),

ticks as (
    select
        *,
        lag(accepts_marketing) over versions as accepted_before,
        lag(email) over versions as email_before
    from contact_versions
    where accepts_marketing is not null and email is not null
    window versions as (partition by contact_id order by sequence nulls last, known_at, row_number)
),

-- Of an event that is told twice, the first telling counts. Few are, so only those are put in order.
told_again as (
    select consents.delivery_id, consents.row_number
    from crm_consents as consents
    semi join (
        select consent_id from crm_consents where consent_id is not null group by consent_id having count(*) > 1
    ) as repeated on consents.consent_id = repeated.consent_id
    left join deliveries on consents.delivery_id = deliveries.delivery_id
    qualify row_number() over (
        partition by consents.consent_id order by deliveries.sequence nulls last, consents.row_number
    ) > 1
),

said_to_crm as (
    select
        nullif(trim(consents.contact_id), '') as contact_id,
        nullif(trim(consents.contact_point), '') as contact_point,
        {_email("consents")} as email,
        lower(trim(consents.state)) as state,
        lower(trim(consents.suppression)) as suppression,
        lower(trim(consents.channel)) as channel,
        lower(trim(consents.purpose)) as purpose,
        coalesce(lower(trim(consents.lawful_basis)), 'consent') = 'consent' as is_explicit,
        consents.captured_at,
        greatest(coalesce(consents.captured_at, deliveries.received_at), deliveries.received_at) as known_at,
        'crm|' || consents.delivery_id || '|' || consents.row_number as event
    from (select *, contact_point as email from crm_consents) as consents
    anti join told_again
        on consents.delivery_id = told_again.delivery_id and consents.row_number = told_again.row_number
    left join emails as consents_emails on trim(consents.email) = consents_emails.given
    left join deliveries on consents.delivery_id = deliveries.delivery_id
),

refused_in_crm as (
    select
        event,
        contact_id,
        contact_point,
        email,
        channel,
        case
            when suppression is not null then suppression
            when state = 'withdrawn' then 'unsubscribe'
            else 'expired'
        end as kind,
        captured_at as refused_at,
        known_at
    from said_to_crm
    where
        (state in ('withdrawn', 'expired') or suppression is not null)
        and (
            (channel = 'email' and (purpose = 'marketing' or suppression = 'hard_bounce'))
            or (suppression = 'objection' and purpose = 'marketing')
            or suppression in ('legal', 'erasure')
        )
),

refused_elsewhere as (
    select
        'email|' || events.delivery_id || '|' || events.row_number as event,
        null::varchar as contact_id,
        {_email("events")} as email,
        case lower(trim(events.event_type))
            when 'unsubscribed' then 'unsubscribe'
            when 'complained' then 'complaint'
            else 'hard_bounce'
        end as kind,
        events.occurred_at as refused_at,
        greatest(events.occurred_at, deliveries.received_at) as known_at
    from email_events as events
    left join emails as events_emails on trim(events.email) = events_emails.given
    left join deliveries on events.delivery_id = deliveries.delivery_id
    where {_REFUSES}

    union all

    -- A tick in the profile that was taken away; one that was never set is no refusal.
    select
        'profile|' || contact_id || '|' || row_number() over (order by contact_id, sequence, known_at, row_number),
        contact_id,
        email,
        'unsubscribe',
        coalesce(updated_at, known_at),
        known_at
    from ticks
    where not accepts_marketing and accepted_before
),

refused as (
    select event, kind, refused_at, known_at, contact_id from refused_in_crm
    union all
    select event, kind, refused_at, known_at, contact_id from refused_elsewhere
),

-- An event about a contact and no address is about every one that it ever had.
refused_emails as (
    select event, email from refused_in_crm where email is not null
    union
    select refused_in_crm.event, contact_emails.email
    from refused_in_crm
    inner join contact_emails on refused_in_crm.contact_id = contact_emails.contact_id
    where refused_in_crm.channel = 'email' and refused_in_crm.contact_point is null
    union
    select event, email from refused_elsewhere where email is not null
),

-- Who refuses: the contact that is named, and all who show the address. A number alone is whoever has it.
refusing as (
    select event, key_of('crm|contact_id|' || contact_id) as subject
    from refused
    where contact_id is not null
    union
    select refused_emails.event, contact_emails.contact_key
    from refused_emails
    inner join contact_emails on refused_emails.email = contact_emails.email
    where refused_emails.email not in (select email from addresses where is_blocked)
    union
    select event, key_of('any|email|' || email) from refused_emails
    union
    select refused_in_crm.event, key_of('any|phone|' || phones.phone)
    from refused_in_crm
    inner join phones on refused_in_crm.contact_point = phones.given
    where refused_in_crm.contact_id is null and refused_in_crm.channel in ('sms', 'phone')
),

person_wide as (
    select refusing.event, refusing.subject, refused.known_at
    from refusing
    inner join refused on refusing.event = refused.event
    where refused.kind not in ('hard_bounce', 'expired')
),

refusing_customers as (
    select distinct person_wide.event, bindings.customer_id
    from person_wide
    inner join bindings
        on
            person_wide.subject = bindings.identifier_id
            and (bindings.ended_at is null or bindings.ended_at > person_wide.known_at)
),

bound as (
    select event, email from refused_emails
    union
    select person_wide.event, contact_emails.email
    from person_wide
    inner join contact_emails on person_wide.subject = contact_emails.contact_key
    union
    select refusing_customers.event, addresses.email
    from refusing_customers
    inner join addresses on refusing_customers.customer_id = addresses.customer_id
),

-- Only orders by which somebody who refused agreed at some time are looked at; of those, the version delivered last.
agreeing_orders as (
    select distinct orders.order_id
    from shop_orders as orders
    left join emails as orders_emails on trim(orders.email) = orders_emails.given
    where orders.accepts_marketing and {_email("orders")} in (select email from bound)
),

order_versions as (
    select
        {_email("orders")} as email,
        orders.accepts_marketing,
        orders.ordered_at,
        greatest(
            coalesce(orders.ordered_at, deliveries.received_at),
            min(deliveries.received_at) over (partition by orders.order_id)
        ) as known_at,
        orders.status
    from shop_orders as orders
    semi join agreeing_orders on orders.order_id = agreeing_orders.order_id
    left join emails as orders_emails on trim(orders.email) = orders_emails.given
    inner join deliveries on orders.delivery_id = deliveries.delivery_id
    where deliveries.received_at < $as_of
    qualify row_number() over (
        partition by orders.order_id order by deliveries.sequence desc, orders.row_number desc
    ) = 1
),

agreed_in_crm as (
    select *
    from said_to_crm
    where
        state in ('granted', 'confirmed')
        and suppression is null
        and is_explicit
        and channel = 'email'
        and purpose = 'marketing'
),

-- A consent of a contact without an address is for the one that it had then. Only contacts that refused are looked at.
granted_in_crm as (
    select email, captured_at as granted_at, known_at, state = 'confirmed' as is_confirmed
    from agreed_in_crm
    where contact_point is not null
    union all
    select contact_emails.email, agreed.captured_at, agreed.known_at, agreed.state = 'confirmed'
    from agreed_in_crm as agreed
    inner join contact_emails on agreed.contact_id = contact_emails.contact_id
    where
        agreed.contact_point is null
        and contact_emails.shown_from < $as_of
        and agreed.contact_id in (
            select contact_id from contact_emails where email in (select email from bound)
        )
    qualify row_number() over (
        partition by agreed.event
        order by
            if(contact_emails.shown_from <= agreed.captured_at, 0, 1),
            if(contact_emails.shown_from <= agreed.captured_at, contact_emails.shown_from, null) desc,
            contact_emails.shown_from,
            contact_emails.email
    ) = 1
),

grants as (
    select email, granted_at, known_at, is_confirmed from granted_in_crm
    union all
    select
        email,
        coalesce(case when accepted_before is null then created_at end, updated_at, known_at),
        known_at,
        false
    from ticks
    where accepts_marketing and (accepted_before is null or not accepted_before or email <> email_before)
    union all
    select email, ordered_at, known_at, false
    from order_versions
    where accepts_marketing and coalesce(lower(trim(status)), '') not in ('test', 'fraud')
),

last_grants as (
    select email, max(granted_at) as granted_at
    from grants
    where
        known_at < $as_of
        and (
            is_confirmed
            or ($countries_known and email not in (select email from addresses where needs_double_opt_in))
        )
    group by email
),

standing as (
    select bound.email, refused.kind, refused.known_at
    from bound
    inner join refused on bound.event = refused.event
    left join last_grants on bound.email = last_grants.email
    where
        refused.kind in ('erasure', 'legal', 'hard_bounce')
        or last_grants.granted_at is null
        or refused.refused_at is null
        or last_grants.granted_at <= refused.refused_at
    union all
    select email, suppression_type, null from suppressed
)

select
    email,
    arg_min(kind, list_position({list(_GRAVITY)}, kind)) as kind,
    min(known_at) filter (where kind in {tuple(sorted(PUSHED))}) as known_at
from standing
group by email
"""

# As the macros email_address and hash_key of the models.
_MACROS = r"""
create macro normal_email(said) as case
    when regexp_full_match(lower(trim(said)), '[^@\s]+@[^@\s.]+(\.[^@\s.]+)+') then nfc_normalize(lower(trim(said)))
end;
create macro key_of(said) as cast('0x' || substr(md5(said), 1, 15) as bigint);
"""

# Refusals that were worked out by other rules are not asked for again.
_RULES = key_of([_MACROS, _REFUSALS])

# Columns of what a release says of people, for one that was frozen before it said so.
_RELEASED = {
    "addresses": (
        "email varchar, customer_id varchar, needs_double_opt_in boolean, is_sendable boolean, may_profile boolean,"
        " is_blocked boolean"
    ),
    "bindings": "identifier_id bigint, customer_id varchar, ended_at timestamp",
    "suppressed": "email varchar, suppression_type varchar",
}


@dataclass(frozen=True)
class Refusals:
    """Normalised addresses that must not be mailed.

    Attributes:
        kinds: the gravest kind of each one's refusals.
        known_at: when the first of its refusals that are told to platforms was delivered, naive UTC; absent where only a
            release says that there is one.
    """

    kinds: dict[str, str] = field(repr=False)
    known_at: Mapping[str, datetime] = field(repr=False, default_factory=dict)

    def __contains__(self, email: object) -> bool:
        return email in self.kinds

    def __len__(self) -> int:
        return len(self.kinds)


def refusals(
    settings: Settings,
    home: Home,
    release: Release | None,
    *,
    lake_only: bool = False,
    as_of: datetime | None = None,
) -> Refusals:
    """Read every refusal in the lake, whatever its date, for the customers of a release.

    Without a release a refusal binds the addresses of the contact and contact point that it came by; only a confirmed
    consent lifts it, as nobody knows in which countries that is needed.

    Args:
        lake_only: leave out those that the release itself says stand, which are found by its models.
        as_of: where there is no release, the bound on the consents that count; without it none does.
    """
    bound = release.as_of if release is not None else as_of or datetime(1900, 1, 1, tzinfo=UTC)
    with in_memory(settings) as connection:

        def work_out() -> list[Row]:
            return _work_out(connection, home, release, bound, lake_only)

        key = _key(home, release, bound, lake_only)
        rows = work_out() if key is None else cached(home, connection, key, work_out)
    return Refusals(
        {email: kind for email, kind, _ in rows},
        {email: known_at for email, _, known_at in rows if known_at is not None},
    )


def _work_out(
    connection: duckdb.DuckDBPyConnection, home: Home, release: Release | None, bound: datetime, lake_only: bool
) -> list[Row]:
    connection.execute(_MACROS)
    for source, table in TABLES:
        _create_view(connection, home, source, table)
    if home.deliveries.exists():
        connection.execute(f"create view lake_deliveries as from read_parquet('{_quoted(home.deliveries)}')")
    else:
        connection.execute(
            "create table lake_deliveries"
            " (delivery_id varchar, sequence bigint, historical boolean, received_at timestamp)"
        )
    _read_release(connection, release)
    if lake_only:
        connection.execute("delete from suppressed")
    _read_contact_points(connection, home)
    return connection.execute(
        _REFUSALS,
        {"as_of": bound.astimezone(UTC).replace(tzinfo=None), "countries_known": release is not None},
    ).fetchall()


def _key(home: Home, release: Release | None, bound: datetime, lake_only: bool) -> str | None:
    """What refusals are kept under; None while a file is so new that another one may look the same."""
    files = [home.deliveries, *(home.contact_points / f"{table}.parquet" for table in ("emails", "phones"))]
    if release is not None:
        files += [release.file(table) for table in _RELEASED]
    found = [*_fingerprint(home), *(_of_file(str(file), file.stat()) for file in files if file.exists())]
    if any(changed_at > time.time_ns() - _SETTLED_NS for _, _, changed_at in found):
        return None
    return key_of([_RULES, bound, release is not None, lake_only, *found])


class Gate:
    """The refusals of now: read again whenever a delivery has changed one of the lake's tables. Safe for threads.

    Args:
        as_of: as for `refusals`, where there is no release.
    """

    def __init__(self, settings: Settings, home: Home, release: Release | None, as_of: datetime | None = None) -> None:
        self._settings = settings
        self._home = home
        self._release = release
        self._as_of = as_of
        self._lock = threading.Lock()
        self._folders: tuple[int, ...] | None = None
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._refusals = Refusals({})

    def refusals(self) -> Refusals:
        """Refusals as delivered up to this moment."""
        with self._lock:
            folders = self._changed_at()
            if folders is None or folders != self._folders:
                # Looked at before the files are, so that what comes in between is seen the next time.
                self._folders = folders
                now = _fingerprint(self._home)
                if now != self._seen:
                    self._refusals = refusals(self._settings, self._home, self._release, as_of=self._as_of)
                    self._seen = now
            return self._refusals

    def _changed_at(self) -> tuple[int, ...] | None:
        """When the tables' folders changed last; None while that is so recent that another change may look the same.

        With a year of daily deliveries, looking at every file before every call would take longer than the call.
        """
        changed = []
        for source, table in TABLES:
            try:
                changed.append(self._home.accepted(source, table).stat().st_mtime_ns)
            except FileNotFoundError:
                changed.append(0)
        return tuple(changed) if max(changed) < time.time_ns() - _SETTLED_NS else None


def _fingerprint(home: Home) -> tuple[tuple[str, int, int], ...]:
    # Accepted files are replaced by rename, never edited: name, size and time tell a new one.
    found = []
    for source, table in TABLES:
        folder = home.accepted(source, table)
        if not folder.exists():
            continue
        for entry in os.scandir(folder):
            if entry.name.endswith(".parquet"):
                found.append(_of_file(f"{source}/{table}/{entry.name}", entry.stat()))
    return tuple(sorted(found))


def _of_file(name: str, stat: os.stat_result) -> tuple[str, int, int]:
    return name, stat.st_size, stat.st_mtime_ns


def _create_view(connection: duckdb.DuckDBPyConnection, home: Home, source: str, table: str) -> None:
    """A lake table with the columns of the contract, whatever its files have."""
    columns = [f"{column.name} {column.data_type}" for column in load_contract().table(source, table).columns]
    connection.execute(
        f"create table {source}_{table}_typed ({', '.join([*columns, 'delivery_id varchar', 'row_number bigint'])})"
    )
    files = sorted(home.accepted(source, table).glob("*.parquet"))
    listed = ", ".join(f"'{_quoted(file)}'" for file in files)
    more = f" union all by name from read_parquet([{listed}], union_by_name = true)" if files else ""
    connection.execute(f"create view {source}_{table} as from {source}_{table}_typed{more}")


def _read_release(connection: duckdb.DuckDBPyConnection, release: Release | None) -> None:
    for table, columns in _RELEASED.items():
        connection.execute(f"create table {table} ({columns})")
        if release is not None and release.file(table).exists():
            connection.execute(f"insert into {table} by name from read_parquet('{_quoted(release.file(table))}')")
    if release is not None and not release.file("bindings").exists():
        connection.execute(
            "insert into bindings select key_of('any|email|' || email), customer_id, null from addresses"
            " where customer_id is not null"
        )


def _read_contact_points(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    """What the libraries made of addresses and numbers as given, also of those that no refresh has seen yet."""
    for table, column, condition in (("emails", "email", "true"), ("phones", "phone", "country_code = ''")):
        connection.execute(f"create table {table} (given varchar, {column} varchar)")
        file = home.contact_points / f"{table}.parquet"
        if file.exists():
            connection.execute(
                f"insert into {table} select given, {column} from read_parquet('{_quoted(file)}') where {condition}"
            )
    # Only what SQL and the library may read differently: other scripts, encoded domains, words around the address.
    strange = connection.execute(
        rf"""
        select distinct given
        from (
            select trim(email) as given from crm_contacts
            union all select trim(contact_point) from crm_consents where contact_point like '%@%'
            union all select trim(email) from email_events where {_REFUSES}
            union all select trim(email) from shop_orders where accepts_marketing
        )
        anti join emails using (given)
        where regexp_matches(given, '[^\x21-\x7e]|[<>,;]|(?i)xn--|mailto:')
        """
    ).fetchall()
    numbers = connection.execute(
        """
        select distinct trim(contact_point) as given
        from crm_consents
        anti join phones on trim(crm_consents.contact_point) = phones.given
        where
            nullif(trim(contact_id), '') is null
            and lower(trim(channel)) in ('sms', 'phone')
            and (lower(trim(state)) = 'withdrawn' or suppression is not null)
            and trim(contact_point) <> ''
        """
    ).fetchall()
    if not strange and not numbers:
        return
    from ingestion.contact_points import parse_email, parse_phone

    for table, read in (
        ("emails", [(given, parse_email(given).email) for (given,) in strange]),
        ("phones", [(given, parse_phone(given, None).phone) for (given,) in numbers]),
    ):
        if read:
            connection.executemany(f"insert into {table} values (?, ?)", read)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
