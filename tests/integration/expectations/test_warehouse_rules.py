"""Every rule of staging, identity and the marts fails on tables made to break it, and passes on sound ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from core import lock
from core.home import Home
from core.settings import Settings
from expectations import runner
from expectations.rules import GROUPS
from expectations.suites import catalogue, suites
from ml.identity.resolution import Limits
from tests.integration.expectations.conftest import WAREHOUSE

Built = Callable[..., Home]
WAREHOUSE_GROUPS = [group for group in GROUPS if group != "raw"]

# Table -> the rule that is broken -> how; {0} is the table.
BREAKS: dict[str, dict[str, str]] = {
    "staging.stg_lake__clock": {
        "one_clock": "insert into {0} select * from {0}",
        "currency_is_normalised": "update {0} set currency = 'gbp'",
    },
    "staging.stg_lake__deliveries": {
        "delivery_told_once": "insert into {0} select * from {0}",
        "hand_over_has_one_number": "update {0} set sequence = 2 where table_name = 'products'",
        "counts_are_no_less_than_nothing": "update {0} set rows_rejected = -1",
        "has_rows": "delete from {0}",
    },
    "staging.stg_lake__emails": {
        "address_or_problem": "update {0} set problem = 'bad_domain' where given like '%1%'",
        "most_emails_are_addresses": "update {0} set email = null, problem = 'bad_domain' where given not like '%1%'",
    },
    "staging.stg_lake__phones": {
        "number_parsed_once": "insert into {0} select * from {0} limit 1",
        "number_or_problem": "update {0} set phone = null where given like '%11%'",
        "most_phones_are_numbers": "update {0} set phone = null, problem = 'too_short'",
    },
    "staging.stg_syncs__runs": {
        "run_told_once": "insert into {0} select * from {0} limit 1",
        "outcome_given": "update {0} set outcome = null",
    },
    "staging.stg_syncs__rows": {
        "row_told_once": "insert into {0} select * from {0} limit 1",
        "key_given": "update {0} set key = null",
    },
    "staging.stg_shipped__postal_codes": {"country_code_is_iso": "update {0} set country_code = 'gb'"},
    "staging.stg_ml__fits": {
        "constant_learned_once": "insert into {0} select * from {0} limit 1",
        "cut_points_ascend": "update {0} set value = 0 where k = 3",
    },
    "staging.stg_ml__scores": {
        "customer_scored_once": "insert into {0} select * from {0} limit 1",
        "chance_is_a_probability": "update {0} set score = 1.5 where model = 'purchase_30' and customer_id like '%1'",
        "score_or_label": "update {0} set score = null where model = 'churn_180' and customer_id like '%1'",
        "score_is_finite": "update {0} set score = 'infinity' where model = 'clv_365' and customer_id like '%1'",
        "value_is_not_negative": "update {0} set score = -1, low = -2 where model = 'clv_365'",
        "interval_is_one": "update {0} set low = 21 where model = 'clv_365' and customer_id like '%1'",
        "cluster_has_number_and_name": "update {0} set score = 0 where model = 'clusters' and customer_id like '%1'",
        "send_time_is_an_hour_of_the_week": "update {0} set score = 168 where model = 'send_time'",
        "reasons_come_in_order": "update {0} set reason_1 = null where customer_id like '%1'",
    },
    "staging.stg_ml__lifetime_values": {
        "customer_valued_once": "insert into {0} select * from {0} limit 1",
        "horizon_days_plausible": "update {0} set horizon_days = 0 where customer_id like '%1'",
        "expected_is_not_negative": "update {0} set expected_orders = -1 where customer_id like '%1'",
        "interval_is_not_negative": "update {0} set clv_low = null where customer_id like '%1'",
        "probability_alive_plausible": "update {0} set probability_alive = 1.1 where customer_id like '%1'",
    },
    "staging.stg_ml__recommendations": {
        "rank_plausible": "update {0} set rank = 21 where rank = 20",
        "recommended_in_one_order": "update {0} set rank = 1 where rank = 2",
        "source_known": "update {0} set source = 'guess' where rank = 2",
        "reason_is_another_product": "update {0} set because_product_id = product_id where rank = 1",
    },
    "staging.stg_ml__similar_products": {
        "rank_plausible": "update {0} set rank = 0 where rank = 1",
        "shown_in_one_order": "insert into {0} select * from {0} limit 1",
        "goes_with_another": "update {0} set similar_product_id = product_id where rank = 1",
    },
    "staging.stg_ml__category_affinities": {
        "category_ranked_once": "update {0} set rank = 1",
        "affinity_plausible": "update {0} set affinity = -0.1 where rank = 2",
        "affinities_are_shares": "update {0} set affinity = 0.9",
    },
    "staging.stg_shop__orders": {
        "row_told_once": "insert into {0} select * from {0} limit 1",
        "order_id_given": "update {0} set order_id = null where order_id = 'O7'",
        "known_at_given": "update {0} set known_at = null where order_id = 'O7'",
        "known_no_earlier_than_it_happened": "update {0} set known_at = '2024-01-01'",
        "status_is_normalised": "update {0} set status = 'Paid'",
        "email_is_normalised": "update {0} set email = 'A@Example.com' where order_id = 'O7'",
        "phone_is_e164": "update {0} set phone = '020 7946 0011'",
        "country_code_is_iso": "update {0} set country_code = 'UKX'",
        "currency_is_normalised": "update {0} set currency = 'gbp'",
    },
    "staging.stg_shop__order_lines": {
        "row_told_once": "insert into {0} select * from {0} limit 1",
        "product_id_is_normalised": "update {0} set product_id = 'p1 '",
    },
    "staging.stg_email__campaigns": {"entity_told_once": "insert into {0} select * from {0} limit 1"},
    "staging.stg_shop__products": {"in_stock_given": "update {0} set in_stock = null"},
    "staging.stg_shop__exchange_rates": {
        "from_currency_is_normalised": "update {0} set from_currency = 'eur'",
        "to_currency_is_normalised": "update {0} set to_currency = 'gbp'",
    },
    "staging.stg_crm__contacts": {
        "one_version_is_current": "insert into {0} select * replace (99 as row_number) from {0} where contact_id = 'k1'",
        "gender_known": "update {0} set gender = 'Frau'",
        "language_is_a_tag": "update {0} set language = 'English'",
        "account_type_is_normalised": "update {0} set account_type = 'Private'",
    },
    "staging.stg_crm__consents": {
        "refusals_meet_someone": "update {0} set state = 'withdrawn', contact_id = null where consent_id = 'c1'",
        "event_told_once": "insert into {0} select * from {0} limit 1",
        "suppression_is_normalised": "update {0} set suppression = 'Legal'",
        "channel_known": "update {0} set channel = 'E-Mail'",
    },
    "staging.stg_third_party__demographics": {
        "contact_point_told_once": "insert into {0} select * from {0} limit 1",
        "contact_point_given": "update {0} set contact_point = null where contact_point like '%1%'",
    },
    "staging.stg_reference__postal_codes": {"places_are_not_repeated": "update {0} set postal_code = 'SW1'"},
    "intermediate.int_person_records": {
        "identifier_type_known": "update {0} set identifier_type = 'fax'",
        "own_customer_id_has_its_form": "update {0} set own_customer_id = 'C1' where identifier_id = 1",
        "country_is_iso": "update {0} set country = 'UK of GB'",
        "date_of_birth_plausible": "update {0} set date_of_birth = '1800-01-01'",
        "known_before_as_of": "update {0} set first_known_at = '2024-03-04'",
        "guest_is_its_contact_point": "update {0} set source = 'any'",
    },
    "intermediate.int_identity_links": {
        "links_two_records": "update {0} set right_id = left_id",
        "no_record_is_linked_to_crowds": "insert into {0} select i, 2, 'contact_point' from range(101) as numbers (i)",
    },
    "intermediate.int_identity_barred": {
        "bars_two_records": "update {0} set right_id = left_id",
        "barred_records_are_known": "update {0} set right_id = 99",
    },
    "staging.stg_identity__assignments": {
        "customer_id_has_its_form": "update {0} set customer_id = 'C1'",
        "assigned_record_is_known": "update {0} set identifier_id = 99 where identifier_id = 1",
        "most_assigned_records_are_known": (
            "insert into {0} select 1000 + i, 'x', 1, timestamp '2024-03-04' from range(100) as numbers (i)"
        ),
    },
    "staging.stg_identity__assignment_spans": {
        "span_ends_after_it_began": "update {0} set to_run = 1",
        "one_customer_at_a_time": "insert into {0} select * from {0} limit 1",
        # 2,000 records of their own in run 1; in run 2 every second one is another's.
        "as_many_merged_as_before": (
            "delete from {0}; insert into {0} select i, 'c' || i, 1, case when i % 2 = 1 then 2 end, null, null"
            " from range(2000) as n (i);"
            " insert into {0} select i, 'c' || (i - 1), 2, null, null, null from range(2000) as n (i) where i % 2 = 1"
        ),
    },
    "staging.stg_releases__newest": {"one_release_is_newest": "insert into {0} select * from {0}"},
    "staging.stg_releases__memberships": {"membership_frozen_once": "insert into {0} select * from {0} limit 1"},
    "staging.stg_releases__membership_changes": {
        "one_change_a_release": "insert into {0} select * from {0} limit 1",
    },
    "staging.stg_lake__segments_set_aside": {"segment_set_aside_once": "insert into {0} select * from {0}"},
    "staging.stg_third_party__demographics_versions": {
        "version_ends_after_it_began": "update {0} set superseded_at = '2024-01-01'",
    },
    "staging.stg_identity__journal": {
        "event_known": "update {0} set event = 'melted'",
        "other_customer_is_told": "update {0} set event = 'merged' where entry = 1",
        "nobody_merges_with_themselves": "update {0} set other_customer_id = customer_id",
        "evidence_is_json": "update {0} set evidence = 'gut feeling'",
    },
    "staging.stg_identity__links": {
        "match_probability_plausible": "update {0} set match_probability = 1.5",
        "links_two_records": "update {0} set record_r = record_l",
    },
    "intermediate.int_identifiers": {
        "record_is_known": "update {0} set record_id = 99 where identifier_id = 5",
        "barred_records_are_apart": "update {0} set customer_id = '0000000000000003' where identifier_id = 4",
        "customers_are_no_crowds": (
            "insert into {0} select 100 + i, 'crm', 'contact_id', 100 + i, '0000000000000005' from range(101) as n (i)"
        ),
    },
    "marts.customer_identifiers": {
        "customer_as_resolved": "update {0} set customer_id = '0000000000000009' where identifier_id = 5"
    },
    "marts.identity_journal": {
        "evidence_names_nobody": 'update {0} set evidence = \'{{"email": "ann@example.com"}}\' where entry = 1',
        "merged_customers_are_gone": "delete from {0} where run = 3",
    },
    "marts.fct_orders": {
        "has_rows": "delete from {0}",
        "ordered_before_known": "update {0} set known_at = ordered_at - interval 1 day",
        "amount_base_plausible": "update {0} set amount_base = -1",
        "amount_base_is_no_outlier": "update {0} set amount_base = 2e6",
        "gross_amount_plausible": "update {0} set gross_amount = 0",
        "line_count_plausible": "update {0} set line_count = 0",
        "units_plausible": "update {0} set units = 0",
        "customer_id_given": "update {0} set customer_id = null where order_key < 'k4'",
        "customer_exists": "update {0} set customer_id = 'ffffffffffffffff'",
        "reversals_are_the_exception": "update {0} set is_reversed = true",
        "orders_are_recent": "update {0} set ordered_at = ordered_at - interval 90 day",
    },
    "marts.fct_order_lines": {
        "sales_are_positive": "update {0} set quantity = -2, unit_price = -5",
        "returns_are_negative": "update {0} set line_type = 'return'",
        "product_given_for_goods": "update {0} set product_id = null",
        "orders_add_up": "update {0} set unit_price = 6",
        "most_lines_count": "update {0} set line_type = 'not_goods' where order_key < 'k6'",
    },
    "marts.dim_customers": {
        "customer_id_has_its_form": "update {0} set customer_id = 'C1' where email like '%1@%'",
        "account_type_known": "update {0} set account_type = 'alien'",
        "record_count_plausible": "update {0} set record_count = -1",
        "emails_are_not_shared_by_many": "update {0} set email = 'none@example.com'",
    },
    "marts.customer_rfm": {
        "m_score_given": "update {0} set m_score = null",
        "rfm_segment_known": "update {0} set rfm_segment = 'whales'",
        "recency_days_plausible": "update {0} set recency_days = -1",
        "frequency_plausible": "update {0} set frequency = 0",
        "orders_at_least_frequency": "update {0} set orders = 1",
        "monetary_plausible": "update {0} set monetary = 1e8",
        "average_order_value_plausible": "update {0} set average_order_value = -1",
        "customer_exists": "update {0} set customer_id = 'ffffffffffffffff'",
        "no_recency_score_dominates": (
            "insert into {0} select * exclude (range) replace (3 as r_score) from {0}, range(10)"
        ),
        "scores_tell_customers_apart": "insert into {0} select * exclude (range) from {0}, range(10)",
    },
    "marts.customer_lifecycle": {
        "previous_stage_known": "update {0} set previous_stage = 'asleep'",
        "age_days_plausible": "update {0} set age_days = -1",
        "prospects_have_no_order": "update {0} set order_days = null",
        "stage_changed_in_the_past": "update {0} set stage_changed_on = '2024-03-05'",
        "stage_differs_from_the_previous": "update {0} set previous_stage = stage",
        "every_customer_has_a_stage": "delete from {0} where customer_id like '%1'",
        "not_everyone_is_lost": (
            "insert into {0} select * exclude (range) replace ('lost' as stage) from {0}, range(20)"
        ),
    },
}
# Of a kind that is tried on another column.
SHARED = re.compile(r".*_given|(event_type|contact_point_type|state|purpose)_known|bounce_type_is_normalised")


@pytest.mark.parametrize(
    ("table", "rule"), [(table, rule) for table, rules in BREAKS.items() for rule in rules], ids=str
)
def test_a_wrong_table_fails_the_rule_it_breaks(settings: Settings, built: Built, table: str, rule: str) -> None:
    home = built(BREAKS[table][rule].format(table))

    results = runner.run(settings, home, WAREHOUSE_GROUPS, tables={table}, docs=False)

    assert rule in {result.name for result in results if not result.passed}
    assert not any(result.detail for result in results if not result.skipped), "every rule could be evaluated"


def test_sound_tables_pass_every_check(settings: Settings, built: Built) -> None:
    results = runner.run(settings, built(), WAREHOUSE_GROUPS, docs=False)

    assert [result for result in results if not result.passed or result.skipped] == []
    assert [(result.table, result.name) for result in results] == [
        (guard.table, guard.expectation) for guard in catalogue() if guard.group != "raw"
    ]
    assert {result.table for result in results} == set(WAREHOUSE)


def test_every_rule_has_a_case_that_breaks_it() -> None:
    tried = {rule for rules in BREAKS.values() for rule in rules}
    rules = {rule.name for suite in suites() if suite.group != "raw" for rule in suite.rules}
    assert {name for name in rules if not SHARED.fullmatch(name)} - tried == set()


def test_a_steward_may_put_more_together_than_resolution_would(settings: Settings, built: Built) -> None:
    crowd = BREAKS["intermediate.int_identifiers"]["customers_are_no_crowds"].format("intermediate.int_identifiers")
    home = built(f"{crowd}; insert into intermediate.int_identity_links values (5, 100, 'steward')")

    results = runner.run(settings, home, ["identity"], tables={"intermediate.int_identifiers"}, docs=False)
    assert next(result for result in results if result.name == "customers_are_no_crowds").passed


def test_the_caps_are_those_of_resolution() -> None:
    from expectations.suites import identity

    assert Limits().max_records == identity.MAX_RECORDS
    assert Limits().caps["customer_ref"] == identity.MAX_CUSTOMER_REFS


def test_a_failing_row_is_told_by_its_keys(settings: Settings, built: Built) -> None:
    home = built("update marts.fct_orders set units = 0 where order_key = 'k7'")

    results = runner.run(settings, home, ["marts"], tables={"marts.fct_orders"}, docs=False)
    assert next(result for result in results if result.name == "units_plausible").examples == (("k7",),)


def test_a_missing_table_fails_and_the_others_are_checked(settings: Settings, built: Built) -> None:
    results = runner.run(settings, built("drop table marts.customer_rfm"), ["marts"], docs=False)

    missing = [result for result in results if result.table == "marts.customer_rfm"]
    assert all(not result.passed and result.detail == "the table does not exist" for result in missing)
    assert {result.table for result in results if not result.passed} == {"marts.customer_rfm"}


def test_a_missing_column_fails_its_rules_alone(settings: Settings, built: Built) -> None:
    home = built("alter table marts.fct_orders drop column units")

    results = runner.run(settings, home, ["marts"], tables={"marts.fct_orders"}, docs=False)
    failed = [result for result in results if not result.passed]
    assert [result.name for result in failed] == ["units_plausible"]
    assert "could not be evaluated" in failed[0].detail


def test_only_the_tables_asked_for_are_checked(settings: Settings, built: Built) -> None:
    results = runner.run(settings, built(), WAREHOUSE_GROUPS, tables={"marts.fct_orders", "staging.stg_lake__clock"})

    assert {result.table for result in results} == {"marts.fct_orders", "staging.stg_lake__clock"}


def test_the_warehouse_is_opened_under_its_lock(
    settings: Settings, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = built()
    taken: list[Path | None] = []
    monkeypatch.setattr(lock, "acquire", lambda path, **_: taken.append(path))
    monkeypatch.setattr(lock, "release", lambda path: taken.append(None))

    runner.run(settings, home, ["marts"], tables={"marts.fct_orders"}, docs=False)

    assert taken == [home.warehouse, None]


def test_raw_is_run_by_itself(settings: Settings, home: Home) -> None:
    with pytest.raises(ValueError, match="by themselves"):
        runner.run(settings, home, ["raw", "marts"])
