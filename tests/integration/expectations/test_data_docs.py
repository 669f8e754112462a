"""What is kept of a run and shown of it: complete, self-contained, and without a word of anybody's data."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from core.errors import HomeError
from core.home import Home
from core.settings import Settings
from expectations import data_docs, deliveries, results, runner
from expectations.suites import suites
from ingestion.drift import Change
from tests.integration.expectations.conftest import LAKE, deliver

Fill = Callable[..., Home]
SECRET = "zenobia.quill@example.com"


def leaks(home: Home, found: list[results.CheckResult], value: str) -> list[str]:
    in_results = ["a result"] if value in repr(found) else []
    return in_results + [
        str(path) for path in home.docs.rglob("*") if path.is_file() and value.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize(
    "change",
    [
        # In the failing column itself, beside one, as a category, and in the text of an error that quotes it.
        f"update accepted set email = replace('{SECRET}', '@example', '@@example') where row_number = 3",
        f"update accepted set email = '{SECRET}', discount = -1, status = 'odd' where row_number = 3",
        f"update accepted set status = '{SECRET}', currency = '{SECRET}'",
        f"alter table accepted alter column discount type varchar; update accepted set discount = '{SECRET}'",
    ],
    ids=["its own rule", "another rule", "a wrong column", "an error"],
)
def test_no_contents_of_a_failing_row_reach_the_docs_or_the_results(
    settings: Settings,
    lake: Fill,
    change: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(0)
    home = lake({"shop.orders": change})

    found = runner.run(settings, home, ["raw"], tables={"lake_shop.orders"})

    assert [result for result in found if not result.passed]
    assert leaks(home, found, "zenobia") == []
    assert "zenobia" not in caplog.text
    assert "zenobia" not in "".join(capfd.readouterr())


def test_no_contents_of_the_warehouse_reach_the_docs_or_the_results(settings: Settings, built: Fill) -> None:
    home = built(
        f"update marts.dim_customers set email = 'Zenobia.{SECRET}', phone = '{SECRET}', account_type = '{SECRET}';"
        f"update staging.stg_third_party__demographics set contact_point = '{SECRET}', gender = '{SECRET}';"
        f"update staging.stg_lake__emails set given = '{SECRET}', email = 'Zenobia.{SECRET}'"
    )

    found = runner.run(settings, home, ["staging", "identity", "marts"])

    failed = {(result.table, result.name) for result in found if not result.passed}
    assert ("marts.dim_customers", "email_is_normalised") in failed
    assert ("staging.stg_third_party__demographics", "contact_point_told_once") in failed
    assert leaks(home, found, "enobia") == []


def test_no_contents_of_quarantine_or_contact_points_reach_the_page(settings: Settings, home: Home) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    deliver(home, "shop.orders", LAKE["shop.orders"], rejected={"ordered_at is no time": 3, "status is too long": 1})
    home.contact_points.mkdir(parents=True)
    emails = {"given": [SECRET, "x"], "email": [SECRET, None], "problem": [None, "no_at_sign"]}
    parquet.write_table(pa.table(emails), home.contact_points / "emails.parquet")

    found = runner.run(settings, home, ["raw"], tables={"lake_shop.orders"})

    assert leaks(home, found, "enobia") == []
    page = (data_docs.folder(home) / "deliveries.html").read_text(encoding="utf-8")
    assert "ordered_at is no time: 3" in page
    assert "no_at_sign: 1" in page


def test_every_table_has_a_page_and_every_page_is_linked(settings: Settings, lake: Fill, built: Fill) -> None:
    lake()
    home = built()
    runner.run(settings, home, ["raw"])
    runner.run(settings, home, ["staging", "identity", "marts"])

    entrance = (data_docs.folder(home) / "index.html").read_text(encoding="utf-8")
    assert 'href="deliveries.html"' in entrance
    for suite in suites():
        page = data_docs.page(home, suite.table)
        assert f'href="{page.relative_to(data_docs.folder(home)).as_posix()}"' in entrance
        said = page.read_text(encoding="utf-8")
        assert all(rule.name in said for rule in suite.rules)


def test_a_run_of_some_tables_leaves_the_others_as_they_were(settings: Settings, lake: Fill, built: Fill) -> None:
    lake()
    home = built()
    runner.run(settings, home, ["raw"], tables={"lake_shop.orders", "lake_shop.products"})
    runner.run(settings, home, ["marts"], tables={"marts.fct_orders"}, as_of=datetime(2024, 3, 5, tzinfo=UTC))

    kept = results.read(home)
    assert [(result.table, result.as_of.day) for result in kept] == [
        ("lake_shop.orders", 4), ("lake_shop.products", 4), ("marts.fct_orders", 5),
    ]  # fmt: skip
    assert {path.stem for path in data_docs.folder(home).glob("tables/*.html")} == {result.table for result in kept}


def test_results_are_kept_as_they_were_found(settings: Settings, lake: Fill) -> None:
    home = lake({"shop.orders": "update accepted set discount = -1 where row_number = 17"})

    found = runner.run(settings, home, ["raw"], tables={"lake_shop.orders"})

    (kept,) = results.read(home)
    assert list(kept.checks) == found
    assert "000001-00000000 / 17" in data_docs.page(home, "lake_shop.orders").read_text(encoding="utf-8")


def test_running_again_changes_no_byte(settings: Settings, lake: Fill) -> None:
    home = lake()

    def run() -> dict[Path, bytes]:
        runner.run(settings, home, ["raw"], tables={"lake_shop.orders"})
        return {path: path.read_bytes() for path in home.docs.rglob("*") if path.is_file()}

    assert run() == run()


def test_tables_that_are_guarded_no_more_go(settings: Settings, lake: Fill) -> None:
    home = lake()
    stranger = results.TableResult("marts.gone", "marts", datetime(2024, 3, 4, tzinfo=UTC), ())
    results.keep(home, [stranger], ["marts.gone"])
    data_docs.write(home, [stranger])

    runner.run(settings, home, ["raw"], tables={"lake_shop.orders"})

    assert [result.table for result in results.read(home)] == ["lake_shop.orders"]
    assert not data_docs.page(home, "marts.gone").exists()


def test_results_that_cannot_be_read_say_what_to_do(home: Home) -> None:
    results.path(home).parent.mkdir(parents=True)
    results.path(home).write_text("{", encoding="utf-8")

    with pytest.raises(HomeError, match="delete it"):
        results.read(home)


def test_the_pages_load_nothing_from_elsewhere(settings: Settings, lake: Fill) -> None:
    home = lake()
    runner.run(settings, home, ["raw"])

    pages = list(data_docs.folder(home).rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        said = page.read_text(encoding="utf-8")
        assert not re.findall(r"""<(?:link|script|img|iframe)\b|@import|url\(|(?:href|src)=["']?(?:\w+:)?//""", said), (
            page
        )


def test_nothing_is_written_outside_the_home(
    settings: Settings, lake: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))

    runner.run(settings, lake(), ["raw"], tables={"lake_shop.orders"})

    assert list(elsewhere.rglob("*")) == []


# Deliveries


def test_deliveries_are_told_with_what_became_of_their_rows(home: Home) -> None:
    change = Change("warning", "missing", "discount", "discount is missing")
    deliver(home, "shop.orders", LAKE["shop.orders"], received_at=datetime(2024, 3, 1))
    deliver(
        home,
        "shop.orders",
        LAKE["shop.orders"],
        sequence=2,
        received_at=datetime(2024, 3, 2),
        historical=False,
        rejected={"a; b": 2, "b": 1, "c": 5},
        changes=(change,),
        notices=("orders.csv holds no rows",),
    )

    (table,) = deliveries.read(home).tables

    assert (table.full_name, table.total("read"), table.total("rejected")) == ("shop.orders", 88, 8)
    newest = table.deliveries[-1]
    assert newest.read == newest.accepted + newest.superseded + newest.rejected + newest.erased
    assert [(reason.said, reason.number) for reason in newest.rejected_because] == [("c", 5), ("b", 3), ("a", 2)]
    assert [said.said for said in newest.changes] == ["discount is missing"]
    assert newest.notices == ("orders.csv holds no rows",), "a change is told once"
    assert deliveries.read(home).absent == ("crm", "email", "pos", "reference", "third_party", "web")


def test_of_many_reasons_the_commonest_are_told(home: Home) -> None:
    deliver(home, "shop.orders", LAKE["shop.orders"], rejected={f"reason {n}": n for n in range(1, 9)})

    (table,) = deliveries.read(home).tables
    told = [(reason.said, reason.number) for reason in table.deliveries[0].rejected_because]
    assert told == [*((f"reason {n}", n) for n in (8, 7, 6, 5, 4)), ("other reasons", 6)]


def test_deliveries_are_chosen_by_source_and_day(home: Home) -> None:
    for number, table in enumerate(("shop.orders", "crm.contacts", "shop.orders"), 1):
        deliver(home, table, LAKE[table], sequence=number, received_at=datetime(2024, 3, number))

    def chosen(source: str | None = None, since: date | None = None) -> list[tuple[str, list[int]]]:
        known = deliveries.read(home, source=source, since=since)
        return [(table.full_name, [one.sequence for one in table.deliveries]) for table in known.tables]

    assert chosen(source="crm") == [("crm.contacts", [2])]
    assert chosen(since=date(2024, 3, 2)) == [("crm.contacts", [2]), ("shop.orders", [3])]
    assert chosen(source="crm", since=date(2024, 3, 3)) == []


def test_the_page_shows_every_delivery_in_a_bar(home: Home) -> None:
    for number in range(1, 71):
        deliver(home, "shop.products", LAKE["shop.products"], sequence=number, rejected={"bad": 1})

    page = data_docs.deliveries_page(deliveries.read(home))

    assert page.count("<title>2024") == 60
    assert page.count("bad: 1") == data_docs.SHOWN
    assert "and 40 earlier deliveries" in page


def test_an_empty_home_has_a_page_too(home: Home) -> None:
    assert "Nothing was delivered yet" in data_docs.deliveries_page(deliveries.read(home))
