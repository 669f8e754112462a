"""Signing in at Mailchimp by the code flow, against the sandbox: the token is never shown, and the state is checked."""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from activation import oauth
from activation.connectors.mailchimp import Mailchimp, MailchimpSettings
from core.errors import DestinationError, SettingsError
from core.home import Home
from tests.integration.activation.served import Served, served
from tests.integration.activation.test_process import free_port


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in MailchimpSettings.model_fields:
        monkeypatch.delenv(f"MAILWRIGHT_MAILCHIMP_{name.upper()}", raising=False)
    with served(tmp_path / "sandbox", "mailchimp") as made:
        for name in ("client_id", "client_secret"):
            monkeypatch.setenv(f"MAILWRIGHT_MAILCHIMP_{name.upper()}", made.part.secrets[name])
        monkeypatch.setenv("MAILWRIGHT_MAILCHIMP_REDIRECT_PORT", str(free_port()))
        yield made


class Browser:
    """Opens an address as a browser does: in its own time, following redirects.

    Args:
        first: addresses to ask before, each made of the redirect address.
    """

    def __init__(self, *first: str) -> None:
        self.first = first
        self.got: list[int] = []
        self._thread: threading.Thread | None = None

    def __call__(self, address: str) -> None:
        self._thread = threading.Thread(target=self._open, args=(address,))
        self._thread.start()

    def _open(self, address: str) -> None:
        redirect = parse_qs(urlsplit(address).query)["redirect_uri"][0]
        with httpx.Client(trust_env=False, follow_redirects=True, timeout=10) as client:
            for other in (*(one.format(redirect) for one in self.first), address):
                self.got.append(client.get(other).status_code)

    def close(self) -> None:
        assert self._thread is not None
        self._thread.join(10)


def authorize(place: Served, browser: Browser, **options: Any) -> oauth.Grant:
    try:
        return oauth.authorize(
            open_url=browser, login=place.url, api=lambda server: f"{place.url}/3.0", **{"timeout": 10, **options}
        )
    finally:
        browser.close()


def test_a_token_is_given_and_works(
    place: Served, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    grant = authorize(place, Browser(), say=told.append)
    secrets = place.part.secrets
    assert grant.server == "us0"
    assert grant.audiences == {secrets["list_id"]: "Sandbox audience"}
    file = tmp_path / "mailchimp.env"
    oauth.write(grant, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for line in file.read_text().splitlines():
        monkeypatch.setenv(*line.split("=", 1))
    found = Mailchimp.credentials(home)
    assert found is not None
    assert (found.list_id, found.key.get_secret_value()) == (secrets["list_id"], secrets["access_token"])
    said = " ".join([repr(grant), *told, caplog.text, *capfd.readouterr()])
    assert not [name for name in ("access_token", "client_secret") if secrets[name] in said]
    with pytest.raises(SettingsError, match="is there already"):
        oauth.write(grant, file)


def test_answers_without_our_state_are_refused_and_waited_past(place: Served) -> None:
    browser = Browser("{0}?code=stolen", "{0}?code=stolen&state=guessed", "{0}x?code=stolen")
    assert authorize(place, browser).server == "us0"
    assert browser.got == [400, 400, 404, 200]


def test_a_name_of_another_host_is_refused(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(address: str) -> None:
        said = parse_qs(urlsplit(address).query)
        url = f"{said['redirect_uri'][0]}?code=stolen&state={said['state'][0]}"
        threading.Thread(target=lambda: httpx.get(url, headers={"host": "evil.example.com"}, trust_env=False)).start()

    with pytest.raises(DestinationError, match="no answer came"):
        oauth.authorize(open_url=elsewhere, login=place.url, timeout=1)


def test_a_no_is_said(place: Served) -> None:
    def declined(address: str) -> None:
        said = parse_qs(urlsplit(address).query)
        url = f"{said['redirect_uri'][0]}?error=access_denied<b>&state={said['state'][0]}"
        threading.Thread(target=lambda: httpx.get(url, trust_env=False)).start()

    with pytest.raises(DestinationError, match="gave no right: access_denied"):
        oauth.authorize(open_url=declined, login=place.url, timeout=10)


def test_a_wrong_secret_is_said_without_it(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILWRIGHT_MAILCHIMP_CLIENT_SECRET", "not-the-secret")
    with pytest.raises(DestinationError, match="MAILWRIGHT_MAILCHIMP_CLIENT_SECRET") as caught:
        authorize(place, Browser())
    assert "not-the-secret" not in str(caught.value)


def test_what_is_missing_is_named(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAILWRIGHT_MAILCHIMP_CLIENT_ID")
    with pytest.raises(SettingsError, match="MAILWRIGHT_MAILCHIMP_CLIENT_ID"):
        oauth.authorize(open_url=lambda _: None, login=place.url)


def test_a_taken_port_is_named(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILWRIGHT_MAILCHIMP_REDIRECT_PORT", str(urlsplit(place.url).port))
    with pytest.raises(SettingsError, match="MAILWRIGHT_MAILCHIMP_REDIRECT_PORT"):
        oauth.authorize(open_url=lambda _: None, login=place.url)


@pytest.mark.parametrize("server", ["us1.evil.example.com/", "", "../us1"])
def test_a_data_centre_that_is_none_is_refused(place: Served, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    place.faults.order("answer", route="/oauth2/metadata", body={"dc": server})
    with pytest.raises(DestinationError, match="no data centre"):
        authorize(place, Browser())


def test_a_code_works_once(place: Served) -> None:
    secrets = place.part.secrets
    redirect = "http://127.0.0.1:9/oauth/mailchimp"
    with httpx.Client(base_url=place.url, trust_env=False) as client:
        query = {"response_type": "code", "client_id": secrets["client_id"], "redirect_uri": redirect}
        went = client.get("/oauth2/authorize", params=query).headers["location"]
        body = {
            "grant_type": "authorization_code", "client_id": secrets["client_id"], "redirect_uri": redirect,
            "client_secret": secrets["client_secret"], "code": parse_qs(urlsplit(went).query)["code"][0],
        }  # fmt: skip
        assert [client.post("/oauth2/token", data=body).status_code for _ in range(2)] == [200, 400]
