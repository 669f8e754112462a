"""Small rules of the engine and the connector, without any server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from activation import old_mailchimp as mailchimp
from activation import old_plan as plan
from activation.destination import Action, Contact, Workload, action_of, redact
from activation.old_mailchimp import Mailchimp, merge_tag
from core.settings import PROJECT_ROOT

MERGE_FIELDS = 24  # of the 30 that the smallest accounts have, as others use some too


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (200, Action.ACCEPT), (204, Action.ACCEPT), (400, Action.SPLIT), (401, Action.STOP), (403, Action.STOP),
        (404, Action.STOP), (408, Action.RETRY), (422, Action.SPLIT), (429, Action.RETRY), (500, Action.RETRY),
        (502, Action.RETRY), (599, Action.RETRY), (301, Action.STOP), (418, Action.STOP),
    ],
)  # fmt: skip
def test_status_table(status: int, action: Action) -> None:
    assert action_of(status) is action


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        (None, None, None),
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("-3", 0, 0),
        (timedelta(seconds=90), 80, 90),
        (timedelta(seconds=-90), 0, 0),
        ("soon", None, None),
    ],
)
def test_retry_after(said: str | timedelta | None, least: float | None, most: float | None) -> None:
    if isinstance(said, timedelta):
        said = format_datetime(datetime.now(UTC) + said, usegmt=True)
    found = mailchimp._retry_after(httpx.Response(429, headers={"retry-after": said} if said is not None else {}))
    if least is None or most is None:
        assert found is None
    else:
        assert found is not None
        assert least <= found <= most


@pytest.mark.parametrize(
    "column", ["country_code", "rfm_segment", "a_rather_long_column_name", "x", "élan", "MixedCase"]
)
def test_merge_tags_are_ours_and_short(column: str) -> None:
    tag = merge_tag(column)
    assert tag.startswith("MW_")
    assert 3 < len(tag) <= 10
    assert tag.isascii()
    assert tag == tag.upper()


def test_the_known_merge_tags_are_distinct_and_short() -> None:
    tags = list(mailchimp.MERGE_TAGS.values())
    assert len(set(tags)) == len(tags)
    assert max(map(len, tags)) <= mailchimp.MERGE_TAG_LENGTH


def test_what_goes_with_a_profile_has_merge_fields_enough() -> None:
    path = PROJECT_ROOT / "dbt_project" / "models" / "activation" / "sync_profiles.yml"
    (profiles,) = yaml.safe_load(path.read_text())["models"]
    columns = [column["name"] for column in profiles["columns"] if column["name"] not in plan._NOT_FIELDS]
    tags = {merge_tag(column) for column in columns}
    assert len(tags) == len(columns) <= MERGE_FIELDS
    assert set(columns) <= set(mailchimp.MERGE_TAGS), (
        "a tag that is made of a name's first letters may not be told apart"
    )


@given(st.emails(), st.text(min_size=3, max_size=20))
def test_words_lose_addresses_and_values(email: str, name: str) -> None:
    contact = Contact("k", email, {"FNAME": name})
    words = redact(f"{email.upper()} ({name}) cannot be subscribed, nor can other@example.com", contact)
    assert email.lower() not in words.lower()
    assert "other@example.com" not in words


def test_a_contact_shows_no_address() -> None:
    assert "ada" not in repr(Contact("k", "ada@example.com", {"FNAME": "ada"}))


def test_expected_calls() -> None:
    destination = Mailchimp("http://127.0.0.1:1/3.0", SecretStr("k"), "l", "x", account="x")
    work = Workload(1001, 2, {"a": (501, 3), "b": (0, 1)}, 4, ["FNAME", "MW_RFM"], ["a"])
    assert destination.expected_calls(work) == {
        "set-up": 4, "contacts": 3, "tags": 3, "tags by key": 4, "unsubscribes": 2,
    }  # fmt: skip
    assert destination.expected_calls(Workload(0, 0, {}, 0)) == {}
