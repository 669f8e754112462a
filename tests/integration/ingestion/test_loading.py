"""Good deliveries: formats, types, row numbers, several files, re-delivery, duplicates."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from core import lock
from ingestion import accounting, delimited, loader, manifest
from ingestion import report as reports

HEADER = "order_id,product_id,quantity,unit_price,occurred_at\n"
ROWS = [("O1", "P1", 1, "2.50"), ("O1", "P2", -3, "0.10"), ("O2", "P1", 7, "1000.00")]


def lines(*orders: str, product: str = "P") -> str:
    return HEADER + "".join(f"{order},{product},1,2.50,2011-12-01 10:00\n" for order in orders)


def events(*ids: str) -> str:
    return "event_id,event_type,occurred_at\n" + "".join(f"{event},track,2011-12-01 10:00\n" for event in ids)


def test_every_format_gives_the_same_rows(lake):
    values = ", ".join(f"('{o}', '{p}', {q}, {u}, timestamp '2011-07-01 10:00')" for o, p, q, u in ROWS)
    names = "order_id, product_id, quantity, unit_price, occurred_at"
    files = [
        lake.write_parquet("a.parquet", f"select * from (values {values}) as v ({names})"),
        lake.write("b.csv", HEADER + "".join(f"{o},{p},{q},{u},2011-07-01 10:00\n" for o, p, q, u in ROWS)),
        lake.write(
            "c.tsv", (HEADER + "".join(f"{o},{p},{q},{u},1.7.2011 10:00\r\n" for o, p, q, u in ROWS)).replace(",", "\t")
        ),
        lake.write(
            "d.csv",
            ("\ufeff" + HEADER + "".join(f'"{o}",{p},{q},{u},01/07/2011 10:00\n' for o, p, q, u in ROWS)).replace(
                ",", ";"
            ),
        ),
        lake.write(
            "e.txt", (HEADER + "".join(f"{o},{p},{q},{u},2011-07-01T09:00Z\n" for o, p, q, u in ROWS)).encode("utf-16")
        ),
        lake.write(
            "f.jsonl",
            "\n\n".join(
                json.dumps(
                    {
                        "Order_ID": o,
                        "product_id": p,
                        "quantity": q,
                        "unit_price": float(u),
                        "occurred_at": "2011-07-01 10:00",
                    }
                )
                for o, p, q, u in ROWS
            ),
        ),
    ]
    report = lake.load_one("shop", "order_lines", *files)
    assert (report.rows_read, report.accepted, report.error) == (18, 18, None)
    got = lake.accepted("shop", "order_lines", "order_id, product_id, quantity, unit_price, occurred_at, row_number")
    expected = [(o, p, Decimal(q), Decimal(u), datetime(2011, 7, 1, 9)) for o, p, q, u in ROWS]
    assert [row[:5] for row in got] == expected * 6
    assert [row[5] for row in got] == list(range(1, 19))


def test_accepted_file_has_all_columns_of_the_contract_in_order_then_delivery_and_row(lake):
    from core.contract import load_contract

    lake.load_one("shop", "orders", lake.write("o.csv", "ordered_at,order_id\n2011-12-01,O1\n"))
    [path] = lake.home.accepted("shop", "orders").glob("*.parquet")
    import duckdb

    with duckdb.connect() as connection:
        described = connection.execute(f"describe select * from '{path}'").fetchall()
    table = load_contract().table("shop", "orders")
    expected = [(column.name, column.data_type.upper()) for column in table.columns]
    assert [row[:2] for row in described] == [*expected, ("delivery_id", "VARCHAR"), ("row_number", "BIGINT")]


def test_row_numbers_are_positions_in_the_file_also_when_it_is_read_in_parallel(lake):
    query = "select 'O'||i as order_id, 'P' as product_id, i as quantity, 1 as unit_price from range(1, 200001) r(i)"
    parquet = lake.write_parquet("lines.parquet", query)
    csv = lake.write(
        "lines.csv", "order_id,product_id,quantity,unit_price\n" + "".join(f"O{i},P,{i},1\n" for i in range(1, 200001))
    )
    lake.load_one("shop", "order_lines", parquet, csv)
    rows = lake.accepted("shop", "order_lines", "row_number, cast(quantity as integer)")
    assert rows == [(number + 1, number % 200_000 + 1) for number in range(400_000)]


def test_rejects_of_a_second_file_say_their_place_in_the_delivery_and_in_the_file(lake):
    first, second = (
        lake.write("a.csv", lines("O1", "O2")),
        lake.write("b.csv", lines("O3", "O4").replace("O4,P,1", "O4,P,x")),
    )
    lake.load_one("shop", "order_lines", first, second)
    assert lake.quarantined("shop", "order_lines", "row_number, file_name, file_row") == [(4, "b.csv", 2)]


def test_lines_without_an_object_are_rejected_and_keys_may_differ_from_line_to_line(lake):
    path = lake.write(
        "events.jsonl",
        '{"event_id": "1", "event_type": "track", "occurred_at": "2011-12-01T10:00:00Z", "properties": {"a": [1]}}\n'
        "{broken\n"
        "[1]\n"
        '{"event_id": "2", "event_type": "page", "occurred_at": "2011-12-01T10:00:00Z", "page_url": "/x", "new": null}\n',
    )
    report = lake.load_one("web", "events", path)
    assert (report.rows_read, report.accepted, report.rejected) == (4, 2, 2)
    assert lake.accepted("web", "events", "row_number, properties, page_url") == [
        (1, '{"a":[1]}', None),
        (4, None, "/x"),
    ]
    assert lake.quarantined("web", "events", "row_number, reason, raw_row") == [
        (2, "is no JSON object", "{broken"),
        (3, "is no JSON object", "[1]"),
    ]
    assert any("left out: new" in notice for notice in report.notices)


def test_redelivered_orders_replace_the_earlier_ones_whole(lake):
    first = lake.load("shop", {"order_lines": [lake.write("1.csv", lines("O1", "O1", "O2", "O3"))]})
    lake.load_one("shop", "order_lines", lake.write("2.csv", lines("O1", "O2", product="Q")))
    third = lake.load_one("shop", "order_lines", lake.write("3.csv", lines("O1", "O3", "O4", product="R")))
    assert lake.counts("shop", "order_lines") == [(4, 0, 4, 0), (2, 1, 1, 0), (3, 3, 0, 0)]
    assert third.superseded_earlier == 2
    assert first.changed
    assert first.sequence == 1


def test_rows_repeated_within_one_delivery_of_orders_are_real_rows(lake):
    report = lake.load_one("shop", "order_lines", lake.write("1.csv", lines("O1", "O1")))
    assert (report.accepted, report.superseded) == (2, 0)


def test_newest_snapshot_replaces_the_ones_before_and_an_old_one_may_come_back(lake):
    a = lake.write("a.csv", "country_code,postal_code\nGB,AB1\nGB,AB2\n")
    b = lake.write("b.csv", "country_code,postal_code\nGB,AB3\n")
    for path in (a, b):
        lake.load_one("reference", "postal_codes", path)
    assert lake.counts("reference", "postal_codes") == [(2, 0, 2, 0), (1, 1, 0, 0)]
    assert lake.load_one("reference", "postal_codes", b).duplicate_of is not None
    assert lake.load_one("reference", "postal_codes", a).accepted == 2
    assert lake.counts("reference", "postal_codes") == [(2, 0, 2, 0), (1, 0, 1, 0), (2, 2, 0, 0)]


def test_first_of_repeated_events_counts(lake):
    lake.load_one("web", "events", lake.write("1.csv", events("a", "b", "a")))
    second = lake.load_one("web", "events", lake.write("2.csv", events("c", "b", "b", "d", "d")))
    assert lake.counts("web", "events") == [(3, 2, 1, 0), (5, 2, 3, 0)]
    assert (second.accepted, second.superseded, second.superseded_earlier) == (2, 3, 0)


def test_events_without_an_id_all_count(lake):
    head = "consent_id,channel,purpose,state,captured_at\n"
    row = ",email,marketing,granted,2011-12-01\n"
    lake.load_one("crm", "consents", lake.write("1.csv", head + row + row + "1" + row))
    lake.load_one("crm", "consents", lake.write("2.csv", head + row + "1" + row))
    assert lake.counts("crm", "consents") == [(3, 3, 0, 0), (2, 1, 1, 0)]


def test_same_file_again_is_noticed_and_nothing_is_written(lake):
    path = lake.write("lines.csv", lines("O1"))
    first = lake.load("shop", {"order_lines": [path]})
    before = {file: file.read_bytes() for file in lake.files()}
    again = lake.write("renamed.csv", path.read_bytes())

    report = lake.load("shop", {"order_lines": [again]})

    assert not report.changed
    [table] = report.tables
    assert table.duplicate_of == first.delivery_id
    assert table.notices == (f"renamed.csv was delivered before, as {first.delivery_id}, and was skipped",)
    assert {file: file.read_bytes() for file in lake.files()} == before


def test_of_several_files_only_the_new_ones_are_taken(lake):
    old, new = lake.write("old.csv", lines("O1")), lake.write("new.csv", lines("O2"))
    lake.load_one("shop", "order_lines", old)
    report = lake.load_one("shop", "order_lines", old, new, lake.write("copy.csv", new.read_bytes()))
    assert (report.rows_read, report.accepted) == (1, 1)
    assert [notice.split()[0] for notice in report.notices] == ["old.csv", "copy.csv"]
    assert manifest.read(lake.home)[-1].file_names == ("new.csv",)


def test_tables_of_one_hand_over_share_delivery_and_sequence(lake):
    orders = lake.write("orders.csv", "order_id,ordered_at\nO1,2011-12-01\n")
    report = lake.load(
        "shop",
        {"orders": [orders], "order_lines": [lake.write("lines.csv", lines("O1"))]},
        received_at=datetime(2011, 12, 2, 3, 4, tzinfo=UTC),
        historical=True,
    )
    rows = manifest.read(lake.home)
    assert {(row.delivery_id, row.sequence, row.received_at, row.historical) for row in rows} == {
        (report.delivery_id, 1, datetime(2011, 12, 2, 3, 4), True)
    }
    assert report.delivery_id.startswith("000001-")


def test_raw_files_are_kept_as_received_and_originals_left_alone(lake):
    path = lake.write("lines.csv", lines("O1"))
    lake.load_one("shop", "order_lines", path)
    kept = lake.raw_folder("shop", "order_lines") / "lines.csv"
    assert kept.read_bytes() == path.read_bytes()
    assert not kept.samefile(path)


def test_moved_files_are_gone_once_they_are_in_the_lake_but_not_before(lake):
    good, bad = lake.write("lines.csv", lines("O1")), lake.write("orders.csv", "order_id\nO1\n")
    inode = good.stat().st_ino
    lake.load("shop", {"order_lines": [good], "orders": [bad]}, move=True)
    assert (good.exists(), bad.exists()) == (False, True)
    assert (lake.raw_folder("shop", "order_lines") / "lines.csv").stat().st_ino == inode


def test_progress_and_report_tell_what_happened(lake):
    said: list[str] = []
    path = lake.write("lines.csv", lines("O1", "O2").replace("O2,P,1", "O2,P,x"))
    report = lake.load("shop", {"order_lines": [path], "orders": [lake.write("o.csv", "a\n1\n")]}, progress=said.append)
    assert said[0] == "shop.order_lines: reading lines.csv"
    assert said[-2] == "shop.order_lines: 2 rows read: 1 accepted, 1 rejected into quarantine"
    assert report.errors == (said[-1],)
    assert said[-1].startswith("shop.orders: not loaded: o.csv lacks")
    assert report.rejected == 1
    assert reports.TableReport("a", "b", duplicate_of="x", notices=("n",)).describe() == "a.b: nothing new"


def test_many_files_make_one_delivery(lake):
    files = [lake.write(f"{n}.csv", lines(f"O{n}")) for n in range(60)]
    report = lake.load_one("shop", "order_lines", *files)
    assert (report.rows_read, report.accepted) == (60, 60)
    assert [o for (o,) in lake.accepted("shop", "order_lines", "order_id")] == [f"O{n}" for n in range(60)]


def test_two_loads_at_once_wait_for_each_other(lake):
    paths = [lake.write(f"{n}.csv", events(str(n))) for n in range(4)]
    options = {"received_at": datetime(2012, 1, 1, tzinfo=UTC), "historical": False}
    threads = [
        threading.Thread(target=loader.load, args=(lake.settings, lake.home, "web", {"events": [path]}), kwargs=options)
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lake.counts("web", "events") == [(1, 1, 0, 0)] * 4
    assert accounting.check(lake.home) == []


def test_the_lakes_lock_is_free_after_a_load(lake):
    lake.load_one("web", "events", lake.write("1.csv", events("a")))
    lock.acquire(lake.home.deliveries)
    lock.release(lake.home.deliveries)


@pytest.mark.parametrize("damage", ["accepted", "quarantine", "raw", "manifest", "superseded"])
def test_accounting_finds_what_does_not_add_up(lake, damage):
    from dataclasses import replace

    lake.load_one("web", "events", lake.write("1.csv", events("a", "a", "b") + "c,nothing,2011-12-01\n"))
    [row] = manifest.read(lake.home)
    if damage == "raw":
        next(lake.raw_folder("web", "events").iterdir()).unlink()
    elif damage == "manifest":
        manifest.write(lake.home, [replace(row, rows_accepted=row.rows_accepted + 1)])
    elif damage == "superseded":
        manifest.write(lake.home, [replace(row, rows_accepted=3, rows_superseded=0)])
    else:
        next((lake.home.lake / damage / "web" / "events").iterdir()).unlink()
    problems = accounting.check(lake.home)
    assert problems
    assert all("web.events" in problem for problem in problems)


def test_parser_that_drops_rows_in_silence_is_not_believed(lake, monkeypatch):
    def drop_the_last(connection, path, target, delimiter, cells):
        connection.execute(
            f"copy (select 'O1' as c0, 'P' as c1, '1' as c2, '1' as c3, 'x' as c4, null::varchar as problem,"
            f" null::varchar as raw) to '{target}'"
        )
        return 1

    monkeypatch.setattr(delimited, "_stage_in_sets", drop_the_last)
    report = lake.load_one("shop", "order_lines", lake.write("lines.csv", lines("O1", "O2")))
    assert (report.rows_read, report.accepted) == (2, 2)
