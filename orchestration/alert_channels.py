"""Where alerts go: by mail over SMTP, and to a webhook that takes what Slack's do. What is configured is used.

A channel's secrets are in its address. So nothing that a library says of a failure is passed on: only of what kind it was.
"""

from __future__ import annotations

import logging
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from core.errors import MailwrightError
from core.settings import Settings

# A job has done its work when it alerts: it waits for no slow server.
_TIMEOUT_SECONDS = 10.0


class UndeliveredError(MailwrightError):
    """A channel did not take an alert. Recovery: the next run of anything that alerts sends it."""


class Channel(Protocol):
    """Somewhere that alerts can be sent."""

    @property
    def name(self) -> str: ...

    def send(self, subject: str, text: str) -> None:
        """Deliver one message.

        Raises:
            UndeliveredError: it was not taken; says why, and shows no secret.
        """
        ...


def configured(settings: Settings) -> list[Channel]:
    """The channels that the settings name."""
    channels: list[Channel] = []
    if settings.alert_smtp_url is not None:
        to = [address.strip() for address in settings.alert_to.split(",") if address.strip()]
        channels.append(Mail(settings.alert_smtp_url, settings.alert_from, to))
    if settings.alert_webhook is not None:
        channels.append(Webhook(settings.alert_webhook))
    return channels


class Mail:
    """A mail server.

    `smtps://` speaks TLS from the start; `smtp://` turns to it where the server can, and must before a password is said.

    Args:
        url: with user and password where the server wants them, each with its special characters as %XX.
    """

    name = "mail"

    def __init__(self, url: SecretStr, sender: str, to: list[str]) -> None:
        self._url = url
        self._sender = sender
        self._to = to

    def send(self, subject: str, text: str) -> None:
        try:
            message = self._message(subject, text)
            with self._connected() as server:
                refused = server.send_message(message)
        except smtplib.SMTPResponseException as error:
            raise UndeliveredError(f"the mail server answered {error.smtp_code} ({type(error).__name__})") from None
        except (OSError, ValueError, smtplib.SMTPException) as error:
            raise UndeliveredError(f"the mail server did not take it ({type(error).__name__})") from None
        if refused:
            raise UndeliveredError(f"the mail server refused {len(refused)} of {len(self._to)} recipients")

    def _message(self, subject: str, text: str) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = " ".join(subject.split())
        message["From"] = self._sender
        message["To"] = ", ".join(self._to)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2])
        # Out-of-office replies to an alert help nobody (RFC 3834).
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        return message

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        address = urlsplit(self._url.get_secret_value())
        host, context = address.hostname or "", ssl.create_default_context()
        server: smtplib.SMTP
        if address.scheme == "smtps":
            server = smtplib.SMTP_SSL(host, address.port or 465, timeout=_TIMEOUT_SECONDS, context=context)
        else:
            server = smtplib.SMTP(host, address.port or 587, timeout=_TIMEOUT_SECONDS)
        with server:
            server.ehlo()
            if address.scheme == "smtp" and server.has_extn("starttls"):
                server.starttls(context=context)
            if address.username:
                if not isinstance(server.sock, ssl.SSLSocket):
                    raise UndeliveredError("the mail server offers no TLS: the password was not said to it")
                server.login(unquote(address.username), unquote(address.password or ""))
            yield server


class Webhook:
    """An address that takes `{"text": ...}`, as Slack, Mattermost, Rocket.Chat and Google Chat do."""

    name = "webhook"

    def __init__(self, url: SecretStr) -> None:
        self._url = url

    def send(self, subject: str, text: str) -> None:
        import httpx

        # It logs whole addresses, and this one is a secret.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        url = self._url.get_secret_value()
        # The three that Slack reads as markup.
        shown = f"*{subject}*\n{text}".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        try:
            is_local = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
            with httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=not is_local) as client:
                status = client.post(url, json={"text": shown}).status_code
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise UndeliveredError(f"the webhook did not answer ({type(error).__name__})") from None
        if not 200 <= status < 300:
            raise UndeliveredError(f"the webhook answered {status}")
