"""What a change of segments does, on published marts of a small retailer in a real git repository."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import lock
from core.errors import MailwrightError, WarehouseBusyError
from segments.diff import SegmentChange, SegmentDiff, diff
from tests.integration.segments.review.conftest import AS_OF, PROJECT, Shop, ident


def only(found: SegmentDiff) -> SegmentChange:
    [change] = found.changes
    return change


def test_nothing_changed(shop: Shop) -> None:
    found = diff(shop.settings, shop.home)
    assert found.changes == ()
    assert "None, compared with `HEAD`" in found.markdown()


def test_a_changed_condition(shop: Shop) -> None:
    shop.write("big", "value between 41 and 89")
    found = diff(shop.settings, shop.home)
    change = only(found)
    # value > 50 is 51 to 99.
    assert (change.name, change.kind) == ("big", "changed")
    assert (change.before, change.after) == (49, 49)
    assert (change.entered, change.left, change.stayed) == (10, 10, 39)
    assert change.share == pytest.approx(39 / 59)
    # small is 0 to 59.
    assert [(one.other, one.before, one.after) for one in change.overlaps] == [("small", 9, 19)]
    assert found.place == "published"
    assert found.as_of == AS_OF.replace(tzinfo=UTC)
    assert "-select customer_id from ref.customer_360 where value > 50" in change.difference.sql_diff
    assert not change.difference.is_indirect


def test_ids_are_masked_and_markdown_holds_no_whole_one(shop: Shop) -> None:
    shop.write("big", "value between 41 and 89")
    found = diff(shop.settings, shop.home, sample=10)
    change = only(found)
    assert sorted(change.entered_sample) == [f"c0ff…{number}" for number in range(41, 51)]
    assert sorted(change.left_sample) == [f"c0ff…{number}" for number in range(90, 100)]
    assert not any(ident(number) in found.markdown() for number in range(100))
    assert diff(shop.settings, shop.home, sample=0).changes[0].entered_sample == ()


def test_added_removed_and_metadata(shop: Shop) -> None:
    shop.write("new", "value < 5")
    shop.delete("small")
    shop.write("big", "value > {{ var('big') }}", "One row per customer of much value.")
    big, new, small = diff(shop.settings, shop.home).changes
    assert [one.kind for one in (big, new, small)] == ["metadata", "added", "removed"]
    assert big.difference.metadata == (
        ("description", "One row per customer of value.", "One row per customer of much value."),
    )
    assert (big.before, big.after, big.stayed) == (49, 49, 49)
    assert (new.before, new.after, new.entered, new.left) == (None, 5, 5, 0)
    assert (small.before, small.after, small.entered, small.left) == (60, None, 0, 60)


def test_a_var_changes_the_segments_that_use_it(shop: Shop) -> None:
    (shop.checkout / "dbt_project" / "dbt_project.yml").write_text(PROJECT.replace("50", "70"))
    found = diff(shop.settings, shop.home)
    change = only(found)
    assert change.difference.is_indirect
    assert (change.before, change.after) == (49, 29)
    assert "changed by a var or macro" in found.markdown()


def test_layout_and_comments_change_nothing(shop: Shop) -> None:
    shop.write("small", "select customer_id  -- who is small\nfrom {{ ref('customer_360') }}\nwhere value < 60")
    assert diff(shop.settings, shop.home).changes == ()


def test_any_revision_and_single_segments(shop: Shop) -> None:
    first = shop.git("rev-parse", "HEAD").strip()
    shop.write("big", "value > 60")
    shop.commit()
    shop.write("small", "value < 10")
    assert [one.name for one in diff(shop.settings, shop.home).changes] == ["small"]
    assert [one.name for one in diff(shop.settings, shop.home, "HEAD~1").changes] == ["big", "small"]
    assert [one.name for one in diff(shop.settings, shop.home, first, ["seg_big"]).changes] == ["big"]
    shop.git("tag", "before", first)
    assert diff(shop.settings, shop.home, "before").revision == ("before", first)


@pytest.mark.parametrize(
    ("revision", "names", "said"),
    [
        ("no-such", None, "there is no revision no-such"),
        ("--output=x", None, "is no git revision"),
        ("HEAD", ["tiny"], "no segment tiny.*big, small"),
    ],
    ids=["unknown", "option", "segment"],
)
def test_what_is_not_there_is_an_error(shop: Shop, revision: str, names: list[str] | None, said: str) -> None:
    with pytest.raises(MailwrightError, match=said):
        diff(shop.settings, shop.home, revision, names)


def test_without_anything_published_it_says_what_to_do(shop: Shop) -> None:
    (shop.home.published / "marts.duckdb").unlink()
    with pytest.raises(MailwrightError, match="mailwright refresh"):
        diff(shop.settings, shop.home)


def test_a_definition_that_does_not_run_is_told_and_moves_nobody(shop: Shop) -> None:
    shop.write("big", "valeu > 3")
    shop.write("small", "{{ nonsense() }}")
    big, small = diff(shop.settings, shop.home).changes
    assert (big.before, big.after, big.entered, big.left) == (49, None, 0, 0)
    assert 'the new definition does not run: Binder Error: Referenced column "valeu"' in big.notes[0]
    assert (small.before, small.after) == (60, None)
    assert "nonsense" in small.notes[0]


def test_the_value_at_which_a_definition_fails_is_not_told(shop: Shop) -> None:
    shop.write("big", "cast(churn_score::varchar || 'private' as integer) > 3")
    [note] = only(diff(shop.settings, shop.home)).notes
    assert note == "the new definition does not run: ConversionException while it ran"


def test_repeated_and_missing_customers_count_once_and_are_told(shop: Shop) -> None:
    shop.write(
        "big",
        "select customer_id from {{ ref('customer_360') }} where value > 89"
        " union all select customer_id from {{ ref('customer_360') }} where value > 94 union all select null",
    )
    change = only(diff(shop.settings, shop.home))
    assert (change.after, change.entered) == (10, 0)
    assert change.notes[0].startswith("6 rows repeat a customer or name none")


def test_a_size_out_of_its_range_is_told(shop: Shop) -> None:
    described = (shop.segments / "seg_big.yml").read_text()
    shop.write("big", "value > 97")
    (shop.segments / "seg_big.yml").write_text(described.replace("owner: crm", "owner: crm, expected_size: {min: 5}"))
    assert (
        "2 customers are fewer than the 5 that its YAML expects at least" in only(diff(shop.settings, shop.home)).notes
    )


def test_only_what_is_not_published_opens_the_warehouse(shop: Shop) -> None:
    told: list[str] = []
    with lock.held(shop.home.warehouse), duckdb.connect(str(shop.home.warehouse)):
        shop.write("big", "value > 3")
        assert diff(shop.settings, shop.home, notify=told.append).place == "published"
    assert told == []
    shop.write(
        "big",
        "select f.customer_id from {{ ref('feat_customers') }} as f"
        " inner join {{ ref('customer_360') }} as c on f.customer_id = c.customer_id and f.as_of = c.as_of"
        " where f.orders > 80",
    )
    found = diff(shop.settings, shop.home, notify=told.append)
    assert (found.place, found.reason) == ("warehouse", "feat_customers is not published")
    assert told == ["feat_customers is not published: the warehouse is opened"]
    assert only(found).after == 19


def test_a_personal_column_needs_the_warehouse(shop: Shop) -> None:
    shop.write("big", "email like '%9@example.com'")
    found = diff(shop.settings, shop.home)
    assert found.place == "warehouse"
    assert only(found).after == 10


def test_a_copy_of_what_is_published_is_enough(shop: Shop) -> None:
    shop.release(1, {"big": []}, as_of=AS_OF)
    (shop.home.releases / "000001" / "memberships.parquet").unlink()
    shop.home.warehouse.unlink()
    shop.write("big", "value > 60")
    shop.write("small", "email like '%9@example.com'")
    big, small = diff(shop.settings, shop.home).changes
    assert (big.after, big.moved) == (39, None)
    assert 'the new definition does not run: Binder Error: Referenced column "email"' in small.notes[0]


def test_a_warehouse_in_use_is_said(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    monkeypatch.setattr("segments.data.PATIENCE_SECONDS", 0.0)
    shop.write("big", "email like '%9@example.com'")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path; from core import lock; lock.acquire(Path({str(shop.home.warehouse)!r}));"
            " print('held', flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WarehouseBusyError):
            diff(shop.settings, shop.home)
    finally:
        holder.communicate("\n")


def test_since_the_last_release(shop: Shop) -> None:
    definition = "select customer_id from ref.customer_360 where value > 50"
    # As released: those above 50, less 99, who came since, and with 7, who went since.
    shop.release(
        3,
        {"big": [ident(number) for number in (*range(51, 99), 7)], "small": []},
        as_of=datetime(2011, 12, 3),
        sql={"big": definition, "small": "select 1"},
    )
    shop.execute(
        f"""
        create table activation.customer_changes as
        select '{ident(99)}' as customer_id, false as has_identity_change, false as has_late_data,
            false as has_consent_change, true as has_new_activity, timestamp '2011-12-03' as released_at
        """
    )
    shop.publish()
    shop.write("big", "value > 60")
    moved = only(diff(shop.settings, shop.home)).moved
    assert moved is not None
    assert (moved.release, dict(moved.entered)) == (3, {"behaviour": 1})
    assert dict(moved.left) == {"definition": 10, "clock": 1}
    assert moved.describe() == "since release 3: 1 entered (behaviour 1), 11 left (definition 10, clock 1)"


def test_changes_since_another_release_explain_nothing(shop: Shop) -> None:
    shop.release(4, {"big": []}, as_of=datetime(2011, 12, 10), sql={"big": "select customer_id from ref.customer_360"})
    shop.execute(
        f"""
        create table activation.customer_changes as
        select '{ident(99)}' as customer_id, true as has_identity_change, false as has_late_data,
            false as has_consent_change, true as has_new_activity, timestamp '2011-12-03' as released_at
        """
    )
    shop.publish()
    shop.write("big", "value > 98")
    moved = only(diff(shop.settings, shop.home)).moved
    assert moved is not None
    assert dict(moved.entered) == {"clock": 1}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=st.sets(st.integers(0, 99)), new=st.sets(st.integers(0, 99)))
def test_entered_left_and_stayed_are_a_partition(shop: Shop, old: set[int], new: set[int]) -> None:
    for members in (old, new):
        shop.write("small", f"value in ({', '.join(map(str, sorted(members))) or 'null'})")
        if members is old:
            shop.git("add", "-A")
            shop.git("commit", "-q", "--allow-empty", "-m", "Change a segment")
    changes = diff(shop.settings, shop.home, names=["small"], sample=100).changes
    assert bool(changes) == (old != new)
    for change in changes:
        assert (change.entered, change.left, change.stayed) == (len(new - old), len(old - new), len(new & old))
        assert (change.before, change.after) == (len(old), len(new))
        assert sorted(change.entered_sample) == [f"c0ff…{number:02}" for number in sorted(new - old)]
        assert sorted(change.left_sample) == [f"c0ff…{number:02}" for number in sorted(old - new)]
