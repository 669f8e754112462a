"""Train, promote, score, watch and report, with a model small enough to see through, on a real registry."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from core.home import Home
from core.settings import Settings
from ml import drift, reports, verbs
from ml.model import Contest, Evaluation, Finding, FollowUp, Refused, Scored, Table, Trained
from ml.registry import Registry, label_of
from ml.scores import scores_of, state_path

AS_OF = datetime(2011, 12, 10)
WELL = Contest("AUC", 0.8, 0.7, 0.05, 0.15)
POOR = Contest("AUC", 0.71, 0.7, -0.02, 0.04)
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Means:
    """Scores everybody with the mean that it learned."""

    baseline_contest: Contest = WELL
    champion_contest: Contest = WELL
    refusal: str | None = None
    fault: Exception | None = None
    later_fault: Exception | None = None
    finding: Finding | None = None
    seen: list[Any] = field(default_factory=list)

    name: str = "means"
    question: str = "What is the mean?"
    baseline: str = "nothing"
    features: Sequence[str] = ("age_days",)
    reads: Sequence[str] = ("features.feat_customers",)

    @property
    def checks(self) -> Mapping[str, str]:
        return {"coverage": "Everybody is scored."}

    def train(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Trained:
        self._fail()
        frame = _frame(connection)

        def against(estimator: Any) -> Contest:
            self.seen.append(estimator)
            if self.later_fault:
                raise self.later_fault
            return self.champion_contest

        return Trained(
            label_of(as_of, ["mean"], frame),
            ("age_days",),
            {"mean": float(frame["age_days"].mean())},
            Evaluation(
                "2011-06-10", len(frame), self.baseline_contest, {"auc": self.baseline_contest.model},
                {"a table": Table(("what", "how many"), (("customers", len(frame)),))}, {"a picture": PNG},
            ),
            against,
            drift.reference_of(frame, ["age_days"]),
        )  # fmt: skip

    def score(self, estimator: Any, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Scored:
        self._fail()
        frame = _frame(connection)
        scores = pd.Series(estimator["mean"], index=frame.index).to_numpy()
        return Scored({"scores": scores_of(frame["customer_id"].tolist(), scores)}, frame)

    def follow_up(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> FollowUp:
        if self.later_fault:
            raise self.later_fault
        return FollowUp((self.finding,) if self.finding else ())

    def _fail(self) -> None:
        if self.refusal:
            raise Refused(self.refusal)
        if self.fault:
            raise self.fault


def _frame(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    return connection.execute("select customer_id, age_days from customers order by customer_id").df()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = Home.create(tmp_path_factory.mktemp("verbs") / "home", "UTC", "GBP")
    Registry(Settings(home=home.root), home)
    return home.root


@pytest.fixture
def home(empty: Path, tmp_path: Path) -> Home:
    shutil.copytree(empty, tmp_path / "home")
    return Home.open(tmp_path / "home")


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(Settings(home=home.root), home)


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("create schema marts")
    connection.execute("create table marts.dim_as_ofs (as_of timestamp, as_of_on date, is_current boolean)")
    connection.execute("create table marts.customer_permissions (customer_id varchar, may_be_profiled boolean)")
    connection.execute(
        "create table customers as select 'c' || lpad(number::varchar, 3, '0') as customer_id, number::double as age_days"
        " from range(300) as customers (number)"
    )
    connection.execute("insert into marts.customer_permissions select customer_id, true from customers")
    at(connection, AS_OF)
    return connection


def at(connection: duckdb.DuckDBPyConnection, as_of: datetime) -> None:
    connection.execute("delete from marts.dim_as_ofs")
    connection.execute("insert into marts.dim_as_ofs values ($1, $1, true)", [as_of])


def older(connection: duckdb.DuckDBPyConnection) -> None:
    """Everybody is a year older, a day later."""
    connection.execute("update customers set age_days = age_days + 365")
    at(connection, AS_OF + timedelta(days=1))


def test_the_first_that_earns_its_place_scores_and_each_row_says_which(
    home: Home, registry: Registry, connection: duckdb.DuckDBPyConnection
) -> None:
    training = verbs.train(Means(), connection, registry)
    assert training.version is not None
    assert training.version.role == "champion"
    assert "there is no champion yet" in training.decision.reason
    scoring = verbs.score(Means(), connection, home, registry)
    written = pq.read_table(state_path(home, "scores", "means", AS_OF)).to_pydict()
    assert set(written["model"]) == {"means"}
    assert set(written["model_version"]) == {training.version.label}
    assert set(written["as_of"]) == {AS_OF}
    assert written["customer_id"] == [f"c{number:03}" for number in range(300)]
    assert set(written["score"]) == {149.5}
    findings = {finding.check: finding for finding in verbs.findings_of(Means(), scoring)}
    assert list(findings) == ["scored", "drift", "coverage"]
    assert all(finding.passed for finding in findings.values())


def test_a_refresh_that_is_repeated_writes_the_same_bytes_and_no_further_version(
    home: Home, registry: Registry, connection: duckdb.DuckDBPyConnection
) -> None:
    path = state_path(home, "scores", "means", AS_OF)
    contents = []
    for _ in range(2):
        verbs.train(Means(), connection, registry)
        verbs.score(Means(), connection, home, registry)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert len(registry.versions("means")) == 1


@pytest.mark.parametrize(
    ("baseline", "champion", "promoted", "said"),
    [
        (WELL, WELL, True, "beats the champion and the baseline"),
        (WELL, POOR, False, "does not beat the champion beyond noise"),
        (POOR, WELL, False, "does not beat the baseline beyond noise"),
    ],
)
def test_a_challenger_has_to_beat_both(
    registry: Registry,
    connection: duckdb.DuckDBPyConnection,
    baseline: Contest,
    champion: Contest,
    promoted: bool,
    said: str,
) -> None:
    verbs.train(Means(), connection, registry)
    older(connection)
    challenger = Means(baseline_contest=baseline, champion_contest=champion)
    training = verbs.train(challenger, connection, registry)
    assert challenger.seen == [{"mean": 149.5}]
    assert said in training.decision.reason
    assert training.version is not None
    assert training.version.role == ("champion" if promoted else "challenger")
    holding = registry.holding("means", "champion")
    assert holding is not None
    assert holding.number == (2 if promoted else 1)


def test_a_champion_that_cannot_be_read_gives_way_and_its_scores_stay_with_their_age(
    home: Home, registry: Registry, connection: duckdb.DuckDBPyConnection
) -> None:
    champion = verbs.train(Means(), connection, registry).version
    assert champion is not None
    verbs.score(Means(), connection, home, registry)
    before = state_path(home, "scores", "means", AS_OF).read_bytes()
    registry.file(champion, "estimator.joblib").write_bytes(b"cut off")
    older(connection)
    scoring = verbs.score(Means(), connection, home, registry)
    assert scoring.scored is None
    assert scoring.reason is not None
    assert "was changed since it was written" in scoring.reason
    assert scoring.reason.endswith("the scores of 2011-12-10 stay, 1 day old")
    assert state_path(home, "scores", "means", AS_OF).read_bytes() == before
    assert not state_path(home, "scores", "means", AS_OF + timedelta(days=1)).exists()
    assert [finding.passed for finding in verbs.findings_of(Means(), scoring)] == [False, True, True]
    training = verbs.train(Means(), connection, registry)
    assert training.decision.promote
    assert "the champion can't be used" in training.decision.reason


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Means(refusal="20 customers; means need 100"), "20 customers; means need 100"),
        (
            Means(fault=FloatingPointError("of c001")),
            "it failed with FloatingPointError, which is a fault of the program",
        ),
    ],
)
def test_what_is_refused_or_fails_keeps_the_last_scores_and_names_nobody(
    home: Home, registry: Registry, connection: duckdb.DuckDBPyConnection, model: Means, said: str
) -> None:
    verbs.train(Means(), connection, registry)
    verbs.score(Means(), connection, home, registry)
    older(connection)
    training = verbs.train(model, connection, registry)
    assert training.version is None
    assert training.decision.reason == f"not trained: {said}" or said in training.decision.reason
    scoring = verbs.score(model, connection, home, registry)
    assert scoring.reason is not None
    assert said in scoring.reason
    assert "1 day old" in scoring.reason
    assert "c001" not in training.decision.reason + scoring.reason


def test_nobody_who_may_be_profiled_is_no_training_and_no_score(
    home: Home, registry: Registry, connection: duckdb.DuckDBPyConnection
) -> None:
    connection.execute("update marts.customer_permissions set may_be_profiled = false")
    assert "may be profiled" in verbs.train(Means(), connection, registry).decision.reason
    scoring = verbs.score(Means(), connection, home, registry)
    assert scoring.scored is None
    assert scoring.reason is not None
    assert "may be profiled" in scoring.reason
    assert not (home.state / "scores").exists()


def test_what_lies_far_from_training_is_told(
    home: Home, registry: Registry, connection: duckdb.DuckDBPyConnection
) -> None:
    verbs.train(Means(), connection, registry)
    older(connection)
    scoring = verbs.score(Means(), connection, home, registry)
    found = next(finding for finding in verbs.findings_of(Means(), scoring) if finding.check == "drift")
    assert not found.passed
    assert found.said.startswith("1 of 1 columns shifted since training: age_days")


def test_earlier_scores_are_judged_once_they_can_be_read(
    home: Home, registry: Registry, connection: duckdb.DuckDBPyConnection
) -> None:
    model = Means(finding=Finding("coverage", False, "half of them"))
    verbs.train(model, connection, registry)
    scoring = verbs.score(model, connection, home, registry)
    assert [finding.passed for finding in verbs.watch(model, connection, scoring)[0]] == [True, True, True]
    connection.execute("create schema staging")
    connection.execute("create table staging.stg_ml__scores (model varchar)")
    findings, _ = verbs.watch(model, connection, scoring)
    assert model.finding in findings


def test_a_fault_in_judging_earlier_scores_or_the_champion_stops_nothing(
    home: Home, registry: Registry, connection: duckdb.DuckDBPyConnection
) -> None:
    verbs.train(Means(), connection, registry)
    older(connection)
    faulty = Means(later_fault=FloatingPointError("of c001"))
    training = verbs.train(faulty, connection, registry)
    assert training.decision.reason.startswith("not compared with the champion: it failed with FloatingPointError")
    assert training.version is not None
    assert training.version.role == "challenger"
    connection.execute("create schema staging")
    connection.execute("create table staging.stg_ml__scores (model varchar)")
    scoring = verbs.score(faulty, connection, home, registry)
    findings, _ = verbs.watch(faulty, connection, scoring)
    assert [finding.check for finding in findings] == ["scored", "drift", "coverage"]


def test_the_report_shows_champion_and_challenger_with_tables_pictures_and_what_is_watched(
    home: Home, registry: Registry, connection: duckdb.DuckDBPyConnection
) -> None:
    verbs.train(Means(), connection, registry)
    older(connection)
    training = verbs.train(Means(champion_contest=POOR), connection, registry)
    scoring = verbs.score(Means(), connection, home, registry)
    findings, followed = verbs.watch(Means(), connection, scoring)
    report = reports.write(
        home, Means(), registry, training=training, scoring=scoring, followed=followed, findings=findings
    )
    text = report.path.read_text()
    for said in (
        "What is the mean?",
        "Version 1, champion, judged on 2011-06-10",
        "Version 2, challenger, judged on 2011-06-10",
        "does not beat the champion beyond noise",
        "a table",
        "a picture",
        "1 of 1 columns shifted since training",
        "AUC 0.800",
    ):
        assert said in text, said
    assert report.pictures == {"a picture": PNG}
