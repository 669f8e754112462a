"""Runs of identity resolution on a warehouse as dbt leaves it, one after the other."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from core.home import Home
from ml.identity import store
from ml.identity.run import IdentityReport, run

GIVEN = "Adele Bruno Carla Dario Elena Fabio Greta Hanna Igor Julia Karol Laura Marta Nadia Oskar Paula Rosa Simon Tessa Ulf"
FIRST = "Ash Birch Cedar Dune Elm Fern Glen Heath Iris Juniper Kelp Larch Moss Nettle Oak Pine Quill Reed Sage Thorn"
SECOND = "by croft dale field ford gate ham hurst ley man ridge shaw ton ville ward wick wood worth"
AS_OF = datetime(2026, 1, 1)


def key(source: str, kind: str, identifier: str) -> int:
    return int(hashlib.md5(f"{source}|{kind}|{identifier}".encode()).hexdigest()[:15], 16)


@dataclass
class Warehouse:
    """A home and a warehouse with the tables that identity resolution reads, changed from run to run."""

    home: Home
    path: Path
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    links: list[tuple[int, int, str]] = field(default_factory=list)
    barred: list[tuple[int, int]] = field(default_factory=list)
    as_of: datetime = AS_OF

    def add(self, source: str, kind: str, identifier: str, **values: Any) -> int:
        identifier_id = key(source, kind, identifier)
        own = hashlib.md5(f"{source}|{kind}|{identifier}".encode()).hexdigest()[:16]
        known = AS_OF - timedelta(days=1000 - len(self.records))
        self.records[identifier_id] = {
            "source": source,
            "identifier_type": kind,
            "own_customer_id": own,
            "first_known_at": known,
            **values,
        }
        return identifier_id

    def run(self, **options: Any) -> IdentityReport:
        with duckdb.connect(str(self.path)) as connection:
            self._fill(connection)
            others = "select count(*) from duckdb_tables() where schema_name <> 'identity_keys'"
            before = connection.execute(others).fetchall()
            report = run(connection, self.home, **options)
            assert connection.execute(others).fetchall() == before
            assert connection.execute("select current_database()").fetchall() == [("warehouse",)]
            assert connection.execute("select count(*) from duckdb_views() where not internal").fetchall() == [(0,)]
        return report

    def _fill(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("create schema if not exists lake; create schema if not exists intermediate")
        connection.execute(f"create or replace table lake.clock as select timestamp '{self.as_of}' as as_of")
        connection.execute(
            """
            create or replace table intermediate.int_person_records (
                identifier_id bigint, source varchar, identifier_type varchar, own_customer_id varchar,
                first_known_at timestamp, given_name varchar, surname varchar, full_name varchar, gender varchar,
                date_of_birth date, email varchar, phone varchar, address varchar, city varchar, region varchar,
                postal_code varchar, country varchar, account_type varchar, customer_ref varchar
            );
            create or replace table intermediate.int_identity_links (left_id bigint, right_id bigint, rule varchar);
            create or replace table intermediate.int_identity_barred (left_id bigint, right_id bigint, rule varchar);
            """
        )
        columns = [row[0] for row in connection.execute("describe intermediate.int_person_records").fetchall()]
        rows = [
            [identifier_id, *(record.get(name) for name in columns[1:])]
            for identifier_id, record in self.records.items()
        ]
        if rows:
            connection.executemany(
                f"insert into intermediate.int_person_records values ({', '.join('?' * len(columns))})", rows
            )
        for row in self.links:
            connection.execute("insert into intermediate.int_identity_links values (?, ?, ?)", row)
        for pair in self.barred:
            connection.execute("insert into intermediate.int_identity_barred values (?, ?, 'steward')", pair)

    @property
    def customers(self) -> dict[int, str]:
        with duckdb.connect() as connection:
            store.read_assignments(connection, self.home, out="assigned")
            return dict(connection.execute("from assigned").fetchall())

    @property
    def files(self) -> dict[str, bytes]:
        root = self.home.identity
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.*"))}


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(
        Home.create(tmp_path / "home", "Europe/London", "GBP", AS_OF.replace(tzinfo=UTC)), tmp_path / "warehouse.duckdb"
    )


def people(warehouse: Warehouse, count: int, *, start: int = 0, seed: int = 1) -> dict[int, int]:
    """Contacts of `count` persons, some of whom are there twice with a slip or without some values; returns whose."""
    generator = random.Random(seed + start)
    given, first, second = GIVEN.split(), FIRST.split(), SECOND.split()
    whose = {}
    for person in range(start, start + count):
        surname = generator.choice(first) + generator.choice(second)
        name = generator.choice(given)
        values = {
            "given_name": name,
            "surname": surname,
            "date_of_birth": date(1950, 1, 1) + timedelta(days=generator.randrange(18_000)),
            "email": f"{name}.{surname}{person}@example.com".lower(),
            "phone": f"+4477009{generator.randrange(100_000):05d}",
            "address": f"{generator.randrange(1, 200)} {generator.choice(first)} Street",
            "city": generator.choice(first) + "mouth",
            "postal_code": f"AB{generator.randrange(1, 99)} {generator.randrange(1, 9)}CD",
            "country": "GB",
        }
        whose[warehouse.add("crm", "contact_id", f"c{person}", **values)] = person
        if generator.random() < 0.5:
            values[generator.choice(["phone", "date_of_birth", "email"])] = None
            if generator.random() < 0.5:
                values["surname"] = surname[:-1]
            whose[warehouse.add("crm", "contact_id", f"c{person}-again", **values)] = person
    return whose


def right_pairs(customers: dict[int, str], whose: dict[int, int]) -> tuple[int, int, int]:
    """Pairs of one person, pairs put together, and pairs that are both."""
    by_person: dict[int, list[int]] = {}
    by_customer: dict[str, list[int]] = {}
    for record, person in whose.items():
        by_person.setdefault(person, []).append(record)
        by_customer.setdefault(customers[record], []).append(record)
    true = {tuple(sorted(group)) for group in by_person.values() if len(group) == 2}
    found = {(one, other) for group in by_customer.values() for one in group for other in group if one < other}
    return len(true), len(found), len(true & found)


def test_records_of_one_person_become_one_customer_and_stay_it(warehouse):
    whose = people(warehouse, 400)

    first = warehouse.run()

    true, found, right = right_pairs(warehouse.customers, whose)
    assert right >= 0.97 * true
    assert right >= 0.99 * found
    assert (first.status, first.run, first.model_status) == ("resolved", 1, "trained")
    assert (first.records, first.new_records, first.resolved_records) == (len(whose),) * 3
    assert first.merged_records == first.records - first.customers == first.records - first.changes.created
    assert first.links >= found - 5
    assert first.pairs_scored >= first.links
    assert sum(first.sizes.values()) == first.customers
    assert sum(size * count for size, count in first.sizes.items()) == first.records
    assert {level.comparison for level in first.levels} >= {"given_name", "surname", "email"}
    points = {point.threshold: point for point in first.curve}
    assert all(0 <= point.precision <= 1 and 0 <= point.recall <= 1 for point in points.values())
    assert points[min(points)].recall == pytest.approx(1)
    assert not any(b"example.com" in content for name, content in warehouse.files.items() if name.endswith("json"))

    before = warehouse.files
    again = warehouse.run()
    assert (again.status, again.run, again.model_status) == ("unchanged", 1, "reused")
    assert (again.customers, again.sizes, again.curve, again.levels) == (
        first.customers,
        first.sizes,
        first.curve,
        first.levels,
    )
    assert warehouse.files == before


def test_later_runs_score_only_what_is_new_and_end_where_a_new_beginning_would(warehouse):
    whose = people(warehouse, 300)
    warehouse.run()
    before = warehouse.customers
    # New persons, another record of an old person, one that changed, and one that is gone.
    whose |= people(warehouse, 20, start=1000)
    old = key("crm", "contact_id", "c7")
    another = {**warehouse.records[old], "phone": None}
    whose[warehouse.add("crm", "contact_id", "c7-late", **{k: another[k] for k in list(another)[4:]})] = 7
    warehouse.records[key("crm", "contact_id", "c8")]["email"] = "moved.away@example.com"
    gone = key("crm", "contact_id", "c9")
    del warehouse.records[gone]
    warehouse.as_of += timedelta(days=1)

    report = warehouse.run()

    assert (report.status, report.run, report.model_status) == ("resolved", 2, "reused")
    assert (report.changed_records, report.gone_records) == (1, 1)
    assert report.new_records == len(whose) - len(before)
    assert report.resolved_records < 120
    after = warehouse.customers
    assert after[key("crm", "contact_id", "c7-late")] == before[old]
    assert {record: after[record] for record in before} == before, "who was there keeps the id"
    assert after[gone] == before[gone]

    _resolve_everything_anew(warehouse)
    assert warehouse.customers == after


def _resolve_everything_anew(warehouse: Warehouse) -> None:
    # A link to itself means nothing, but is a change: every record is resolved anew, and no pair scored anew.
    warehouse.links += [(record, record, "customer_ref") for record in warehouse.records]
    report = warehouse.run()
    assert (report.status, report.resolved_records, report.pairs_scored) == ("resolved", len(warehouse.records), 0)


def test_a_replay_of_the_past_writes_nothing(warehouse):
    people(warehouse, 30)
    warehouse.run()
    before = warehouse.files
    people(warehouse, 5, start=100)
    warehouse.as_of -= timedelta(days=30)

    report = warehouse.run()

    assert (report.status, report.run) == ("replay", 1)
    assert "nothing is decided anew" in report.explanation
    assert warehouse.files == before


def test_orders_alone_need_no_model(warehouse, monkeypatch):
    monkeypatch.setattr("ml.identity.model.train", lambda *_, **__: pytest.fail("trained"))
    for number in range(50):
        warehouse.add("shop", "customer_ref", str(number), customer_ref=str(number), country="GB")

    report = warehouse.run()

    assert (report.status, report.customers, report.model_status, report.threshold) == ("resolved", 50, "none", None)
    assert (report.levels, report.curve, report.sizes) == ((), (), {1: 50})
    assert warehouse.customers == {record: said["own_customer_id"] for record, said in warehouse.records.items()}
    assert warehouse.run().status == "unchanged"


def test_no_records_are_no_customers(warehouse):
    assert (warehouse.run().customers, warehouse.run().status) == (0, "unchanged")


def test_certain_links_bars_and_a_steward_decide(warehouse):
    one = warehouse.add("shop", "customer_ref", "1", customer_ref="1")
    contact = warehouse.add("crm", "contact_id", "a", customer_ref="1")
    guest = warehouse.add("any", "email", "a@example.com")
    two = warehouse.add("shop", "customer_ref", "2", customer_ref="2")
    warehouse.links = [(contact, one, "customer_ref"), (guest, contact, "contact_point")]
    assert warehouse.run().customers == 2
    first = warehouse.customers
    assert first[one] == first[contact] == first[guest] == warehouse.records[one]["own_customer_id"]

    warehouse.links.append((two, one, "steward"))
    merged = warehouse.run()
    assert (merged.customers, merged.changes.merged, merged.new_records, merged.changed_records) == (1, 1, 0, 0)

    warehouse.links.pop()
    assert warehouse.run().changes.restored == 1
    assert warehouse.customers == first

    warehouse.barred = [(one, contact)]
    split = warehouse.run()
    assert (split.customers, split.barred_pairs, split.refused) == (3, 1, {"barred": 1})
    assert warehouse.customers[one] == first[one] or warehouse.customers[contact] == first[one]
    assert warehouse.customers[one] != warehouse.customers[contact]

    warehouse.barred = []
    warehouse.run()
    assert warehouse.customers == first


def test_an_interrupted_run_never_happened(warehouse, monkeypatch):
    people(warehouse, 40)
    warehouse.run()
    before = warehouse.files
    people(warehouse, 5, start=100)
    with monkeypatch.context() as patch:
        written = store._write_table

        def killed(connection: Any, path: Path, kind: str, *rest: Any) -> None:
            if kind == "assignments":
                raise KeyboardInterrupt
            written(connection, path, kind, *rest)

        patch.setattr(store, "_write_table", killed)
        with pytest.raises(KeyboardInterrupt):
            warehouse.run()
    left = warehouse.files
    assert set(left) > set(before)
    assert store.newest(warehouse.home) == store.Run(1, AS_OF)

    report = warehouse.run()

    assert (report.run, report.status) == (2, "resolved")
    assert {name: warehouse.files[name] for name in before} == before
    assert set(warehouse.files) >= set(left)


def test_a_model_that_knows_too_little_is_trained_anew(warehouse):
    people(warehouse, 20)
    assert warehouse.run().model_status == "trained"
    people(warehouse, 5, start=100)
    assert warehouse.run().model_status == "reused"
    people(warehouse, 300, start=1000)

    report = warehouse.run()

    assert report.model_status == "trained"
    assert report.resolved_records == len(warehouse.records)
    assert warehouse.run(retrain=True).model_status == "trained"
