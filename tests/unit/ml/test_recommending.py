"""The affinity model on an in-memory DuckDB with the marts that it reads."""

from __future__ import annotations

import io
from datetime import date, datetime, timedelta

import duckdb
import joblib
import numpy as np
import pandas as pd
import pytest

from ml import interactions
from ml.affinity import Blend, Settings
from ml.model import Refused
from ml.models.affinity import AFFINITY
from ml.recommendation_lists import FEATURES
from ml.recommending import JUDGED_MIN, Recipe, hold_out
from ml.registry import one_thread
from ml.scores import schema_of

ON = date(2024, 3, 4)
AS_OF = datetime(2024, 3, 4)
RECIPE = Recipe(Blend(2.0, 1.0, 0.1), Settings())
CUSTOMERS, PRODUCTS = 240, 60
NEVER, BROWSER, OBJECTS = "c-never", "c-browser", "c-objects"


def shop() -> dict[str, pd.DataFrame]:
    """Two tastes, products below 30 and above; those divisible by 5 are bought again and again. p59 is postage."""
    generator = np.random.default_rng(4)
    lines = []
    for customer in range(CUSTOMERS):
        for product in generator.choice(29, 7, replace=False) + 30 * (customer % 2):
            for age in generator.integers(1, 300, 5 if product % 5 == 0 else 1):
                lines.append((f"c{customer:03d}", f"p{product:02d}", "sale", 1.0, int(age)))
        lines.append((f"c{customer:03d}", "p59", "not_goods", 1.0, int(generator.integers(1, 300))))
    lines += [(OBJECTS, f"p{product:02d}", "sale", 1.0, 40) for product in range(10)]
    looked = [(BROWSER, "p03", "Product Viewed", False, True, 2), (BROWSER, "p04", "Product Added", False, True, 2)]
    return {
        "lines": pd.DataFrame(lines, columns=["customer_id", "product_id", "line_type", "quantity", "age"]),
        "events": pd.DataFrame(
            looked, columns=["customer_id", "product_id", "event_name", "is_bot", "is_tracked", "age"]
        ),
        "products": pd.DataFrame(
            {
                "product_id": [f"p{product:02d}" for product in range(PRODUCTS)],
                "name": [f"Product {product}" for product in range(PRODUCTS)],
                "category": [f"Category {product // 10}" for product in range(PRODUCTS)],
                "in_stock": [product != 7 for product in range(PRODUCTS)],
                "is_goods": [product != 59 for product in range(PRODUCTS)],
                "is_consumable": [False] * PRODUCTS,
            }
        ),
        "permissions": pd.DataFrame(
            {
                "customer_id": [*(f"c{customer:03d}" for customer in range(CUSTOMERS)), NEVER, BROWSER, OBJECTS],
                "may_be_profiled": [True] * (CUSTOMERS + 2) + [False],
            }
        ),
    }


def built(tables: dict[str, pd.DataFrame]) -> duckdb.DuckDBPyConnection:
    """The marts. `age` is days before `ON`, and what happened was known at noon of its day unless `known_at` says else."""
    connection = duckdb.connect()
    connection.execute("create schema marts")
    connection.execute(
        "create table marts.dim_as_ofs as select ?::timestamp as as_of, ?::date as as_of_on, true as is_current",
        [AS_OF, ON],
    )
    for name, mart in (("lines", "fct_order_lines"), ("events", "fct_web_events")):
        frame = tables[name].copy()
        frame["occurred_on"] = [ON - timedelta(days=age) for age in frame["age"]]
        if "known_at" not in frame:
            frame["known_at"] = [AS_OF - timedelta(days=age) + timedelta(hours=12) for age in frame["age"]]
        connection.register(name, frame.drop(columns="age"))
        connection.execute(f"create table marts.{mart} as select * from {name}")
    connection.register("given_products", tables["products"])
    connection.execute("create table marts.dim_products as select * from given_products")
    connection.register("given_permissions", tables["permissions"])
    connection.execute("create table marts.customer_permissions as select * from given_permissions")
    connection.execute(
        "create table marts.dim_customers as select customer_id, 'unknown' as age_band,"
        " case when hash(customer_id) % 2 = 0 then 'female' end as gender, null::varchar as region_type"
        " from marts.customer_permissions"
    )
    return connection


@pytest.fixture(scope="module")
def tables():
    return shop()


@pytest.fixture(scope="module")
def connection(tables):
    with built(tables) as opened:
        yield opened


@pytest.fixture(scope="module")
def scored(connection):
    with one_thread():
        return AFFINITY.score(RECIPE, connection, AS_OF)


@pytest.fixture(scope="module")
def trained(connection):
    with one_thread():
        return AFFINITY.train(connection, AS_OF)


def lists(scored) -> pd.DataFrame:
    return scored.tables["recommendations"].to_pandas()


def more(frame: pd.DataFrame, *rows: tuple) -> pd.DataFrame:
    return pd.concat([frame, pd.DataFrame(rows, columns=frame.columns[: len(rows[0])])], ignore_index=True)


def purchases(connection, customer: str, product: str) -> list[float]:
    known = interactions.read(connection, AS_OF)
    done = known.interactions
    of = done.only(
        (done.customers == known.customers.to_pylist().index(customer))
        & (done.items == list(known.catalogue.item_ids).index(product))
        & (done.kinds == "purchase")
    )
    return of.ages.tolist()


class TestReading:
    def test_only_goods_of_those_who_may_be_profiled(self, connection):
        known = interactions.read(connection, AS_OF)
        assert "p59" not in known.catalogue.item_ids
        assert OBJECTS not in known.customers.to_pylist()
        assert known.interactions.shape == (CUSTOMERS + 2, PRODUCTS - 1)
        assert set(known.interactions.kinds.tolist()) == {"view", "cart", "purchase"}

    @pytest.mark.parametrize(
        ("lines", "kept"),
        [
            ([("sale", 2, 50), ("return", -2, 45)], []),
            ([("sale", 2, 50), ("return", -1, 45)], [50]),
            ([("sale", 2, 50), ("sale", 1, 40), ("return", 1, 30)], [50]),
            ([("sale", 1, 50), ("return", -1, 45), ("sale", 1, 40)], [40]),
            ([("return", -3, 60), ("sale", 1, 50)], [50]),
            ([("sale", 1, 50), ("return", -5, 45), ("sale", 1, 40)], [40]),
            ([("sale", 1, 50), ("sale", 1, 50)], [50]),
            ([("sale", 1, 50), ("return", -1, 50)], []),
            ([("sale", -4, 50), ("sale", float("inf"), 40), ("sale", float("nan"), 30), ("void", 1, 20)], []),
            ([("sale", 1, 50), ("return", float("-inf"), 40)], [50]),
        ],
        ids=[
            "all came back",
            "some came back",
            "the latest comes back first",
            "bought again after",
            "a return of nothing",
            "more came back than was sold",
            "twice a day",
            "back on the same day",
            "no quantities",
            "an infinite return",
        ],
    )
    def test_purchases_are_net_of_returns(self, tables, lines, kept):
        given = more(tables["lines"].iloc[:0], *[(NEVER, "p11", kind, units, age) for kind, units, age in lines])
        with built(tables | {"lines": given}) as connection:
            assert purchases(connection, NEVER, "p11") == sorted(kept)

    def test_bots_and_the_untracked_are_left_out(self, tables):
        given = more(
            tables["events"],
            (NEVER, "p12", "Product Viewed", True, True, 3),
            (NEVER, "p12", "Product Viewed", False, False, 3),
            (NEVER, "p12", "Page Viewed", False, True, 3),
        )
        with built(tables | {"events": given}) as connection:
            known = interactions.read(connection, AS_OF)
        assert np.isnan(known.last_ages[known.customers.to_pylist().index(NEVER)])
        assert (known.last_ages == 2).any()

    def test_without_stock_what_nobody_takes_is_not_available(self, tables):
        given = tables["lines"][(tables["lines"]["product_id"] != "p21") | (tables["lines"]["age"] > 90)]
        goods = tables["products"].assign(in_stock=True)
        with built(tables | {"lines": given, "products": goods}) as connection:
            known = interactions.read(connection, AS_OF)
        assert not known.tells_stock
        available = dict(zip(known.catalogue.item_ids, known.catalogue.available.tolist(), strict=True))
        assert not available["p21"]
        assert available["p04"]  # of which somebody put one into a cart

    def test_what_was_known_weeks_ago(self, tables):
        """A line that was known later, and a return that came later, were not known then."""
        lines = tables["lines"].assign(known_at=[AS_OF - timedelta(days=age - 0.5) for age in tables["lines"]["age"]])
        late = pd.DataFrame(
            [
                (NEVER, "p11", "sale", 1.0, 50, AS_OF - timedelta(days=50)),
                (NEVER, "p11", "return", -1.0, 10, AS_OF - timedelta(days=10)),
                (NEVER, "p12", "sale", 1.0, 50, AS_OF - timedelta(days=10)),
            ],
            columns=lines.columns,
        )
        with built(tables | {"lines": pd.concat([lines, late])}) as connection:
            then = interactions.read(connection, AS_OF, days_before=28)
            row = then.customers.to_pylist().index(NEVER)
            mine = then.interactions.only(then.interactions.customers == row)
            assert [then.catalogue.item_ids[item] for item in mine.items] == ["p11"]
            assert mine.ages.tolist() == [22]
            assert then.interactions.ages.min() >= 1
            assert purchases(connection, NEVER, "p11") == []

    def test_the_day_of_the_cut_belongs_to_what_was_bought_since(self, tables):
        """Also where the refresh is in the morning, and some of that day was known by then."""
        lines = pd.DataFrame(
            [(NEVER, "p11", "sale", 1.0, 28, AS_OF - timedelta(days=28) + timedelta(hours=2))],
            columns=[*tables["lines"].columns, "known_at"],
        )
        morning = AS_OF + timedelta(hours=5)
        with built(tables | {"lines": lines}) as connection:
            connection.execute("update marts.dim_as_ofs set as_of = ?", [morning])
            then = interactions.read(connection, morning, days_before=28)
            now = interactions.read(connection, morning)
        assert "purchase" not in then.interactions.kinds.tolist()
        assert now.interactions.held_out(28)[1].nnz == 1

    def test_a_column_that_is_missing_is_refused(self, tables):
        given = tables["products"].drop(columns="category")
        said = r"interactions can't be read: .*category"
        with built(tables | {"products": given}) as connection, pytest.raises(Refused, match=said):
            AFFINITY.score(RECIPE, connection, AS_OF)

    def test_a_column_of_another_type_is_refused(self, tables):
        given = tables["products"].assign(in_stock="perhaps")
        said = "interactions can't be read"
        with built(tables | {"products": given}) as connection, pytest.raises(Refused, match=said):
            AFFINITY.score(RECIPE, connection, AS_OF)


class TestLists:
    def test_tables_are_as_sql_reads_them(self, scored):
        for name, table in scored.tables.items():
            assert table.schema == schema_of(name), name
        assert set(scored.tables) == {"recommendations", "similar_products", "category_affinities"}

    def test_everyone_who_may_be_profiled_has_twenty(self, scored):
        found = lists(scored)
        assert found.groupby("customer_id")["rank"].apply(list).map(lambda ranks: ranks == list(range(1, 21))).all()
        assert found["customer_id"].nunique() == CUSTOMERS + 2
        assert not found.duplicated(["customer_id", "product_id"]).any()
        assert found["customer_id"].is_monotonic_increasing
        for table in ("recommendations", "category_affinities"):
            assert OBJECTS not in set(scored.tables[table].column("customer_id").to_pylist())

    def test_never_what_is_out_of_stock_or_no_goods(self, scored):
        said = set(lists(scored)["product_id"]) | set(
            scored.tables["similar_products"]["similar_product_id"].to_pylist()
        )
        assert not said & {"p07", "p59"}

    def test_never_what_was_just_bought_unless_it_is_a_consumable(self, scored, tables):
        late = tables["lines"][(tables["lines"]["age"] <= 30) & (tables["lines"]["line_type"] == "sale")]
        durable = late[late["product_id"].str[1:].astype(int) % 5 != 0]
        again = lists(scored).merge(durable, on=["customer_id", "product_id"])
        assert len(durable) > 100
        assert again.empty
        assert not lists(scored).merge(late, on=["customer_id", "product_id"]).empty

    def test_the_catalogue_may_say_what_is_a_consumable(self, tables):
        goods = tables["products"].assign(is_consumable=True)
        late = tables["lines"][(tables["lines"]["age"] <= 30) & (tables["lines"]["product_id"] == "p01")]
        with built(tables | {"products": goods}) as connection:
            found = lists(AFFINITY.score(RECIPE, connection, AS_OF))
        assert not found.merge(late, on=["customer_id", "product_id"]).empty

    def test_cold_start_by_browsing_then_popularity(self, scored):
        found = lists(scored)
        cold = found[found["customer_id"] == NEVER]
        assert set(cold["source"]) == {"popular"}
        assert cold["because_product_id"].isna().all()
        browsed = found[found["customer_id"] == BROWSER]
        reasons = set(browsed.loc[browsed["source"] == "similar", "because_product_id"])
        assert reasons
        assert reasons <= {"p03", "p04"}
        assert (browsed.loc[browsed["source"] == "similar", "product_id"] < "p30").all()

    def test_a_repurchase_is_its_own_reason(self, scored):
        found = lists(scored)
        own = found[found["source"] == "history"]
        assert (own["product_id"] == own["because_product_id"]).all()
        assert found.loc[found["source"].isin(["category", "popular"]), "because_product_id"].isna().all()

    def test_categories_are_shares_in_order(self, scored):
        found = scored.tables["category_affinities"].to_pandas()
        assert (found.groupby("customer_id")["affinity"].sum() - 1).abs().max() < 1e-4
        assert (found.groupby("customer_id")["affinity"].diff().dropna() <= 0).all()
        assert NEVER not in set(found["customer_id"])
        assert found.set_index("customer_id").loc[BROWSER, "category"] == "Category 0"

    def test_similar_products_of_each_product(self, scored):
        found = scored.tables["similar_products"].to_pandas()
        assert found["product_id"].nunique() == PRODUCTS - 1
        assert (found.groupby("product_id").size() == 20).all()
        assert (found["product_id"] != found["similar_product_id"]).all()
        told = found[found["similarity"].notna()]
        assert ((told["product_id"] < "p30") == (told["similar_product_id"] < "p30")).all()

    def test_frame_and_findings(self, scored):
        assert list(scored.frame.columns) == [*FEATURES, "score"]
        assert len(scored.frame) == CUSTOMERS + 2
        np.testing.assert_allclose(
            scored.frame[[f"from_{source}" for source in ("history", "similar", "category", "popular")]].sum(axis=1), 1
        )
        assert {finding.check: finding.passed for finding in scored.findings} == {"coverage": True, "diversity": True}
        assert set(AFFINITY.checks) == {"coverage", "diversity"}

    def test_lists_that_are_all_alike_are_found(self, connection):
        same = Recipe(Blend(0.0, 0.0, 1.0), Settings(fill_by_category=False, just_bought_days=0))
        found = {finding.check: finding for finding in AFFINITY.score(same, connection, AS_OF).findings}
        assert not found["diversity"].passed
        assert "100% of those of customers with a history" in found["diversity"].said

    def test_a_catalogue_too_small_for_full_lists_is_found(self, tables):
        goods = tables["products"].assign(in_stock=[product < 12 for product in range(PRODUCTS)])
        with built(tables | {"products": goods}) as connection:
            found = {finding.check: finding for finding in AFFINITY.score(RECIPE, connection, AS_OF).findings}
        assert not found["coverage"].passed
        assert "0% of 242 customers have a full one" in found["coverage"].said

    def test_without_categories_lists_are_filled_by_popularity(self, tables):
        with built(tables | {"products": tables["products"].assign(category=None)}) as connection:
            connection.execute("alter table marts.dim_products alter category type varchar")
            found = AFFINITY.score(RECIPE, connection, AS_OF)
        assert found.tables["category_affinities"].num_rows == 0
        assert found.tables["category_affinities"].schema == schema_of("category_affinities")
        assert "category" not in set(lists(found)["source"])
        assert "products have no categories" in {finding.check: finding for finding in found.findings}["diversity"].said

    def test_what_has_no_name_is_on_no_list(self, tables):
        goods = tables["products"].assign(
            name=[" " if product == 10 else f"P {product}" for product in range(PRODUCTS)]
        )
        with built(tables | {"products": goods}) as connection:
            found = AFFINITY.score(RECIPE, connection, AS_OF)
        assert "p10" not in set(lists(found)["product_id"]) | set(lists(found)["because_product_id"])
        assert "p10" not in set(found.tables["similar_products"]["product_id"].to_pylist())
        assert ("no name", 1) in found.report["Products that are on no list"].rows


class TestTraining:
    def test_it_is_judged_on_the_newest_weeks_against_both_baselines(self, trained):
        said = trained.evaluation
        assert said.judged_on == "what was bought from 2024-02-05 to 2024-03-03 by customers known before"
        assert said.rows >= JUDGED_MIN
        assert said.baseline.metric == "NDCG@20"
        assert said.baseline.other == max(
            said.figures["ndcg_at_20_all_own_history"], said.figures["ndcg_at_20_all_popularity"]
        )
        assert said.baseline.model == said.figures["ndcg_at_20_all"]
        assert 0 < said.figures["coverage"] <= 1
        assert all(np.isfinite(value) for value in said.figures.values())
        assert {picture[:4] for picture in said.pictures.values()} == {b"\x89PNG"}

    def test_what_does_not_beat_the_baseline_is_the_baseline(self, trained):
        beats = trained.evaluation.baseline.beats
        assert (trained.estimator.blend.similar > 0) == beats

    def test_the_baseline_scores_where_taste_says_nothing(self, tables):
        """Everybody buys anything, and the same again: nothing to learn beyond the own history."""
        generator = np.random.default_rng(1)
        lines = [
            (f"c{customer:03d}", f"p{product:02d}", "sale", 1.0, int(age))
            for customer in range(CUSTOMERS)
            for product in generator.choice(58, 4, replace=False)
            for age in range(int(generator.integers(1, 20)), 300, 20)
        ]
        given = pd.DataFrame(lines, columns=tables["lines"].columns)
        with built(tables | {"lines": given}) as connection:
            trained = AFFINITY.train(connection, AS_OF)
        assert not trained.evaluation.baseline.beats
        assert trained.estimator == Recipe(Blend(1.0, 0.0, 0.0), Settings(fill_by_category=False))

    def test_against_another_recipe_on_the_same_customers(self, trained):
        worse = Recipe(Blend(0.0, 0.0, 1.0), Settings(fill_by_category=False))
        contest = trained.against(worse)
        assert contest.other == pytest.approx(trained.evaluation.figures["ndcg_at_20_all_popularity"])
        assert contest.beats
        assert not trained.against(Recipe(Blend(**_blend_of(trained)), Settings())).beats
        other = trained.against(Recipe(Blend(**_blend_of(trained)), Settings(similar_half_life=1.0)))
        assert other.gain != 0
        with pytest.raises(Refused, match="no recipe of recommendations"):
            trained.against({"weights": 1})

    def test_an_estimator_survives_joblib(self, trained, connection):
        written = io.BytesIO()
        joblib.dump(trained.estimator, written)
        written.seek(0)
        read = joblib.load(written)
        assert read == trained.estimator
        assert AFFINITY.score(read, connection, AS_OF).tables["recommendations"].num_rows == 20 * (CUSTOMERS + 2)

    def test_the_reference_is_of_the_frame(self, trained, scored):
        assert list(trained.reference) == list(scored.frame.columns)
        assert trained.features == FEATURES

    def test_the_same_again_to_the_last_digit(self, tables, trained, scored):
        shuffled = {name: frame.sample(frac=1, random_state=3) for name, frame in tables.items()}
        with built(shuffled) as connection, one_thread():
            again = AFFINITY.train(connection, AS_OF)
            lists_again = AFFINITY.score(RECIPE, connection, AS_OF)
        assert (again.label, again.estimator) == (trained.label, trained.estimator)
        assert again.evaluation.figures == trained.evaluation.figures
        assert again.reference == trained.reference
        for name, table in scored.tables.items():
            assert lists_again.tables[name].equals(table), name

    def test_what_became_known_since_changes_nothing(self, tables, trained, scored):
        known_at = [AS_OF - timedelta(days=age - 0.5) for age in tables["lines"]["age"]]
        lines = tables["lines"].assign(known_at=known_at)
        poison = [
            ("c000", "p50", "sale", 9.0, 5, AS_OF),
            (NEVER, "p50", "sale", 9.0, 40, AS_OF + timedelta(days=1)),
            ("c001", "p30", "return", -99.0, 1, AS_OF + timedelta(days=3)),
        ]
        looks = tables["events"].assign(known_at=[AS_OF - timedelta(days=1)] * len(tables["events"]))
        seen = [(NEVER, "p51", "Product Viewed", False, True, 3, AS_OF)]
        given = {
            "lines": pd.concat([lines, pd.DataFrame(poison, columns=lines.columns)]),
            "events": pd.concat([looks, pd.DataFrame(seen, columns=looks.columns)]),
        }
        with built(tables | given) as connection, one_thread():
            again = AFFINITY.train(connection, AS_OF)
            lists_again = AFFINITY.score(RECIPE, connection, AS_OF)
        assert again.label == trained.label
        assert again.evaluation.figures == trained.evaluation.figures
        for name, table in scored.tables.items():
            assert lists_again.tables[name].equals(table), name

    def test_another_purchase_makes_another_label(self, tables, trained):
        with built(tables | {"lines": more(tables["lines"], (NEVER, "p50", "sale", 1.0, 40))}) as connection:
            assert AFFINITY.train(connection, AS_OF).label != trained.label


class TestTooLittle:
    def refused(self, tables) -> str:
        with built(tables) as connection, pytest.raises(Refused) as reason:
            AFFINITY.train(connection, AS_OF)
        return str(reason.value)

    def test_twenty_customers(self, tables):
        few = tables["lines"][tables["lines"]["customer_id"] < "c020"]
        assert self.refused(tables | {"lines": few}) == (
            "21 customers have a history; recommendations need 50"  # with the one who only looked
        )

    def test_one_product(self, tables):
        everyone = [(f"c{customer:03d}", "p00", "sale", 1.0, 100) for customer in range(CUSTOMERS)]
        looked = tables["events"].assign(product_id="p00")
        assert self.refused(tables | {"lines": more(tables["lines"].iloc[:0], *everyone), "events": looked}) == (
            "1 items were bought or looked at; recommendations need 2"
        )

    def test_nothing_available(self, tables):
        goods = tables["products"].assign(in_stock=False)
        assert self.refused(tables | {"products": goods}) == "no item of the catalogue is available and has a name"

    def test_nothing_at_all(self, tables):
        with built(tables) as connection:
            connection.execute("delete from marts.fct_order_lines")
            connection.execute("delete from marts.fct_web_events")
            with pytest.raises(Refused, match="0 customers have a history"):
                AFFINITY.train(connection, AS_OF)

    def test_a_short_history(self, tables):
        young = tables["lines"][tables["lines"]["age"] < 70]
        assert self.refused(tables | {"lines": young}) == (
            "interactions reach back 69 days; to hold out 28 for judging, 84 are needed"
        )

    def test_nobody_bought_of_late(self, tables):
        old = tables["lines"].assign(age=tables["lines"]["age"] + 100)
        assert self.refused(tables | {"lines": old}) == (
            "0 customers known before bought goods in the last 90 days; to judge recommendations 50 are needed"
        )

    def test_where_few_buy_in_four_weeks_ninety_days_are_held_out(self, tables):
        slow = tables["lines"][(tables["lines"]["age"] > 28) | (tables["lines"]["customer_id"] < "c020")]
        with built(tables | {"lines": slow}) as connection:
            held = hold_out(connection, AS_OF, interactions.read(connection, AS_OF))
        assert held.days == 90
        assert held.before.on == date(2023, 12, 5)


def test_the_estimator_must_be_a_recipe(connection):
    with pytest.raises(Refused, match="the estimator is a dict, and no recipe of recommendations"):
        AFFINITY.score({}, connection, AS_OF)


def _blend_of(trained) -> dict[str, float]:
    figures = trained.evaluation.figures
    return {name: figures[f"blend_{name}"] for name in ("own", "similar", "trending")}
