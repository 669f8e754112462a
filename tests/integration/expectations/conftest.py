"""A small lake and a small warehouse whose rows meet every rule. Tests break them one rule at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from core.contract import load_contract
from core.home import Home
from core.settings import Settings
from ingestion import manifest
from ingestion.drift import Change
from ingestion.manifest import DeliveryRow

AS_OF = datetime(2024, 3, 4)
DELIVERY = "000001-00000000"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP", AS_OF.replace(tzinfo=UTC))


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root, memory_limit="1GB", threads=2)


def deliver(
    home: Home,
    table: str,
    select: str,
    *,
    sequence: int = 1,
    received_at: datetime = AS_OF - timedelta(days=1),
    historical: bool = True,
    change: str = "",
    rejected: Mapping[str, int] | None = None,
    changes: tuple[Change, ...] = (),
    notices: tuple[str, ...] = (),
) -> Path:
    """Write rows of a query as an accepted delivery of `source.table`, changed by SQL on `accepted`, and tell the manifest.

    Args:
        rejected: reason -> rows in quarantine.
    """
    source, name = table.split(".")
    delivery = f"{sequence:06d}-00000000"
    path = home.accepted(source, name) / f"{delivery}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"create table given as {select}")
        had = {row[0] for row in connection.execute("describe given").fetchall()}
        columns = ", ".join(
            f"cast({column.name if column.name in had else 'null'} as {column.data_type}) as {column.name}"
            for column in load_contract().table(source, name).columns
        )
        connection.execute(
            f"create table accepted as select {columns}, ? as delivery_id,"
            " row_number() over () as row_number from given",
            [delivery],
        )
        if change:
            connection.execute(change)
        connection.execute(f"copy accepted to '{path}' (format parquet)")
        (rows,) = connection.execute("select count(*) from accepted").fetchone() or (0,)
        if rejected:
            quarantine = home.quarantine(source, name) / f"{delivery}.parquet"
            quarantine.parent.mkdir(parents=True, exist_ok=True)
            said = " union all ".join(
                f"select '{delivery}' as delivery_id, i as row_number, 'file.csv' as file_name, '{reason}' as reason,"
                f" 'Zenobia Quill,1' as raw_row from range({number}) as numbers (i)"
                for reason, number in rejected.items()
            )
            connection.execute(f"copy ({said}) to '{quarantine}' (format parquet)")
    lost = sum((rejected or {}).values())
    row = DeliveryRow(
        delivery, sequence, source, name, received_at, historical, "", (), rows + lost, rows, 0, lost, 0,
        (*(change.said for change in changes), *notices), (), changes,
    )  # fmt: skip
    manifest.write(home, [*manifest.read(home), row])
    return path


LAKE = {
    "shop.orders": (
        "select 'O' || i as order_id, timestamp '2024-01-01' + i * interval 1 hour as ordered_at, 'C' || i % 7 as"
        " customer_ref, 'person' || i || '@example.com' as email, 'paid' as status, 'GBP' as currency, 0 as discount,"
        " 'United Kingdom' as country from range(1, 41) as numbers (i) order by i"
    ),
    "shop.order_lines": (
        "select 'O' || i as order_id, l as line_number, 'P' || l as product_id, 2 as quantity, 5.5 as unit_price"
        " from range(1, 41) as orders (i), range(1, 4) as lines (l) order by i, l"
    ),
    "shop.products": (
        "select 'P' || i as product_id, 'Mug ' || i as name, 5.5 as unit_price, 'https://shop.example.com/' || i as url"
        " from range(1, 4) as numbers (i) order by i"
    ),
    "shop.exchange_rates": (
        "select date '2024-01-01' + i::integer as rate_on, 'EUR' as from_currency, 'GBP' as to_currency,"
        " 0.86 + i / 1000 as rate from range(9) as numbers (i) order by i"
    ),
    "crm.contacts": (
        "select 'k' || i as contact_id, 'C' || i as customer_ref, 'person' || i || '@example.com' as email,"
        " '020 7946 00' || (10 + i) as phone, 'Ann' as given_name, 'Hill' as surname, date '1980-01-01' as birthday,"
        " 'private' as account_type, timestamp '2023-01-01' as created_at, timestamp '2023-02-01' as updated_at"
        " from range(20) as numbers (i) order by i"
    ),
    "crm.consents": (
        "select 'c' || i as consent_id, 'k' || i as contact_id, 'email' as channel, 'marketing' as purpose,"
        " 'granted' as state, 'consent' as lawful_basis, timestamp '2023-03-01' as captured_at,"
        " timestamp '2025-03-01' as expires_at from range(20) as numbers (i) order by i"
    ),
    "web.events": (
        "select 'e' || i as event_id, 'd1' as delivery_id, i as row_number, 'track' as event_type, 'Product Viewed' as event_name, 'd' || i % 9 as anonymous_id,"
        " timestamp '2024-02-01' + i * interval 1 hour as occurred_at, 1 as quantity, 5 as price, '{}' as properties"
        " from range(60) as numbers (i) order by i"
    ),
    "email.campaigns": (
        "select 'm' || i as campaign_id, 'Spring ' || i as name, 'promotional' as kind, timestamp '2024-02-01' as sent_at"
        " from range(4) as numbers (i) order by i"
    ),
    "email.sends": (
        "select 's' || i as send_id, 'm' || i % 4 as campaign_id, 'person' || i || '@example.com' as email,"
        " timestamp '2024-02-01' as sent_at from range(40) as numbers (i) order by i"
    ),
    "email.events": (
        "select 'v' || i as event_id, 'd1' as delivery_id, i as row_number, 'delivered' as event_type, 's' || i as send_id, 'person' || i || '@example.com' as"
        " email, timestamp '2024-02-01' as occurred_at from range(40) as numbers (i) order by i"
    ),
    "pos.sales": (
        "select 'R' || i as sale_id, 1 as line_number, timestamp '2024-02-01' as sold_at, 'C1' as customer_ref,"
        " 'P1' as product_id, 1 as quantity, 5 as unit_price, 'GBP' as currency from range(30) as numbers (i) order by i"
    ),
    "third_party.demographics": (
        "select 'person' || i || '@example.com' as contact_point, 'email' as contact_point_type, '25-34' as age_band,"
        " 'urban' as region_type from range(30) as numbers (i) order by i"
    ),
    "reference.postal_codes": (
        "select 'GB' as country_code, 'SW' || i as postal_code, 'London' as place from range(30) as numbers (i) order by i"
    ),
}


@pytest.fixture(scope="session")
def sound_lake(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One historical delivery of each table, for `lake` to copy."""
    home = Home.create(tmp_path_factory.mktemp("sound") / "home", "Europe/London", "GBP", AS_OF.replace(tzinfo=UTC))
    for table, select in LAKE.items():
        deliver(home, table, select)
    return home


@pytest.fixture
def lake(home: Home, sound_lake: Home) -> Callable[..., Home]:
    """Fill the lake with one historical delivery of each table.

    `changes` breaks tables by SQL on `accepted`; None leaves a table undelivered; `only` delivers this source's.
    """

    def fill(changes: Mapping[str, str | None] | None = None, *, only: str | None = None) -> Home:
        shutil.copytree(sound_lake.lake, home.lake)
        for table in LAKE:
            change = (changes or {}).get(table, "")
            if change == "" and only in (None, table.split(".")[0]):
                continue
            source, name = table.split(".")
            shutil.rmtree(home.accepted(source, name))
            rows = manifest.read(home)
            manifest.write(home, [row for row in rows if (row.source, row.table_name) != (source, name)])
            if change:
                deliver(home, table, LAKE[table], change=change)
        return home

    return fill


_ID = "lpad(lower(to_hex(i)), 16, '0')"
WAREHOUSE = {
    "staging.stg_lake__clock": "select timestamp '2024-03-04' as as_of, 'Europe/London' as timezone, 'GBP' as currency",
    "staging.stg_lake__deliveries": (
        "select 'd1' as delivery_id, 1 as sequence, 'shop' as source, 'orders' as table_name, timestamp '2024-03-03' as"
        " received_at, 40 as rows_read, 40 as rows_accepted, 0 as rows_superseded, 0 as rows_rejected, 0 as rows_erased"
        " union all by name select 'd1' as delivery_id, 1 as sequence, 'shop' as source, 'products' as table_name,"
        " timestamp '2024-03-03' as received_at, 3 as rows_read, 3 as rows_accepted, 0 as rows_superseded, 0 as"
        " rows_rejected, 0 as rows_erased"
    ),
    "staging.stg_lake__emails": (
        "select 'Person' || i || '@example.com' as given, 'person' || i || '@example.com' as email, null::varchar as"
        " problem from range(150) as numbers (i)"
    ),
    "staging.stg_lake__phones": (
        "select '020 7946 0' || (100 + i) as given, 'GB' as country_code, '+4420794600' || (100 + i) as phone,"
        " null::varchar as problem from range(150) as numbers (i)"
    ),
    "staging.stg_shipped__postal_codes": "select 'GB' as country_code, 'SW1' as postal_code",
    "staging.stg_ml__fits": (
        "select 1 as fit_version, 'recency' as metric, null::varchar as account_type, k, 10.0 * k as value,"
        " timestamp '2024-01-01' as fit_as_of from range(1, 5) as numbers (k)"
    ),
    "staging.stg_ml__scores": (
        f"select model, '1' as model_version, {_ID} as customer_id, label, score, low, high, 'quiet for long' as reason_1,"
        " 'few orders' as reason_2, null::varchar as reason_3, timestamp '2024-01-01' as as_of"
        " from (values ('churn_180', null, 0.5::double, null, null), ('purchase_30', null, 0.5, null, null),"
        " ('clv_365', null, 10, 5, 20), ('clusters', 'regulars', 3, null, null), ('send_time', 'Tue 18:00', 42, null, null))"
        " as models (model, label, score, low, high), range(1, 21) as numbers (i)"
    ),
    "staging.stg_ml__lifetime_values": (
        f"select 'clv_365' as model, '1' as model_version, {_ID} as customer_id, 'bg_nbd' as method, 365 as horizon_days,"
        " 2.0::double as expected_orders, 5.0::double as expected_spend, 10.0::double as clv, 5.0::double as clv_low,"
        " 20.0::double as clv_high, 0.8::double as probability_alive, timestamp '2024-01-01' as as_of"
        " from range(1, 21) as numbers (i)"
    ),
    "staging.stg_ml__recommendations": (
        f"select 'affinity' as model, '1' as model_version, {_ID} as customer_id, 'P' || rank as product_id,"
        " 'P' || (rank + 1) as because_product_id, 'similar' as source, rank::integer as rank, 1.0::double as score,"
        " timestamp '2024-01-01' as as_of from range(1, 21) as numbers (i), range(1, 21) as ranks (rank)"
    ),
    "staging.stg_ml__similar_products": (
        "select 'affinity' as model, '1' as model_version, 'P' || i as product_id, 'Q' || rank as similar_product_id,"
        " rank::integer as rank, 1.0::double as similarity, timestamp '2024-01-01' as as_of"
        " from range(1, 21) as numbers (i), range(1, 21) as ranks (rank)"
    ),
    "staging.stg_ml__category_affinities": (
        f"select 'affinity' as model, '1' as model_version, {_ID} as customer_id, category, rank, affinity,"
        " timestamp '2024-01-01' as as_of from range(1, 21) as numbers (i),"
        " (values ('Garden', 1, 0.7::double), ('Party', 2, 0.3)) as categories (category, rank, affinity)"
    ),
    "staging.stg_shop__orders": (
        "select 'O' || i as order_id, 'd1' as delivery_id, i as row_number, 'person' || i || '@example.com' as email,"
        " '+442079460011' as phone, 'paid' as status, 'GBP' as currency, 'GB' as country_code,"
        " timestamp '2024-02-01' as ordered_at,"
        " timestamp '2024-02-01' as known_at from range(40) as numbers (i)"
    ),
    "staging.stg_shop__order_lines": (
        "select 'O' || i as order_id, 1 as line_number, 'P1' as product_id, 'd1' as delivery_id, i as row_number,"
        " 'GBP' as currency, 1 as quantity, 5.5 as unit_price, timestamp '2024-02-01' as occurred_at,"
        " timestamp '2024-02-01' as known_at from range(40) as numbers (i)"
    ),
    "staging.stg_shop__products": (
        "select 'P' || i as product_id, 'd1' as delivery_id, i as row_number, 'GBP' as currency, true as in_stock,"
        " true as is_goods, false as is_consumable,"
        " timestamp '2024-02-01' as updated_at, timestamp '2024-02-01' as known_at from range(3) as numbers (i)"
    ),
    "staging.stg_shop__exchange_rates": (
        "select date '2024-01-01' + i::integer as rate_on, 'd1' as delivery_id, i as row_number,"
        " 'EUR' as from_currency, 'GBP' as to_currency, 0.86 as rate,"
        " timestamp '2024-02-01' as known_at from range(9) as numbers (i)"
    ),
    "staging.stg_crm__contacts": (
        "select 'k' || i as contact_id, 'd1' as delivery_id, i as row_number, 'person' || i || '@example.com' as email,"
        " '+442079460011' as phone, 'female' as gender, 'GB' as country_code, 'en-GB' as language, 'private' as"
        " account_type, true as is_current, true as is_latest, timestamp '2023-02-01' as updated_at,"
        " timestamp '2023-02-01' as known_at from range(20) as numbers (i)"
    ),
    "staging.stg_crm__consents": (
        "select 'c' || i as consent_id, 'k' || i as contact_id, 'd1' as delivery_id, i as row_number, null::varchar as"
        " contact_point, 'email' as channel, 'marketing' as purpose, 'granted' as state, null::varchar as suppression,"
        " timestamp '2023-03-01' as captured_at, timestamp '2023-03-01' as known_at from range(20) as numbers (i)"
    ),
    "staging.stg_web__events": (
        "select 'e' || i as event_id, 'd1' as delivery_id, i as row_number, 'track' as event_type, 'person1@example.com' as email, 'P1' as product_id, 'GBP' as"
        " currency, timestamp '2024-02-01' as occurred_at, timestamp '2024-02-01' as known_at"
        " from range(60) as numbers (i)"
    ),
    "staging.stg_email__campaigns": (
        "select 'm' || i as campaign_id, timestamp '2024-02-01' as sent_at, timestamp '2024-02-01' as known_at"
        " from range(4) as numbers (i)"
    ),
    "staging.stg_email__sends": (
        "select 's' || i as send_id, 'm1' as campaign_id, 'person1@example.com' as email, timestamp '2024-02-01' as"
        " sent_at, timestamp '2024-02-01' as known_at from range(40) as numbers (i)"
    ),
    "staging.stg_email__events": (
        "select 'v' || i as event_id, 'd1' as delivery_id, i as row_number, 'delivered' as event_type, 'hard' as bounce_type, 'person1@example.com' as email,"
        " timestamp '2024-02-01' as occurred_at, timestamp '2024-02-01' as known_at from range(40) as numbers (i)"
    ),
    "staging.stg_pos__sales": (
        "select 'R' || i as sale_id, 'P1' as product_id, 'd1' as delivery_id, i as row_number, 'person1@example.com' as"
        " email, 'GBP' as currency, 1 as quantity, 5 as unit_price, timestamp '2024-02-01' as sold_at,"
        " timestamp '2024-02-01' as known_at from range(30) as numbers (i)"
    ),
    "staging.stg_third_party__demographics": (
        "select 'person' || i || '@example.com' as contact_point, 'email' as contact_point_type, 'female' as gender,"
        " timestamp '2024-02-01' as known_at from range(30) as numbers (i)"
    ),
    "staging.stg_reference__postal_codes": (
        "select 'GB' as country_code, 'SW' || i as postal_code, 'London' as place, timestamp '2024-02-01' as known_at"
        " from range(120) as numbers (i)"
    ),
    # Records 1 to 20: 1 and 2 are one customer, all others their own.
    "intermediate.int_person_records": (
        f"select i as identifier_id, 'crm' as source, 'contact_id' as identifier_type, {_ID} as own_customer_id,"
        " 'person' || i || '@example.com' as email, '+442079460011' as phone, 'GB' as country, 'female' as gender,"
        " date '1980-01-01' as date_of_birth, timestamp '2023-01-01' as first_known_at"
        " from range(1, 21) as numbers (i)"
    ),
    "intermediate.int_identity_links": "select 1 as left_id, 2 as right_id, 'customer_ref' as rule",
    "intermediate.int_identity_barred": "select 3 as left_id, 4 as right_id, 'steward' as rule",
    "staging.stg_identity__assignments": (
        f"select i as identifier_id, {_ID.replace('(i)', '(case i when 2 then 1 else i end)')} as customer_id, 1 as run,"
        " timestamp '2024-03-04' as as_of from range(1, 21) as numbers (i)"
    ),
    "staging.stg_identity__assignment_spans": (
        "select identifier_id, customer_id, 1 as from_run, null::bigint as to_run, as_of as valid_from,"
        " null::timestamp as valid_to from staging.stg_identity__assignments"
    ),
    "staging.stg_releases__newest": "select 1 as release, timestamp '2024-02-01' as as_of",
    "staging.stg_releases__memberships": "select 'x' || i as customer_id, 'dormant' as segment from range(5) as numbers (i)",
    "staging.stg_releases__membership_changes": (
        "select 1 as release, 'x' || i as customer_id, 'dormant' as segment, 'entered' as change,"
        " timestamp '2024-02-01' as as_of from range(5) as numbers (i)"
    ),
    "staging.stg_syncs__runs": (
        "select 'run' || i as run_id, 'mailchimp' as target, 'completed' as outcome, timestamp '2024-02-01' as started_at"
        " from range(3) as numbers (i)"
    ),
    "staging.stg_syncs__rows": (
        "select 'run0' as run_id, i as row_number, md5(i::varchar) as key, 'create' as action, 'acknowledged' as outcome"
        " from range(5) as numbers (i)"
    ),
    "staging.stg_lake__segments_set_aside": "select 'broken' as segment, 'does not compile' as reason",
    "staging.stg_third_party__demographics_versions": (
        "select 'd1' as delivery_id, i as row_number, timestamp '2024-02-01' as known_at,"
        " null::timestamp as superseded_at from range(5) as numbers (i)"
    ),
    "staging.stg_identity__journal": (
        "select 1 as run, i as entry, 'created' as event, 'x' || i as customer_id, null::varchar as other_customer_id,"
        " [i] as identifier_ids, '{}' as evidence from range(5) as numbers (i)"
    ),
    "staging.stg_identity__links": (
        "select 1 as run, 1 as record_l, 2 as record_r, 5.0 as match_weight, 0.97 as match_probability"
    ),
    "intermediate.int_identifiers": (
        "select records.identifier_id, records.source, records.identifier_type, records.identifier_id as record_id,"
        " assigned.customer_id from intermediate.int_person_records as records"
        " inner join staging.stg_identity__assignments as assigned using (identifier_id)"
    ),
    "marts.customer_identifiers": "select identifier_id, customer_id from intermediate.int_identifiers",
    "marts.dim_customers": (
        f"select {_ID} as customer_id, 'person' || i || '@example.com' as email, '+4420794600' || (10 + i) as phone,"
        " 'GB' as country_code, 'private' as account_type, 1 as record_count, timestamp '2023-01-01' as first_known_at"
        " from range(1, 21) as numbers (i)"
    ),
    "marts.identity_journal": (
        "select run, entry, event, customer_id, other_customer_id, evidence from staging.stg_identity__journal"
        " union all values (1, 90, 'merged', '0000000000000001', '00000000000000ff', '{}'),"
        " (2, 1, 'merged', '0000000000000001', '0000000000000003', '{}'),"
        " (3, 1, 'restored', '0000000000000003', '0000000000000001', '{}')"
    ),
    "marts.fct_orders": (
        "select 'k' || i as order_key, 'shop' as source, lpad(lower(to_hex(1 + i % 20)), 16, '0') as customer_id,"
        " timestamp '2024-02-20' as ordered_at, timestamp '2024-02-20' as known_at, 1 as line_count, 2.0 as units,"
        " 10.0::decimal(18,4) as gross_amount, 10.0::decimal(18,4) as amount_base, false as is_reversed"
        " from range(1, 41) as numbers (i)"
    ),
    "marts.fct_order_lines": (
        "select 'l' || i as order_line_key, 'k' || i as order_key, 'P1' as product_id, 'sale' as line_type, 2.0 as"
        " quantity, 5.0 as unit_price, 10.0 as amount_base, timestamp '2024-02-20' as occurred_at,"
        " timestamp '2024-02-20' as known_at from range(1, 41) as numbers (i)"
    ),
    "marts.customer_rfm": (
        "select customer_id, 1 + row_number() over () % 5 as r_score, 1 as f_score, 3 as m_score, 'inactive' as"
        " rfm_segment, 'middle' as value_tier, 30 as recency_days, 2 as frequency, 2 as orders,"
        " 20.0::decimal(18,4) as monetary, 10.0::decimal(18,4) as average_order_value, timestamp '2024-03-04' as as_of,"
        " true as is_current from marts.dim_customers"
    ),
    "marts.customer_lifecycle": (
        "select customer_id, 'active' as stage, 'onboarding' as previous_stage, date '2024-02-20' as stage_changed_on,"
        " date '2024-03-04' as as_of_on, 2 as order_days, 32 as age_days from marts.dim_customers"
    ),
}


@pytest.fixture(scope="session")
def sound_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with every guarded table, for `built` to copy."""
    path = tmp_path_factory.mktemp("sound") / "warehouse.duckdb"
    with duckdb.connect(str(path)) as connection:
        for schema in ("staging", "intermediate", "marts"):
            connection.execute(f"create schema {schema}")
        for table, select in WAREHOUSE.items():
            connection.execute(f"create table {table} as {select}")
    return path


@pytest.fixture
def built(home: Home, sound_warehouse: Path) -> Callable[..., Home]:
    """Write a warehouse with every guarded table; `change` breaks it by SQL."""

    def fill(change: str = "") -> Home:
        shutil.copy(sound_warehouse, home.warehouse)
        if change:
            with duckdb.connect(str(home.warehouse)) as connection:
                connection.execute(change)
        return home

    return fill
