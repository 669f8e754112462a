"""Great Expectations suites over the raw shop tables and the marts, and the runner.

`suites/` holds one file per guarded table, in terms of `rules`; `runner` turns them into Great Expectations suites and
runs them inside DuckDB. Rules that dbt's own tests hold already do not belong here.
"""
