"""Is this installation healthy, and is this home? Each finding says what was looked at, and what to do."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from core import lock
from core.errors import MailwrightError, WarehouseBusyError
from core.home import Home, open_home
from core.settings import PROJECT_ROOT, Settings, load_settings

ENOUGH_DISK = 5 * 2**30
ENGINES = ("duckdb", "dbt-core", "dbt-duckdb", "dagster", "great-expectations", "scikit-learn")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: good, worth a note, or bad."""

    level: Literal["good", "note", "bad"]
    subject: str
    said: str


def examine() -> Iterator[Finding]:
    """Look at everything, in the order in which it depends on each other."""
    yield _python()
    yield from _packages()
    try:
        settings = load_settings()
    except MailwrightError as error:
        yield Finding("bad", "settings", str(error))
        return
    yield _settings(settings)
    yield _disk(settings)
    try:
        home = open_home(settings)
    except MailwrightError as error:
        yield Finding("note", "home", str(error))
        return
    yield Finding("good", "home", f"{home.root}, {home.timezone}, {home.currency}")
    for look in (_accounting, _warehouse_lock, _dagster, _sandbox, _alerts):
        yield from _guarded(look, settings, home)


def pinned_versions(lock_text: str) -> dict[str, str]:
    """Package -> version as pinned in a requirements file with hashes."""
    pins = {}
    for line in lock_text.splitlines():
        name, separator, rest = line.partition("==")
        if separator and not line.startswith((" ", "#", "-")):
            pins[name.split("[")[0].strip().lower()] = rest.split()[0].rstrip("\\").strip()
    return pins


def _python() -> Finding:
    said = f"{platform.python_version()} at {sys.executable}"
    if sys.prefix == sys.base_prefix:
        return Finding("note", "Python", f"{said}: not in a virtual environment; `make install` makes .venv")
    return Finding("good", "Python", said)


def _packages() -> Iterator[Finding]:
    path = PROJECT_ROOT / "requirements.lock"
    pins = pinned_versions(path.read_text(encoding="utf-8")) if path.exists() else {}
    shown = ", ".join(f"{name} {_installed(name) or 'missing'}" for name in ENGINES)
    wrong = [
        f"{name} is {found}, not {pins[name]}" for name in ENGINES if (found := _installed(name)) != pins.get(name)
    ]
    if wrong and pins:
        yield Finding("bad", "packages", f"{'; '.join(wrong)}: `make install` installs what requirements.lock pins")
    else:
        yield Finding("good", "packages", shown)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _settings(settings: Settings) -> Finding:
    shown = {
        name: value
        for name, value in settings.model_dump().items()
        if value is not None and name not in ("home", "target")
    }
    shown["publish_pii"] = sorted(settings.publish_pii) or "nothing"
    return Finding("good", "settings", ", ".join(f"{name}={value}" for name, value in sorted(shown.items())))


def _disk(settings: Settings) -> Finding:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**30:.1f} GB free at {folder}"
    return Finding("good" if free >= ENOUGH_DISK else "note", "disk", said)


def _accounting(settings: Settings, home: Home) -> Iterator[Finding]:
    """Rows read = accepted + superseded + rejected + erased, counted again from the files."""
    from ingestion import accounting

    if found := accounting.check(home):
        yield Finding("bad", "lake", "; ".join(found[:5]))
        return
    from orchestration.refresh import read_stock

    stock = read_stock(home)
    tables = [said for said in stock.tables.values() if said.deliveries]
    rows = sum(said.rows_read for said in tables)
    yield Finding("good", "lake", f"{len(tables)} tables, {rows:,} rows read, every one accounted for")
    if rejected := sum(said.rows_rejected for said in tables):
        yield Finding("note", "quarantine", f"{rejected:,} rows were rejected: see {home.lake / 'quarantine'}")


def _warehouse_lock(settings: Settings, home: Home) -> Iterator[Finding]:
    holder = lock.describe_holder(home.warehouse)
    try:
        with lock.held(home.warehouse):
            yield Finding(
                "good", "warehouse", "free" if home.warehouse.exists() else "not built yet: mailwright refresh"
            )
    except WarehouseBusyError:
        yield Finding("note", "warehouse", f"in use by {holder or 'another process'}")


def _dagster(settings: Settings, home: Home) -> Iterator[Finding]:
    if not (home.dagster / "dagster.yaml").exists():
        yield Finding("good", "Dagster", "not used yet")
        return
    from orchestration.runs import dagster_instance, stale_runs, stale_slots

    now = datetime.now(UTC)
    with dagster_instance(home) as instance:
        dead, slots = stale_runs(instance, home, now), stale_slots(instance, home, now)
    if dead or slots:
        yield Finding(
            "note",
            "Dagster",
            f"{len(dead)} killed runs still count as started, {len(slots)} hold a pool slot: the next refresh clears them",
        )
    else:
        yield Finding("good", "Dagster", "no stale runs, no stale pool slots")


def _sandbox(settings: Settings, home: Home) -> Iterator[Finding]:
    from orchestration.showing import sandbox_line

    yield Finding("good", "sandbox", sandbox_line(home))


def _alerts(settings: Settings, home: Home) -> Iterator[Finding]:
    from orchestration import alerts
    from orchestration.alert_channels import configured

    names = [channel.name for channel in configured(settings)]
    if not names:
        yield Finding(
            "note",
            "alerts",
            "nobody is told: set MAILWRIGHT_ALERT_WEBHOOK or MAILWRIGHT_ALERT_SMTP_URL, see docs/syncs.md",
        )
        return
    untold = sum(bool(change.untold) for change in alerts.standing(home))
    said = f"told by {' and '.join(names)}"
    yield Finding("note" if untold else "good", "alerts", f"{said}; {untold} not delivered" if untold else said)


def _guarded(look: Callable[[Settings, Home], Iterator[Finding]], settings: Settings, home: Home) -> Iterator[Finding]:
    try:
        yield from look(settings, home)
    except MailwrightError as error:
        yield Finding("bad", look.__name__.strip("_").replace("_", " "), str(error))
