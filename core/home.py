"""The home: the one folder that holds everything the system writes, marked by `home.json`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.errors import HomeError
from core.files import write_atomically
from core.settings import Settings, check_currency, check_timezone

LAYOUT = 1
MARKER = "home.json"


@dataclass(frozen=True)
class Home:
    """Paths of a home, and what its marker says.

    Attributes:
        root: the folder.
        timezone: business timezone (IANA).
        currency: reporting currency (ISO 4217).
        as_of: the home's natural as_of as an aware UTC instant, or None when it follows the clock.
    """

    root: Path
    timezone: str
    currency: str
    as_of: datetime | None = None

    @classmethod
    def create(cls, root: Path, timezone: str, currency: str, as_of: datetime | None = None) -> Home:
        """Make a home at `root`, or open the one that is there if it has the same timezone and currency.

        Raises:
            HomeError: the folder holds something else, or a home with another timezone or currency.
        """
        try:
            check_timezone(timezone)
            check_currency(currency)
        except ValueError as error:
            raise HomeError(str(error)) from None
        if (root / MARKER).exists():
            home = cls.open(root)
            if (home.timezone, home.currency) != (timezone, currency):
                raise HomeError(
                    f"{root} is a home with timezone {home.timezone} and currency {home.currency}, not {timezone} and"
                    f" {currency}: choose another MAILWRIGHT_HOME, or delete that folder first"
                )
            return home.pinned(as_of) if as_of is not None else home
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise HomeError(f"{root} is not empty and is no home (it has no {MARKER}): choose another MAILWRIGHT_HOME")
        root.mkdir(parents=True, exist_ok=True)
        home = cls(root, timezone, currency, as_of)
        home._write_marker()
        return home

    @classmethod
    def open(cls, root: Path) -> Home:
        """Open the home at `root`.

        Raises:
            HomeError: there is none, or it was written by another layout version.
        """
        marker = root / MARKER
        if not marker.exists():
            raise HomeError(
                f"there is no home at {root}: make one with `mailwright sample online-retail` or `mailwright init`,"
                " or set MAILWRIGHT_HOME to where it is"
            )
        try:
            said: Mapping[str, Any] = json.loads(marker.read_text())
            if said["layout"] != LAYOUT:
                raise HomeError(f"{marker} has layout {said['layout']}, this version reads layout {LAYOUT}")
            as_of = datetime.fromisoformat(said["as_of"]) if said["as_of"] else None
            return cls(root, check_timezone(said["timezone"]), check_currency(said["currency"]), as_of)
        except (ValueError, KeyError, TypeError) as error:
            raise HomeError(f"{marker} can't be read ({error}): restore it from a backup") from None

    def pinned(self, as_of: datetime | None) -> Home:
        """The same home with another natural as_of (None: follow the clock), written to its marker."""
        home = Home(self.root, self.timezone, self.currency, as_of)
        home._write_marker()
        return home

    def _write_marker(self) -> None:
        said = {
            "layout": LAYOUT,
            "as_of": self.as_of.astimezone(UTC).isoformat() if self.as_of else None,
            "timezone": self.timezone,
            "currency": self.currency,
        }
        write_atomically(self.root / MARKER, json.dumps(said, indent=2) + "\n")

    # Paths. None of them is made before something is written there.

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    def raw(self, source: str, table: str) -> Path:
        return self.lake / "raw" / source / table

    def accepted(self, source: str, table: str) -> Path:
        return self.lake / "accepted" / source / table

    def quarantine(self, source: str, table: str) -> Path:
        return self.lake / "quarantine" / source / table

    @property
    def deliveries(self) -> Path:
        """The manifest of deliveries."""
        return self.lake / "deliveries.parquet"

    @property
    def contact_points(self) -> Path:
        """Email addresses and phone numbers as parsed; holds personal data."""
        return self.lake / "contact_points"

    @property
    def refusals(self) -> Path:
        """Who must not be mailed, as last worked out; holds personal data, and may be deleted."""
        return self.lake / "refusals"

    @property
    def clock(self) -> Path:
        """The as_of of the run in progress or last done; dbt reads it as a one-row control table."""
        return self.root / "clock.json"

    @property
    def segments_control(self) -> Path:
        """How each segment stood when last checked; dbt reads from it which ones are set aside."""
        return self.root / "segments.json"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse.duckdb"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def identity(self) -> Path:
        """Who is who: assignments, journal, scored links and the model that scored them."""
        return self.state / "identity"

    @property
    def releases(self) -> Path:
        return self.state / "releases"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.db"

    @property
    def published(self) -> Path:
        return self.root / "published"

    @property
    def alerts(self) -> Path:
        """What went wrong and came right again, and who was told."""
        return self.root / "alerts.json"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def plans(self) -> Path:
        return self.root / "plans"

    @property
    def docs(self) -> Path:
        return self.root / "docs"

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"

    @property
    def sandbox(self) -> Path:
        return self.root / "sandbox"

    @property
    def truth(self) -> Path:
        """Simulated truth, for evaluation only: nothing in the pipeline reads it."""
        return self.root / "truth"


def open_home(settings: Settings) -> Home:
    """Open the home that the settings name, refusing a timezone or currency that contradicts it.

    Raises:
        HomeError: no home, or MAILWRIGHT_TIMEZONE / MAILWRIGHT_CURRENCY differ from what it was made with.
    """
    home = Home.open(settings.home)
    for variable, said, kept in (
        ("MAILWRIGHT_TIMEZONE", settings.timezone, home.timezone),
        ("MAILWRIGHT_CURRENCY", settings.currency, home.currency),
    ):
        if said is not None and said != kept:
            raise HomeError(f"{variable} is {said}, but the home at {home.root} was made with {kept}: unset it")
    return home


def delete_home(root: Path) -> None:
    """Delete a home whole. Refuses a folder that is none.

    Raises:
        HomeError: `root` has no marker.
    """
    if root.exists() and not (root / MARKER).exists():
        raise HomeError(f"{root} is no home (it has no {MARKER}): not deleted")
    if root.exists():
        # The marker goes last, so that an interrupted deletion can be repeated.
        for entry in root.iterdir():
            if entry.name != MARKER:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        os.unlink(root / MARKER)
