"""The engine: batches, repeating, halving, withholding and acknowledging, against a platform in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest

from activation.connector import Contact
from activation.engine import DestinationDownError, Engine, Operation, StoppedError, in_batches
from activation.http import RetryPolicy, TryAgainError
from activation.ledger import Ledger, State
from core.errors import DestinationError, LedgerError
from core.home import Home
from core.settings import Settings
from tests.integration.activation.memory import Account, Memory, kind_of, opened

NOW = datetime(2026, 3, 1, tzinfo=UTC)
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.001, longest_wait=0.002)
KIND = kind_of("email", "tags")


@pytest.fixture
def data() -> Account:
    return Account()


@pytest.fixture
def connector(data: Account) -> Memory:
    return opened(KIND, data)


@pytest.fixture
def ledger(home: Home, settings: Settings) -> Iterator[Ledger]:
    with Ledger(home, settings) as made:
        yield made


def create(number: int, **fields: str) -> Operation:
    contact = Contact(f"{number:032x}", f"person{number}@example.com", True, {"NAME": "Ada", **fields})
    return Operation("create", contact, content_hash=number.to_bytes(8, "big"), field_hashes=b"12345")


def tagged(number: int, action: str = "tag_add", tag: str = "mw_a") -> Operation:
    return Operation(action, Contact(f"{number:032x}", f"person{number}@example.com"), tag=tag)


def engine_of(connector: Memory, ledger: Ledger, allowed: Sequence[str] | None = None, **options: object) -> Engine:
    run_id = ledger.begin(connector.target, "hash", ledger.standing(connector.target).revision, 1, [], NOW)
    layout = ledger.layout_id(connector.target, ["NAME"])

    def may_send(row: Operation) -> bool:
        return allowed is None or row.contact.email in allowed

    options = {"retry": IMPATIENT, "layout": layout, "now": lambda: NOW, **options}
    return Engine(connector, ledger, run_id, lambda: may_send, **options)  # type: ignore[arg-type]


def states(ledger: Ledger, connector: Memory) -> dict[int, State]:
    rows = ledger.rows(connector.target).to_pylist()
    return {int(row["key"].hex(), 16): State(row["state"]) for row in rows}


def test_every_row_is_acknowledged_on_its_own_answer(connector: Memory, data: Account, ledger: Ledger) -> None:
    data.rejects = {f"{2:032x}"}
    data.forgets = {f"{5:032x}"}
    engine = engine_of(connector, ledger)
    engine.send(in_batches(map(create, range(1, 8)), connector))
    assert states(ledger, connector) == dict.fromkeys((1, 3, 4, 6, 7), State.SYNCED)
    tally = engine.tally
    assert (tally.acknowledged["create"], tally.rejected, tally.unanswered) == (5, 1, 1)
    assert tally.settled == 7
    assert tally.reasons == {"<address> looks fake": 1}, "the words lose what was sent"
    assert data.calls["write"] == 3 + 2, "the row without an answer was sent twice more"
    assert tally.calls == 5
    letters = ledger.dead_letters(connector.target).to_pylist()
    assert [(letter["action"], int(letter["key"].hex(), 16)) for letter in letters] == [("create", 2)]


def test_a_call_that_is_refused_is_halved_until_the_row_is_found(
    connector: Memory, data: Account, ledger: Ledger
) -> None:
    data.poison = {f"{2:032x}"}
    engine = engine_of(connector, ledger)
    engine.send(in_batches(map(create, range(1, 7)), connector))
    assert set(states(ledger, connector)) == {1, 3, 4, 5, 6}
    assert engine.tally.rejected == 1


def test_a_call_is_repeated_and_consent_asked_again_before_it_is(
    connector: Memory, data: Account, ledger: Ledger
) -> None:
    allowed = [f"person{number}@example.com" for number in range(1, 4)]
    failing = iter([True, False])

    def before(kind: str, contacts: Sequence[Contact]) -> None:
        if next(failing, False):
            allowed.remove("person2@example.com")
            raise TryAgainError("503")

    connector.before = before
    engine = engine_of(connector, ledger, allowed)
    engine.send(in_batches(map(create, range(1, 4)), connector))
    assert set(states(ledger, connector)) == {1, 3}
    assert (engine.tally.withheld, engine.tally.retries) == (1, 1)
    assert f"{2:032x}" not in data.people


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [(17.0, 17.0, 17.0), (0.0, 0.0, 0.0), (86_400.0, 300.0, 300.0), (None, 0.5, 1.0)],
)
def test_the_wait_that_an_answer_asks_for_is_waited_out(
    connector: Memory,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    retry_after: float | None,
    least: float,
    most: float,
) -> None:
    waited: list[float] = []
    calls = iter(range(10))

    def before(kind: str, contacts: Sequence[Contact]) -> None:
        call = next(calls)
        assert len(waited) == call, "not before it has waited"
        if call < 2:
            raise TryAgainError("429", retry_after)

    connector.before = before
    engine = engine_of(connector, ledger, retry=RetryPolicy(longest_retry_after=300.0))
    monkeypatch.setattr(engine, "_stopping", _Waits(waited))
    engine.send(in_batches(map(create, range(1, 3)), connector))
    assert set(states(ledger, connector)) == {1, 2}
    assert len(waited) == 2
    assert least <= waited[0] <= most
    assert least <= waited[1] <= (2 * most if retry_after is None else most)


class _Waits(threading.Event):
    """Notes how long it is waited for, and does not wait."""

    def __init__(self, waited: list[float]) -> None:
        super().__init__()
        self._waited = waited

    def wait(self, timeout: float | None = None) -> bool:
        self._waited.append(timeout or 0.0)
        return self.is_set()


def test_trouble_that_stays_stops_and_what_was_answered_is_kept(connector: Memory, ledger: Ledger) -> None:
    def before(kind: str, contacts: Sequence[Contact]) -> None:
        if any(contact.email == "person9@example.com" for contact in contacts):
            raise TryAgainError("503")

    connector.before = before
    engine = engine_of(connector, ledger)
    with pytest.raises(DestinationDownError, match=r"gave up after 3 attempts \(503\)"):
        engine.send(in_batches(map(create, range(1, 5000)), connector))
    assert {1, 2, 3} <= set(states(ledger, connector)), "batches before it"
    assert 9 not in states(ledger, connector)
    assert len(states(ledger, connector)) < 4900, "and no end of batches after it"


def test_what_a_half_of_a_refused_call_did_is_kept_when_the_other_half_fails(
    connector: Memory, data: Account, ledger: Ledger
) -> None:
    data.poison = {f"{3:032x}"}

    def before(kind: str, contacts: Sequence[Contact]) -> None:
        if [contact.key for contact in contacts] == [f"{2:032x}", f"{3:032x}"]:
            raise TryAgainError("503")

    connector.before = before
    engine = engine_of(connector, ledger)
    with pytest.raises(DestinationDownError):
        engine.send(in_batches(map(create, (1, 2, 3)), connector))
    assert set(states(ledger, connector)) == {1}


def test_too_many_rejects_stop_it_while_a_call_is_halved(connector: Memory, data: Account, ledger: Ledger) -> None:
    data.poison = {f"{number:032x}" for number in range(1, 1000)}
    engine = engine_of(connector, ledger, stop_at=lambda sent, rejected: "too many" if rejected >= 20 else None)
    with pytest.raises(StoppedError, match="too many"):
        engine.send(in_batches(map(create, range(1, 1000)), connector))
    assert data.calls["write"] < 100
    assert 20 <= engine.tally.rejected < 60


def test_what_no_patience_heals_is_not_repeated(connector: Memory, data: Account, ledger: Ledger) -> None:
    def before(kind: str, contacts: Sequence[Contact]) -> None:
        raise DestinationError("401: the key was revoked")

    connector.before = before
    engine = engine_of(connector, ledger)
    with pytest.raises(DestinationError, match="revoked"):
        engine.send(in_batches(map(create, range(1, 50)), connector))
    assert not data.calls


def test_a_ledger_that_cannot_be_written_stops_before_more_is_sent(
    connector: Memory, data: Account, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*said: object) -> None:
        raise LedgerError("disk full")

    engine = engine_of(connector, ledger)
    monkeypatch.setattr(ledger, "acknowledge", full)
    monkeypatch.setattr("activation.engine._GROUP_ROWS", 10)
    with pytest.raises(LedgerError):
        engine.send(in_batches(map(create, range(1, 1000)), connector))
    assert len(data.people) < 100


def test_additions_and_removals_of_a_tag_share_a_call(connector: Memory, data: Account, ledger: Ledger) -> None:
    engine_of(connector, ledger).send(in_batches(map(create, range(1, 8)), connector))
    engine = engine_of(connector, ledger)
    first = [*map(tagged, range(1, 4)), *(tagged(number, "tag_remove") for number in (5, 6))]
    rest = [tagged(4), tagged(7, tag="mw_b")]
    engine.send(in_batches([*first, *rest], connector))
    assert data.calls["tag mw_a"] == 2
    assert data.tags() == {"mw_a": {f"{number:032x}" for number in range(1, 5)}, "mw_b": {f"{7:032x}"}}
    names = ledger.tags(connector.target)
    tags = {int(row["key"].hex(), 16): row["tags"] for row in ledger.rows(connector.target).to_pylist()}
    assert [names[int.from_bytes(tags[number], "big")] for number in (1, 4, 7)] == ["mw_a", "mw_a", "mw_b"]
    assert tags[5] == b""


def test_batches_end_at_the_limit_of_a_body() -> None:
    from activation.platform import Limit

    made = kind_of("email", "tags", batch=1000)
    limits = {"contacts": Limit(1000, body_bytes=2_000)}
    platform = type(made.platform)(**{**vars(made.platform), "limits": limits})
    made.platform = platform
    batches = list(in_batches((create(number, LONG="x" * 300) for number in range(10)), opened(made, Account())))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2, 2]


def test_answers_share_transactions(connector: Memory, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    real = ledger.acknowledge

    def counted(run_id: int, target: str, rows: Sequence[object], at: datetime) -> None:
        written.append(len(rows))
        real(run_id, target, rows, at)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "acknowledge", counted)
    monkeypatch.setattr("activation.engine._GROUP_SECONDS", 60.0)
    engine_of(connector, ledger).send(in_batches(map(create, range(1, 301)), connector))
    assert written == [300], "of a hundred calls"


def test_no_more_calls_at_once_than_the_platform_allows(connector: Memory, ledger: Ledger) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def before(kind: str, contacts: Sequence[Contact]) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)

    def after(kind: str, contacts: Sequence[Contact]) -> None:
        nonlocal running
        threading.Event().wait(0.002)
        with lock:
            running -= 1

    connector.before, connector.after = before, after
    engine_of(connector, ledger).send(in_batches(map(create, range(1, 60)), connector))
    assert most == connector.platform.connections
