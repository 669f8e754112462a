from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import pytest

from core.home import Home
from ml.identity import store
from ml.identity.model import IdentityModel
from ml.identity.store import Run, StoredModel

DAY = datetime(2026, 1, 1)


@pytest.fixture
def home(tmp_path):
    return Home.create(tmp_path / "home with 'quotes'", "Europe/London", "GBP", DAY.replace(tzinfo=UTC))


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        yield opened


def model(threshold: float = 1.5) -> IdentityModel:
    return IdentityModel(("email",), {"comparisons": []}, (), (), {}, threshold)


def write(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    run: int,
    *,
    records: str = "",
    links: str = "",
    assignments: str = "",
    trained: StoredModel | None = None,
) -> None:
    """A run from rows as SQL values."""
    kinds = {
        "records": ("(identifier_id, content_hash, ties_hash, content_run)", records, "0, '', '', 0"),
        "links": ("(record_l, record_r, match_weight, match_probability, agreed)", links, "0, 0, 0, 0, ['']"),
        "assignments": ("(identifier_id, customer_id)", assignments, "0, ''"),
    }
    for kind, (columns, values, empty) in kinds.items():
        rows = f"values {values}" if values else f"select {empty} where false"
        connection.execute(f"create or replace table {kind} as select * from ({rows}) as given {columns}")
    store.write(connection, home, Run(run, DAY), {kind: kind for kind in kinds}, trained)


def test_what_was_written_is_read_the_newest_first(connection, home):
    assert store.newest(home) is None
    write(connection, home, 1, records="(1, 'a', '', 1), (2, 'b', '', 1)", assignments="(1, 'x'), (2, 'x')")
    write(connection, home, 2, records="(2, 'c', 't', 2)", assignments="(2, 'y')")

    store.read_assignments(connection, home, out="assigned")
    store.read_records(connection, home, out="known")

    assert store.newest(home) == Run(2, DAY)
    assert connection.execute("from assigned order by all").fetchall() == [(1, "x"), (2, "y")]
    assert connection.execute("from known order by all").fetchall() == [(1, "a", "", 1), (2, "c", "t", 2)]


def test_a_record_that_is_gone_is_told_by_its_newest_row(connection, home):
    write(connection, home, 1, records="(1, 'a', '', 1)")
    write(connection, home, 2, records="(1, null, null, 2)")

    store.read_records(connection, home, out="known")

    assert connection.execute("from known").fetchall() == [(1, None, None, 2)]


def test_an_empty_home_reads_as_empty_tables(connection, home):
    store.read_assignments(connection, home, out="assigned")
    store.read_records(connection, home, out="known")
    store.read_links(connection, home, records="known", out="linked")

    for table in ("assigned", "known", "linked"):
        assert connection.execute(f"select count(*) from {table}").fetchall() == [(0,)]
    assert store.read_model(home) is None


def test_links_are_in_force_until_a_record_changes_or_goes_or_another_model_comes(connection, home):
    four = "(1, 'a', '', 1), (2, 'b', '', 1), (3, 'c', '', 1), (4, 'd', '', 1)"
    links = "(1, 2, 5.0, 0.9, ['email']), (2, 3, 6.0, 0.9, []), (1, 4, 7.0, 0.9, [])"

    def in_force() -> list[tuple[int, int, float]]:
        store.read_records(connection, home, out="known")
        store.read_links(connection, home, records="known", out="linked")
        return connection.execute("select record_l, record_r, match_weight from linked order by all").fetchall()

    write(connection, home, 1, records=four, links=links, trained=StoredModel(1, 4, model()))
    assert in_force() == [(1, 2, 5.0), (1, 4, 7.0), (2, 3, 6.0)]

    # Record 3 changes and is scored anew, 4 goes; 1 has other ties, which says nothing about its pairs.
    write(
        connection,
        home,
        2,
        records="(3, 'x', '', 2), (4, null, null, 2), (1, 'a', 'tie', 1)",
        links="(2, 3, 1.0, 0.5, [])",
    )
    assert in_force() == [(1, 2, 5.0), (2, 3, 1.0)]

    write(connection, home, 3, links="(1, 2, 9.0, 1.0, [])", trained=StoredModel(3, 4, model(2.5)))
    assert in_force() == [(1, 2, 9.0)]


def test_a_model_comes_back_as_it_was(connection, home):
    trained = StoredModel(1, 123, model())
    write(connection, home, 1, trained=trained)
    write(connection, home, 2)

    assert store.read_model(home) == trained


def test_a_run_without_assignments_never_happened(connection, home):
    write(connection, home, 1, records="(1, 'a', '', 1)", assignments="(1, 'x')")
    write(connection, home, 2, records="(1, 'b', '', 2)", trained=StoredModel(2, 9, model()))
    (home.identity / "assignments" / "000002.parquet").unlink()

    assert store.newest(home) == Run(1, DAY)
    assert store.read_model(home) is None
    store.read_records(connection, home, out="known")
    assert connection.execute("from known").fetchall() == [(1, "a", "", 1)]

    store.forget_unfinished(home)
    assert sorted(path.relative_to(home.identity).as_posix() for path in home.identity.rglob("*.*")) == [
        "assignments/000001.parquet",
        "records/000001.parquet",
    ]
