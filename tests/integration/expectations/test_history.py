"""Freshness, volume and drift: what fails on deliveries made to break it, and what does not concern history."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from core.home import Home
from core.settings import Settings
from expectations import runner
from expectations.results import CheckResult
from ingestion.drift import Change
from tests.integration.expectations.conftest import AS_OF, deliver

DAY = timedelta(days=1)


def orders(rows: int, at: datetime, *, status: str = "'paid'", discount: str = "i % 10", start: int = 0) -> str:
    """A query of orders placed in the day before `at`."""
    return (
        f"select 'O' || ({start} + i) as order_id, timestamp '{at - DAY}' + i * interval 1 second as ordered_at,"
        f" {status} as status, {discount} as discount, 'C' || i as customer_ref, 'GBP' as currency"
        f" from range({rows}) as numbers (i)"
    )


def deliver_daily(home: Home, sizes: list[int], *, last: datetime = AS_OF - DAY, historical: bool = False) -> None:
    """One delivery of orders a day, the newest of `last`."""
    for number, size in enumerate(sizes, 1):
        at = last - DAY * (len(sizes) - number)
        select = orders(size, at, start=1000 * number)
        deliver(home, "shop.orders", select, sequence=number, received_at=at, historical=historical)


def failing(settings: Settings, home: Home, table: str = "shop.orders") -> dict[str, CheckResult]:
    results = runner.run(settings, home, ["raw"], tables={f"lake_{table}"}, docs=False)
    return {r.name: r for r in results if not r.passed and r.name not in ("order_has_lines", "has_rows")}


def test_regular_deliveries_pass(settings: Settings, home: Home) -> None:
    deliver_daily(home, [200, 220, 190, 210, 205])

    assert failing(settings, home) == {}


@pytest.mark.parametrize("newest", [99, 401], ids=["drop", "rise"])
def test_a_delivery_of_unusual_size_warns(settings: Settings, home: Home, newest: int) -> None:
    deliver_daily(home, [200, 190, 210, newest])

    found = failing(settings, home)
    assert set(found) == {"as_many_rows_as_usual"}
    assert found["as_many_rows_as_usual"].severity == "warning"
    assert found["as_many_rows_as_usual"].examples == ((f"delivery 000004-00000000: {newest} rows; usual are 200.0",),)


def test_two_predecessors_make_no_usual_size(settings: Settings, home: Home) -> None:
    deliver_daily(home, [200, 210, 5])

    assert failing(settings, home) == {}


def test_a_stale_delivery_warns(settings: Settings, home: Home) -> None:
    deliver_daily(home, [200, 190, 210, 205], last=AS_OF - 4 * DAY)

    assert set(failing(settings, home)) == {"delivered_in_time"}


def test_a_weekly_rhythm_is_waited_for(settings: Settings, home: Home) -> None:
    for number in range(1, 6):
        at = AS_OF - 12 * DAY - 7 * DAY * (5 - number)
        deliver(
            home, "shop.orders", orders(50, at, start=100 * number), sequence=number, received_at=at, historical=False
        )

    assert failing(settings, home) == {}


@pytest.mark.parametrize(("age", "stale"), [(34, False), (36, True)])
def test_without_a_rhythm_a_month_and_some_days_are_allowed(
    settings: Settings, home: Home, age: int, stale: bool
) -> None:
    at = AS_OF - age * DAY
    deliver(home, "shop.orders", orders(50, at), received_at=at, historical=False)

    assert ("delivered_in_time" in failing(settings, home)) is stale


def test_old_rows_delivered_again_warn(settings: Settings, home: Home) -> None:
    for number in range(1, 6):
        at = AS_OF - DAY * (6 - number)
        deliver(
            home,
            "shop.orders",
            orders(50, AS_OF - 30 * DAY, start=100 * number),
            sequence=number,
            received_at=at,
            historical=False,
        )

    assert set(failing(settings, home)) == {"rows_are_recent"}


def test_history_raises_no_alarm_about_freshness_or_size(settings: Settings, home: Home) -> None:
    deliver_daily(home, [200, 190, 210, 20], last=AS_OF - 700 * DAY, historical=True)

    assert failing(settings, home) == {}


def test_a_delivery_after_as_of_is_not_known(settings: Settings, home: Home) -> None:
    deliver_daily(home, [200, 190, 210, 205])
    deliver(
        home,
        "shop.orders",
        orders(1, AS_OF, start=9000),
        sequence=5,
        received_at=AS_OF + DAY,
        historical=False,
    )

    assert failing(settings, home) == {}


@pytest.mark.parametrize(
    ("changed", "column"),
    [
        ({"status": "case when i % 2 = 0 then 'paid' else 'cancelled' end"}, "status"),
        ({"status": "null"}, "status"),
        ({"discount": "i % 10 * 10"}, "discount"),
        ({"discount": "null"}, "discount"),
    ],
    ids=["categories", "emptied category", "numbers", "emptied number"],
)
def test_another_distribution_warns_and_names_the_column(
    settings: Settings, home: Home, changed: dict[str, str], column: str
) -> None:
    at = AS_OF - DAY
    deliver(home, "shop.orders", orders(500, at - DAY), received_at=at - DAY)
    deliver(home, "shop.orders", orders(500, at, start=1000, **changed), sequence=2, received_at=at)

    found = failing(settings, home)
    assert set(found) == {"distributions_as_before"}
    (example,) = found["distributions_as_before"].examples
    assert str(example[0]).startswith(f"{column}: ")


def test_chance_is_no_drift(settings: Settings, home: Home) -> None:
    """A hundred rows over ten tenths differ by chance; that is taken off."""
    spread = "hash(i + {}) % 1000"
    at = AS_OF - DAY
    deliver(home, "shop.orders", orders(100, at - DAY, discount=spread.format(1)), received_at=at - DAY)
    deliver(home, "shop.orders", orders(100, at, discount=spread.format(7), start=1000), sequence=2, received_at=at)

    assert failing(settings, home) == {}


def test_few_rows_say_nothing_about_a_distribution(settings: Settings, home: Home) -> None:
    at = AS_OF - DAY
    deliver(home, "shop.orders", orders(500, at - DAY), received_at=at - DAY)
    deliver(home, "shop.orders", orders(99, at, status="'open'", start=1000), sequence=2, received_at=at)

    assert failing(settings, home) == {}


def test_drift_looks_at_no_personal_data_and_no_keys(settings: Settings, home: Home) -> None:
    """Addresses and ids are all new in each delivery: compared, they would always drift."""
    at = AS_OF - DAY
    for number in (1, 2):
        select = (
            f"select 'k' || {number} || i as contact_id, 'C{number}' as customer_ref, '{number}@example.com' as email,"
            f" 'Name {number}' as surname, 'Town {number}' as city, timestamp '{at - DAY}' as updated_at"
            " from range(200) as numbers (i)"
        )
        deliver(home, "crm.contacts", select, sequence=number, received_at=at)

    assert failing(settings, home, "crm.contacts") == {}


@pytest.mark.parametrize(("rows", "blocks"), [(9, True), (11, False)])
def test_a_snapshot_that_would_wipe_the_table_out_blocks(
    settings: Settings, home: Home, rows: int, blocks: bool
) -> None:
    for number, size in enumerate([100, 100, 100, rows], 1):
        select = f"select 'GB' as country_code, 'SW' || i as postal_code, 'x' as place from range({size}) as n (i)"
        at = AS_OF - DAY * (5 - number)
        deliver(home, "reference.postal_codes", select, sequence=number, received_at=at, historical=False)

    found = failing(settings, home, "reference.postal_codes")
    assert any(result.blocks for result in found.values()) is blocks
    assert "as_many_rows_as_usual" in found


def test_an_empty_snapshot_blocks_although_the_source_is_optional(settings: Settings, home: Home) -> None:
    for number, size in enumerate([100, 100, 100, 0], 1):
        select = f"select 'GB' as country_code, 'SW' || i as postal_code from range({size}) as n (i)"
        at = AS_OF - DAY * (5 - number)
        deliver(home, "reference.postal_codes", select, sequence=number, received_at=at, historical=False)

    assert failing(settings, home, "reference.postal_codes")["snapshot_is_whole"].blocks


def test_many_rejects_and_changed_columns_warn(settings: Settings, home: Home) -> None:
    at = AS_OF - DAY
    renamed = Change("warning", "renamed", "discount", "discount looks renamed to rebate")
    noted = Change("note", "new", "colour", "colour is new")
    deliver(
        home,
        "shop.orders",
        orders(90, at),
        received_at=at,
        historical=False,
        rejected={"ordered_at is no time": 10},
        changes=(renamed, noted),
    )

    found = failing(settings, home)
    assert set(found) == {"most_rows_accepted", "columns_as_before"}
    assert found["columns_as_before"].examples == (("delivery 000001-00000000: discount renamed",),)
