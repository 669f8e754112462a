"""Who is who in dbt: everything follows the customers that resolution assigned, and a steward is heard."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from core.home import Home
from core.settings import PROJECT_ROOT
from tests.integration.dbt_core.shop import Shop, customer_id, record_id

AS_OF = "2011-07-01T00:00:00"
ANN = "shop|customer_ref|A1"
BEA = "shop|customer_ref|B2"
GUEST = "any|email|ann.home@example.com"
CONTACT, HOME_CONTACT = "crm|contact_id|k1", "crm|contact_id|k2"
ALL_OF_ANN = (ANN, GUEST, CONTACT, HOME_CONTACT)
EVIDENCE = '{"rules": ["customer_ref"]}'
# Tables that tell of runs, not of customers as they are.
LOGS = ("identity_journal",)

Tables = Mapping[str, list[tuple[Any, ...]]]


def tables(shop: Shop) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of marts and features, sorted."""
    names = shop.query(
        "select schema_name || '.' || table_name from duckdb_tables() where schema_name in ('marts', 'features')"
    )
    return {name: shop.query(f"select * from {name} order by all") for (name,) in names if name[6:] not in LOGS}


def customers(shop: Shop, table: str, key: str) -> dict[str, str | None]:
    return dict(shop.query(f"select {key}, customer_id from {table}"))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Ann orders by her number and as a guest, browses and gets mail at home; the CRM has her twice. Bea is Bea."""
    scratch = tmp_path_factory.mktemp("identity")
    shop = Shop(Home.create(scratch / "home", "Europe/London", "GBP"), scratch)
    shop.deliver(
        "shop",
        orders=[
            {"order_id": "1", "ordered_at": "2011-06-01T10:00:00", "customer_ref": "A1", "email": "ann@example.com"},
            {"order_id": "2", "ordered_at": "2011-06-05T10:00:00", "email": "ann.home@example.com"},
            {"order_id": "3", "ordered_at": "2011-06-06T10:00:00", "customer_ref": "B2", "email": "bea@example.com"},
            {"order_id": "4", "ordered_at": "2011-06-07T10:00:00", "email": "noreply@example.com"},
        ],
        order_lines=[
            {"order_id": number, "product_id": "mug", "quantity": 1, "unit_price": 5} for number in ("1", "2", "3", "4")
        ],
    )
    shop.deliver(
        "crm",
        contacts=[
            {"contact_id": "k1", "customer_ref": "A1", "email": "ann@example.com", "given_name": "Ann",
             "surname": "Lee", "created_at": "2011-05-01"},
            {"contact_id": "k2", "email": "ann.home@example.com", "given_name": "Ann", "surname": "Lee",
             "created_at": "2011-05-02", "phone": "+44 7700 900001"},
        ],
        consents=[{"contact_id": "k2", "channel": "email", "purpose": "marketing", "state": "granted",
                   "captured_at": "2011-05-02"}],
    )  # fmt: skip
    shop.deliver(
        "web",
        events=[
            {"event_id": f"w{number}", "event_type": "page", "anonymous_id": device,
             "occurred_at": f"2011-06-0{number}T08:00:00"}
            for number, device in ((1, "d1"), (2, "d2"), (3, "d3"))
        ],
    )  # fmt: skip
    shop.deliver(
        "email",
        events=[
            {"event_id": f"e{number}", "event_type": "delivered", "email": email, "occurred_at": "2011-06-03T09:00:00"}
            for number, email in enumerate(("ann.home@example.com", "stranger@example.com"))
        ],
    )
    shop.set_clock(AS_OF)
    return shop


@pytest.fixture(scope="module")
def alone(lake: Shop) -> list[dict[str, str | None]]:
    """Customers of orders and events before anybody was resolved, and before any device was named."""
    lake.build_core()
    return [customers(lake, "marts.fct_orders", "order_id"), customers(lake, "marts.fct_web_events", "event_id")]


@pytest.fixture(scope="module")
def merged(lake: Shop, alone: list[dict[str, str | None]]) -> Tables:
    """Resolution finds Ann's four records; two devices have named themselves in a later delivery."""
    del alone
    lake.deliver(
        "web",
        received_at="2011-06-20T00:00:00",
        events=[
            {"event_id": "w8", "event_type": "identify", "anonymous_id": "d1", "email": "Ann.Home@example.com",
             "occurred_at": "2011-06-08T08:00:00"},
            {"event_id": "w9", "event_type": "identify", "anonymous_id": "d2", "user_id": "B2",
             "occurred_at": "2011-06-09T08:00:00"},
        ],
    )  # fmt: skip
    lake.resolve(
        1,
        AS_OF,
        {**dict.fromkeys(ALL_OF_ANN, ANN), BEA: BEA},
        journal=[
            {"entry": number, "event": "created", "customer_id": customer_id(founder), "other_customer_id": None,
             "identifier_ids": [record_id(record) for record in records], "evidence": EVIDENCE}
            for number, (founder, records) in enumerate({ANN: ALL_OF_ANN, BEA: (BEA,)}.items())
        ],
    )  # fmt: skip
    lake.build_core("run")
    return tables(lake)


def test_a_record_that_was_never_resolved_is_its_own_customer(alone: list[dict[str, str | None]]) -> None:
    orders, events = alone
    assert orders == {"1": customer_id(ANN), "2": customer_id(GUEST), "3": customer_id(BEA), "4": None}
    assert events == {"w1": None, "w2": None, "w3": None}


def test_everything_follows_the_assignment_in_the_same_build(lake: Shop, merged: Tables) -> None:
    ann, bea = customer_id(ANN), customer_id(BEA)
    assert customers(lake, "marts.fct_orders", "order_id") == {"1": ann, "2": ann, "3": bea, "4": None}
    assert customers(lake, "marts.fct_order_lines", "order_id") == {"1": ann, "2": ann, "3": bea, "4": None}
    assert customers(lake, "marts.fct_email_events", "event_id") == {"e0": ann, "e1": None}
    assert customers(lake, "marts.fct_consents", "contact_point")["ann.home@example.com"] == ann
    assert lake.query("select customer_id, record_count, given_name from marts.dim_customers order by 2 desc") == [
        (ann, 3, "Ann"),
        (bea, 1, None),
    ]
    features = lake.query(
        "select customer_id, orders from features.feat_customers where as_of = (select as_of from lake.clock)"
    )
    assert dict(features) == {ann: 2, bea: 1}
    gone = {customer_id(record) for record in (GUEST, CONTACT, HOME_CONTACT)}
    assert not [name for name, rows in merged.items() for row in rows if gone & {str(value) for value in row}]


def test_a_device_is_its_owners_also_before_it_was_named_and_when_that_is_delivered_late(
    lake: Shop, merged: Tables
) -> None:
    del merged
    ann, bea = customer_id(ANN), customer_id(BEA)
    assert customers(lake, "marts.fct_web_events", "event_id") == {
        "w1": ann,
        "w2": bea,
        "w3": None,
        "w8": ann,
        "w9": bea,
    }
    sessions = lake.query("select customer_id, count(*) from marts.fct_web_sessions group by all order by 2, 1")
    assert sorted(sessions, key=str) == sorted([(ann, 2), (bea, 2), (None, 1)], key=str)


def test_nobody_becomes_a_customer_by_being_mailed_or_by_a_machines_address(lake: Shop, merged: Tables) -> None:
    del merged
    known = lake.query("select identifier from marts.customer_identifiers where identifier_type = 'email' order by 1")
    assert known == [("ann.home@example.com",), ("ann@example.com",), ("bea@example.com",)]


def test_undoing_a_merge_gives_back_what_was(lake: Shop, merged: Tables) -> None:
    """Ann at home turns out to be her namesake: a second run parts them, a third puts them together again."""
    ann, home = customer_id(ANN), customer_id(GUEST)
    parted = {"event": "split", "customer_id": home, "other_customer_id": ann, "evidence": EVIDENCE}
    lake.resolve(
        2,
        "2011-06-30T00:00:00",
        dict.fromkeys((GUEST, HOME_CONTACT), GUEST),
        journal=[{"entry": 0, **parted, "identifier_ids": [record_id(GUEST), record_id(HOME_CONTACT)]}],
    )
    lake.build_core("run")
    assert customers(lake, "marts.fct_orders", "order_id") == {
        "1": ann,
        "2": home,
        "3": customer_id(BEA),
        "4": None,
    }
    assert dict(lake.query("select identifier, customer_id from marts.customer_identifiers where source = 'any'")) == {
        "ann@example.com": ann,
        "ann.home@example.com": home,
        "+447700900001": home,
        "bea@example.com": customer_id(BEA),
    }
    assert customers(lake, "marts.fct_web_events", "event_id")["w1"] == home
    journal = lake.query(
        "select run, entry, event, customer_id, other_customer_id, record_count from marts.identity_journal order by all"
    )
    assert journal == [
        (1, 0, "created", ann, None, 4),
        (1, 1, "created", customer_id(BEA), None, 1),
        (2, 0, "split", home, ann, 2),
    ]
    spans = lake.query(
        "select customer_id, from_run, to_run from staging.stg_identity__assignment_spans"
        f" where identifier_id = {record_id(GUEST)} order by from_run"
    )
    assert spans == [(ann, 1, 2), (home, 2, None)]

    lake.resolve(3, AS_OF, dict.fromkeys((GUEST, HOME_CONTACT), ANN))
    lake.build_core("run")
    assert tables(lake) == merged


DECISION = "{},{},{},a phone call,2011-06-30\n"


def decisions(project: Path, *rows: str) -> None:
    header = (PROJECT_ROOT / "dbt_project" / "seeds" / "identity_decisions.csv").read_text()
    (project / "seeds" / "identity_decisions.csv").write_text(header + "".join(rows))


def decision(verdict: str, left: str, right: str) -> str:
    return DECISION.format(verdict, left.replace("|", ","), right.replace("|", ","))


def test_a_steward_is_heard_warned_of_slips_and_stopped_when_contradicting(lake: Shop, merged: Tables) -> None:
    del merged
    project = lake.scratch / "project"
    shutil.copytree(PROJECT_ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("target", "logs"))
    shop = Shop(lake.home, lake.scratch, project)
    select = ("build", "--select", "identity_decisions", "int_identity_decisions", "int_identity_links",
              "int_identity_barred", "--exclude", "test_type:unit")  # fmt: skip

    decisions(
        project,
        decision("split", ANN, HOME_CONTACT),
        decision("link", GUEST, BEA),
        decision("split", ANN, "crm|contact_id|k99"),
    )
    ran = shop.try_dbt(*select)
    assert ran.returncode == 0, ran.stdout
    assert "WARN 1 assert_identity_decisions_name_known_records" in ran.stdout
    assert shop.query("select left_id, right_id, rule from intermediate.int_identity_barred") == [
        (*sorted([record_id(ANN), record_id(HOME_CONTACT)]), "steward")
    ]
    assert shop.query("select left_id, right_id from intermediate.int_identity_links where rule = 'steward'") == [
        tuple(sorted([record_id(GUEST), record_id(BEA)]))
    ]

    decisions(project, decision("split", ANN, BEA), decision("link", BEA, ANN))
    ran = shop.try_dbt(*select)
    assert ran.returncode == 1
    assert "FAIL 1 assert_identity_decisions_do_not_contradict" in ran.stdout
