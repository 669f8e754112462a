"""Which columns a segment depends on is found through CTEs, aliases and stars; what can't be followed is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import MailwrightError
from core.settings import PROJECT_ROOT
from segments.columns import referenced, refuse_unstated
from segments.definitions import Segment, SegmentError, read_segments
from segments.models import Models, read_models

C360 = "{{ ref('customer_360') }}"


@pytest.fixture
def models(project: Path) -> Models:
    return read_models(project)


@pytest.fixture
def segment(project: Path) -> Segment:
    return read_segments(project)[0]


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        (f"select customer_id from {C360}", "customer_id"),
        (
            f"with a as (select * from {C360}), b as (select customer_id from a where orders > 1) select * from b",
            "orders",
        ),
        (f"select customer_id from (select *, email as e from {C360}) where e is null", "email"),
        (f"with a as (select *, email as e from {C360}), b as (select e as f from a) select f from b", "email"),
        (
            f"select customer_id from (select customer_id, row_pack(e := email) as s from {C360}) where s is null",
            "email",
        ),
        (f"select customer_id from {C360} qualify row_number() over (partition by email) = 1", "email"),
        (f"select customer_id from {C360} order by email", "email"),
        (f"select customer_id from {C360} group by 1 having max(email) > 'm'", "email"),
        (f"select max(customer_id) as customer_id from {C360} group by email", "email"),
        (f"select customer_id from {C360} as c where exists (select 1 where c.email = 'x')", "email"),
        (f"select customer_id from {C360} where orders > (select avg(orders) from {C360} where email = 'x')", "email"),
        (f"select a.customer_id from {C360} as a join {C360} as b using (email)", "email"),
        (f"select a.customer_id from {C360} as a natural join {C360} as b", "email"),
        (f"select customer_id from {C360} union all select email from {C360}", "email"),
        (f"from {C360} select customer_id where email is null", "email"),
        (f"select distinct on (email) customer_id from {C360}", "email"),
        (f"select customer_id from (select distinct * from {C360})", "email"),
        (f"select unnest([customer_id, email]) as customer_id from {C360}", "email"),
        (f"select EMAIL as customer_id from {C360}", "email"),
        ("select name as customer_id from {{ ref('countries') }}", "name"),
    ],
)
def test_what_a_segment_depends_on(segment: Segment, models: Models, sql: str, columns: str) -> None:
    found = referenced(replace(segment, sql=sql), models)
    assert columns in {column.name for said in found.values() for column in said}


def test_a_star_depends_only_on_what_is_made_of_it(segment: Segment, models: Models) -> None:
    (said,) = referenced(segment, models).values()
    assert [column.name for column in said] == ["customer_id", "orders"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (f"select customer_id from {C360} where email like '%@example.com'", "personal data"),
        (f"select customer_id from {C360} as c where c::varchar like '%x%'", "whole rows of c"),
        (f"select customer_id from {C360} where to_json(customer_360) is null", "whole rows of customer_360"),
        (f"select customer_id from {C360} where columns('em.*') is null", "name the columns"),
        (f"select customer_id from {C360} as c where c.* is null", "name the columns"),
        (f"select customer_id from {C360} where #2 = 'x'", "name the columns"),
        (f"select customer_id from {C360} as t (customer_id, b) where b = 'x'", "by position"),
        (f"pivot {C360} on orders", "not one select"),
        (f"select customer_id from {C360} where as_of_on < current_date", "current_date"),
        (f"select customer_id from {C360} where now() > as_of_on", "now()"),
        (f"select customer_id from {C360} where random() < 0.5", "random"),
        (f"select customer_id from {C360} tablesample 10%", "a sample"),
        ("select customer_id from lake_crm.contacts", "reads models by ref"),
        ("select customer_id from read_parquet('x.parquet')", "reads models by ref"),
        ("select customer_id from 'x.parquet'", "reads models by ref"),
        ("select customer_id from glob('*')", "reads models by ref"),
        (f"select customer_id from {C360}; drop table x", "not one select"),
        ("drop table marts.customer_360", "not one select"),
        (f"select customer_id from {C360} where no_such_column = 1", "no_such_column"),
        (f"select customer_id form {C360} wher", "can't be read"),
        ("select customer_id from {{ ref('stg_crm__contacts') }}", "reads stg_crm__contacts of staging/crm"),
        ("select customer_id from {{ ref('seg_good') }}", "segments don't build on each other"),
        ("select customer_id from {{ ref('nix') }}", "there is no model nix"),
    ],
)
def test_what_is_refused_says_why(segment: Segment, models: Models, sql: str, said: str) -> None:
    with pytest.raises(SegmentError) as caught:
        refuse_unstated(replace(segment, sql=sql), models)
    assert said.lower() in str(caught.value).lower()


@pytest.mark.parametrize("column", ["country_code", "faith", "age_band"])
def test_a_sensitive_column_needs_a_purpose(segment: Segment, models: Models, column: str) -> None:
    sensitive = replace(segment, sql=f"select customer_id from {C360} where {column} = 'x'")
    with pytest.raises(SegmentError, match=rf"customer_360\.{column} .*states no sensitive_purpose"):
        refuse_unstated(sensitive, models)
    refuse_unstated(replace(sensitive, sensitive_purpose="An offer for them alone."), models)


def test_no_purpose_opens_personal_data(segment: Segment, models: Models) -> None:
    personal = replace(
        segment, sql=f"select customer_id from {C360} where birthday is null", sensitive_purpose="Why not."
    )
    with pytest.raises(SegmentError, match="personal data"):
        refuse_unstated(personal, models)


def test_a_sensitivity_that_is_none_of_the_three_is_refused(project: Path) -> None:
    path = project / "models" / "marts" / "customers" / "customer_360.yml"
    path.write_text(path.read_text().replace("special", "secret"))
    with pytest.raises(MailwrightError, match=r"customer_360\.faith has sensitivity 'secret'"):
        read_models(project)


def test_the_shipped_segments_state_what_they_use() -> None:
    project = PROJECT_ROOT / "dbt_project"
    models = read_models(project)
    for segment in read_segments(project):
        refuse_unstated(segment, models)
        assert segment.missing == (), segment.name
        assert segment.unknown == (), segment.name


def test_what_third_parties_sell_is_a_proxy_without_being_tagged(models: Models) -> None:
    columns = models.by_name["customer_360"].columns
    assert columns["age_band"].sensitivity == "proxy"
    assert columns["orders"].sensitivity == "none"
