"""Dagster definitions, the dbt runner, publishing and the command line: the one room that knows all the others.

Thin: logic that a test would want to call without Dagster lives in `refresh`, `publishing` and the rooms themselves.
"""
