"""OAuth 2 code flow with a redirect to this machine, for platforms that give a token instead of a key (Mailchimp).

The token goes into a file of its owner's alone, as lines for the environment: it is never printed, logged or kept in the
home. Mailchimp's tokens don't run out and have no scopes; taking the application's right back there ends them.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import time
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from pydantic import Field as Setting
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import DestinationError, SettingsError
from core.settings import read_environment

LOGIN = "https://login.mailchimp.com"
CALLBACK = "/oauth/mailchimp"
_PAGE = (
    "<!doctype html><meta charset=utf-8><title>Mailwright</title><p style='font: 16px sans-serif; margin: 3em'>{}</p>"
)


class MailchimpApplication(BaseSettings):
    """The application that was registered at Mailchimp, under Account, Extras, Registered apps."""

    model_config = SettingsConfigDict(
        env_prefix="MAILWRIGHT_MAILCHIMP_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    client_id: str = Setting(description="Id of the registered application")
    client_secret: SecretStr = Setting(description="Its secret")
    redirect_port: int = Setting(8026, ge=1024, le=65535, description="Loopback port of its redirect address")

    @property
    def redirect_uri(self) -> str:
        """What must be registered as the application's redirect address, letter by letter."""
        return f"http://127.0.0.1:{self.redirect_port}{CALLBACK}"


@dataclass(frozen=True)
class Grant:
    """What the platform gave.

    Attributes:
        server: data centre of the account.
        audiences: id to name, to choose one from.
    """

    access_token: SecretStr = field(repr=False)
    server: str
    audiences: Mapping[str, str]

    def environment(self) -> str:
        """Lines for the environment. Holds the token."""
        lines = [
            f"MAILWRIGHT_MAILCHIMP_ACCESS_TOKEN={self.access_token.get_secret_value()}",
            f"MAILWRIGHT_MAILCHIMP_SERVER={self.server}",
        ]
        if len(self.audiences) == 1:
            lines += [f"MAILWRIGHT_MAILCHIMP_LIST_ID={audience}" for audience in self.audiences]
        else:
            lines += [
                f"# MAILWRIGHT_MAILCHIMP_LIST_ID={audience}  # {name}" for audience, name in self.audiences.items()
            ]
        return "\n".join(lines) + "\n"


def authorize(
    *,
    open_url: Callable[[str], Any] = webbrowser.open,
    say: Callable[[str], Any] = lambda words: None,
    timeout: float = 300.0,
    login: str = LOGIN,
    api: Callable[[str], str] = lambda server: f"https://{server}.api.mailchimp.com/3.0",
) -> Grant:
    """Ask somebody in their browser, and wait for what Mailchimp answers.

    Args:
        say: told the address to open, for those whose browser is elsewhere. It holds no secret.
        timeout: seconds to wait for the answer.
        login, api: where Mailchimp is.

    Raises:
        SettingsError: the application isn't in the environment, or its port is taken.
        DestinationError: the answer was no, or none came, or not one of Mailchimp.
    """
    application = read_environment(MailchimpApplication)
    state = secrets.token_urlsafe(32)
    query = {"response_type": "code", "client_id": application.client_id, "redirect_uri": application.redirect_uri}
    address = f"{login}/oauth2/authorize?{urlencode({**query, 'state': state})}"
    with _listen(application, state) as listener:
        say(address)
        open_url(address)
        code = listener.wait(timeout)
    with httpx.Client(timeout=30, follow_redirects=False, trust_env=not login.startswith("http://127.0.0.1")) as client:
        said = _asked(
            client,
            "POST",
            f"{login}/oauth2/token",
            data={
                "grant_type": "authorization_code",
                "client_id": application.client_id,
                "client_secret": application.client_secret.get_secret_value(),
                "redirect_uri": application.redirect_uri,
                "code": code,
            },
        )
        token = str(said.get("access_token") or "")
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise DestinationError("Mailchimp gave no token: run mailwright auth mailchimp again")
        found = _asked(client, "GET", f"{login}/oauth2/metadata", headers={"Authorization": f"OAuth {token}"})
        server = str(found.get("dc") or "")
        # It becomes part of a host's name.
        if not re.fullmatch(r"[a-z]{2}\d{1,4}", server):
            raise DestinationError("Mailchimp named no data centre of the account: run mailwright auth mailchimp again")
        lists = _asked(
            client,
            "GET",
            f"{api(server)}/lists",
            params={"fields": "lists.id,lists.name", "count": "1000"},
            headers={"Authorization": f"Bearer {token}"},
        )
    audiences = {str(one["id"]): _one_line(str(one["name"])) for one in lists.get("lists", [])}
    return Grant(SecretStr(token), server, audiences)


def write(grant: Grant, path: Path) -> None:
    """Write the lines for the environment into a new file that only its owner may read.

    Raises:
        SettingsError: there is such a file, or it can't be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SettingsError(f"{path}: is there already; name another file, or remove it first") from None
    except OSError as error:
        raise SettingsError(f"{path}: can't be made: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(grant.environment())


class _Listener(HTTPServer):
    """Takes the browser's redirect. Answers that lack our state are refused, and waited past: anybody may send them."""

    allow_reuse_address = True

    def __init__(self, application: MailchimpApplication, state: str) -> None:
        super().__init__(("127.0.0.1", application.redirect_port), _Answer)
        self.state = state
        self.host = f"127.0.0.1:{application.redirect_port}"
        self.code: str | None = None
        self.refusal: str | None = None
        self.strangers = 0

    def wait(self, seconds: float) -> str:
        """The code that was given."""
        deadline = time.monotonic() + seconds
        while self.code is None and self.refusal is None:
            left = deadline - time.monotonic()
            if left <= 0:
                strange = f"; {self.strangers} that did not hold our state were refused" if self.strangers else ""
                raise DestinationError(
                    f"no answer came within {seconds:.0f} s{strange}: run mailwright auth mailchimp again"
                )
            self.timeout = left
            self.handle_request()
        if self.code is None:
            raise DestinationError(f"Mailchimp gave no right: {self.refusal}")
        return self.code

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no matter."""


class _Answer(BaseHTTPRequestHandler):
    server: _Listener
    timeout = 10  # of a connection over which nothing comes

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        said = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        if asked.path != CALLBACK or self.headers.get("Host") != self.server.host:
            self._say(404, "There is nothing here.")
        elif not hmac.compare_digest(said.get("state", "").encode(), self.server.state.encode()):
            self.server.strangers += 1
            self._say(400, "This answer is not to a question of ours. Go back and begin again.")
        elif said.get("code"):
            self.server.code = said["code"]
            self._say(200, "Mailwright may use the account now. This window can be closed.")
        else:
            self.server.refusal = re.sub(r"[^a-z_]", "", said.get("error", ""))[:40] or "no reason given"
            self._say(200, "Mailwright was given no right. This window can be closed.")

    def _say(self, status: int, words: str) -> None:
        body = _PAGE.format(words).encode()
        self.send_response(status)
        for name, value in (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The request's line holds the code: it is not logged."""


def _listen(application: MailchimpApplication, state: str) -> _Listener:
    try:
        return _Listener(application, state)
    except OSError:
        raise SettingsError(
            f"MAILWRIGHT_MAILCHIMP_REDIRECT_PORT: port {application.redirect_port} is taken; free it, or register another"
            " redirect address and set its port"
        ) from None


def _asked(client: httpx.Client, method: str, url: str, **options: Any) -> Mapping[str, Any]:
    """One request. Nothing that was sent or given is told of in an error."""
    where = urlsplit(url).path
    try:
        answer = client.request(method, url, **options)
        said = answer.json() if answer.is_success else None
    except (httpx.TransportError, ValueError) as error:
        raise DestinationError(f"Mailchimp gave no whole answer to {method} {where} ({type(error).__name__})") from None
    if not isinstance(said, dict):
        raise DestinationError(
            f"Mailchimp answers {answer.status_code} to {method} {where}: check MAILWRIGHT_MAILCHIMP_CLIENT_ID,"
            " MAILWRIGHT_MAILCHIMP_CLIENT_SECRET and the redirect address that is registered with them"
        )
    return said


def _one_line(name: str) -> str:
    return " ".join(name.split())[:80]
