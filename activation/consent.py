"""Who must not be mailed, read straight from the lake, so that a refusal binds as soon as it is delivered.

The release already leaves out whoever had refused when it was computed. This is the second look, beyond the clock,
taken when planning and again before each batch: it may only take people away.

- Unsubscribe, complaint, objection, legal suppression, erasure: bind the person, that is every address of the
  customer (as the release knows customers) and every address that the refusing contact ever had.
- Hard bounce, expiry of a consent: bind the address.
- A later grant for the same address lifts a refusal, if it was known before the release's as_of; erasure, legal
  suppression and hard bounce are not lifted.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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

# The rules are those of the models fct_consents and sendable_audience, so that right after a refresh nobody of its
# release is refused here.
_REFUSALS = """
with

deliveries as (
    select delivery_id, max(sequence) as sequence, bool_or(historical) as historical, max(received_at) as received_at
    from lake_deliveries
    group by delivery_id
),

contact_versions as (
    select
        contacts.contact_id,
        normal_email(contacts.email) as email,
        contacts.accepts_marketing,
        contacts.created_at,
        coalesce(contacts.updated_at, contacts.created_at) as updated_at,
        contacts.delivery_id,
        deliveries.sequence,
        contacts.row_number
    from crm_contacts as contacts
    left join deliveries on contacts.delivery_id = deliveries.delivery_id
),

contact_emails as (
    select distinct contact_id, email from contact_versions where email is not null
),

ticks as (
    select
        *,
        lag(accepts_marketing) over versions as accepted_before,
        lag(email) over versions as email_before
    from contact_versions
    where accepts_marketing is not null and email is not null
    window versions as (partition by contact_id order by sequence nulls last, row_number)
),

said_to_crm as (
    select
        nullif(trim(contact_id), '') as contact_id,
        normal_email(contact_point) as email,
        lower(trim(state)) as state,
        lower(trim(suppression)) as suppression,
        lower(trim(channel)) = 'email' as is_email,
        lower(trim(purpose)) = 'marketing' as is_marketing,
        nullif(trim(contact_point), '') is null as is_by_contact,
        captured_at,
        delivery_id
    from crm_consents
),

refused_in_crm as (
    select
        contact_id,
        email,
        case
            when suppression is not null then suppression
            when state = 'withdrawn' then 'unsubscribe'
            else 'expired'
        end as kind,
        captured_at as refused_at
    from said_to_crm
    where
        (state in ('withdrawn', 'expired') or suppression is not null)
        and (
            (is_email and is_marketing)
            or (suppression = 'objection' and is_marketing)
            or suppression in ('legal', 'erasure')
        )
),

refusals as (
    select email, kind, refused_at from refused_in_crm where email is not null
    union all
    -- An event about an address binds that address; if it refuses, also the others of the contact.
    select contact_emails.email, refused_in_crm.kind, refused_in_crm.refused_at
    from refused_in_crm
    inner join contact_emails on refused_in_crm.contact_id = contact_emails.contact_id
    where refused_in_crm.email is null or refused_in_crm.kind not in ('hard_bounce', 'expired')
    union all
    select
        normal_email(email),
        case lower(trim(event_type))
            when 'unsubscribed' then 'unsubscribe'
            when 'complained' then 'complaint'
            else 'hard_bounce'
        end,
        occurred_at
    from email_events
    where
        lower(trim(event_type)) in ('unsubscribed', 'complained')
        or (lower(trim(event_type)) = 'bounced' and lower(trim(bounce_type)) = 'hard')
    union all
    -- A tick in the profile that was taken away; one that was never set is no refusal.
    select email, 'unsubscribe', updated_at from ticks where not accepts_marketing and accepted_before
),

refusing_persons as (
    select distinct addresses.customer_id, refusals.kind, refusals.refused_at
    from refusals
    inner join addresses on refusals.email = addresses.email
    where refusals.kind not in ('hard_bounce', 'expired') and addresses.customer_id is not null
),

bound as (
    select email, kind, refused_at from refusals where email is not null
    union all
    select addresses.email, refusing_persons.kind, refusing_persons.refused_at
    from refusing_persons
    inner join addresses on refusing_persons.customer_id = addresses.customer_id
),

-- Only orders of people who refused are looked at; of an order, the version delivered last.
order_versions as (
    select
        normal_email(orders.email) as email,
        orders.accepts_marketing,
        orders.ordered_at,
        orders.status,
        orders.delivery_id,
        row_number() over (
            partition by orders.order_id order by deliveries.sequence desc, orders.row_number desc
        ) as newness
    from shop_orders as orders
    inner join deliveries on orders.delivery_id = deliveries.delivery_id
    where normal_email(orders.email) in (select email from bound)
),

grants as (
    select coalesce(said_to_crm.email, contact_emails.email) as email, said_to_crm.captured_at as granted_at, delivery_id
    from said_to_crm
    left join contact_emails on said_to_crm.contact_id = contact_emails.contact_id and said_to_crm.is_by_contact
    where state in ('granted', 'confirmed') and suppression is null and is_email and is_marketing
    union all
    select
        email,
        coalesce(case when accepted_before is null then created_at end, updated_at),
        delivery_id
    from ticks
    where accepts_marketing and (accepted_before is null or not accepted_before or email <> email_before)
    union all
    select email, ordered_at, delivery_id
    from order_versions
    where newness = 1 and accepts_marketing and coalesce(lower(trim(status)), '') not in ('test', 'fraud')
),

last_grants as (
    select grants.email, max(coalesce(grants.granted_at, deliveries.received_at)) as granted_at
    from grants
    inner join deliveries on grants.delivery_id = deliveries.delivery_id
    where
        case
            when deliveries.historical then coalesce(grants.granted_at, timestamp '1900-01-01')
            else greatest(grants.granted_at, deliveries.received_at)
        end < $as_of
    group by grants.email
)

select bound.email, arg_min(bound.kind, list_position(
    ['erasure', 'legal', 'complaint', 'objection', 'unsubscribe', 'hard_bounce', 'expired'], bound.kind
)) as kind
from bound
left join last_grants on bound.email = last_grants.email
where
    bound.kind in ('erasure', 'legal', 'hard_bounce')
    or last_grants.granted_at is null
    or bound.refused_at is null
    or last_grants.granted_at <= bound.refused_at
group by bound.email
"""

# As the macro email_address of the models.
_NORMAL_EMAIL = r"""
create macro normal_email(said) as case
    when regexp_full_match(lower(trim(said)), '[^@\s]+@[^@\s.]+(\.[^@\s.]+)+') then nfc_normalize(lower(trim(said)))
end
"""


@dataclass(frozen=True)
class Refusals:
    """Normalised addresses that must not be mailed, each with the gravest kind of its refusals."""

    kinds: dict[str, str] = field(repr=False)

    def __contains__(self, email: object) -> bool:
        return email in self.kinds

    def __len__(self) -> int:
        return len(self.kinds)


def refusals(settings: Settings, home: Home, release: Release) -> Refusals:
    """Read every refusal in the lake, whatever its date, for the customers of a release."""
    with in_memory(settings) as connection:
        connection.execute(_NORMAL_EMAIL)
        for source, table in TABLES:
            _create_view(connection, home, source, table)
        if home.deliveries.exists():
            connection.execute(f"create view lake_deliveries as from read_parquet('{_quoted(home.deliveries)}')")
        else:
            connection.execute(
                "create table lake_deliveries"
                " (delivery_id varchar, sequence bigint, historical boolean, received_at timestamp)"
            )
        connection.execute(f"create view addresses as from read_parquet('{_quoted(release.file('addresses'))}')")
        as_of = release.as_of.replace(tzinfo=None)
        return Refusals(dict(connection.execute(_REFUSALS, {"as_of": as_of}).fetchall()))


class Gate:
    """The refusals of now: read again whenever a delivery has changed one of the lake's tables. Safe for threads."""

    def __init__(self, settings: Settings, home: Home, release: Release) -> None:
        self._settings = settings
        self._home = home
        self._release = release
        self._lock = threading.Lock()
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._refusals = Refusals({})

    def refusals(self) -> Refusals:
        """Refusals as delivered up to this moment."""
        with self._lock:
            now = self._fingerprint()
            if now != self._seen:
                self._refusals = refusals(self._settings, self._home, self._release)
                self._seen = now
            return self._refusals

    def _fingerprint(self) -> tuple[tuple[str, int, int], ...]:
        # Accepted files are replaced by rename, never edited: name, size and time tell a new one.
        found = []
        for source, table in TABLES:
            for path in self._home.accepted(source, table).glob("*.parquet"):
                stat = path.stat()
                found.append((f"{source}/{table}/{path.name}", stat.st_size, stat.st_mtime_ns))
        return tuple(sorted(found))


def _create_view(connection: duckdb.DuckDBPyConnection, home: Home, source: str, table: str) -> None:
    files = sorted(home.accepted(source, table).glob("*.parquet"))
    if files:
        listed = ", ".join(f"'{_quoted(file)}'" for file in files)
        connection.execute(f"create view {source}_{table} as from read_parquet([{listed}], union_by_name = true)")
        return
    columns = [f"{column.name} {column.data_type}" for column in load_contract().table(source, table).columns]
    connection.execute(
        f"create table {source}_{table} ({', '.join([*columns, 'delivery_id varchar', 'row_number bigint'])})"
    )


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
