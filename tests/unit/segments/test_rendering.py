"""A segment's Jinja, without dbt: what it may use, and where an error says it stands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.settings import PROJECT_ROOT
from segments.definitions import Segment, SegmentError, read_segments
from segments.rendering import refs, render

PROJECT = PROJECT_ROOT / "dbt_project"


@pytest.fixture(scope="module")
def segment() -> Segment:
    return read_segments(PROJECT)[0]


def rendered(segment: Segment, sql: str) -> str:
    said = render(replace(segment, sql=sql), relation=lambda name: f"marts.{name}", timezone="Europe/Paris")
    return " ".join(said.split())


@pytest.mark.parametrize(
    ("jinja", "said"),
    [
        ("select 1 from {{ ref('customer_360') }}", "select 1 from marts.customer_360"),
        ("{{ ref('mailwright', 'customer_360') }}", "marts.customer_360"),
        ("{{ var('frequent_sessions') }}", "8"),
        ("{{ var('no_such_var', 3) }}", "3"),
        ("{{ config(materialized='view') }} select 1", "select 1"),
        ("{# a word #} select 1", "select 1"),
        ("{% for n in [1, 2] %}{{ n }}{% if not loop.last %}, {% endif %}{% endfor %}", "1, 2"),
        ("{{ dbt.datediff('a', 'b', 'day') }}", "(date_diff('day', a::timestamp, b::timestamp ))"),
        ("{{ datediff('a', 'b', 'day') }}", "(date_diff('day', a::timestamp, b::timestamp ))"),
        ("{{ dbt.dateadd('month', -3, 'a') }}", "(a + cast(-3 as bigint) * interval 1 month)"),
        ("{{ dbt.type_string() }} {{ dbt.type_numeric() }}", "TEXT numeric(28,6)"),
        ("{{ dbt.hash('a') }}", "md5(cast(a as TEXT))"),
        ("{{ dbt.split_part('a', 'b', 2) }}", "string_split(a, b)[ 2 ]"),
        ("{{ money() }}", "decimal(18, 4)"),
        ("{{ mailwright.array_size('a') }}", "len(a)"),
        ("{{ identifier_id('crm', 'email', 'a') }}", "cast('0x' || substr(md5('crm|email|' || a), 1, 15) as bigint)"),
        ("{{ to_local_date('a') }}", "cast(timezone('Europe/Paris', timezone('UTC', a)) as date)"),
    ],
)
def test_what_a_segment_may_use(segment: Segment, jinja: str, said: str) -> None:
    assert rendered(segment, jinja) == said


@pytest.mark.parametrize(
    ("jinja", "said"),
    [
        ("a\n{{ nothing }}", "line 2: `nothing` is nothing that a segment may use"),
        ("a\nb\n{{ nothing(1) }}", "line 3: `nothing`"),
        ("{% if nothing.more %}x{% endif %}", "line 1: `nothing`"),
        ("a\n{% for n in [1] %}", "Unexpected end of template"),
        ("{{ 'a' }", "line 1"),
        ("{{ var('no_such_var') }}", "line 1: there is no var no_such_var"),
        ("\n{{ source('shop', 'orders') }}", "line 2: uses `source`"),
        ("{{ this }}", "uses `this`"),
        ("{{ target.schema }}", "uses `target`"),
        ("{{ env_var('HOME') }}", "uses `env_var`"),
        ("{{ run_query('select 1') }}", "uses `run_query`"),
        ("{{ segment_models() }}", "`manifest` is nothing"),
        ("{{ dbt.no_such_macro() }}", "there is no macro dbt.no_such_macro"),
        ("{{ dbt.datediff('a') }}", "parameter"),
        ("{{ ref() }}", "ref takes the name of one model"),
        ("{{ ref('elsewhere', 'x') }}", "ref takes the name of one model"),
        ("{{ ref(x) }}", "ref takes a name in quotes"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ config(enabled=false) }} select 1", "switched off"),
        ("{{ return(1) }}", "`return` is for macros"),
        ("{# nothing else #}", "renders to nothing"),
    ],
)
def test_what_it_may_not_is_an_error_with_its_place(segment: Segment, jinja: str, said: str) -> None:
    with pytest.raises(SegmentError) as caught:
        rendered(segment, jinja)
    assert said.lower() in str(caught.value).lower()
    assert segment.file in str(caught.value)


def test_a_relation_may_refuse_a_name(segment: Segment) -> None:
    def relation(name: str) -> str:
        raise LookupError(f"there is no model {name}")

    with pytest.raises(SegmentError, match="line 2: there is no model nix"):
        render(replace(segment, sql="select 1 from\n{{ ref('nix') }}"), relation=relation)


def test_refs_are_what_is_read_whatever_the_branch(segment: Segment) -> None:
    sql = (
        "select 1 from {{ ref('b') }} {% if var('spine_anchors') > 1 %} join {{ ref('a') }} {% endif %} {{ ref('b') }}"
    )
    assert refs(replace(segment, sql=sql)) == ("a", "b")


def test_every_shipped_segment_renders() -> None:
    for segment in read_segments(PROJECT):
        text = render(segment, relation=lambda name: f"marts.{name}")
        assert "{{" not in text
        assert "{%" not in text
        assert "marts." in text
