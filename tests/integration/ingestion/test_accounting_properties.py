"""rows read = accepted + superseded + rejected, whatever is delivered in whatever order."""

from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import manifest
from tests.integration.ingestion.conftest import make_lake

LINE_COLUMNS = ["order_id", "product_id", "quantity", "unit_price", "customer_ref"]
LINE = st.tuples(
    st.sampled_from(["O1", "O2", "O3", "O4", ""]),
    st.sampled_from(["P", " p,q ", 'a "quoted"\nname', ""]),
    st.sampled_from(["1", "-2", "x"]),
    st.sampled_from(["2.50", "0", "abc", "1,5"]),
    st.sampled_from(["", "17", "18"]),
)
EVENT_COLUMNS = ["event_id", "event_type", "occurred_at"]
EVENT = st.tuples(
    st.sampled_from(["a", "b", "c", "d", ""]),
    st.sampled_from(["track", "PAGE", "other"]),
    st.sampled_from(["2011-12-01 10:00", "31/02/2011", "31/01/2011", ""]),
)
BROKEN = st.sampled_from(["", "one", 'x,"y"z', "1,2,3,4,5,6,7"])


def deliveries(row: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Deliveries of one or two files; a file is rows, and now and then a line that is no row of the header's width."""
    file = st.tuples(st.lists(row, max_size=7), st.lists(BROKEN, max_size=1))
    return st.lists(st.lists(file, min_size=1, max_size=2), min_size=1, max_size=4)


def as_csv(columns: list[str], rows: list[tuple[str, ...]], broken: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue() + "".join(f"{line}\n" for line in broken)


def is_plain(value: str) -> bool:
    return value.lstrip("-").replace(".", "", 1).isdigit()


def good_lines(delivery: list[Any]) -> list[str]:
    """Orders of the lines that should be accepted, by an independent reading of the rules."""
    rows = [row for rows, _ in delivery for row in rows]
    refs: dict[str, set[str]] = {}
    for order, *_, ref in rows:
        refs.setdefault(order, set()).update({ref} - {""})
    return [o for o, p, q, u, _ in rows if o and p and is_plain(q) and is_plain(u) and len(refs[o]) < 2]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(handed_over=deliveries(LINE))
def test_order_lines_add_up(handed_over):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        lake = make_lake(Path(folder), monkeypatch)
        seen: set[str] = set()
        standing: list[Counter[str]] = []
        read = []
        for number, delivery in enumerate(handed_over):
            texts = [as_csv(LINE_COLUMNS, *file) for file in delivery]
            fresh = [n for n, text in enumerate(texts) if text not in seen and text not in texts[:n]]
            seen |= set(texts)
            lake.load("shop", {"order_lines": [lake.write(f"{number}-{n}.csv", text) for n, text in enumerate(texts)]})
            if fresh:
                taken = [delivery[n] for n in fresh]
                standing.append(Counter(good_lines(taken)))
                read.append(sum(len(rows) + sum(map(bool, broken)) for rows, broken in taken))
        rows = manifest.read(lake.home)
        assert [row.rows_read for row in rows] == read
        for position, (row, orders) in enumerate(zip(rows, standing, strict=True)):
            later = set().union(*standing[position + 1 :])
            assert row.rows_accepted == sum(count for order, count in orders.items() if order not in later)
            assert row.rows_accepted + row.rows_superseded == orders.total()
            assert row.rows_rejected == row.rows_read - orders.total()


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(handed_over=deliveries(EVENT))
def test_events_add_up(handed_over):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        lake = make_lake(Path(folder), monkeypatch)
        seen: set[str] = set()
        told: set[str] = set()
        expected = []
        for number, delivery in enumerate(handed_over):
            texts = [as_csv(EVENT_COLUMNS, *file) for file in delivery]
            fresh = [n for n, text in enumerate(texts) if text not in seen and text not in texts[:n]]
            seen |= set(texts)
            lake.load("web", {"events": [lake.write(f"{number}-{n}.csv", text) for n, text in enumerate(texts)]})
            if fresh:
                rows = [row for n in fresh for row in delivery[n][0]]
                good = [e for e, kind, at in rows if e and kind != "other" and at and at != "31/02/2011"]
                new = set(good) - told
                told |= new
                read = len(rows) + sum(bool(line) for n in fresh for line in delivery[n][1])
                expected.append((read, len(new), len(good) - len(new), read - len(good)))
        assert lake.counts("web", "events") == expected
