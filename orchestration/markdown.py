"""Markdown for the metadata of assets: pictures that need no file beside them, and small tables."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any


def image(png: bytes, alt: str) -> str:
    """A PNG as a Markdown image that needs no file beside it."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as a Markdown table; whole numbers get thousands separators."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
