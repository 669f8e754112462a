"""Counting records without parsing them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion import delimited


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"a,b\n1,2\n", 2),
        (b"a,b\r\n1,2", 2),
        (b'a,b\n"1\n2",3\n', 2),
        (b'a,b\n"x ""y""\n",3\n', 2),
        (b'a,b\n"1,2\n', None),
        (b"", 0),
    ],
    ids=["plain", "no last line break", "quoted line break", "doubled quotes", "never closed", "nothing"],
)
def test_count_records(tmp_path, content, records):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    assert delimited.count_records(path) == records


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(st.text('a",\n;', max_size=4), min_size=2, max_size=2), min_size=1))
def test_count_records_agrees_with_the_writer_whatever_the_chunks(tmp_path: Path, monkeypatch, chunk, rows):
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path = tmp_path / "x.csv"
    path.write_text(text.getvalue(), newline="")
    monkeypatch.setattr(delimited, "CHUNK", chunk)
    assert delimited.count_records(path) == len(rows)
