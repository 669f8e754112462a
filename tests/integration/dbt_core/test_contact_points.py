"""Contact points from delivery to what matching sees: parsed once in Python, joined by dbt, by SQL where nothing was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from core.home import Home
from core.settings import PROJECT_ROOT, Settings
from ingestion.contact_points import parse_new
from tests.integration.dbt_core.shop import Shop

MODELS = (
    "path:seeds",
    "+int_contact_points",
    "+int_contact_problems",
    "+int_unknown_categories",
    "+int_person_records",
)
AT = "2011-05-01T10:00:00"


def build(shop: Shop, *models: str) -> None:
    shop.dbt("build", "-s", *models, "--exclude", "resource_type:test", "resource_type:unit_test")


def contact(contact_id: str, **values: Any) -> dict[str, Any]:
    return {"contact_id": contact_id, "created_at": AT, **values}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Some contacts as people write them, and the same values in other sources."""
    scratch = tmp_path_factory.mktemp("contact_points")
    shop = Shop(Home.create(scratch / "o'clock home", "Europe/London", "GBP"), scratch)
    shop.deliver(
        "crm",
        contacts=[
            contact("fine", email=" Jane@Example.com", phone="020 7946 0018", country="U.K.", postal_code="sw1a1aa"),
            contact("fiction", email="joe@example.com", phone="01632 960001", country="England", postal_code="ZZ9 9ZZ"),
            contact("bad", email="a..b@example.com", phone="12", country="gb", postal_code="?", birthday="2035-01-01"),
            contact("umlaut", email="x@xn--mnchen-3ya.example", phone="01 58058-0", country="Österreich"),
            contact("nowhere", email="mailto:eve@example.com", phone="020 7946 0018", country="Atlantis"),
            contact(
                "us", phone="(617) 555-0157", country="USA", postal_code="10001-1234", region="N.Y.", city="Boston"
            ),
            contact("words", gender="Robot", language="Deutsch", account_type="Company", country="CH"),
        ],
        consents=[
            {
                "channel": "email",
                "purpose": "marketing",
                "state": "granted",
                "captured_at": AT,
                "contact_point": "mailto:eve@example.com",
            }
        ],
    )
    shop.deliver(
        "shop",
        orders=[
            {"order_id": "1", "ordered_at": AT, "email": "x@MÜNCHEN.example", "phone": "0044 20 7946 0018"},
            {"order_id": "2", "ordered_at": AT, "email": "nobody", "channel": "Online Store", "status": "shipped"},
        ],
        order_lines=[{"order_id": o, "product_id": "a", "quantity": 1, "unit_price": 1} for o in ("1", "2")],
    )
    shop.deliver(
        "web",
        events=[
            {
                "event_id": "e",
                "event_type": "identify",
                "occurred_at": AT,
                "anonymous_id": "d",
                "email": "mailto:eve@example.com",
            }
        ],
    )
    shop.set_clock("2011-07-01")
    parse_new(Settings(home=shop.home.root, memory_limit="500MB", threads=2), shop.home)
    build(shop, *MODELS)
    return shop


def test_contacts_have_what_can_be_used_and_say_what_can_not(shop: Shop):
    assert shop.query(
        "select contact_id, email, email_problem, phone, phone_problem, country_code, birthday, birthday_problem"
        " from staging.stg_crm__contacts order by contact_id"
    ) == [
        ("bad", None, "bad_local_part", None, "too_short", "GB", None, "in_future"),
        ("fiction", "joe@example.com", None, "+441632960001", "not_assigned", "GB", None, None),
        ("fine", "jane@example.com", None, "+442079460018", None, "GB", None, None),
        ("nowhere", "eve@example.com", None, None, "no_country", None, None, None),
        ("umlaut", "x@münchen.example", None, "+431580580", None, "AT", None, None),
        ("us", None, None, "+16175550157", None, "US", None, None),
        ("words", None, None, None, None, "CH", None, None),
    ]


def test_every_value_was_looked_up_where_it_was_parsed(shop: Shop):
    """Country names are read in Python when parsing and in SQL when looking up: to the same code."""
    assert (
        shop.query(
            "select contact_id from staging.stg_crm__contacts as contacts left join lake.phones as phones"
            " on contacts.phone_given = phones.given and coalesce(contacts.country_code, '') = phones.country_code"
            " where contacts.phone_given is not null and phones.given is null"
        )
        == []
    )


def test_a_value_is_the_same_contact_point_everywhere(shop: Shop):
    assert shop.query(
        "select contact_point, record_count from intermediate.int_contact_points where contact_point_type = 'email' order by 1"
    ) == [
        ("eve@example.com", 2),  # the contact, and the guest of the consent and the web event
        ("jane@example.com", 1),
        ("joe@example.com", 1),
        ("x@münchen.example", 2),  # the contact and the guest order
    ]
    assert shop.query(
        "select distinct email from staging.stg_crm__consents union select email from staging.stg_web__events"
    ) == [("eve@example.com",)]
    assert shop.query(
        "select contact_point, is_valid, problem, number_type from intermediate.int_contact_points"
        " where contact_point_type = 'phone' order by 1"
    ) == [
        ("+16175550157", True, None, "fixed_line_or_mobile"),
        ("+431580580", True, None, "fixed_line"),
        ("+441632960001", False, "not_assigned", None),
        ("+442079460018", True, None, "fixed_line"),
    ]


def test_matching_sees_postal_codes_as_written_by_their_country_and_none_that_are_malformed(shop: Shop):
    assert shop.query(
        "select contact_id, postal_code_verdict, region_code, is_city_in_doubt from intermediate.int_contact_addresses"
        " where postal_code_verdict is not null order by 1"
    ) == [
        ("bad", "malformed", None, False),
        ("fiction", "unknown", None, False),
        ("fine", "valid", None, False),
        ("us", "valid", "US-NY", True),
    ]
    assert shop.query(
        "select identifier, postal_code from intermediate.int_person_records where postal_code is not null order by 1"
    ) == [("fiction", "ZZ9 9ZZ"), ("fine", "SW1A 1AA"), ("us", "10001")]


def test_what_failed_is_listed_without_its_contents(shop: Shop):
    assert shop.query(
        "select source, table_name, row_number, field, problem, is_used from intermediate.int_contact_problems order by all"
    ) == [
        ("crm", "contacts", 2, "phone", "not_assigned", True),
        ("crm", "contacts", 2, "postal_code", "unknown", True),
        ("crm", "contacts", 3, "birthday", "in_future", False),
        ("crm", "contacts", 3, "email", "bad_local_part", False),
        ("crm", "contacts", 3, "phone", "too_short", False),
        ("crm", "contacts", 3, "postal_code", "malformed", False),
        ("crm", "contacts", 5, "country", "unknown", False),
        ("crm", "contacts", 5, "phone", "no_country", False),
        ("crm", "contacts", 6, "city", "not_at_postal_code", True),
        ("shop", "orders", 2, "email", "no_at_sign", False),
    ]


def test_categories_are_mapped_and_unknown_ones_counted(shop: Shop):
    assert shop.query(
        "select gender, language, account_type from staging.stg_crm__contacts where contact_id = 'words'"
    ) == [(None, "de", "business")]
    assert shop.query("select status, channel from staging.stg_shop__orders where order_id = '2'") == [
        ("fulfilled", "web")
    ]
    assert shop.query("from intermediate.int_unknown_categories") == [("gender", "robot", 1)]


def test_without_the_parsed_lists_sql_reads_what_it_can(shop: Shop, tmp_path: Path):
    """As for dbt run by hand on a lake that was never parsed: in a home of its own, with the same deliveries."""
    other = Shop(Home.create(tmp_path / "home", "Europe/London", "GBP"), tmp_path)
    other.deliver(
        "crm",
        contacts=[
            contact("fine", email=" Jane@Example.com", phone="020 7946 0018", country="U.K."),
            contact("bad", email="a@b@example.com", phone="12", country="gb"),
        ],
    )
    # A delivered list of postal codes is used instead of the shipped one.
    other.deliver("reference", postal_codes=[{"country_code": "GB", "postal_code": "ZZ9", "place": "Nowhere"}])
    other.set_clock("2026-07-01")
    build(other, "path:seeds", "+int_contact_addresses")
    assert other.query(
        "select contact_id, email, email_problem, phone, phone_problem from staging.stg_crm__contacts order by 1"
    ) == [
        ("bad", None, "not_an_address", None, "not_a_number"),
        ("fine", "jane@example.com", None, "+442079460018", None),
    ]
    assert other.query("select code_key, place from intermediate.int_listed_postal_codes") == [("ZZ9", "Nowhere")]


def test_the_shipped_list_is_found_wherever_dbt_is_called_from(shop: Shop, tmp_path: Path):
    ran = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("dbt")), "run", "-s", "stg_shipped__postal_codes"),
            *("--project-dir", os.path.relpath(PROJECT_ROOT / "dbt_project", tmp_path)),
            *("--profiles-dir", os.path.relpath(PROJECT_ROOT / "dbt_project", tmp_path)),
            *("--target-path", str(tmp_path / "target"), "--log-path", str(tmp_path / "logs")),
        ],
        cwd=tmp_path,
        env=os.environ | {"MAILWRIGHT_HOME": str(shop.home.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with duckdb.connect(str(shop.home.warehouse), read_only=True) as connection:
        counted = connection.execute(
            "select count(*), count(distinct (country_code, postal_code)) from staging.stg_shipped__postal_codes"
        ).fetchall()
    assert counted == [(1_200_973, 707_981)]


def test_only_new_deliveries_are_searched_for_what_failed(tmp_path: Path):
    """A mark on what was found before stays there until all of it is searched again."""
    shop = Shop(Home.create(tmp_path / "home", "Europe/London", "GBP"), tmp_path)
    models = ("+int_contact_problems", "+int_unknown_categories")
    problems = "select table_name, row_number, field, problem from intermediate.int_contact_problems order by all"
    categories = "select field, given, row_count from intermediate.int_unknown_categories order by all"
    shop.deliver("shop", orders=[{"order_id": "1", "ordered_at": AT, "email": "nobody", "channel": "kiosk"}])
    shop.set_clock("2011-07-01")
    build(shop, "path:seeds", *models)
    with duckdb.connect(str(shop.home.warehouse)) as connection:
        connection.execute("update intermediate.int_delivered_problems set problem = 'kept'")
        connection.execute("update intermediate.int_order_categories set row_count = 10")

    shop.deliver(
        "shop",
        orders=[
            {"order_id": "2", "ordered_at": AT, "email": "a@b@example.com", "channel": "kiosk"},
            {"order_id": "3", "ordered_at": AT, "email": "joe@example.com", "channel": "stall"},
        ],
    )
    shop.deliver("email", sends=[{"send_id": "s", "campaign_id": "c", "email": "nobody", "sent_at": AT}])
    build(shop, *models)
    assert shop.query(problems) == [
        ("orders", 1, "email", "kept"),
        ("orders", 1, "email", "not_an_address"),
        ("sends", 1, "email", "not_an_address"),
    ]
    assert shop.query(categories) == [("order_channel", "kiosk", 11), ("order_channel", "stall", 1)]

    build(shop, *models, "--full-refresh")
    assert [problem for _, _, _, problem in shop.query(problems)] == ["not_an_address"] * 3
    assert shop.query(categories) == [("order_channel", "kiosk", 2), ("order_channel", "stall", 1)]
