"""Stand-ins for what dbt gives to Jinja, so that sqlfluff renders a model without dbt, a warehouse or its lock.

The project's own macros are the real ones, and `var` reads the real `dbt_project.yml`. Whatever dbt would translate for
an engine becomes a plain function call of the same name: right for a linter, which looks at form only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import yaml

_FOLDER = Path(__file__).resolve().parents[1]
_PROJECT = yaml.safe_load((_FOLDER / "dbt_project.yml").read_text(encoding="utf-8"))


def _call(name: str) -> Callable[..., str]:
    def render(*arguments: Any, **named: Any) -> str:
        return f"{name}({', '.join(str(argument) for argument in [*arguments, *named.values()])})"

    return render


class _Dbt:
    """`dbt.<macro>(...)`: types as types, everything else as a function call."""

    def __getattr__(self, name: str) -> Callable[..., str]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.startswith("type_"):
            return lambda: name.removeprefix("type_").replace("string", "varchar")
        if name == "generate_series":
            return lambda _: "select 1 as generated_number"
        if name == "listagg":
            return lambda measure, delimiter, *_: f"string_agg({measure}, {delimiter})"
        if name == "concat":
            return lambda parts: f"concat({', '.join(parts)})"
        return _call(name)


class _Adapter:
    """`adapter.dispatch(macro)(...)` as a function call, where that can stand in its place."""

    _OTHERS: ClassVar = {
        "inlined": "not materialized",
        "materialized": "materialized",
        "utc_days": "select cast('2000-01-01' as date) as utc_on",
    }

    def dispatch(self, name: str, package: str = "") -> Callable[..., str]:
        return (lambda: self._OTHERS[name]) if name in self._OTHERS else _call(name)


class _Ref:
    """`ref(model)`, and the list of files that `segment_models` looks at."""

    manifest = SimpleNamespace(
        files={
            str(path): SimpleNamespace(
                path=SimpleNamespace(relative_path=path.relative_to(_FOLDER / "models").as_posix())
            )
            for path in (_FOLDER / "models").rglob("*.sql")
        }
    )

    def __call__(self, model: str) -> str:
        return model


def var(name: str, default: Any = None) -> Any:
    """A constant of `dbt_project.yml`."""
    return _PROJECT["vars"].get(name, default)


def run_query(_: str) -> None:
    """Nothing is run."""


def accepted_rows(source: str, table: str, *_: Any, **__: Any) -> str:
    """Rows of a delivered table; the real macro asks dbt's graph for the contract."""
    return f"select * from lake_{source}.{table}"


accepted_deliveries = accepted_versions = accepted_rows


def known_deliveries(source: str, table: str, _: bool) -> str:
    """Deliveries of a table, in brackets; the real macro is not loaded with those that ask for the contract."""
    return f"(select * from lake.deliveries where source = '{source}' and table_name = '{table}')"


dbt = _Dbt()
ref = _Ref()
adapter = _Adapter()
execute = False
