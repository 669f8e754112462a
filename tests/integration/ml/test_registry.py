"""The registry on a real MLflow: its own SQLite file and folder in a home."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from core.errors import ModelError
from core.home import Home
from core.settings import Settings
from ml.registry import Card, Registry, label_of, libraries

AS_OF = datetime(2011, 12, 10)


def card(label: str, model: str = "churn_180") -> Card:
    return Card(model, label, AS_OF, ("age_days",), libraries(), {"auc": 0.77}, {"age_days": {"edges": [1.0]}})


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose registry has its tables: MLflow takes seconds to make them."""
    home = Home.create(tmp_path_factory.mktemp("registry") / "home", "UTC", "GBP")
    Registry(Settings(home=home.root), home)
    return home.root


@pytest.fixture
def home(empty: Path, tmp_path: Path) -> Home:
    shutil.copytree(empty, tmp_path / "home")
    return Home.open(tmp_path / "home")


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(Settings(home=home.root), home)


def test_what_is_kept_comes_back_as_it_was(registry: Registry) -> None:
    made = registry.register(card("a"), {"threshold": 0.7}, {"auc": 0.77}, {"report.html": "<p>fine</p>"})
    found = registry.find("churn_180", "a")
    assert found == made
    assert found.card == card("a")
    assert registry.load(found) == {"threshold": 0.7}
    assert registry.file(found, "report.html").read_text() == "<p>fine</p>"


def test_a_model_never_trained_has_no_versions(registry: Registry) -> None:
    assert registry.versions("churn_180") == []
    assert registry.holding("churn_180", "champion") is None


def test_there_is_one_champion_and_the_newest_trained_is_challenger(registry: Registry) -> None:
    first = registry.promote(registry.register(card("a"), 1, {}, {}))
    assert first.role == "champion"
    second = registry.register(card("b"), 2, {}, {})
    assert {one.label: one.role for one in registry.versions("churn_180")} == {"a": "champion", "b": "challenger"}
    registry.promote(second)
    assert {one.label: one.role for one in registry.versions("churn_180")} == {"a": None, "b": "champion"}
    registry.promote(registry.find("churn_180", "a"))
    assert registry.holding("churn_180", "champion") == registry.find("churn_180", "1")


def test_training_alike_again_makes_no_further_version(registry: Registry) -> None:
    made = registry.promote(registry.register(card("a"), 1, {}, {}))
    assert registry.register(card("a"), 1, {}, {}) == made
    assert len(registry.versions("churn_180")) == 1


def test_models_do_not_share_versions(registry: Registry) -> None:
    registry.register(card("a"), 1, {}, {})
    registry.register(card("a", "purchase_30"), 2, {}, {})
    assert registry.load(registry.find("churn_180", "a")) == 1
    assert registry.load(registry.find("purchase_30", "a")) == 2


def test_a_home_may_be_moved(home: Home, registry: Registry, tmp_path: Path) -> None:
    registry.register(card("a"), "estimator", {}, {})
    shutil.move(home.root, tmp_path / "elsewhere")
    moved = Home.open(tmp_path / "elsewhere")
    again = Registry(Settings(home=moved.root), moved)
    assert again.load(again.find("churn_180", "a")) == "estimator"
    assert again.load(again.register(card("b"), "trained after the move", {}, {})) == "trained after the move"
    assert not home.root.exists()


def test_an_estimator_that_was_changed_is_not_read(registry: Registry) -> None:
    version = registry.register(card("a"), 1, {}, {})
    path = registry.file(version, "estimator.joblib")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match="was changed since it was written"):
        registry.load(version)
    path.unlink()
    with pytest.raises(ModelError, match="is missing"):
        registry.load(version)


def test_an_estimator_of_other_libraries_is_not_read(registry: Registry) -> None:
    other = replace(card("a"), libraries={**libraries(), "scikit-learn": "0.1"})
    with pytest.raises(ModelError, match=r"trained with .*scikit-learn 0\.1.*train it again"):
        registry.load(registry.register(other, 1, {}, {}))


def test_a_card_that_was_cut_off_is_told(registry: Registry) -> None:
    version = registry.register(card("a"), 1, {}, {})
    registry.file(version, "card.json").write_text("{")
    with pytest.raises(ModelError, match="card of a model can't be read"):
        registry.versions("churn_180")


def test_a_server_that_is_down_is_told_and_nothing_hangs(home: Home) -> None:
    with pytest.raises(ModelError, match="the last scores stay"):
        Registry(Settings(home=home.root, mlflow_uri="http://127.0.0.1:9"), home)


def test_a_file_that_is_no_registry_is_told(home: Home) -> None:
    (home.models / "mlflow.db").write_bytes(b"no database " * 100)
    with pytest.raises(ModelError, match="model registry"):
        Registry(Settings(home=home.root), home)


def test_what_is_not_there_is_told_with_where_to_look(registry: Registry) -> None:
    with pytest.raises(ModelError, match="has no version 7: see `mailwright models list`"):
        registry.find("churn_180", "7")


def test_a_label_names_rows_recipe_and_as_of() -> None:
    rows = pd.DataFrame({"customer_id": ["a", "b"], "age_days": [1.0, 2.0]})
    label = label_of(AS_OF, ["logistic"], rows)
    assert label.startswith("20111210T000000-")
    assert label == label_of(AS_OF, ["logistic"], rows.copy())
    assert label != label_of(AS_OF, ["forest"], rows)
    assert label != label_of(AS_OF, ["logistic"], rows.assign(age_days=[1.0, 3.0]))
