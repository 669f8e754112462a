"""One file per platform. Each exports `PART`; see `activation.sandbox.part` for how one is written."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from activation.sandbox.part import Part


@cache
def parts() -> dict[str, type[Part]]:
    """Every platform's part by the platform's name: one for each module here."""
    found: dict[str, type[Part]] = {}
    for module in pkgutil.iter_modules(__path__):
        made: type[Part] = importlib.import_module(f"{__name__}.{module.name}").PART
        found[made.platform.name] = made
    return found
