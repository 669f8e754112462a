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
        coalesce(contacts.updated_at, contacts.created_at) as said_at,
        row_number() over (
            partition by contacts.contact_id
            order by deliveries.sequence desc nulls first, contacts.row_number desc
        ) as newness,
        contacts.delivery_id
    from crm_contacts as contacts
    left join deliveries on contacts.delivery_id = deliveries.delivery_id
),

contact_emails as (
    select distinct contact_id, email from contact_versions where email is not null
),

said_to_crm as (
    select
        consents.contact_id,
        normal_email(consents.contact_point) as email,
        case
            when consents.suppression is not null then consents.suppression
            when consents.state = 'withdrawn' then 'unsubscribe'
            when consents.state = 'expired' then 'expired'
        end as kind,
        consents.captured_at as refused_at
    from crm_consents as consents
    where
        (consents.state in ('withdrawn', 'expired') or consents.suppression is not null)
        and (
            (consents.channel = 'email' and consents.purpose = 'marketing')
            or (consents.suppression = 'objection' and consents.purpose = 'marketing')
            or consents.suppression in ('legal', 'erasure')
        )
),

refusals as (
    select email, kind, refused_at from said_to_crm where email is not null
    union all
    -- An event about an address binds that address; if it refuses, also the others of the contact.
    select contact_emails.email, said_to_crm.kind, said_to_crm.refused_at
    from said_to_crm
    inner join contact_emails on said_to_crm.contact_id = contact_emails.contact_id
    where said_to_crm.email is null or said_to_crm.kind not in ('hard_bounce', 'expired')
    union all
    select
        normal_email(email),
        case event_type
            when 'unsubscribed' then 'unsubscribe'
            when 'complained' then 'complaint'
            else 'hard_bounce'
        end,
        occurred_at
    from email_events
    where event_type in ('unsubscribed', 'complained') or (event_type = 'bounced' and bounce_type = 'hard')
    union all
    select email, 'unsubscribe', said_at from contact_versions where newness = 1 and not accepts_marketing
),

person_refusals as (
    select addresses.customer_id, refusals.kind, refusals.refused_at
    from refusals
    inner join addresses on refusals.email = addresses.email
    where refusals.kind not in ('hard_bounce', 'expired') and addresses.customer_id is not null
),

bound as (
    select email, kind, refused_at from refusals where email is not null
    union all
    select addresses.email, person_refusals.kind, person_refusals.refused_at
    from person_refusals
    inner join addresses on person_refusals.customer_id = addresses.customer_id
),

grants as (
    select
        coalesce(normal_email(consents.contact_point), contact_emails.email) as email,
        consents.captured_at as granted_at,
        consents.delivery_id
    from crm_consents as consents
    left join contact_emails
        on consents.contact_id = contact_emails.contact_id and consents.contact_point is null
    where
        consents.state in ('granted', 'confirmed') and consents.suppression is null
        and consents.channel = 'email' and consents.purpose = 'marketing'
    union all
    select email, said_at, delivery_id from contact_versions where newness = 1 and accepts_marketing
    union all
    select normal_email(email), ordered_at, delivery_id from shop_orders where accepts_marketing
),

last_grants as (
    select grants.email, max(grants.granted_at) as granted_at
    from grants
    left join deliveries on grants.delivery_id = deliveries.delivery_id
    where
        case
            when deliveries.historical then grants.granted_at
            else greatest(grants.granted_at, deliveries.received_at)
        end < $as_of
    group by grants.email
)

select bound.email, arg_min(bound.kind, array_position(
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


@dataclass(frozen=True)
class Refusals:
    """Normalised addresses that must not be mailed, each with the gravest kind of its refusals."""

    kinds: dict[str, str] = field(repr=False)

    def __contains__(self, email: object) -> bool:
        return email in self.kinds

    def __len__(self) -> int:
        return len(self.kinds)

    def is_pushed(self, email: str) -> bool:
        """Whether the platform is to be told."""
        return self.kinds.get(email) in PUSHED


def refusals(settings: Settings, home: Home, release: Release) -> Refusals:
    """Read every refusal in the lake, whatever its date, for the customers of a release."""
    with in_memory(settings) as connection:
        connection.execute("create macro normal_email(said) as nullif(lower(trim(nfc_normalize(said))), '')")
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
