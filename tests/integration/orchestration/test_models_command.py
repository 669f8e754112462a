"""`mailwright models` on a real registry, and its page on MLflow's own server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from core.home import Home
from core.settings import PROJECT_ROOT, Settings
from ml.registry import Card, Registry, libraries
from orchestration.cli import app

AS_OF = datetime(2011, 12, 10)


def evaluation(auc: float, reason: str) -> dict[str, object]:
    return {
        "judged_on": "2011-06-06", "rows": 4_000, "metric": "AUC", "model": auc, "baseline": 0.657, "gain_low": 0.08,
        "gain_high": 0.14, "promoted": True, "reason": reason, "figures": {"auc": auc, "ece": 0.02}, "tables": {}, "pictures": [],
    }  # fmt: skip


def card(label: str, auc: float, reason: str) -> Card:
    return Card("churn_180", label, AS_OF, ("age_days",), libraries(), evaluation(auc, reason), {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two versions of churn: the first is champion, the second challenger."""
    home = Home.create(tmp_path_factory.mktemp("models") / "home", "UTC", "GBP")
    registry = Registry(Settings(home=home.root), home)
    registry.promote(registry.register(card("first", 0.77, "it beats the baseline"), 1, {"auc": 0.77}, {}))
    registry.register(card("second", 0.78, "it does not beat the champion beyond noise"), 2, {"auc": 0.78}, {})
    return home.root


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.setenv("MAILWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return Home.open(tmp_path / "home")


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["models", *arguments], input=answer)


def champion(home: Home) -> int:
    found = Registry(Settings(home=home.root), home).holding("churn_180", "champion")
    assert found is not None
    return found.number


def test_the_list_shows_each_model_with_champion_baseline_and_challenger(home: Home) -> None:
    said = run("list").output
    churn = next(line for line in said.splitlines() if line.strip().startswith("churn_180"))
    assert churn.split("  ")[0].strip() == "churn_180"
    for part in ("1 of 2011-12-10", "AUC", "0.770", "0.657", "+0.080 to +0.140", "never"):
        assert part in churn
    assert churn.rstrip().endswith("2")
    assert next(line for line in said.splitlines() if line.strip().startswith("clusters")).split()[1] == "none"


def test_a_home_in_which_nothing_was_trained_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Home.create(tmp_path / "empty", "UTC", "GBP")
    monkeypatch.setenv("MAILWRIGHT_HOME", str(tmp_path / "empty"))
    assert "Next: mailwright refresh" in run("list").output


def test_two_versions_are_compared_figure_by_figure(home: Home) -> None:
    lines = {line.split()[0]: line for line in run("compare", "churn_180").output.splitlines() if line.strip()}
    assert lines["auc"].split()[1:] == ["0.7700", "0.7800"]
    assert lines["ece"].split()[1:] == ["0.0200", "0.0200"]
    assert "does not beat the champion" in lines["why"]


def test_a_version_is_promoted_by_hand_after_a_question_and_there_is_a_way_back(home: Home) -> None:
    assert run("promote", "churn_180", "challenger", answer="n\n").exit_code == 1
    assert champion(home) == 1
    said = run("promote", "churn_180", "2", answer="y\n").output
    assert "does not beat the champion beyond noise" in said
    assert champion(home) == 2
    assert run("promote", "churn_180", "1", "--yes").exit_code == 0
    assert champion(home) == 1
    assert "is the champion already" in run("promote", "churn_180", "1", "--yes").output


def test_what_cannot_be_read_is_not_promoted(home: Home) -> None:
    registry = Registry(Settings(home=home.root), home)
    registry.file(registry.find("churn_180", "2"), "estimator.joblib").write_bytes(b"")
    result = run("promote", "churn_180", "2", "--yes")
    assert "was changed since it was written" in str(result.exception)
    assert champion(home) == 1


def test_the_report_is_a_page_with_the_versions(home: Home) -> None:
    said = run("report", "churn_180").output
    page = home.docs / "models" / "churn_180.html"
    assert str(page) in said.replace("\n", "")
    assert "it does not beat the champion beyond noise" in page.read_text()


@pytest.mark.parametrize(
    "arguments", [("report", "churn"), ("compare", "churn"), ("promote", "churn", "1"), ("train", "churn")]
)
def test_a_model_that_there_is_not_is_told_with_those_that_there_are(home: Home, arguments: tuple[str, ...]) -> None:
    assert "there is no model churn: known are clusters, churn_180" in str(run(*arguments).exception)


@pytest.mark.slow
def test_mlflows_own_page_opens_on_the_home(home: Home) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli", "models", "ui", "--port", str(port)],
        cwd=PROJECT_ROOT, env={**os.environ, "MAILWRIGHT_HOME": str(home.root)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        base = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{base}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        found = httpx.get(f"{base}/api/2.0/mlflow/registered-models/search", timeout=30).json()
        assert [model["name"] for model in found["registered_models"]] == ["churn_180"]
        assert "<title>MLflow</title>" in httpx.get(base, timeout=30).text
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
