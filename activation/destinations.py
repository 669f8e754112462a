"""Opens what a sync names: the real account where the environment has it, else the home's sandbox."""

from __future__ import annotations

from activation.connector import Connector, SandboxAccount, platform_named
from activation.http import RetryPolicy
from activation.sync import Sync
from core.home import Home
from core.settings import Settings


def open(
    settings: Settings, home: Home, sync: Sync | str, *, sandbox: bool = False, retry: RetryPolicy | None = None
) -> Connector:
    """Make the connector of a sync, or of a platform's name. Opens no connection and starts nothing.

    Args:
        sandbox: go to the sandbox, whatever the environment says; so do the settings. A platform that has no part there
            writes files: to a folder beside the sandbox's own.

    Raises:
        PlanError: there is no such platform.
        SettingsError: the environment says some of an account and not all, or something wrong.
    """
    kind = platform_named(sync if isinstance(sync, str) else sync.platform)
    credentials = None if sandbox or settings.sandbox else kind.credentials(home)
    if credentials is None:
        from activation.sandbox import process
        from activation.sandbox.parts import parts

        if kind.platform.name in parts():
            account = process.account(settings, home, kind.platform.name)
        else:
            account = SandboxAccount("sandbox", str, {"folder": str(home.sandbox / "drops")})
        credentials = kind.sandbox_credentials(account)
    return kind.connect(credentials, retry)
