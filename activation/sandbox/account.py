"""The sandbox's accounts: keys as the platforms would give them, made at random with a platform's file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from activation.connector import SandboxAccount
from activation.sandbox.parts import parts
from activation.sandbox.people import People
from core.errors import PlanError


def open_account(folder: Path, platform: str, url: Callable[[], str]) -> SandboxAccount:
    """A platform's account in the sandbox of `folder`, made when it is not there.

    Args:
        url: tells where the sandbox is, when it is first called; may start it.

    Raises:
        PlanError: the sandbox has no such platform.
    """
    if platform not in parts():
        raise PlanError(f"the sandbox has no platform {platform!r}; it has: {', '.join(parts())}")
    with closing(People(folder, platform)) as people:
        part = parts()[platform](people)
        return SandboxAccount(part.account, lambda: f"{url()}/{platform}", part.secrets)
