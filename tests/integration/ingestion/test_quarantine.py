"""Rejected rows are listed, exported for repair, and replayed without anything being lost, doubled or set back."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.errors import ContractError, DeliveryError
from ingestion import accounting, manifest, quarantine, replaying
from ingestion.replaying import ReplayReport
from tests.integration.ingestion.conftest import RECEIVED_AT, Lake

REPLAYED_AT = RECEIVED_AT + timedelta(days=10)
LINES = "order_id,line_number,product_id,quantity,unit_price,currency\n"
ORDERS = "order_id,ordered_at,discount\n"


@dataclass(frozen=True)
class Desk:
    """Where rejected rows of one table are worked on. Every replay is followed by a check of the accounts."""

    lake: Lake
    source: str
    table: str

    def load(self, content: str, **options: Any) -> None:
        number = len(manifest.read(self.lake.home))
        self.lake.load_one(self.source, self.table, self.lake.write(f"{number}.csv", content), **options)

    def replay(self, file: Path | None = None, **options: Any) -> ReplayReport:
        given: dict[str, Any] = {"received_at": REPLAYED_AT} | options
        report = replaying.replay(self.lake.settings, self.lake.home, self.source, self.table, file=file, **given)
        assert accounting.check(self.lake.home) == []
        known = report.replayed + report.superseded + report.settled_before + report.still_rejected.total()
        assert report.tried == known
        return report

    def export(self, **options: Any) -> Path:
        out = self.lake.inbox / "rows.csv"
        quarantine.export(self.lake.settings, self.lake.home, self.source, self.table, out, **options)
        return out

    def repaired(self, repair: Callable[[dict[str, str]], dict[str, str] | None]) -> Path:
        """Export, repair each row (None leaves it out), save."""
        with open(self.export(), encoding="utf-8-sig", newline="") as file:
            rows = [row for said in csv.DictReader(file) if (row := repair(said)) is not None]
        out = self.lake.inbox / "repaired.csv"
        with open(out, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return out

    def states(self) -> dict[str, int]:
        groups = quarantine.listing(self.lake.settings, self.lake.home, self.source, self.table)
        counts = {
            state: sum(getattr(group, state) for group in groups)
            for state in ("open", "replayed", "superseded", "discarded")
        }
        assert sum(counts.values()) == sum(group.rows for group in groups)
        return {state: count for state, count in counts.items() if count}

    def in_force(self, columns: str, entity: str = "order_id") -> list[tuple[Any, ...]]:
        """The rows that stand, as staging reads them."""
        newest = f"qualify split_part(delivery_id, '-', 1) = max(split_part(delivery_id, '-', 1)) over (partition by {entity})"
        query = f"select {columns} from (from rows {newest}) order by delivery_id, row_number"
        return self.lake.query(self.source, self.table, query)


@pytest.fixture
def lines(lake) -> Desk:
    return Desk(lake, "shop", "order_lines")


@pytest.fixture
def orders(lake) -> Desk:
    return Desk(lake, "shop", "orders")


def price(row: dict[str, str]) -> dict[str, str]:
    return row | {"unit_price": row["unit_price"].replace(",", ".")}


def test_listing_counts_by_delivery_and_reason_and_names_the_first_rows(lines):
    lines.load(LINES + "".join(f'O{n},1,P1,1,"{n},5",GBP\n' for n in range(8)) + "O9,x,P1,1,2,GBP\n,1,P1,1,2,GBP\n")
    lines.load(LINES + "O1,1,P1,1,no,GBP\n")

    groups = quarantine.listing(lines.lake.settings, lines.lake.home)

    assert [
        (g.source, g.table, g.delivery_id[:6], g.reason.split()[0], g.rows, g.open, g.first_rows) for g in groups
    ] == [
        ("shop", "order_lines", "000001", "unit_price", 8, 8, (1, 2, 3, 4, 5)),
        ("shop", "order_lines", "000001", "line_number", 1, 1, (9,)),
        ("shop", "order_lines", "000001", "order_id", 1, 1, (10,)),
        ("shop", "order_lines", "000002", "unit_price", 1, 1, (1,)),
    ]
    [newest] = quarantine.listing(lines.lake.settings, lines.lake.home, delivery=groups[-1].delivery_id)
    assert newest == groups[-1]
    assert quarantine.listing(lines.lake.settings, lines.lake.home, "crm") == []
    assert quarantine.listing(lines.lake.settings, lines.lake.home, "shop", "orders") == []


def test_replaying_what_is_still_wrong_does_nothing(lines):
    lines.load(LINES + "O1,1,P1,1,2,GBP\nO2,1,P1,1,no,GBP\nO3,1,P1\n")
    before = lines.lake.files()

    report = lines.replay()

    assert (report.tried, report.replayed, report.deliveries) == (2, 0, [])
    assert sorted(reason.split(",")[0] for reason in report.still_rejected) == [
        "has 3 cells where the header has 6",
        "unit_price is not a plain number such as 1234.50",
    ]
    assert lines.lake.files() == before
    assert lines.states() == {"open": 2}


def test_repaired_line_comes_back_with_the_lines_of_its_order_in_their_old_order(lines):
    lines.load(LINES + 'O1,1,A,1,2,GBP\nO1,2,B,1,"2,5",GBP\nO1,3,C,1,2,GBP\nO2,1,A,1,2,GBP\n')

    report = lines.replay(lines.repaired(price))

    assert (report.replayed, report.carried, len(report.deliveries)) == (1, 2, 1)
    assert lines.in_force("order_id, product_id, cast(unit_price as varchar)") == [
        ("O2", "A", "2.0000"),
        ("O1", "A", "2.0000"),
        ("O1", "B", "2.5000"),
        ("O1", "C", "2.0000"),
    ]
    assert lines.lake.counts("shop", "order_lines") == [(4, 1, 2, 1), (3, 3, 0, 0)]
    assert lines.states() == {"replayed": 1}
    assert lines.lake.load_one("shop", "order_lines", lines.lake.inbox / "0.csv").duplicate_of is not None


def test_replaying_twice_does_nothing_twice(lines):
    lines.load(LINES + 'O1,1,A,1,"2,5",GBP\nO2,1,A,1,2,GBP\n')
    repaired = lines.repaired(price)
    assert lines.replay(repaired).replayed == 1
    before = lines.lake.files()

    again = lines.replay(repaired)

    assert (again.tried, again.settled_before, again.deliveries) == (1, 1, [])
    assert lines.replay().tried == 0
    assert lines.lake.files() == before


def test_rest_of_an_order_can_be_replayed_later(lines):
    lines.load(LINES + 'O1,1,A,1,"2,5",GBP\nO1,2,B,1,2,GBP\nO1,3,C,1,"4,5",GBP\n')
    first = lines.repaired(lambda row: price(row) if row["product_id"] == "C" else None)
    assert lines.replay(first).carried == 1
    second = lines.replay(lines.repaired(price))

    assert (second.replayed, second.carried, second.superseded) == (1, 2, 0)
    assert lines.in_force("product_id") == [("A",), ("B",), ("C",)]
    assert lines.lake.counts("shop", "order_lines") == [(3, 0, 1, 2), (2, 0, 2, 0), (3, 3, 0, 0)]
    assert lines.states() == {"replayed": 2}


def test_rejected_version_that_is_older_than_an_accepted_one_stays_out(orders):
    orders.load(ORDERS + 'O1,2011-12-01,"1,5"\nO2,2011-12-01,"2,5"\n')
    orders.load(ORDERS + "O1,2011-12-02,9\n")

    report = orders.replay(orders.repaired(lambda row: row | {"discount": row["discount"].replace(",", ".")}))

    assert (report.replayed, report.superseded) == (1, 1)
    assert orders.in_force("order_id, cast(discount as varchar)") == [("O1", "9.0000"), ("O2", "2.5000")]
    assert orders.states() == {"replayed": 1, "superseded": 1}
    assert orders.replay().tried == 0


def test_of_two_rejected_versions_only_the_newer_comes_in_force(lines):
    lines.load(LINES + 'O1,1,OLD,1,"2,5",GBP\nO1,2,OLD,1,2,GBP\n')
    lines.load(LINES + 'O1,1,NEW,1,"3,5",GBP\n')

    report = lines.replay(lines.repaired(price))

    assert (report.replayed, report.superseded, report.carried) == (1, 1, 0)
    assert lines.in_force("product_id") == [("NEW",)]
    assert lines.states() == {"replayed": 1, "superseded": 1}


def test_newer_rejected_version_replaces_an_older_accepted_one(orders):
    orders.load(ORDERS + "O1,2011-12-01,1\n")
    orders.load(ORDERS + 'O1,2011-12-02,"9,5"\n')

    report = orders.replay(orders.repaired(lambda row: row | {"discount": "9.5"}))

    assert (report.replayed, report.carried, report.superseded) == (1, 0, 0)
    assert orders.in_force("cast(discount as varchar)") == [("9.5000",)]


def test_later_row_of_an_order_stays_the_later_one(orders):
    orders.load(ORDERS + 'O1,2011-12-01,"1,5"\nO1,2011-12-02,2\n')
    orders.replay(orders.repaired(lambda row: row | {"discount": "1.5"}))
    assert orders.in_force("cast(discount as varchar), row_number") == [("1.5000", 1), ("2.0000", 2)]


def test_order_in_two_currencies_replays_whole_when_they_agree_and_stays_whole_when_not(lines):
    lines.load(LINES + "O1,1,A,1,2,GBP\nO1,2,B,1,2,EUR\nO2,1,A,1,2,GBP\n")
    assert lines.states() == {"open": 2}

    half = lines.repaired(lambda row: row | {"currency": "USD"} if row["product_id"] == "B" else row)
    report = lines.replay(half)
    assert report.still_rejected == {"currency holds different values within one order_id": 2}
    assert lines.states() == {"open": 2}

    report = lines.replay(lines.repaired(lambda row: row | {"currency": "GBP"}))
    assert (report.replayed, report.carried) == (2, 0)
    assert lines.in_force("order_id, product_id") == [("O2", "A"), ("O1", "A"), ("O1", "B")]


def test_versions_of_an_order_need_not_agree_but_the_lines_of_the_newest_must(lines):
    lines.load(LINES + 'O1,1,OLD,1,"2,5",GBP\nO2,1,OLD,1,"2,5",GBP\n')
    lines.load(LINES + 'O1,1,NEW,1,"2,5",EUR\nO2,1,NEW,1,2,GBP\nO2,2,NEW,1,2,EUR\n')

    report = lines.replay(lines.repaired(price))

    assert (report.replayed, report.superseded) == (1, 1)
    assert report.still_rejected == {
        "currency holds different values within one order_id": 2,
        "a newer version of it is rejected as well": 1,
    }
    assert lines.in_force("order_id, product_id, currency") == [("O1", "NEW", "EUR")]
    assert lines.replay(lines.repaired(price)).replayed == 0


def test_repair_that_contradicts_the_lines_that_stand_stays_open(lines):
    lines.load(LINES + 'O1,1,A,1,2,GBP\nO1,2,B,1,"2,5",GBP\n')
    report = lines.replay(lines.repaired(lambda row: price(row) | {"currency": "EUR"}))
    assert report.still_rejected == {"currency holds different values within one order_id": 1}
    assert lines.in_force("product_id") == [("A",)]
    assert lines.states() == {"open": 1}


def test_rows_come_back_by_themselves_after_the_contract_was_corrected(lake, monkeypatch):
    from dataclasses import replace

    from core.contract import Contract, load_contract

    desk = Desk(lake, "shop", "orders")
    desk.load("order_id,ordered_at,channel,Remark\nO1,2011-12-01,web,a\nO2,31/11/2011,web,b\nO3,,web,c\n")
    contract = load_contract()
    table = contract.table("shop", "orders")
    relaxed = replace(
        table, columns=tuple(replace(c, required=c.required and c.name != "ordered_at") for c in table.columns)
    )
    corrected = Contract(contract.tables | {("shop", "orders"): relaxed})
    for module in ("loader", "replaying", "accounting"):
        monkeypatch.setattr(f"ingestion.{module}.load_contract", lambda: corrected)

    report = desk.replay()

    assert (report.tried, report.replayed, report.still_rejected.total()) == (2, 1, 1)
    assert desk.in_force("order_id, ordered_at is null") == [("O1", False), ("O3", True)]


def test_rows_of_historical_deliveries_come_back_as_historical_and_the_others_are_known_from_now_on(orders):
    orders.load(ORDERS + 'O1,2011-12-01,"1,5"\n', historical=True)
    orders.load(ORDERS + 'O2,2011-12-01,"1,5"\n')

    report = orders.replay(orders.repaired(lambda row: row | {"discount": "1.5"}))

    assert len(report.deliveries) == 2
    replays = [row for row in manifest.read(orders.lake.home) if row.delivery_id in report.deliveries]
    assert [(row.historical, row.received_at, row.rows_accepted) for row in replays] == [
        (True, REPLAYED_AT.replace(tzinfo=None), 1),
        (False, REPLAYED_AT.replace(tzinfo=None), 1),
    ]
    assert replays[0].notices == ("replayed from quarantine: 1 row, and 0 rows carried over",)
    assert orders.in_force("order_id") == [("O1",), ("O2",)]


def test_event_that_was_told_since_is_not_told_again(lake):
    desk = Desk(lake, "web", "events")
    desk.load("event_id,event_type,occurred_at\n1,pge,2011-12-01\n2,pge,2011-12-01\n3,page,2011-12-01\n")
    desk.load("event_id,event_type,occurred_at\n2,page,2011-12-01\n")

    report = desk.replay(desk.repaired(lambda row: row | {"event_type": "page"}))

    assert (report.replayed, report.superseded, report.carried) == (1, 1, 0)
    assert lake.counts("web", "events") == [(3, 1, 0, 2), (1, 1, 0, 0), (1, 1, 0, 0)]


def test_snapshot_keeps_its_rows_and_an_older_one_stays_out(lake):
    desk = Desk(lake, "third_party", "demographics")
    header = "contact_point,contact_point_type,age_band\n"
    desk.load(header + "a@example.com,email,18-24\nb@example.com,mail,18-24\nc@example.com,mail,18-24\n")

    report = desk.replay(desk.repaired(lambda row: row | {"contact_point_type": "email"}))
    assert (report.replayed, report.carried) == (2, 1)
    assert lake.counts("third_party", "demographics") == [(3, 0, 1, 2), (3, 3, 0, 0)]

    desk.load(header + "d@example.com,mail,18-24\ne@example.com,email,18-24\n")
    late = desk.repaired(lambda row: row | {"contact_point_type": "email"})
    desk.load(header + "f@example.com,email,18-24\n")
    assert desk.replay(late).superseded == 1
    assert desk.states() == {"replayed": 2, "superseded": 1}


def test_export_disarms_formulas_names_columns_as_the_contract_does_and_comes_back_as_it_was(lake):
    desk = Desk(lake, "crm", "contacts")
    lake.load_one(
        "crm",
        "contacts",
        lake.write("c.csv", 'contact_id,Vorname,surname,birthday,phone,note\n1,"=1+1","\'@x",no,+49 30 1,-5\n'),
        renames={"contacts": {"vorname": "given_name"}},
    )

    out = desk.export()

    with open(out, encoding="utf-8-sig", newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["given_name"], row["surname"], row["phone"], row["note"]) == ("'=1+1", "''@x", "'+49 30 1", "-5")
    assert (row["quarantine_row"], row["quarantine_file"], row["quarantine_state"]) == ("1", "c.csv", "open")
    assert row["quarantine_reason"].startswith("birthday is not a date")
    desk.replay(desk.repaired(lambda said: said | {"birthday": "1980-01-01"}))
    assert desk.in_force("given_name, surname, phone", "contact_id") == [("=1+1", "'@x", "+49 30 1")]


def test_export_shows_ragged_rows_and_broken_lines_so_that_they_can_be_repaired(lines):
    lines.load(LINES + 'O1,1,A,1\nO2,1,A,1,2,GBP,more\nO3,1,"A"B,1,2,GBP\n')

    with open(lines.export(), encoding="utf-8-sig", newline="") as file:
        short, long, broken = csv.DictReader(file)

    assert (short["order_id"], short["quantity"], short["unit_price"]) == ("O1", "1", "")
    assert (long["currency"], long["extra_1"]) == ("GBP", "more")
    assert broken["quarantine_line"] == 'O3,1,"A"B,1,2,GBP\n'
    cells = {"order_id": "O3", "line_number": "1", "product_id": "AB", "quantity": "1", "unit_price": "2"}
    report = lines.replay(lines.repaired(lambda row: row | (cells if row["quarantine_line"] else {"unit_price": "2"})))
    assert report.replayed == 3
    assert lines.in_force("order_id, product_id") == [("O1", "A"), ("O2", "A"), ("O3", "AB")]


def test_rows_of_parquet_and_json_come_back_with_their_values(lake):
    lake.load_one(
        "shop",
        "orders",
        lake.write_parquet(
            "o.parquet",
            "select 'O1' as order_id, timestamptz '2011-07-01 10:00+02' as ordered_at, 17.0::double as customer_ref,"
            " 'x' as discount, 1.50::decimal(9,2) as shipping",
        ),
    )
    lake.load_one(
        "shop",
        "orders",
        lake.write("o.jsonl", '{"order_id": 7, "ordered_at": "2011-07-01T10:00Z", "discount": "x", "shipping": 1e2}\n'),
    )
    desk = Desk(lake, "shop", "orders")

    desk.replay(
        desk.repaired(lambda row: row | {"discount": "1"} | ({"shipping": "100"} if row["order_id"] == "7" else {}))
    )

    assert desk.in_force("order_id, cast(ordered_at as varchar), customer_ref, cast(shipping as varchar)") == [
        ("O1", "2011-07-01 08:00:00", "17", "1.5000"),
        ("7", "2011-07-01 10:00:00", None, "100.0000"),
    ]


def test_carried_rows_keep_every_value_to_the_microsecond(lake):
    desk = Desk(lake, "shop", "orders")
    desk.load(
        "order_id,ordered_at,discount,price_includes_tax,coupon\n"
        'O1,2011-07-01 10:00:00.123456,-0.0001,yes," =a, ""b"""\nO1,2011-07-02,x,no,c\n'
    )
    columns = "cast(ordered_at as varchar), discount, price_includes_tax, coupon, customer_ref"
    before = desk.in_force(columns)
    desk.replay(desk.repaired(lambda row: row | {"discount": "1"}))
    assert desk.in_force(columns)[0] == before[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: {k: v for k, v in row.items() if k != "quarantine_row"}, "lacks the columns quarantine_delivery"),
        (lambda row: row | {"quarantine_row": "99"}, "no such row in quarantine"),
        (lambda row: row | {"quarantine_delivery": "000009-00000000"}, "no such row in quarantine"),
        (lambda row: row | {"quarantine_row": "2"}, "repairs a row that another one repairs too"),
    ],
    ids=["without provenance", "unknown row", "unknown delivery", "row twice"],
)
def test_repaired_file_that_names_no_rows_in_quarantine_is_refused(lines, change, said):
    lines.load(LINES + 'O1,1,A,1,"2,5",GBP\nO2,1,A,1,"2,5",GBP\n')
    with pytest.raises(DeliveryError, match=said):
        lines.replay(lines.repaired(lambda row: change(price(row))))
    assert lines.states() == {"open": 2}


def test_discarded_rows_are_not_replayed(lines):
    lines.load(LINES + "O1,1,A,1,x,GBP\n")
    lines.load(LINES + "O2,1,A,1,x,GBP\n")
    [first, _] = manifest.read(lines.lake.home)
    where = (lines.lake.settings, lines.lake.home, "shop", "order_lines")
    assert quarantine.discard(*where, delivery=first.delivery_id, now=datetime(2012, 2, 1, tzinfo=UTC)) == 1
    assert lines.states() == {"open": 1, "discarded": 1}
    assert quarantine.discard(*where, now=datetime(2012, 2, 1, tzinfo=UTC)) == 1
    assert quarantine.discard(*where, now=datetime(2012, 2, 1, tzinfo=UTC)) == 0
    assert lines.replay().tried == 0
    assert accounting.check(lines.lake.home) == []


def test_replay_that_is_killed_before_the_manifest_leaves_the_rows_open(lines, monkeypatch):
    lines.load(LINES + 'O1,1,A,1,"2,5",GBP\n')
    repaired = lines.repaired(price)
    before = lines.lake.files()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "write", fail)
        with pytest.raises(OSError, match="No space"):
            lines.replay(repaired)
    assert lines.states() == {"open": 1}
    assert lines.replay(repaired).replayed == 1
    assert lines.states() == {"replayed": 1}
    assert len(lines.lake.files() - before) == 3  # raw, accepted and settled


def test_unknown_table_is_an_error(lake):
    with pytest.raises(ContractError, match=r"no table shop\.lines"):
        Desk(lake, "shop", "lines").replay()
