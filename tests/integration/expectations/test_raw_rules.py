"""Every rule of the lake fails on data made to break it, and passes on sound data."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from core.home import Home
from core.settings import Settings
from expectations import runner
from expectations.rules import ROW
from expectations.suites import suites
from tests.integration.expectations.conftest import LAKE, deliver

Lake = Callable[..., Home]

# Table -> the rule that is broken -> how.
ONE = "where row_number = 3"
BREAKS: dict[str, dict[str, str]] = {
    "shop.orders": {
        "has_rows": "delete from accepted",
        "columns_as_in_contract": "alter table accepted alter column discount type double",
        "row_named_once": "update accepted set row_number = 1 where row_number = 2",
        "row_is_named": f"update accepted set delivery_id = null {ONE}",
        "order_id_given": f"update accepted set order_id = null {ONE}",
        "status_known": f"update accepted set status = 'lost at sea' {ONE}",
        "entity_once_per_delivery": "insert into accepted select * replace (41 as row_number) from accepted " + ONE,
        "ordered_at_plausible": "update accepted set ordered_at = '0201-01-01' where row_number < 9",
        "told_after_it_happened": "update accepted set ordered_at = '2024-04-01' where row_number < 9",
        "customer_ref_given": "update accepted set customer_ref = null where row_number < 30",
        "currency_is_a_code": f"update accepted set currency = 'pounds' {ONE}",
        "email_has_a_form": f"update accepted set email = 'no at sign' {ONE}",
        "discount_plausible": f"update accepted set discount = -1 {ONE}",
        "shipping_plausible": f"update accepted set shipping = -1 {ONE}",
        "order_has_lines": f"update accepted set order_id = 'O99' {ONE}",
    },
    "shop.order_lines": {
        "line_has_its_order": f"update accepted set order_id = 'X' {ONE}",
        "most_lines_have_their_order": "update accepted set order_id = 'X' where row_number < 20",
        "line_number_once_per_entity": f"update accepted set line_number = 1 {ONE}",
        "product_is_in_the_catalogue": f"update accepted set product_id = 'P99' {ONE}",
        "product_id_is_printable": f"update accepted set product_id = 'P' || chr(9) || '2' {ONE}",
        "quantity_plausible": f"update accepted set quantity = 1e6 {ONE}",
        "unit_price_plausible": f"update accepted set unit_price = 1e6 {ONE}",
        "quantity_is_not_zero": f"update accepted set quantity = 0 {ONE}",
        "negative_price_is_an_adjustment": f"update accepted set unit_price = -1 {ONE}",
        "returns_are_the_exception": "update accepted set quantity = -quantity",
        "most_lines_have_a_price": "update accepted set unit_price = 0 where row_number < 30",
    },
    "shop.products": {
        "product_once_per_delivery": (
            "insert into accepted select * replace (4 as row_number, ' p1' as product_id) from accepted"
            " where row_number = 1"
        ),
        "name_given": "update accepted set name = null",
        "unit_price_plausible": "update accepted set unit_price = -1",
        "links_are_web_addresses": "update accepted set url = 'C:\\cup.html'",
        "attributes_are_json": "update accepted set attributes = 'red'",
    },
    "shop.exchange_rates": {
        "rate_plausible": f"update accepted set rate = 0 {ONE}",
        "from_currency_is_a_code": f"update accepted set from_currency = '€' {ONE}",
        "to_currency_is_a_code": f"update accepted set to_currency = '£' {ONE}",
        "own_rate_is_one": f"update accepted set to_currency = 'eur' {ONE}",
        "rates_do_not_jump": f"update accepted set rate = 86 {ONE}",
    },
    "crm.contacts": {
        "contact_can_be_told": f"update accepted set email = '', phone = null, customer_ref = ' ', surname = null {ONE}",
        "phone_has_digits": f"update accepted set phone = 'ask mum' {ONE}",
        "birthday_plausible": f"update accepted set birthday = '1900-01-01' {ONE}",
        "changed_after_it_was_made": f"update accepted set updated_at = '2022-01-01' {ONE}",
        "preferences_are_json": f"update accepted set preferences = 'tea' {ONE}",
        "account_type_known": f"update accepted set account_type = 'alien' {ONE}",
    },
    "crm.consents": {
        "someone_is_meant": f"update accepted set contact_id = ' ' {ONE}",
        "contact_is_known": f"update accepted set contact_id = 'k99' {ONE}",
        "lawful_basis_known": f"update accepted set lawful_basis = 'because' {ONE}",
        "suppression_is_a_refusal": f"update accepted set suppression = 'complaint' {ONE}",
        "expires_after_it_was_given": f"update accepted set expires_at = '2020-01-01' {ONE}",
        "channel_known": f"update accepted set channel = 'pigeon' {ONE}",
    },
    "web.events": {
        "most_events_are_new": "update accepted set event_id = 'e1' where row_number > 5",
        "track_has_a_name": f"update accepted set event_name = ' ' {ONE}",
        "visitor_is_told": f"update accepted set anonymous_id = null {ONE}",
        "order_completed_names_its_order": f"update accepted set event_name = 'Order Completed' {ONE}",
        "quantity_plausible": f"update accepted set quantity = -1 {ONE}",
        "price_plausible": f"update accepted set price = -1 {ONE}",
        "properties_are_json": f"update accepted set properties = 'x' {ONE}",
        "most_visitors_are_nobody": (
            "insert into accepted select * exclude (i) replace ('n' || i as event_id, 1000 + i as row_number, 'd' || i as"
            " anonymous_id, 'u' || i as user_id) from accepted, range(1000) as numbers (i) where row_number = 1"
        ),
    },
    "email.campaigns": {
        "kind_known": f"update accepted set kind = 'viral' {ONE}",
        "name_given": f"update accepted set name = null {ONE}",
    },
    "email.sends": {
        "campaign_is_known": f"update accepted set campaign_id = 'm9' {ONE}",
        "messages_go_to_many": (
            "insert into accepted select * exclude (i) replace ('n' || i as send_id, 1000 + i as row_number)"
            " from accepted, range(99000) as numbers (i) where row_number = 1"
        ),
    },
    "email.events": {
        "message_is_known": f"update accepted set send_id = 's99' {ONE}",
        "bounce_says_its_type": f"update accepted set event_type = 'bounced' {ONE}",
        "click_says_its_link": f"update accepted set event_type = 'clicked' {ONE}",
        "bounces_are_the_exception": "update accepted set event_type = 'bounced' where row_number > 20",
        "complaints_are_rare": "update accepted set event_type = 'complained' where row_number > 20",
    },
    "pos.sales": {
        "product_is_in_the_catalogue": f"update accepted set product_id = 'P99' {ONE}",
        "quantity_plausible": f"update accepted set quantity = 1e6 {ONE}",
        "unit_price_plausible": f"update accepted set unit_price = -1 {ONE}",
        "returns_are_the_exception": "update accepted set quantity = -quantity",
        "some_customers_are_known": (
            "update accepted set customer_ref = null; insert into accepted select * exclude (i) replace (1000 + i as"
            " row_number) from accepted, range(1000) as numbers (i) where row_number = 1"
        ),
    },
    "third_party.demographics": {
        "contact_point_once_per_delivery": (
            "insert into accepted select * replace (99 as row_number, 'PERSON1@example.com ' as contact_point)"
            " from accepted where contact_point = 'person1@example.com'"
        ),
        "contact_point_is_of_its_type": f"update accepted set contact_point_type = 'phone' {ONE}",
        "age_band_has_a_form": f"update accepted set age_band = 'old' {ONE}",
        "region_type_known": f"update accepted set region_type = 'lunar' {ONE}",
    },
    "reference.postal_codes": {
        "country_code_is_a_code": f"update accepted set country_code = 'GBR' {ONE}",
        "postal_code_can_be_one": f"update accepted set postal_code = '#' {ONE}",
        "place_given": "update accepted set place = null where row_number < 9",
    },
}
# What breaks by itself in every table, tried on one, or needs several deliveries (see test_history).
SHARED = re.compile(
    r".*_(given|known|plausible)|row_named_once|row_is_named|columns_as_in_contract|(currency|email)_.*|"
)
HISTORY = {
    "delivered_in_time", "most_rows_accepted", "columns_as_before", "as_many_rows_as_usual", "distributions_as_before",
    "rows_are_recent", "snapshot_is_whole",
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "rule"), [(table, rule) for table, rules in BREAKS.items() for rule in rules], ids=str
)
def test_wrong_rows_fail_the_rule_they_break(settings: Settings, lake: Lake, table: str, rule: str) -> None:
    home = lake({table: BREAKS[table][rule]})

    results = runner.run(settings, home, ["raw"], tables={f"lake_{table}"}, docs=False)

    failing = {result.name for result in results if not result.passed}
    assert rule in failing
    assert not any(result.detail for result in results), "every rule could be evaluated"


def test_a_sound_lake_passes_every_check(settings: Settings, lake: Lake) -> None:
    results = runner.run(settings, lake(), ["raw"], docs=False)

    assert [result for result in results if not result.passed or result.skipped] == []
    assert {result.table for result in results} == {f"lake_{table}" for table in LAKE}


def test_every_rule_has_a_case_that_breaks_it() -> None:
    tried = {(f"lake_{table}", rule) for table, rules in BREAKS.items() for rule in rules}
    untried = {
        (suite.table, rule.name)
        for suite in suites("raw")
        for rule in suite.rules
        if rule.name not in HISTORY and not SHARED.fullmatch(rule.name)
    } - tried
    in_others = {name for _, name in tried}
    assert {(table, name) for table, name in untried if name not in in_others} == set()


def test_an_error_blocks_and_a_warning_says_why_it_does_not(settings: Settings, lake: Lake) -> None:
    home = lake({"shop.orders": "update accepted set currency = 'pounds', discount = -1"})

    results = {r.name: r for r in runner.run(settings, home, ["raw"], tables={"lake_shop.orders"}, docs=False)}

    error, warning = results["currency_is_a_code"], results["discount_plausible"]
    assert (error.severity, error.blocks, error.reason) == ("error", True, None)
    assert (warning.severity, warning.blocks) == ("warning", False)
    assert warning.reason
    assert not warning.passed


def test_a_failing_row_is_told_by_delivery_and_row(settings: Settings, lake: Lake) -> None:
    home = lake(
        {
            "shop.orders": "update accepted set email = 'nowhere' where row_number in (7, 3)",
            "shop.order_lines": "update accepted set quantity = 1e6 where row_number in (90, 12)",
        }
    )

    results = runner.run(settings, home, ["raw"], docs=False)

    found = {result.name: (result.examples, result.unexpected) for result in results if not result.passed}
    delivery = "000001-00000000"
    assert found["email_has_a_form"] == (((delivery, 3), (delivery, 7)), 2)
    assert found["quantity_plausible"] == (((delivery, 12), (delivery, 90)), 2)


def test_examples_are_few(settings: Settings, lake: Lake) -> None:
    home = lake({"shop.orders": "update accepted set status = 'odd', discount = -5"})

    results = runner.run(settings, home, ["raw"], tables={"lake_shop.orders"}, docs=False)

    for name in ("status_known", "discount_plausible"):
        found = next(result for result in results if result.name == name)
        assert found.unexpected == 40
        assert found.examples == tuple(("000001-00000000", row) for row in range(1, 6))


def test_a_home_with_only_the_shop_passes(settings: Settings, lake: Lake) -> None:
    results = runner.run(settings, lake(only="shop"), ["raw"], docs=False)

    assert all(result.passed for result in results)
    skipped = {result.table for result in results if result.skipped}
    assert skipped == {f"lake_{table}" for table in LAKE if not table.startswith("shop.")}
    assert all(result.detail for result in results if result.skipped)


@pytest.mark.parametrize("table", ["shop.orders", "shop.order_lines"])
def test_an_absent_required_table_blocks(settings: Settings, lake: Lake, table: str) -> None:
    results = runner.run(settings, lake({table: None}), ["raw"], docs=False)

    assert any(r.blocks and (r.table, r.name) == (f"lake_{table}", "has_rows") for r in results)


def test_re_delivered_orders_are_no_duplicates(settings: Settings, lake: Lake) -> None:
    home = lake()
    for table in ("shop.orders", "shop.order_lines", "shop.products"):
        deliver(home, table, LAKE[table], sequence=2)

    assert all(result.passed for result in runner.run(settings, home, ["raw"], docs=False))


def test_a_file_older_than_a_column_passes(settings: Settings, lake: Lake) -> None:
    home = lake({"shop.orders": "alter table accepted drop column coupon"})

    results = runner.run(settings, home, ["raw"], tables={"lake_shop.orders"}, docs=False)
    assert all(result.passed for result in results)


def test_raw_checks_do_not_open_the_warehouse(settings: Settings, lake: Lake) -> None:
    home = lake()
    runner.run(settings, home, ["raw"])

    assert not home.warehouse.exists()


def test_rows_of_the_lake_are_told_by_delivery_and_row() -> None:
    assert {suite.keys for suite in suites("raw")} == {ROW}


def test_a_large_table_is_not_loaded(settings: Settings, home: Home) -> None:
    """A million lines are counted in DuckDB, under a memory limit that they would not fit in as Python objects."""
    deliver(home, "shop.orders", "select 'O1' as order_id, timestamp '2024-01-01' as ordered_at, 'C1' as customer_ref")
    deliver(
        home,
        "shop.order_lines",
        "select 'O1' as order_id, 'P' || i % 100 as product_id, 1 as quantity, 0 as unit_price from range(1000000) as n (i)",
    )

    results = runner.run(settings, home, ["raw"], tables={"lake_shop.order_lines"}, docs=False)

    found = next(result for result in results if result.name == "most_lines_have_a_price")
    assert found.checked == 1_000_000
    assert not found.passed
