"""Alerts over a real mail server and a real HTTP server on loopback."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import SecretStr
from typer.testing import CliRunner

from core.errors import SettingsError
from core.home import Home
from core.settings import Settings, load_settings
from orchestration import alerts
from orchestration.alert_channels import Mail, UndeliveredError, Webhook, configured
from orchestration.cli import app
from orchestration.doctor import examine

USER, PASSWORD = "alerts", "hush/@: 1%"
TO = "ops@example.com, marketing@example.com"


@dataclass
class Inbox:
    """What the mail server took, and how.

    Attributes:
        refuses: recipients that it does not know.
        logins: how each session logged in: user, and whether it had turned to TLS.
    """

    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[tuple[str, bool]] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    answer: str = "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuses:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
            self.recipients.append(list(envelope.rcpt_tos))
        return self.answer

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        is_right = (data.login.decode(), data.password.decode()) == (USER, PASSWORD)
        self.logins.append((data.login.decode(), session.ssl is not None))
        return AuthResult(success=is_right, handled=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@contextmanager
def mail_server(inbox: Inbox, authority: trustme.CA | None, *, from_the_start: bool = False) -> Iterator[str]:
    """A mail server, as host and port; with TLS where there is an authority."""
    options: dict[str, Any] = {"authenticator": inbox.authenticate}
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        options |= {"ssl_context": context, "auth_require_tls": False} if from_the_start else {"tls_context": context}
    else:
        options["auth_require_tls"] = False
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(inbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        controller.stop()


@pytest.fixture
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """The authority, trusted as by an administrator of the machine."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return authority


def mail(server: str, scheme: str = "smtp", password: str | None = PASSWORD) -> Mail:
    login = f"{USER}:{quote(password, safe='')}@" if password is not None else ""
    return Mail(SecretStr(f"{scheme}://{login}{server}"), "mailwright@example.com", ["ops@example.com"])


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_mail_goes_within_tls_with_a_password_of_any_characters(inbox: Inbox, trusted: trustme.CA, scheme: str) -> None:
    with mail_server(inbox, trusted, from_the_start=scheme == "smtps") as server:
        mail(server, scheme).send("Mailwright: sync a ALARM", "łine one\nline two\n")
    (message,) = inbox.messages
    assert (message["Subject"], message["From"], message["To"]) == (
        "Mailwright: sync a ALARM",
        "mailwright@example.com",
        "ops@example.com",
    )
    assert message.get_content().splitlines() == ["łine one", "line two"]
    assert message["Auto-Submitted"] == "auto-generated"
    # Where TLS is there from the start, the server's session knows nothing of it.
    assert inbox.logins == [(USER, scheme == "smtp")]


def test_a_password_is_not_said_without_tls(inbox: Inbox) -> None:
    with mail_server(inbox, None) as server, pytest.raises(UndeliveredError, match="offers no TLS"):
        mail(server).send("s", "t")
    assert (inbox.logins, inbox.messages) == ([], [])


def test_a_relay_without_password_or_tls_is_used(inbox: Inbox) -> None:
    with mail_server(inbox, None) as server:
        mail(server, password=None).send("s", "t")
    assert len(inbox.messages) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(inbox: Inbox, authority: trustme.CA) -> None:
    with mail_server(inbox, authority) as server, pytest.raises(UndeliveredError, match="SSLCertVerificationError"):
        mail(server).send("s", "t")
    assert (inbox.logins, inbox.messages) == ([], [])


def test_what_the_mail_server_refuses_is_said_without_a_secret(
    inbox: Inbox, trusted: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    with mail_server(inbox, trusted) as server:
        with pytest.raises(UndeliveredError, match=r"answered 535 \(SMTPAuthenticationError\)") as wrong:
            mail(server, password="not it").send("s", "t")
        inbox.answer = "452 try again later"
        with pytest.raises(UndeliveredError, match="answered 452"):
            mail(server).send("s", "t")
        inbox.refuses = {"ops@example.com"}
        with pytest.raises(UndeliveredError, match="SMTPRecipientsRefused") as refused:
            mail(server).send("s", "t")
    gone = mail(server)
    with pytest.raises(UndeliveredError, match="ConnectionRefusedError"):
        gone.send("s", "t")
    for text in (str(wrong.value), str(refused.value), repr(wrong.value), repr(gone), str(vars(gone)), caplog.text):
        assert "not it" not in text
        assert PASSWORD not in text
        assert quote(PASSWORD, safe="") not in text
        assert "ops@" not in str(refused.value)


def test_a_recipient_that_is_refused_among_others_is_said(inbox: Inbox) -> None:
    inbox.refuses = {"marketing@example.com"}
    with mail_server(inbox, None) as server:
        to = TO.split(", ")
        channel = Mail(SecretStr(f"smtp://{server}"), "mailwright@example.com", to)
        with pytest.raises(UndeliveredError, match="refused 1 of 2 recipients"):
            channel.send("s", "t")


# The webhook.


@dataclass
class Hook:
    """A server that takes posts: their paths and bodies; `status` is what it answers."""

    url: str = ""
    status: int = 200
    taken: list[tuple[str, Any]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if made.status == 200:
                made.taken.append((self.path, json.loads(body)))
            self.send_response(made.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}/services/T00/hush"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_webhook_takes_a_text_as_slack_does(hook: Hook) -> None:
    Webhook(SecretStr(hook.url)).send("sync a ALARM", "5 < 6 & <!channel>")
    assert hook.taken == [("/services/T00/hush", {"text": "*sync a ALARM*\n5 &lt; 6 &amp; &lt;!channel&gt;"})]


@pytest.mark.parametrize("status", [302, 404, 429, 500])
def test_a_webhook_that_does_not_take_it_is_said_without_its_address(
    hook: Hook, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status = status
    channel = Webhook(SecretStr(hook.url))
    with caplog.at_level(logging.DEBUG), pytest.raises(UndeliveredError, match=f"answered {status}") as error:
        channel.send("s", "t")
    logged = [record.getMessage() for record in caplog.records if record.name.startswith(("httpx", "orchestration"))]
    assert "hush" not in str(error.value) + repr(channel) + str(vars(channel)) + " ".join(logged)


def test_a_webhook_that_is_not_there(hook: Hook) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/hush"
        with pytest.raises(UndeliveredError, match=r"did not answer \(ConnectError\)"):
            Webhook(SecretStr(url)).send("s", "t")


# From the environment to both.


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home.create(tmp_path / "home", "Europe/London", "GBP")
    monkeypatch.setenv("MAILWRIGHT_HOME", str(made.root))
    return made


def test_both_channels_are_told_and_one_that_is_down_later(
    home: Home, inbox: Inbox, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILWRIGHT_ALERT_TO", TO)
    monkeypatch.setenv("MAILWRIGHT_ALERT_FROM", "mailwright@example.com")
    monkeypatch.setenv("MAILWRIGHT_ALERT_WEBHOOK", hook.url)
    with mail_server(inbox, None) as server:
        monkeypatch.setenv("MAILWRIGHT_ALERT_SMTP_URL", f"smtp://{server}")
        settings = load_settings()
        hook.status = 503
        alerts.note(settings, home, {"sync a": "down"})
        assert [message["Subject"] for message in inbox.messages] == ["Mailwright: sync a ALARM"]
        assert inbox.recipients == [TO.split(", ")]
        assert "(not delivered by webhook)" in CliRunner().invoke(app, ["alerts"]).output
        hook.status = 200
        alerts.note(settings, home, {"sync a": None})
    assert len(inbox.messages) == 2
    ((_, said),) = hook.taken
    assert "sync a ALARM: down" in said["text"]
    assert "sync a recovered" in said["text"]
    shown = CliRunner().invoke(app, ["alerts", "list"]).output
    assert "Alerts: none" in shown
    assert "hush" not in shown + home.alerts.read_text()


def test_the_command_tries_each_channel_and_says_which_failed(
    home: Home, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No channel is configured" in CliRunner().invoke(app, ["alerts", "test"]).output
    monkeypatch.setenv("MAILWRIGHT_ALERT_WEBHOOK", hook.url)
    result = CliRunner().invoke(app, ["alerts", "test"])
    assert (result.exit_code, "✓ webhook: taken" in result.output) == (0, True)
    assert "Alerts arrive here" in hook.taken[0][1]["text"]
    hook.status = 500
    result = CliRunner().invoke(app, ["alerts", "test"])
    assert (result.exit_code, "✗ webhook: the webhook answered 500" in result.output) == (1, True)
    assert not home.alerts.exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        pytest.param({"SMTP_URL": "smtp://host:25"}, "needs MAILWRIGHT_ALERT_TO and MAILWRIGHT_ALERT_FROM", id="no to"),
        pytest.param(
            {"SMTP_URL": "hush.example.com:25", "TO": TO, "FROM": "a@example.com"}, "smtp://user", id="no url"
        ),
        pytest.param({"SMTP_URL": "smtp://me:hush@x@host", "TO": TO, "FROM": "a@example.com"}, "%XX", id="bare @"),
        pytest.param({"WEBHOOK": "hooks.example.com/hush"}, "must be an address such as https://", id="no webhook"),
    ],
)
def test_a_setting_that_is_wrong_is_named_without_its_value(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MAILWRIGHT_ALERT_{name}", value)
    with pytest.raises(SettingsError, match=said) as error:
        load_settings()
    assert str(error.value).startswith("MAILWRIGHT_ALERT_")
    assert "hush" not in str(error.value)


def test_the_doctor_shows_no_secret(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILWRIGHT_ALERT_TO", TO)
    monkeypatch.setenv("MAILWRIGHT_ALERT_FROM", "mailwright@example.com")
    monkeypatch.setenv("MAILWRIGHT_ALERT_SMTP_URL", "smtp://alerts:hush@mail.example.com:587")
    monkeypatch.setenv("MAILWRIGHT_ALERT_WEBHOOK", "https://hooks.example.com/hush")
    said = {finding.subject: finding.said for finding in examine()}
    assert "alert_webhook" in said["settings"]
    assert said["alerts"] == "told by mail and webhook"
    assert "hush" not in " ".join(said.values()) + repr(load_settings())
    assert [channel.name for channel in configured(Settings())] == ["mail", "webhook"]
