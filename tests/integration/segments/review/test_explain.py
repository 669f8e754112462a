"""Why a customer is in a segment or not, as the command line tells it."""

from __future__ import annotations

from datetime import datetime

import pytest

from core.errors import MailwrightError
from segments.explain import explain
from tests.integration.segments.review.conftest import Shop, ident

EARLY, LATE = datetime(2011, 10, 1), datetime(2011, 12, 3)


def test_in_a_segment_and_why(shop: Shop) -> None:
    shop.history(
        (1, EARLY, ident(70), "big", "entered", None),
        (2, LATE, ident(70), "big", "left", "clock"),
        (2, LATE, ident(71), "big", "entered", "behaviour"),
    )
    found = explain(shop.settings, shop.home, ident(71))
    [big] = found.segments
    assert (found.customer_id, big.name, big.is_member, big.qualifies) == (ident(71), "big", True, True)
    [condition] = big.conditions
    assert (condition.sql, condition.values, condition.holds) == ("value > 50", (("value", "71"),), True)
    assert big.history == ("entered on 2011-12-03, with release 2 (behaviour)",)
    assert big.verdict == "in it"
    assert found.sendability is None


def test_why_not_is_told_when_asked(shop: Shop) -> None:
    assert explain(shop.settings, shop.home, ident(55)).segments[0].name == "big"
    found = explain(shop.settings, shop.home, ident(99), ["small"])
    small = found.segments[1]
    assert (small.name, small.is_member, small.qualifies, small.verdict) == ("small", False, False, "not in it")
    assert small.conditions[0].holds is False


def test_kept_in_by_dwell(shop: Shop) -> None:
    shop.execute(f"insert into activation.segment_memberships values ('{ident(3)}', 'big')")
    shop.publish()
    shop.history((2, LATE, ident(3), "big", "entered", None))
    big = explain(shop.settings, shop.home, ident(3)).segments[0]
    assert big.verdict == "in it, kept in by min_dwell_days until 2011-12-17 (14 days after 2011-12-03)"


def test_kept_in_without_a_dwell_is_not_said_to_be_one(shop: Shop) -> None:
    shop.execute(f"insert into activation.segment_memberships values ('{ident(3)}', 'big')")
    shop.publish()
    shop.history((1, EARLY, ident(3), "big", "entered", None))
    big = explain(shop.settings, shop.home, ident(3)).segments[0]
    assert big.verdict.startswith("in it, although its conditions do not hold")


def test_kept_out_by_re_entry(shop: Shop) -> None:
    shop.execute(f"delete from activation.segment_memberships where customer_id = '{ident(77)}'")
    shop.publish()
    shop.history((1, EARLY, ident(77), "big", "entered", None), (2, LATE, ident(77), "big", "left", None))
    big = explain(shop.settings, shop.home, ident(77)).segments[0]
    assert big.verdict == "not in it, kept out by reentry_after_days until 2012-01-02 (30 days after 2011-12-03)"
    assert [line.split()[0] for line in big.history] == ["left", "entered"]


def test_a_segment_that_the_customer_has_left(shop: Shop) -> None:
    shop.history((1, EARLY, ident(3), "big", "entered", None), (2, LATE, ident(3), "big", "left", "behaviour"))
    [big] = [one for one in explain(shop.settings, shop.home, ident(3)).segments if one.name == "big"]
    assert big.verdict == "not in it"
    assert [line.split()[0] for line in big.history] == ["left", "entered"]


def test_a_segment_that_is_no_more(shop: Shop) -> None:
    shop.delete("big")
    big = explain(shop.settings, shop.home, ident(77)).segments[-1]
    assert (big.name, big.verdict) == ("big", "in it, although there is no definition of it any more")


def test_whether_the_customer_can_be_mailed(shop: Shop) -> None:
    shop.release(7, {"big": []}, as_of=LATE)
    said = {}
    for number in (1, 2, 3):
        sendability = explain(shop.settings, shop.home, ident(number)).sendability
        assert sendability is not None
        said[number] = sendability.describe()
    assert said == {
        1: "yes, at 1 of 1 addresses (release 7)",
        2: "no: unsubscribe (release 7)",
        3: "no: without an address (release 7)",
    }


@pytest.mark.parametrize(
    ("customer", "said"),
    [
        ("c0ffee00000000", "several customers' ids begin with"),
        ("nobody", "no customer has the id nobody"),
        ("dead00000000beef", "went into c0ffee0000000001"),
        ("", "give a customer's id"),
        ("%", "no customer has the id %"),
    ],
    ids=["several", "unknown", "merged", "empty", "wildcard"],
)
def test_who_can_not_be_found(shop: Shop, customer: str, said: str) -> None:
    with pytest.raises(MailwrightError, match=said):
        explain(shop.settings, shop.home, customer)


def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one(shop: Shop) -> None:
    shop.execute("insert into marts.customer_360 (customer_id, value) values ('beef000000000001', 3)")
    shop.publish()
    assert explain(shop.settings, shop.home, "bee").customer_id == "beef000000000001"


def test_an_unknown_segment_is_an_error(shop: Shop) -> None:
    with pytest.raises(MailwrightError, match="no segment tiny; there are: big, small"):
        explain(shop.settings, shop.home, ident(1), ["tiny"])


def test_personal_values_are_not_shown(shop: Shop) -> None:
    shop.write("by_mail", "lower(email) like 'c0ffee%' and value > 3")
    [told] = [one for one in explain(shop.settings, shop.home, ident(9), ["by_mail"]).segments if one.name == "by_mail"]
    assert [one.values for one in told.conditions] == [(("email", "(personal)"),), (("value", "9"),)]
    assert "example.com" not in str(told)


def test_a_definition_that_does_not_run_is_told(shop: Shop) -> None:
    shop.write("big", "valeu > 3")
    big = explain(shop.settings, shop.home, ident(70)).segments[0]
    assert (big.is_member, big.qualifies, big.conditions) == (True, None, ())
    assert big.problem is not None
    assert "valeu" in big.problem
