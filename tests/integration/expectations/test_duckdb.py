"""Great Expectations' SQL engine on DuckDB: what is changed in it, and whether that is still needed."""

from __future__ import annotations

import os

import duckdb
import pytest

os.environ["GX_ANALYTICS_ENABLED"] = "false"

gx = pytest.importorskip("great_expectations")


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        opened.execute('create schema "some where"; create schema plain')
        for schema in ('"some where"', "plain"):
            opened.execute(f"create view {schema}.things as select i, 'x' as name from range(1000) as numbers (i)")
        yield opened


def validate(source, schema: str, *expectations):
    asset = source.add_table_asset("things", table_name="things", schema_name=schema)
    suite = gx.ExpectationSuite(name="things", expectations=list(expectations))
    return asset.add_batch_definition_whole_table("all").get_batch().validate(suite)


def test_expectations_run_inside_duckdb(connection):
    from expectations.duckdb import add_datasource

    source = add_datasource(gx.get_context(mode="ephemeral"), "warehouse", connection)
    found = validate(
        source,
        "plain",
        gx.expectations.ExpectTableRowCountToEqual(value=1000),
        gx.expectations.ExpectColumnValuesToBeBetween(column="i", min_value=0, max_value=998),
        gx.expectations.ExpectColumnValuesToBeUnique(column="i"),
        gx.expectations.ExpectColumnValuesToNotBeNull(column="name"),
    )

    by_kind = {result.expectation_config.type: result for result in found.results}
    assert not any(result.exception_info["raised_exception"] for result in found.results)
    assert by_kind["expect_table_row_count_to_equal"].success
    assert by_kind["expect_column_values_to_be_unique"].success
    assert by_kind["expect_column_values_to_not_be_null"].success
    assert by_kind["expect_column_values_to_be_between"].result["unexpected_count"] == 1


def test_a_failing_query_does_not_take_the_others_with_it(connection):
    from expectations.duckdb import add_datasource

    source = add_datasource(gx.get_context(mode="ephemeral"), "warehouse", connection)
    found = validate(
        source,
        "plain",
        gx.expectations.UnexpectedRowsExpectation(unexpected_rows_query="select cast(name as integer) from {batch}"),
        gx.expectations.UnexpectedRowsExpectation(unexpected_rows_query="select i from {batch} where i > 997"),
        gx.expectations.ExpectColumnValuesToBeUnique(column="i"),
    )

    broken, whole, unique = sorted(found.results, key=lambda result: str(result.expectation_config.kwargs))[::1]
    results = [broken, whole, unique]
    assert sum(result.success for result in results) == 1
    assert [r.result["observed_value"] for r in results if "observed_value" in r.result] == [2]


def test_columns_are_reflected_in_schemas_that_need_quoting(connection):
    from expectations.duckdb import DuckDBExecutionEngine, add_datasource

    source = add_datasource(gx.get_context(mode="ephemeral"), "warehouse", connection)
    engine = source.get_execution_engine()

    assert isinstance(engine, DuckDBExecutionEngine)
    columns = engine.get_inspector().get_columns("things", "some where")
    assert [(column["name"], column["type"]) for column in columns] == [("i", "BIGINT"), ("name", "VARCHAR")]


def test_the_callers_connection_stays_open(connection):
    from expectations.duckdb import add_datasource

    source = add_datasource(gx.get_context(mode="ephemeral"), "warehouse", connection)
    validate(source, "plain", gx.expectations.ExpectTableRowCountToEqual(value=1000))
    source.get_execution_engine().close()

    assert connection.execute("select count(*) from plain.things").fetchall() == [(1000,)]


def test_the_engine_as_it_comes_still_fails_on_duckdb(tmp_path):
    """If this fails, Great Expectations has learned DuckDB: expectations/duckdb.py can go."""
    path = tmp_path / "things.duckdb"
    with duckdb.connect(str(path)) as opened:
        opened.execute("create table things as select i from range(10) as numbers (i)")
    source = gx.get_context(mode="ephemeral").data_sources.add_sql("plain", connection_string=f"duckdb:///{path}")
    asset = source.add_table_asset("things", table_name="things")
    suite = gx.ExpectationSuite(name="things", expectations=[gx.expectations.ExpectTableRowCountToEqual(value=10)])

    found = asset.add_batch_definition_whole_table("all").get_batch().validate(suite)

    assert not found.success
    assert "list index out of range" in str(found.results[0].exception_info)


def test_the_version_is_the_one_that_was_read():
    """The engine overrides two methods of it: read them again before moving on."""
    from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine

    assert gx.__version__.startswith("1.24.")
    assert {"get_connection", "get_inspector"} <= set(vars(SqlAlchemyExecutionEngine))
