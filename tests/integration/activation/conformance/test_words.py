"""What is said when something goes wrong: what to do about it, and nothing about anybody, nor any secret."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator

import duckdb
import pytest

from activation.ledger import Ledger
from activation.sandbox.part import Said
from core.errors import DestinationError
from tests.integration.activation.conformance.place import Asked, Place, persons


@pytest.fixture(autouse=True)
def _makes_calls(place: Place) -> None:
    if place.faults is None:
        pytest.skip("makes no calls")


def fail(place: Place, status: int, secrets: Collection[str] = ()) -> str:
    """Apply while every call is refused so. Returns what the error says, with all that led to it."""
    made = place.plan()
    place.watch.instead = echo(status, secrets)
    with pytest.raises(DestinationError) as raised:
        place.apply(made, override=("added", "removed", "rejects"))
    place.watch.instead = lambda asked: None
    return "\n".join(f"{error} {error!r}" for error in _chain(raised.value))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def leaks(place: Place, text: str) -> set[str]:
    """Addresses, names and secrets that stand in a text."""
    values = {value for one in place.there.values() for value in (one.email, one.given_name, one.surname) if value}
    # What an address of the account is made of is known to whoever reads the log.
    secrets = {secret for secret in place.part.secrets.values() if secret not in place.connector.description}
    assert secrets
    return {value for value in values | secrets if value.lower() in text.lower()}


def kept(place: Place) -> str:
    """All that the ledger and the history of syncs hold, as text."""
    with Ledger(place.home, place.settings) as ledger:
        ledger.export()
    said = [file.read_bytes().decode("latin-1") for file in place.home.root.glob("ledger.db*")]
    with duckdb.connect() as connection:
        for file in (place.home.state / "syncs").rglob("*.parquet"):
            said += [str(row) for row in connection.execute(f"from read_parquet('{file}')").fetchall()]
    return "\n".join(said)


def echo(status: int, secrets: Collection[str] = ()) -> Callable[[Asked], Said | None]:
    """Refuse calls with an error that repeats what it was sent, in every form that platforms have."""

    def instead(asked: Asked) -> Said | None:
        if not asked.is_write or "token" in asked.path:
            return None
        said = " ".join([asked.raw.decode(errors="replace"), *secrets])
        short = " ".join(["no", *re.findall(r"[\w.+-]+@[\w.-]+", said)])
        body = {
            "title": short, "detail": said, "code": short, "message": said, "error": short, "error_description": said,
            "errorcode": short, "resultMessages": [said],
            "errors": [{"code": short, "title": short, "detail": said, "type": said}],
        }  # fmt: skip
        return Said(status, body, {"Content-Type": "application/json"})

    return instead


@pytest.mark.parametrize("status", [401, 403, 404])
def test_the_error_says_where_to_look(place: Place, status: int) -> None:
    place.release(persons(*range(4)))
    said = fail(place, status)
    assert str(status) in said
    assert place.connector.description in said
    assert "status page" not in said, "it is the account, the key or its rights, and says which"
    if status == 401:
        assert f"MAILWRIGHT_{place.platform.name.upper()}_" in said


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_failed_apply_tells_nothing_of_anybody(
    place: Place, status: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    settle_some(place)
    said = fail(place, status, place.part.secrets.values())
    assert leaks(place, said) == set(), "in the error"
    assert leaks(place, logged(caplog)) == set(), "in the log"
    assert leaks(place, "".join(capfd.readouterr())) == set(), "on the screen"
    assert leaks(place, kept(place)) == set(), "in the ledger"
    place.settle()
    place.assert_settled()


@pytest.mark.parametrize("status", [400, 413])
def test_rows_that_are_refused_are_kept_without_what_was_in_them(
    place: Place, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settle_some(place)
    made = place.plan()
    place.watch.instead = echo(status)
    said = ""
    try:
        said = str(place.apply(made, override=("rejects",)).reasons)
    except DestinationError as error:
        # Where setting up is a call of the same kind, that is what is refused.
        said = f"{error} {error!r}"
    assert said
    assert leaks(place, said) == set(), "in the report, or the error"
    assert leaks(place, logged(caplog)) == set(), "in the log"
    assert leaks(place, kept(place)) == set(), "in the ledger"


def settle_some(place: Place) -> None:
    """Have a release at the platform, and another to come of the same people under other names."""
    place.release(persons(*range(6)))
    place.settle()
    people = persons(*range(8))
    for number, one in people.items():
        one.given_name, one.surname = f"Ottoline{number}", f"Featherstone{number}"
    place.release(people)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)
