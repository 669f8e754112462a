"""What must hold for consent whatever happened: random records, merges, splits and things said, through the real SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from activation import releases
from activation.consent import refusals
from core.contract import load_contract
from core.home import Home
from core.settings import Settings
from tests.integration.activation.histories import (
    MODELS,
    START,
    History,
    Models,
    day,
    histories,
    refused_by_hand,
    sendable,
    suppressed,
)
from tests.integration.dbt_core.shop import Shop

random_cases = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    scratch = tmp_path_factory.mktemp("consent")
    shop = Shop(Home.create(scratch / "home", "UTC", "GBP"), scratch)
    shop.dbt("compile", "--select", *(name.rsplit("/", 1)[1] for name in MODELS))
    return Models(scratch / "target" / "compiled" / "mailwright" / "models")


@random_cases
@given(history=histories())
def test_a_refusal_binds_whoever_it_ever_reached(models: Models, history: History) -> None:
    """The SQL finds exactly the addresses that following every refusal through every run by hand finds."""
    with models.run(history) as connection:
        refused = refused_by_hand(history)
        assert suppressed(connection) == refused
        assert not sendable(connection) & set(refused)
        minors = connection.execute(
            "select email from activation.address_holders inner join marts.customer_permissions using (customer_id)"
            " where is_known_minor"
        ).fetchall()
        assert not sendable(connection) & {email for (email,) in minors}


@random_cases
@given(history=histories(), data=st.data())
def test_a_merge_makes_nobody_sendable(models: Models, history: History, data: st.DataObject) -> None:
    labels = history.runs[-1][1]
    gone, kept = data.draw(st.permutations(sorted({*labels, len(labels)})).map(lambda order: order[:2]))
    merged = history.then(kept if label == gone else label for label in labels)
    assert models.sendable(merged) <= models.sendable(history)


@random_cases
@given(history=histories(), data=st.data())
def test_an_unmerge_frees_nobody(models: Models, history: History, data: st.DataObject) -> None:
    labels = history.runs[-1][1]
    assume(len(set(labels)) < len(labels))
    # Whoever leaves a customer founds or joins another one: labels that only split a group further.
    parts = data.draw(st.tuples(*[st.integers(0, 1)] * len(labels)))
    split = history.then(label * 2 + part for label, part in zip(labels, parts, strict=True))
    assert set(models.suppressed(history)) <= set(models.suppressed(split))
    assert set(models.suppressed(history, "profiling")) <= set(models.suppressed(split, "profiling"))


@random_cases
@given(history=histories(), data=st.data())
def test_the_order_of_deliveries_does_not_matter(models: Models, history: History, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(history.events))))
    query = "select * exclude (refusal) from activation.sendable_audience order by email"
    with models.run(history) as first, models.run(history, order) as second:
        assert first.execute(query).fetchall() == second.execute(query).fetchall()
        assert suppressed(first) == suppressed(second)
        assert suppressed(first, "profiling") == suppressed(second, "profiling")


@random_cases
@given(history=histories())
def test_states_follow_each_other_without_a_gap(models: Models, history: History) -> None:
    """At any instant a contact point has one state for a channel and purpose, from the first word on."""
    with models.run(history) as connection:
        broken = connection.execute(
            """
            select *
            from (
                select
                    valid_to_at, valid_from_at,
                    lead(valid_from_at) over (
                        partition by contact_point_type, contact_point, channel, purpose order by valid_from_at
                    ) as next_from_at
                from marts.consent_states
            )
            where valid_to_at is distinct from next_from_at or valid_to_at <= valid_from_at
            """
        ).fetchall()
        assert not broken
        # Whoever may be mailed is, by this table too, allowed at the as_of.
        allowed = connection.execute(
            "select contact_point from marts.consent_states, staging.stg_lake__clock as clock"
            " where channel = 'email' and purpose = 'marketing' and state in ('granted', 'confirmed')"
            " and valid_from_at <= clock.as_of and (valid_to_at is null or valid_to_at > clock.as_of)"
        ).fetchall()
        assert sendable(connection) <= {email for (email,) in allowed}


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories())
def test_the_second_look_finds_what_the_models_found(
    models: Models, history: History, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Right after a release the lake alone says the same, but for expiries, which are no refusals there."""
    home = Home.create(tmp_path_factory.mktemp("lake") / "home", "UTC", "GBP")
    options = Settings(home=home.root, memory_limit="500MB", threads=1)
    deliver(home, history)
    with models.run(history) as connection:
        connection.execute("create table activation.sync_profiles (email varchar)")
        connection.execute("create table activation.segment_memberships (customer_id varchar, segment varchar)")
        connection.execute("create table activation.audience_funnel (step_number int, step varchar, addresses bigint)")
        connection.execute(
            "create table marts.customer_360 (customer_id varchar, lifecycle_stage varchar, rfm_segment varchar,"
            " value_tier varchar, engagement_state varchar)"
        )
        release = releases.freeze(options, home, connection, as_of=history.as_of.replace(tzinfo=UTC))
        found = suppressed(connection)
        may_be_mailed = sendable(connection)
    in_the_lake = refusals(options, home, release, lake_only=True).kinds
    # The lake does not tell whether what was said beyond the clock was said before a split of today: the models bind it.
    is_unsure = len(history.runs) > 1 and any(event.known_at >= history.as_of for event in history.events)
    refused = {email: kind for email, kind in in_the_lake.items() if kind != "expired"}
    assert refused == found or (is_unsure and set(refused) < set(found))
    assert not may_be_mailed & set(in_the_lake)
    assert set(refusals(options, home, release).kinds) >= set(found)


def deliver(home: Home, history: History) -> None:
    """Put into the lake what the staging tables of `Models` hold, each event by a delivery of its own."""
    received: dict[str, datetime] = {"first": START, "second": day(1)}
    contacts = []
    for contact in history.contacts:
        versions = [contact.email_before, contact.email] if contact.email_before else [contact.email]
        contacts += [
            {"contact_id": contact.contact_id, "email": email, "delivery_id": delivery}
            for email, delivery in zip(versions, received, strict=False)
        ]
    consents, engagement = [], []
    kinds = {"unsubscribe": "unsubscribed", "complaint": "complained", "hard_bounce": "bounced"}
    for number, event in enumerate(history.events):
        delivery = f"event {number}"
        received[delivery] = event.known_at
        if event.is_by_platform:
            engagement.append({
                "event_id": delivery, "event_type": kinds[event.suppression or ""], "bounce_type": "hard",
                "email": event.email, "occurred_at": event.captured_at, "delivery_id": delivery,
            })  # fmt: skip
        else:
            consents.append({
                "consent_id": delivery, "contact_id": event.contact_id, "contact_point": event.email,
                "channel": event.channel, "purpose": event.purpose, "state": event.state,
                "suppression": event.suppression, "lawful_basis": event.basis, "captured_at": event.captured_at,
                "delivery_id": delivery,
            })  # fmt: skip
    for source, table, rows in (
        ("crm", "contacts", contacts), ("crm", "consents", consents), ("email", "events", engagement),
    ):  # fmt: skip
        _write(home, source, table, rows)
    with duckdb.connect() as connection:
        connection.execute(
            "create table manifest (delivery_id varchar, sequence bigint, historical boolean, received_at timestamp)"
        )
        connection.executemany(
            "insert into manifest values (?, ?, false, ?)",
            [(delivery, number, at) for number, (delivery, at) in enumerate(received.items(), 1)],
        )
        home.lake.mkdir(exist_ok=True)
        connection.execute(f"copy manifest to '{home.deliveries}' (format parquet)")


def _write(home: Home, source: str, table: str, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    columns = {column.name: column.data_type for column in load_contract().table(source, table).columns}
    columns |= {"delivery_id": "varchar", "row_number": "bigint"}
    folder = home.accepted(source, table)
    folder.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(f"create table said ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
        for number, row in enumerate(rows, 1):
            said = {**row, "row_number": number}
            marks = ", ".join("?" * len(said))
            connection.execute(f"insert into said ({', '.join(said)}) values ({marks})", list(said.values()))
        connection.execute(f"copy said to '{folder / 'delivered.parquet'}' (format parquet)")
