"""Apply a plan in a process of its own, which is killed. Imported by a server of forks, so it opens nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.dataset  # noqa: F401  # warm: else every process would import it
import sqlalchemy.dialects.sqlite  # noqa: F401

from activation import apply, plan
from activation.connector import SandboxAccount, platform_named
from activation.ledger import Ledger
from core.home import Home
from tests.integration.activation.conformance import place

WAYS = ("before commit", "after commit", "before call", "after call")


def go_on(
    root: Path, platform: str, account: str, url: str, secrets: dict[str, str], plan_hash: str, now: datetime, die: str
) -> None:
    """Apply a kept plan.

    Args:
        die: one of `WAYS`: around the first acknowledgement that the ledger writes, or the first call that writes;
            empty: leave that to somebody else.
    """
    kind = platform_named(platform)
    place.make_quick(kind, setattr)
    if "commit" in die:
        Ledger.acknowledge = _deadly(Ledger.acknowledge, die)  # type: ignore[method-assign]
    elif die:
        kind.write = _deadly(kind.write, die)  # type: ignore[method-assign]
    home, settings = Home.open(root), place.settings_of(root)
    connector = kind.connect(kind.sandbox_credentials(SandboxAccount(account, lambda: url, secrets)), place.IMPATIENT)
    document = place.document_of(platform)
    made = plan.read(home, platform, plan_hash)
    apply.apply(
        settings, home, made, connector=connector, sync=document, override=("added", "removed"),
        retry=place.IMPATIENT, now=lambda: now,
    )  # fmt: skip
    connector.close()


def _deadly(function: Callable[..., Any], die: str) -> Callable[..., Any]:
    def deadly(*arguments: Any, **options: Any) -> Any:
        done = function(*arguments, **options) if die.startswith("after") else None
        os.kill(os.getpid(), signal.SIGKILL)
        return done

    return deadly
