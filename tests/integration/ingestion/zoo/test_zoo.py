"""Every animal of the zoo ends as it must, alone and all of them in one home."""

from __future__ import annotations

import pytest

from core.contract import load_contract
from ingestion import manifest
from tests.integration.ingestion.conftest import Lake
from tests.integration.ingestion.zoo.animals import ANIMALS, CANARY, Animal

# What is handed over beside an animal, and must be taken in whatever the animal does.
COMPANIONS = {
    "shop": ("exchange_rates", "rate_on,from_currency,to_currency,rate\n2011-12-01,EUR,GBP,0.85\n"),
    "crm": ("consents", "channel,purpose,state,captured_at\nemail,marketing,granted,2011-12-01\n"),
    "web": (None, ""),
    "pos": (None, ""),
    "third_party": (None, ""),
}


def hand_over(lake: Lake, animal: Animal, said: list[str]):
    """Deliver an animal with its companion; the reports of both."""
    source, _, table = animal.table.partition(".")
    companion, content = COMPANIONS[source]
    files = {table: [animal.put(lake.inbox)]}
    if companion:
        files[companion] = [lake.write(f"companion-{len(manifest.read(lake.home))}.csv", content + "\n" * len(said))]
    reports = lake.load(source, files, progress=said.append).tables
    return reports[0], reports[1] if companion else None


@pytest.mark.parametrize("animal", ANIMALS, ids=lambda animal: animal.name)
def test_animal(lake, animal: Animal):
    said: list[str] = []
    source, _, table = animal.table.partition(".")

    report, companion = hand_over(lake, animal, said)

    if companion is not None:
        assert (companion.error, companion.accepted) == (None, 1), "the other tables of the hand-over go on"
    if animal.error:
        assert report.error is not None
        assert [words for words in animal.error if words not in report.error] == [], report.error
        assert lake.counts(source, table) == []
        assert not list(lake.home.raw(source, table).glob("*"))
    else:
        assert report.error is None
        told = (report.rows_read, report.accepted, report.superseded, report.rejected)
        expected = animal.accepted + animal.superseded + animal.rejected
        assert told == (expected, animal.accepted, animal.superseded, animal.rejected), report.notices
        reasons = [reason for (reason,) in lake.quarantined(source, table, "reason")]
        assert len(reasons) == len(animal.reasons)
        assert [reason for words, reason in zip(animal.reasons, reasons, strict=True) if words not in reason] == []
        for words in animal.notices:
            assert words in "\n".join(report.notices)
        if animal.keeps:
            query, rows = animal.keeps
            assert lake.query(source, table, query) == rows
        messages = [*reasons, *report.notices]
        assert CANARY not in "\n".join(messages)
    assert CANARY not in "\n".join([*said, report.describe(), *report.notices])


def test_names_of_animals_are_unique_and_their_tables_known():
    assert len({animal.name for animal in ANIMALS}) == len(ANIMALS) >= 50
    assert {animal.table for animal in ANIMALS} <= {table.full_name for table in load_contract().tables.values()}
