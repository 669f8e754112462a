"""The sandbox's page in a real browser: people, memberships, calls, and faults that are ordered by button."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from activation.connector import Contact, Field
from activation.sandbox.parts.mailchimp import hash_of
from tests.integration.activation.served import Served, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
EVIL = "<img src=x onerror=document.title='taken'>"

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no Chromium at {CHROMIUM}: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as made:
        opened = made.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "sandbox", "mailchimp") as made:
        made.connector.prepare([Field("given_name", "FNAME", "Given name", "text")], ["mw: loyal", "mw: dormant"])
        people = [contact(number) for number in range(30)]
        made.connector.write(people)
        made.connector.change_tag("mw: loyal", people[:7], [])
        made.connector.change_tag("mw: dormant", people[5:8], [])
        yield made


def contact(number: int) -> Contact:
    email = f"person{number:02}@example.com"
    return Contact(hash_of(email), email, is_new=True, fields={"FNAME": EVIL if number == 0 else "Ada"})


@pytest.fixture
def page(browser: Any, place: Served) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 1500})
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if is_error(said) else None)
    opened.on("request", lambda asked: errors.append(asked.url) if "127.0.0.1" not in asked.url[:17] else None)
    opened.goto(place.url.rpartition("/")[0] + "/")
    opened.wait_for_selector("#people td")
    yield opened
    opened.close()
    assert not errors, "no error in the page, and nothing is fetched from elsewhere"


def is_error(said: Any) -> bool:
    # A request that is refused on purpose is told of there too.
    return bool(said.type == "error" and "status of 400" not in said.text)


def rows(page: Page, count: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#people tr")).to_have_count(count)


def test_people_memberships_and_calls(page: Page) -> None:
    assert page.locator("#cards .card").first.inner_text().split() == ["30", "subscribed"]
    assert page.locator("#groups .tag").all_inner_texts() == ["mw: loyal\n7", "mw: dormant\n3"]
    assert page.locator("#people tr").count() == 25
    assert page.locator("#timeline rect").count() == page.locator("#calls tr").count() >= 4
    page.click("#on")
    rows(page, 5)
    page.locator("#groups .tag", has_text="dormant").click()
    rows(page, 3)
    page.fill("#search", "PERSON06")
    rows(page, 1)
    assert page.locator("#people .chip").all_inner_texts() == ["FNAME Ada", "mw: dormant", "mw: loyal"]


def test_what_people_wrote_is_text(page: Page) -> None:
    page.fill("#search", "person00")
    rows(page, 1)
    assert EVIL in page.inner_text("#people")
    assert page.title() == "Mailwright sandbox"


def test_somebody_leaves_by_button(page: Page, place: Served) -> None:
    page.fill("#search", "person03")
    rows(page, 1)
    page.click("#people button:has-text('unsubscribe')")
    page.wait_for_selector("#people .unsubscribed")
    person = place.person(contact(3).key)
    assert person is not None
    assert (person.state, person.left_by) == ("unsubscribed", "contact")


def test_a_fault_is_ordered_met_and_cleared(page: Page, place: Served) -> None:
    page.fill("#times", "2")
    page.fill("#route", "^GET .*/segments")
    page.click("#kinds button:text-is('error')")
    page.wait_for_selector("#standing .chip")
    assert "The next calls that fit will meet: 500" in page.inner_text("#said")
    secrets = place.part.secrets
    asked = f"{place.url}/3.0/lists/{secrets['list_id']}/segments"
    assert httpx.get(asked, auth=("x", secrets["api_key"]), trust_env=False).status_code == 500
    page.wait_for_selector("#calls .chip:text-is('error')")
    assert page.locator("#timeline .faulty").count() == 1
    page.click("#standing button:has-text('Clear')")
    page.wait_for_selector("#standing .empty")
    assert httpx.get(asked, auth=("x", secrets["api_key"]), trust_env=False).status_code == 200
    page.fill("#route", "(")
    page.click("#kinds button:text-is('lost')")
    page.wait_for_selector("#said:has-text('unterminated')")


def test_every_platform_has_its_tab(browser: Any, tmp_path: Path) -> None:
    from activation.sandbox.app import Sandbox
    from tests.integration.activation.served import _serving

    sandbox = Sandbox(tmp_path / "all")
    with _serving(sandbox) as root:
        opened = browser.new_page()
        opened.goto(root + "/")
        for name, part in sandbox.parts.items():
            opened.locator("nav button", has_text=part.title).click()
            opened.wait_for_selector(f"nav [aria-selected=true]:has-text('{part.title}')")
            opened.wait_for_selector(f"#facts:has-text('{part.account}')")
            assert opened.evaluate("location.hash") == f"#{name}"
            assert opened.inner_text("#live") == "live"
        opened.close()
    sandbox.close()
