"""Models through the whole line: trained at the first refresh, blind to what came later, and never in its way."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from core.home import Home
from core.settings import Settings
from ml.models import model_named, models
from ml.registry import Registry
from ml.scores import TABLES
from orchestration.modelling import run_model
from tests import parsing
from tests.conftest import CommandLine
from tests.e2e import retailer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CUSTOMERS = 2_000  # of fewer, too few buy within 30 days for a model to be judged
AS_OF = "2025-03-03"
LATER = "2025-03-04"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A retailer all of whose customers may be profiled, refreshed once."""
    folder = tmp_path_factory.mktemp("models")
    files = retailer.write(folder / "files", customers=CUSTOMERS, every_consenting=1)
    command = CommandLine(folder / "home", port=8765)
    command.run("init", "--timezone", retailer.TIMEZONE, "--currency", retailer.CURRENCY)
    for source, tables in (("shop", ("orders", "order_lines", "products")), ("crm", ("contacts", "consents"))):
        command.run("load", source, *[f"{table}={files[table]}" for table in tables], "--historical")
    parsing.parse_into(command.home)
    command.run("refresh", "--as-of", AS_OF)
    yield command
    command.run("sandbox", "stop")


def state(home: Home) -> dict[str, bytes]:
    """Everything that the models wrote."""
    return {
        str(path.relative_to(home.state)): path.read_bytes()
        for table in TABLES
        for path in sorted((home.state / table).glob("*.parquet"))
    }


def champions(home: Home) -> dict[str, str]:
    registry = Registry(Settings(home=home.root), home)
    holding = {model.name: registry.holding(model.name, "champion") for model in models()}
    return {name: version.label for name, version in holding.items() if version is not None}


def query(home: Home, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
        return warehouse.execute(sql).fetchall()


def test_what_has_data_is_trained_and_scores_come_back_to_the_marts(trained: CommandLine) -> None:
    made = champions(trained.home)
    assert {"clusters", "purchase_30", "purchase_90", "clv_365", "affinity"} <= set(made)
    assert "send_time" not in made, "there is no mail to learn it from"
    scored = query(
        trained.home,
        """
        select
            count(cluster_id), count(churn_score), count(purchase_30_score), count(purchase_90_score), count(clv_365),
            count(favourite_category)
        from marts.customer_360
        """,
    )[0]
    assert min(scored[:5]) > 200
    assert scored[5] == 0, "its products have no categories"
    assert dict(query(trained.home, "select distinct model, model_version from staging.stg_ml__scores")) == {
        name: label for name, label in made.items() if name != "affinity"
    }
    lists = query(
        trained.home,
        "select min(items), max(items) from (select count(*) as items from marts.product_recommendations group by customer_id)",
    )
    assert lists == [(20, 20)]


def test_what_became_known_later_leaves_no_trace_in_models_and_scores(trained: CommandLine, tmp_path: Path) -> None:
    """Orders of the past that are delivered later: old ones changed, new ones of those who had stayed away."""
    shutil.copytree(trained.root, tmp_path / "home")
    command = CommandLine(tmp_path / "home", port=8767)
    before, labels = state(command.home), champions(command.home)
    poisoned = query(
        command.home,
        "select customer_ref, order_id, ordered_at from staging.stg_shop__orders where ordered_at < '2025-02-01'"
        " order by order_id limit 2000",
    )
    write(
        tmp_path / "orders.csv",
        ("order_id", "customer_ref", "ordered_at", "currency"),
        [
            *((order_id, customer, f"{at:%Y-%m-%d %H:%M}", "PLN") for customer, order_id, at in poisoned),
            *((f"N{number}", f"K{number:04}", "2025-02-20 10:00", "PLN") for number in range(CUSTOMERS)),
        ],
    )
    write(
        tmp_path / "lines.csv",
        ("order_id", "product_id", "quantity", "unit_price"),
        [
            *((order_id, "HERB-001", 90, 99) for _, order_id, _ in poisoned),
            *((f"N{number}", "HERB-039", 50, 99) for number in range(CUSTOMERS)),
        ],
    )
    command.run(
        "load",
        "shop",
        f"orders={tmp_path / 'orders.csv'}",
        f"order_lines={tmp_path / 'lines.csv'}",
        "--received-at",
        LATER,
    )
    command.run("refresh", "--as-of", AS_OF)
    assert state(command.home) == before
    said = command.run("models", "train")
    assert said.count("was trained on the same rows in the same way") == len(labels)
    assert state(command.home) == before
    assert champions(command.home) == labels
    arrived = query(
        command.home,
        "select count(*) from staging.stg_shop__orders where ordered_at < '2025-03-01' and known_at > '2025-03-03'",
    )
    assert arrived == [(len(poisoned) + CUSTOMERS,)]


def test_a_damaged_champion_keeps_the_last_scores_and_stops_nothing(trained: CommandLine, tmp_path: Path) -> None:
    shutil.copytree(trained.root, tmp_path / "home")
    home = Home.open(tmp_path / "home")
    settings = Settings(home=home.root)
    registry = Registry(settings, home)
    champion = registry.holding("purchase_90", "champion")
    assert champion is not None
    registry.file(champion, "estimator.joblib").write_bytes(b"cut off")
    before = state(home)
    run = run_model(settings, home, model_named("purchase_90"))
    scored = next(finding for finding in run.findings if finding.check == "scored")
    assert not scored.passed
    assert "was changed since it was written" in scored.said
    assert "the scores of 2025-03-02 stay, 0 days old" in scored.said, "of the UTC instant"
    assert state(home) == before
    assert run.page is not None
    assert "was changed since it was written" in run.page.read_text()


def test_a_registry_that_is_down_keeps_the_last_scores_and_stops_nothing(trained: CommandLine, tmp_path: Path) -> None:
    shutil.copytree(trained.root, tmp_path / "home")
    home = Home.open(tmp_path / "home")
    before = state(home)
    run = run_model(Settings(home=home.root, mlflow_uri="http://127.0.0.1:9"), home, model_named("purchase_90"))
    scored = next(finding for finding in run.findings if finding.check == "scored")
    assert not scored.passed
    assert "the model registry at http://127.0.0.1:9 failed" in scored.said
    assert state(home) == before


def write(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
