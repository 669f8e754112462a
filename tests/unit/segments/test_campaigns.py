"""Campaigns name segments in order; each customer is addressed once, as a member of the first."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.settings import PROJECT_ROOT
from segments.campaigns import Campaign, check_campaigns, read_campaigns, waterfall
from segments.definitions import survey

FIVE = ["a", "b", "c", "d", "e"]


def test_the_shipped_campaigns_are_well() -> None:
    project = PROJECT_ROOT / "dbt_project"
    campaigns, problems = read_campaigns(project)
    assert len(campaigns) == 2
    assert problems == []
    assert check_campaigns(campaigns, survey(project).names) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("campaigns: [", "can't be read"),
        ("segments: []", "it has no `campaigns:`"),
        ("campaigns: 3", "no list"),
        ("campaigns: [{name: x}]", "campaign 1 needs a name and a list of segments"),
        ("campaigns: [x]", "campaign 1 needs"),
        ("campaigns: [{name: x, segments: [[a]]}]", "campaign 1 needs"),
        ("campaigns: [{name: x, segments: [a]}, {name: x, segments: [b]}]", "two campaigns x"),
    ],
)
def test_a_file_that_makes_no_sense_says_why(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "campaigns.yml").write_text(text)
    (problem,) = read_campaigns(tmp_path)[1]
    assert said in problem


def test_no_file_and_an_empty_list_are_no_campaigns(tmp_path: Path) -> None:
    assert read_campaigns(tmp_path) == ([], [])
    (tmp_path / "campaigns.yml").write_text("campaigns:\n")
    assert read_campaigns(tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([*FIVE, "nix"], "there is no segment nix"),
        ([*FIVE, "a"], "names a more than once"),
        (FIVE[:4], "has 4 segments; a campaign uses 5 to 10"),
        ([*FIVE, *"fghijk"], "has 11 segments"),
    ],
)
def test_what_is_wrong_with_a_campaign(segments: list[str], said: str) -> None:
    (problem,) = check_campaigns([Campaign("x", "", tuple(segments))], [*"abcdefghijk"])
    assert said in problem


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abcdef")), max_size=60, unique=True),
    st.permutations(FIVE),
)
def test_each_customer_is_addressed_once_as_the_first(members: list[tuple[int, str]], order: list[str]) -> None:
    with duckdb.connect() as connection:
        connection.execute("create table m (customer_id integer, segment varchar)")
        if members:
            connection.executemany("insert into m values (?, ?)", members)
        steps = waterfall(connection, "m", [Campaign("x", "", tuple(order))])
    left = {customer for customer, segment in members if segment in order}
    for step, name in zip(steps, order, strict=True):
        mine = {customer for customer, segment in members if segment == name}
        assert (step.segment, step.members, step.addressed) == (name, len(mine), len(mine & left))
        left -= mine
    assert not left
