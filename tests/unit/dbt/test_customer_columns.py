"""What the YAML of the wide marts says of their columns: all features, as the features say it, and how delicate each is."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from core.settings import PROJECT_ROOT
from segments.backtest import SCORED

MODELS = PROJECT_ROOT / "dbt_project" / "models"
WIDE = ("customer_history", "customer_360")
# Of the golden record in customer_360, as known at the as_of in customer_history.
GOLDEN = {"gender", "age_band", "region_type", "country_code", "language", "account_type", "loyalty_tier"}
PROXIES = {
    "given_name", "surname", "birthday", "age_band", "gender", "language", "country_code", "region", "region_type",
    "city", "postal_code",
}  # fmt: skip
PERSONAL = {"given_name", "surname", "email", "phone", "birthday", "city", "postal_code"}


def columns(path: str, model: str) -> dict[str, dict[str, Any]]:
    models = yaml.safe_load((MODELS / path).read_text())["models"]
    (said,) = (each for each in models if each["name"] == model)
    return {column["name"]: column for column in said["columns"]}


def meta(column: dict[str, Any]) -> dict[str, Any]:
    return dict(column.get("config", {}).get("meta", {}))


@pytest.mark.parametrize("model", WIDE)
def test_every_column_says_how_delicate_it_is(model: str) -> None:
    said = {
        name: meta(column).get("sensitivity")
        for name, column in columns("marts/customers/customer_360.yml", model).items()
    }
    assert set(said.values()) <= {"none", "proxy", "special"}
    assert {name for name, level in said.items() if level == "proxy"} == PROXIES & said.keys()


@pytest.mark.parametrize("model", WIDE)
def test_personal_columns_are_tagged(model: str) -> None:
    said = columns("marts/customers/customer_360.yml", model)
    assert {name for name, column in said.items() if meta(column).get("pii")} == PERSONAL & said.keys()


@pytest.mark.parametrize("model", WIDE)
def test_features_are_there_and_mean_what_they_mean(model: str) -> None:
    wide = columns("marts/customers/customer_360.yml", model)
    for name, feature in columns("features/feat_customers.yml", "feat_customers").items():
        assert name in wide, f"{model} lacks the feature {name}"
        assert wide[name]["data_type"] == feature["data_type"], name
        assert meta(feature).get("sensitivity", "none") == meta(wide[name])["sensitivity"], name
        if name not in GOLDEN and meta(feature):
            assert wide[name]["description"] == feature["description"], name
            assert {**meta(feature), "sensitivity": "none"} == meta(wide[name]), name


def test_the_replay_knows_which_columns_a_model_fills() -> None:
    history = columns("marts/customers/customer_360.yml", "customer_history")
    of_models = ("churn_", "purchase_", "clv_", "cluster_", "best_send_", "send_time_")
    assert {name for name in history if name.startswith(of_models)} == set(SCORED)
    assert set(SCORED.values()) <= set(SCORED)
