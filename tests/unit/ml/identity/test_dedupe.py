"""The tool: files in, files out, whatever is in them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest

from core.errors import MailwrightError
from core.settings import Settings
from ml.identity import model
from ml.identity.comparisons import compare
from ml.identity.dedupe import DedupeReport, dedupe
from ml.identity.keys import prepare
from ml.identity.linking import score
from ml.identity.model import IdentityModel, Pairs, train

HEADER = "id,first,last,born,mail,town"
PEOPLE = [
    ("a1", "Anne", "Miller", "1980-04-03", "anne.miller12@example.com", "Bath"),
    ("a2", "ANNE", "Miler", "03.04.1980", "", "Bath"),
    ("b1", "Peter", "Stone", "1951-12-30", "peter@example.com", "York"),
    ("c1", "Zoë", "Şahin", "1999-01-31", "zoe.s@example.org", ""),
    ("c2", "Zoe", "Sahin", "1999-01-31", "ZOE.S@example.org", "Hull"),
]
COLUMNS = {"given_name": ["first"], "surname": ["last"], "date_of_birth": ["born"], "email": ["mail"], "city": ["town"]}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings(memory_limit="1GB", threads=2)


def crowd(persons: int) -> list[tuple[str, ...]]:
    """Rows of many persons with two records each, the second one with a slip or less known."""
    rng = np.random.default_rng(3)
    firsts = ["Anne", "Peter", "Zoe", "Mary", "John", "Paul", "Ruth", "Karl", "Emma", "Hugo", "Lena", "Omar"]
    lasts = [
        "Miller",
        "Stone",
        "Sahin",
        "Baker",
        "Young",
        "Price",
        "Grant",
        "Walsh",
        "Doyle",
        "Frost",
        "Nolan",
        "Perry",
    ]
    towns = ["Bath", "York", "Hull", "Leeds", "Derby", "Truro"]
    rows: list[tuple[str, ...]] = []
    for person in range(persons):
        first, last = str(rng.choice(firsts)), str(rng.choice(lasts))
        born = f"{rng.integers(1930, 2000)}-{rng.integers(1, 13):02}-{rng.integers(1, 29):02}"
        mail, town = f"{first.lower()}.{last.lower()}{person}@example.com", str(rng.choice(towns))
        rows.append((f"p{person}-0", first, last, born, mail, town))
        rows.append((f"p{person}-1", first, last[:-2] + last[-1], born, mail if person % 2 else "", town))
    return rows


def write(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> Path:
    lines = [HEADER.replace(",", delimiter), *(delimiter.join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def customers(path: Path) -> dict[str, str]:
    rows = duckdb.execute(f"select id::varchar, customer_id from '{path}'").fetchall()
    assert len(rows) == len(dict(rows))
    return dict(rows)


def run(folder: Path, rows: Sequence[Sequence[str]], settings: Settings, name: str = "out.csv") -> DedupeReport:
    return dedupe(write(folder / "in.csv", rows), folder / name, id_column="id", columns=COLUMNS, settings=settings)


def test_people_are_found(tmp_path: Path, settings: Settings) -> None:
    report = run(tmp_path, crowd(150), settings)
    found = customers(tmp_path / "out.csv")
    assert report.records == len(found) == 300
    together = sum(found[f"p{person}-0"] == found[f"p{person}-1"] for person in range(150))
    assert together >= 147
    assert report.customers >= 150
    assert report.merged >= 2 * together
    assert set(report.columns) == {"given_name", "surname", "date_of_birth", "email", "city"}
    assert report.rules
    assert {"read", "prepare", "train", "score", "resolve", "write"} == set(report.seconds)


def test_the_order_of_rows_does_not_matter(tmp_path: Path, settings: Settings) -> None:
    rows = crowd(60)
    run(tmp_path, rows, settings, "one.csv")
    run(tmp_path, rows[::-1], settings, "two.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_tiny_files(tmp_path: Path, settings: Settings, count: int) -> None:
    report = run(tmp_path, PEOPLE[:count], settings)
    assert report.records == count
    assert set(customers(tmp_path / "out.csv")) == {row[0] for row in PEOPLE[:count]}


def test_equal_records_of_two_are_one_person(tmp_path: Path, settings: Settings) -> None:
    run(tmp_path, PEOPLE, settings)
    found = customers(tmp_path / "out.csv")
    assert found["c1"] == found["c2"]
    assert found["b1"] == "b1"


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_any_delimiter(tmp_path: Path, settings: Settings, delimiter: str) -> None:
    file = write(tmp_path / "in.txt", PEOPLE, delimiter)
    assert dedupe(file, tmp_path / "out.csv", id_column="id", columns=COLUMNS, settings=settings).records == 5


def test_parquet_in_and_out(tmp_path: Path, settings: Settings) -> None:
    write(tmp_path / "in.csv", PEOPLE)
    duckdb.execute(f"copy (select * from '{tmp_path}/in.csv') to '{tmp_path}/in.parquet'")
    dedupe(tmp_path / "in.parquet", tmp_path / "out.parquet", id_column="id", columns=COLUMNS, settings=settings)
    described = duckdb.execute(f"describe from '{tmp_path}/out.parquet'").fetchall()
    assert [row[0] for row in described] == ["id", "customer_id", "probability"]


def test_columns_that_are_all_empty_or_equal_do_no_harm(tmp_path: Path, settings: Settings) -> None:
    rows = [(row[0], row[1], "", "unknown", "n/a", "Bath") for row in crowd(20)]
    assert run(tmp_path, rows, settings).records == 40
    nothing = [(row[0], "", "", "", "", "") for row in crowd(5)]
    assert run(tmp_path, nothing, settings).customers == 10


@pytest.mark.parametrize("column", sorted(COLUMNS))
def test_one_column_alone(tmp_path: Path, settings: Settings, column: str) -> None:
    file = write(tmp_path / "in.csv", crowd(30))
    report = dedupe(file, tmp_path / "out.csv", id_column="id", columns={column: COLUMNS[column]}, settings=settings)
    assert report.records == 60


def test_errors_are_clear_and_leave_the_old_result(tmp_path: Path, settings: Settings) -> None:
    out = tmp_path / "out.csv"
    out.write_text("as it was")
    file = write(tmp_path / "in.csv", [*PEOPLE, PEOPLE[0]])
    with pytest.raises(MailwrightError, match="repeated"):
        dedupe(file, out, id_column="id", columns=COLUMNS, settings=settings)
    with pytest.raises(MailwrightError, match=r"no column name.*id, first, last"):
        dedupe(file, out, id_column="id", columns={"full_name": ["name"]}, settings=settings)
    with pytest.raises(MailwrightError, match="no file"):
        dedupe(tmp_path / "other.csv", out, id_column="id", columns=COLUMNS, settings=settings)
    with pytest.raises(MailwrightError, match=r"\.csv or \.parquet"):
        dedupe(file, tmp_path / "out.xlsx", id_column="id", columns=COLUMNS, settings=settings)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(MailwrightError, match="can't be read as Parquet"):
        dedupe(tmp_path / "broken.parquet", out, id_column="id", columns=COLUMNS, settings=settings)
    assert out.read_text() == "as it was"
    assert not list(tmp_path.glob(".*.tmp"))


def test_nothing_is_printed_and_no_value_logged(
    tmp_path: Path, settings: Settings, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        run(tmp_path, crowd(40), settings)
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""
    assert "miller" not in caplog.text.lower()
    assert logging.getLogger("splink").disabled is False


def test_a_model_is_kept_as_json_without_values_and_scores_new_records_alike(settings: Settings) -> None:
    with duckdb.connect() as connection:
        rows = crowd(120)
        connection.execute(
            "create table raw (id varchar, first varchar, last varchar, born varchar, mail varchar, town varchar)"
        )
        connection.executemany("insert into raw values (?, ?, ?, ?, ?, ?)", [list(row) for row in rows])
        prepared = prepare(connection, "raw", id_column="id", columns=COLUMNS, out="prepared")
        trained = train(connection, prepared)
        text = trained.to_json()
        assert "miller" not in text.lower()
        kept = IdentityModel.from_json(text)
        assert kept.to_json() == text
        assert train(connection, prepared).to_json() == text
        score(connection, prepared, kept, out="links")
        connection.execute("create table new as select record_id from prepared where record_id like 'p1_-%'")
        score(connection, prepared, kept, new="new", out="new_links")
        concerned = "record_l in (from new) or record_r in (from new)"
        expected = connection.execute(f"select * from links where {concerned} order by record_l, record_r").fetchall()
        assert expected
        assert connection.execute("select * from new_links order by record_l, record_r").fetchall() == expected
        assert connection.execute("select count(*) from links where record_l >= record_r").fetchall() == [(0,)]
        assert connection.execute(
            "select bool_and(list_contains(agreed, 'email')) from links where match_weight > 30"
        ).fetchall()
        [(databases,)] = connection.execute(
            "select count(*) from duckdb_databases() where database_name = 'identity_work'"
        ).fetchall()
        assert databases == 0


def test_fit_finds_known_parameters() -> None:
    rng = np.random.default_rng(5)
    chosen = compare(["gender", "occupation", "phone"])
    matches, others = 4_000, 36_000
    is_match = np.arange(matches + others) < matches
    gender = np.where(rng.random(len(is_match)) < np.where(is_match, 0.97, 0.5), 1, 2)
    occupation = np.array(
        [rng.choice([1, 2, 3], p=[0.7, 0.1, 0.2] if match else [0.01, 0.01, 0.98]) for match in is_match]
    )
    phone = np.array(
        [rng.choice([1, 2, 3], p=[0.6, 0.1, 0.3] if match else [0.005, 0.005, 0.99]) for match in is_match]
    )
    by_name = {"gender": gender, "occupation": occupation, "phone": phone}
    names = [comparison.name for comparison in chosen]
    levels = np.column_stack([by_name[name] for name in names]).astype(np.int8)
    place = names.index("occupation")
    rarity = {
        names.index(name): np.where(by_name[name] == 1, np.float32(-np.log2(u)), np.float32(0))
        for name, u in (("occupation", 0.01), ("phone", 0.005))
    }
    records = 284  # 40,186 pairs
    counts = [[float((by_name[name] == level).sum()) for level in range(1, 3 + (name != "gender"))] for name in names]
    fitted = model.fit(chosen, Pairs(levels, rarity, 1.0), counts, records=records)
    assert fitted.prior == pytest.approx(0.1, abs=0.02)
    assert fitted.m[place] == pytest.approx([0.7, 0.1, 0.2], abs=0.06)
    assert fitted.u[place] == pytest.approx([0.01, 0.01, 0.98], abs=0.01)


def test_what_hardly_any_record_holds_says_what_its_default_says() -> None:
    """Two records alone have a phone, and it is the same: that is no proof that all phones are."""
    chosen = compare(["surname", "phone"])
    phone = [comparison.name for comparison in chosen].index("phone")
    levels = np.zeros((400, 2), dtype=np.int8)
    levels[:, 1 - phone] = len(chosen[1 - phone].levels)
    levels[0] = 1
    drawn = [[0.0] * len(comparison.levels) for comparison in chosen]
    drawn[1 - phone][0], drawn[1 - phone][-1] = 2.0, 79_798.0
    drawn[phone][0] = 1.0
    rarity = {1 - phone: np.where(levels[:, 1 - phone] == 1, np.float32(30), np.float32(0))}
    fitted = model.fit(chosen, Pairs(levels, rarity, 1.0), drawn, records=400)
    assert fitted.u[phone][0] < 0.01
    assert np.log2(fitted.m[phone][0] / fitted.u[phone][0]) > 4


def test_the_expected_precision_and_recall_are_those_of_the_probabilities() -> None:
    weights = np.array([10.0, 3.0, -1.0])
    probabilities = 1 / (1 + np.exp2(-weights))
    precision, recall = model.expected(probabilities, weights)
    assert precision == pytest.approx(probabilities[:2].mean())
    assert recall == pytest.approx(probabilities[:2].sum() / probabilities.sum())
