"""Quoting for the SQL that the loader builds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def literal(value: str | Path) -> str:
    """A SQL string literal."""
    return "'" + str(value).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literals(values: Iterable[str | Path]) -> str:
    """Comma-separated SQL string literals."""
    return ", ".join(literal(value) for value in values)


def identifiers(names: Iterable[str]) -> str:
    """Comma-separated quoted SQL identifiers."""
    return ", ".join(identifier(name) for name in names)
