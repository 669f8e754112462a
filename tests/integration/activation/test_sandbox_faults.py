"""Every fault that can be ordered is met as it says: spoken to with a plain HTTP client, over a real connection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from activation.sandbox.faults import KINDS
from activation.sandbox.part import Window
from activation.sandbox.parts.mailchimp import hash_of
from tests.integration.activation.served import Served, served


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "sandbox", "mailchimp") as made:
        yield made


def batch(place: Served, count: int = 3, timeout: float = 10) -> httpx.Response:
    members = [{"email_address": f"p{number}@example.com", "status_if_new": "subscribed"} for number in range(count)]
    return ask(place, "POST", "", timeout, json={"members": members, "update_existing": True})


def ask(place: Served, method: str, rest: str, timeout: float = 10, **options: Any) -> httpx.Response:
    secrets = place.part.secrets
    url = f"{place.url}/3.0/lists/{secrets['list_id']}{rest}"
    with httpx.Client(trust_env=False, auth=("x", secrets["api_key"]), timeout=timeout) as client:
        return client.request(method, url, **options)


def there(place: Served) -> int:
    return place.part.people.count()


def test_every_fault_is_told_of(place: Served) -> None:
    root = place.url.rpartition("/")[0]
    assert httpx.get(f"{root}/sandbox", trust_env=False).json()["faults"].keys() == KINDS.keys()


@pytest.mark.parametrize(
    ("kind", "status"), [("throttled", 429), ("throttled_bare", 429), ("error", 500), ("expired", 401)]
)
def test_some_are_answered_once_and_nothing_is_done(place: Served, kind: Any, status: int) -> None:
    place.faults.order(kind)
    answer = batch(place)
    assert (answer.status_code, there(place)) == (status, 0)
    assert ("retry-after" in answer.headers) == (kind == "throttled")
    assert (answer.content == b"") == (kind == "throttled_bare")
    assert batch(place).status_code == 200
    assert [call["fault"] for call in place.part.people.calls(2)] == [None, kind]


def test_a_key_taken_back_stays_so_until_cleared(place: Served) -> None:
    place.faults.order("revoked", after=1)
    assert [batch(place).status_code for _ in range(4)] == [200, 401, 401, 401]
    place.faults.clear()
    assert batch(place).status_code == 200


def test_a_lost_answer_is_not_a_byte(place: Served) -> None:
    place.faults.order("lost")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        batch(place)
    assert there(place) == 3
    assert batch(place).json()["total_updated"] == 3


def test_a_reset_cuts_the_body_in_the_middle(place: Served) -> None:
    place.faults.order("reset")
    with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete message body|peer closed"):
        batch(place)
    assert there(place) == 3


def test_a_garbled_answer_has_its_length_and_is_no_json(place: Served) -> None:
    place.faults.order("garbled")
    answer = batch(place)
    assert (answer.status_code, there(place)) == (200, 3)
    with pytest.raises(ValueError, match=r"."):
        answer.json()


def test_a_proxys_page_comes_as_a_success(place: Served) -> None:
    place.faults.order("html")
    answer = batch(place)
    assert (answer.status_code, answer.headers["content-type"], there(place)) == (200, "text/html; charset=utf-8", 0)


def test_latency_and_drip_take_their_time(place: Served) -> None:
    for kind in ("latency", "drip"):
        place.faults.order(kind, seconds=0.3)
        started = time.monotonic()
        assert batch(place).status_code == 200
        assert time.monotonic() - started >= 0.25
    place.faults.order("latency", seconds=5)
    with pytest.raises(httpx.ReadTimeout):
        batch(place, timeout=0.2)


def test_a_skewed_clock_shows_in_the_date(place: Served) -> None:
    place.faults.order("skew", seconds=-86_400)
    said = parsedate_to_datetime(batch(place).headers["date"]).timestamp()
    assert said == pytest.approx(time.time() - 86_400, abs=60)
    place.faults.clear()
    said = parsedate_to_datetime(batch(place).headers["date"]).timestamp()
    assert said == pytest.approx(time.time(), abs=60)


def test_rows_come_in_another_order(place: Served) -> None:
    place.faults.order("shuffled")
    assert [member["email_address"] for member in batch(place).json()["new_members"]] == [
        "p2@example.com", "p1@example.com", "p0@example.com",
    ]  # fmt: skip


def test_an_order_is_for_calls_that_fit(place: Served) -> None:
    place.faults.order("answer", route=r"^GET .*/segments", status=418, body={"title": "Teapot"}, times=2)
    assert batch(place).status_code == 200
    assert [ask(place, "GET", "/segments").status_code for _ in range(3)] == [418, 418, 200]


def test_orders_over_http(place: Served) -> None:
    root = f"{place.url.rpartition('/')[0]}/sandbox/mailchimp"
    with httpx.Client(trust_env=False) as page:
        made = page.post(f"{root}/faults", json={"kind": "error", "times": None, "route": "^POST"})
        assert (made.status_code, made.json()["kind"], made.json()["times"]) == (201, "error", None)
        assert [batch(place).status_code for _ in range(3)] == [500, 500, 500]
        assert page.get(root).json()["faults"][0]["met"] == 3
        assert page.delete(f"{root}/faults/{made.json()['id']}").status_code == 204
        assert batch(place).status_code == 200
        for wrong in (
            {"kind": "plague"},
            {"kind": "error", "times": 0},
            {"kind": "error", "route": "("},
            {"kind": "error", "x": 1},
        ):
            assert page.post(f"{root}/faults", json=wrong).status_code == 400, wrong
        left = page.post(f"{root}/people/{hash_of('p0@example.com')}/leave", json={"how": "bounce"})
        assert left.status_code == 204
        assert page.post(f"{root}/people/nobody/leave", json={"how": "bounce"}).status_code == 404
    assert place.part.people.count_by_state() == {"subscribed": 2, "bounced": 1}


def test_a_sliding_window_lets_no_burst_through_at_its_edge() -> None:
    window = Window(2, 10.0)
    taken = []
    for now in (0.0, 1.0, 9.0, 10.0, 10.5, 11.0):
        if window.wait(now) <= 0:
            window.take(now)
            taken.append(now)
    assert taken == [0.0, 1.0, 10.0, 11.0]
    assert window.wait(11.5) == pytest.approx(8.5)
    assert window.left(20.5) == 1
    assert window.reset_after(20.5) == pytest.approx(0.5)
