"""The sandbox answers as the platform does: shapes, limits, errors. Spoken to with a plain HTTP client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from activation.sandbox.parts.mailchimp import hash_of
from tests.integration.activation.served import Served, served

ADA = "ada@example.com"
HASH = hash_of(ADA)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "sandbox", "mailchimp") as made:
        yield made


@pytest.fixture
def api(place: Served) -> Iterator[httpx.Client]:
    """A plain client of the sandbox's audience, with its key."""
    secrets = place.part.secrets
    base = f"{place.url}/3.0/lists/{secrets['list_id']}"
    with httpx.Client(base_url=base, auth=("anyone", secrets["api_key"]), trust_env=False, timeout=20) as client:
        yield client


def add(api: httpx.Client, email: str = ADA, **said: Any) -> dict[str, Any]:
    member = {"email_address": email, "status_if_new": "subscribed", **said}
    answer = api.put(f"members/{hash_of(email)}", json=member)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    ("headers", "title"),
    [
        ({}, "API Key Missing"),
        ({"authorization": "Bearer wrong-sandbox"}, "API Key Invalid"),
        ({"authorization": "Basic bm90"}, "API Key Invalid"),
        ({"authorization": "Basic %%%"}, "API Key Invalid"),
    ],
)
def test_the_key_is_checked(api: httpx.Client, headers: dict[str, str], title: str) -> None:
    answer = httpx.get(f"{api.base_url}members", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["title"]) == (401, title)
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert set(answer.json()) >= {"type", "title", "status", "detail", "instance"}


def test_both_ways_of_giving_the_key_work(place: Served, api: httpx.Client) -> None:
    bearer = {"authorization": f"Bearer {place.part.secrets['api_key']}"}
    assert httpx.get(f"{api.base_url}members", headers=bearer, trust_env=False).status_code == 200
    assert api.get("members").status_code == 200


def test_another_audience_and_an_unknown_path_are_not_found(api: httpx.Client) -> None:
    for url in (str(api.base_url).replace("/lists/", "/lists/x") + "members", f"{api.base_url}nonsense"):
        answer = api.get(url)
        assert (answer.status_code, answer.json()["title"]) == (404, "Resource Not Found")


def test_a_member_is_created_read_changed_and_archived(api: httpx.Client) -> None:
    made = add(api, merge_fields={"FNAME": "Ada", "UNKNOWN": "x"})
    assert (made["id"], made["status"], made["merge_fields"]) == (HASH, "subscribed", {"FNAME": "Ada"})
    assert api.get(f"members/{ADA}").json()["id"] == HASH
    assert (
        api.put(f"members/{HASH}", json={"email_address": ADA, "status_if_new": "pending"}).json()["status"]
        == "subscribed"
    )
    assert api.patch(f"members/{HASH}", json={"status": "unsubscribed"}).json()["status"] == "unsubscribed"
    assert api.delete(f"members/{HASH}").status_code == 204
    assert api.get(f"members/{HASH}").json()["status"] == "archived"
    assert api.delete(f"members/{HASH}").status_code == 405
    assert api.get("members").json()["total_items"] == 0
    assert api.patch(f"members/{hash_of('no@example.com')}", json={}).status_code == 404


def test_members_are_paged_and_pruned(api: httpx.Client) -> None:
    for number in range(12):
        add(api, f"p{number}@example.com")
    said = api.get("members", params={"fields": "members.email_address,total_items"}).json()
    assert (len(said["members"]), said["total_items"], set(said["members"][0])) == (10, 12, {"email_address"})
    assert len(api.get("members", params={"count": 1000, "offset": 10}).json()["members"]) == 2
    assert api.get("members", params={"count": 1001}).status_code == 400


def test_who_left_by_themselves_is_in_a_compliance_state(api: httpx.Client, place: Served) -> None:
    add(api)
    root = str(api.base_url).split("/mailchimp")[0]
    left = api.post(f"{root}/sandbox/mailchimp/people/{HASH}/leave", json={"how": "unsubscribe"})
    assert left.status_code == 204
    answer = api.patch(f"members/{HASH}", json={"status": "subscribed"})
    assert (answer.status_code, answer.json()["title"]) == (400, "Member In Compliance State")
    said = api.post(str(api.base_url).rstrip("/"), json={
        "members": [{"email_address": ADA, "status": "subscribed"}, {"email_address": "b@example.com", "status": "subscribed"}],
        "update_existing": True,
    }).json()  # fmt: skip
    assert (said["total_created"], said["total_updated"], said["error_count"]) == (1, 0, 1)
    assert "compliance state" in said["errors"][0]["error"]
    assert api.patch(f"members/{HASH}", json={"status": "pending"}).json()["status"] == "pending"


def batch(api: httpx.Client, *members: dict[str, Any], **options: Any) -> httpx.Response:
    return api.post(str(api.base_url).rstrip("/"), json={"members": members, "update_existing": True, **options})


def test_a_batch_tells_new_from_updated_and_errors_by_record(api: httpx.Client) -> None:
    add(api)
    new = {"email_address": "new@example.com", "status_if_new": "subscribed"}
    said = batch(
        api,
        {"email_address": ADA.upper(), "status_if_new": "subscribed"},
        new,
        new,
        {"email_address": "no address", "status_if_new": "subscribed"},
        {"email_address": "nostatus@example.com"},
    ).json()
    assert [member["email_address"] for member in said["new_members"]] == ["new@example.com"]
    assert [member["id"] for member in said["updated_members"]] == [HASH]
    assert [error["email_address"] for error in said["errors"]] == [
        "new@example.com",
        "no address",
        "nostatus@example.com",
    ]
    assert said["error_count"] == 3
    exists = batch(api, {"email_address": ADA, "status_if_new": "subscribed"}, update_existing=False).json()
    assert exists["errors"][0]["error_code"] == "ERROR_CONTACT_EXISTS"


def test_a_forgotten_member_never_comes_back(api: httpx.Client) -> None:
    add(api)
    assert api.post(f"members/{HASH}/actions/delete-permanent").status_code == 204
    assert api.get(f"members/{HASH}").status_code == 404
    said = batch(api, {"email_address": ADA, "status_if_new": "subscribed"}).json()
    assert "permanently deleted" in said["errors"][0]["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"members": [{"email_address": f"p{n}@example.com"} for n in range(501)]}),
        ("", {}),
        ("", {"members": [{"email_address": ADA, "status_if_new": "loved"}]}),
        ("", {"members": [{"email_address": ADA, "merge_fields": []}]}),
        ("/segments", {"name": "", "static_segment": []}),
        ("/segments", {"name": "saved", "options": {}}),
        ("/merge-fields", {"name": "x", "type": "poem"}),
        ("/merge-fields", {"name": "x", "type": "text", "tag": "MUCHTOOLONG"}),
        ("/merge-fields", {"name": "First again", "type": "text", "tag": "FNAME"}),
        ("/members", {"email_address": ADA}),
    ],
)
def test_payloads_are_validated(api: httpx.Client, path: str, body: dict[str, Any]) -> None:
    answer = api.post(str(api.base_url).rstrip("/") + path, json=body)
    assert answer.status_code == 400
    assert answer.json()["title"] in ("Invalid Resource", "Bad Request")


def test_broken_json_is_a_problem(api: httpx.Client) -> None:
    assert api.post("segments", content=b"{").json()["title"] == "JSON Parse Error"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("number", 3, "three"), ("date", "2011-12-10", "10/12/2011"), ("text", "x" * 255, "x" * 256)],
)
def test_merge_fields_keep_to_their_type(api: httpx.Client, kind: str, good: Any, bad: Any) -> None:
    assert api.post("merge-fields", json={"name": "Mine", "type": kind, "tag": "MINE"}).status_code == 200
    assert add(api, merge_fields={"MINE": good})["merge_fields"] == {"MINE": good}
    said = batch(api, {"email_address": ADA, "status_if_new": "subscribed", "merge_fields": {"MINE": bad}}).json()
    assert (said["error_count"], said["errors"][0]["field"]) == (1, "MINE")
    assert add(api, merge_fields={"MINE": ""})["merge_fields"] == {"MINE": ""}


def test_a_segment_ignores_unknown_emails_in_silence(api: httpx.Client) -> None:
    add(api)
    made = api.post("segments", json={"name": "mw: x", "static_segment": []}).json()
    said = api.post(f"segments/{made['id']}", json={"members_to_add": [ADA, "nobody@example.com"]}).json()
    assert (said["total_added"], said["error_count"]) == (1, 0)
    again = api.post(f"segments/{made['id']}", json={"members_to_add": [ADA]}).json()
    assert (again["total_added"], again["errors"][0]["email_addresses"]) == (0, [ADA])
    assert api.get(f"segments/{made['id']}").json()["member_count"] == 1
    assert [m["email_address"] for m in api.get(f"segments/{made['id']}/members").json()["members"]] == [ADA]
    assert api.get(f"members/{HASH}").json()["tags"] == [{"id": made["id"], "name": "mw: x"}]
    gone = api.post(f"segments/{made['id']}", json={"members_to_remove": [ADA, "nobody@example.com"]}).json()
    assert (gone["total_removed"], gone["error_count"]) == (1, 0)
    many = [f"p{n}@example.com" for n in range(501)]
    assert api.post(f"segments/{made['id']}", json={"members_to_add": many}).status_code == 400
    assert api.delete(f"segments/{made['id']}").status_code == 204
    assert api.get(f"segments/{made['id']}").status_code == 404


def test_tags_of_a_member_and_their_search(api: httpx.Client) -> None:
    add(api)
    change = {"tags": [{"name": "Gold", "status": "active"}, {"name": "Tin", "status": "inactive"}]}
    assert api.post(f"members/{HASH}/tags", json=change).status_code == 204
    assert [tag["name"] for tag in api.get(f"members/{HASH}/tags").json()["tags"]] == ["Gold"]
    assert [tag["name"] for tag in api.get("tag-search", params={"name": "go"}).json()["tags"]] == ["Gold"]
    assert api.post(f"members/{HASH}/tags", json={"tags": [{"name": "Gold"}]}).status_code == 400


def test_the_page_and_its_data(api: httpx.Client) -> None:
    add(api, merge_fields={"FNAME": "<b>Ada</b>"})
    root = str(api.base_url).split("/mailchimp")[0]
    with httpx.Client(base_url=root, trust_env=False) as plain:
        page = plain.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "https://" not in page.text, "nothing is fetched from elsewhere"
        assert plain.get("/sandbox").json()["platforms"] == [{"name": "mailchimp", "title": "Mailchimp", "people": 1}]
        overview = plain.get("/sandbox/mailchimp").json()
        assert overview["states"] == {"subscribed": 1}
        assert overview["calls"][0]["method"] == "PUT"
        people = plain.get("/sandbox/mailchimp/people", params={"search": "ADA"}).json()
        assert (people["total"], people["people"][0]["fields"]) == (1, {"FNAME": "<b>Ada</b>"})
        assert plain.get("/sandbox/mailchimp/people", params={"group": "nothing"}).json()["total"] == 0
        assert plain.get("/sandbox/nowhere").status_code == 404
        for path in ("/", "/mailchimp/3.0/ping"):
            assert plain.get(path, headers={"host": "evil.example.com"}).status_code == 400


@pytest.mark.parametrize("path", ["faults", f"people/{HASH}/leave"])
def test_a_web_page_elsewhere_can_order_nothing(api: httpx.Client, path: str) -> None:
    """A form may send text to any address without asking first; JSON may not."""
    root = str(api.base_url).split("/mailchimp")[0]
    said = b'{"kind": "lost", "how": "bounce"}'
    answer = httpx.post(
        f"{root}/sandbox/mailchimp/{path}", content=said, headers={"content-type": "text/plain"}, trust_env=False
    )
    assert answer.status_code == 415


def test_the_account_limits_connections_at_once(place: Served, api: httpx.Client) -> None:
    place.faults.order("latency", times=13, seconds=1.5, route="tag-search")
    with ThreadPoolExecutor(13) as pool:
        got = list(pool.map(lambda _: api.get("tag-search?name=mw").status_code, range(13)))
    assert sorted(got) == [200] * 10 + [429] * 3
