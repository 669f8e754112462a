"""Bringing data to a home: samples, and files of one's own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import DeliveryError, HomeError
from core.files import write_atomically
from core.home import MARKER, Home, delete_home, open_home
from core.settings import Settings
from orchestration.progress import Reporter, Tick

if TYPE_CHECKING:
    from ingestion.report import LoadReport
    from samples.handover import Handover, SampleProfile

# Says which sample a home was filled with, so that two are never mixed.
SAMPLE_MARKER = "sample.json"


@dataclass(frozen=True)
class Sample:
    """A sample as asked for on the command line.

    Attributes:
        options: what the sample was asked for; written beside the data.
    """

    name: str
    options: Mapping[str, Any]


def load_sample(settings: Settings, sample: Sample, *, reset: bool, reporter: Reporter) -> tuple[Home, bool]:
    """Fill a home with a sample, making the home if there is none.

    Loading the same sample again does nothing. An interrupted load is gone on with.

    Returns:
        The home, and whether anything was loaded.

    Raises:
        HomeError: the home holds other data.
        DeliveryError: a table of the sample was not taken in.
    """
    if reset:
        _reset(settings.home)
    profile = _profile(sample)
    _refuse_mixing(settings.home, sample)
    Home.create(settings.home, profile.timezone, profile.currency, profile.as_of)
    home = open_home(settings)
    marker = home.root / SAMPLE_MARKER
    before = _read_marker(marker)
    if before and sample.options in before["loaded"]:
        return home, False
    loaded = before["loaded"] if before else []
    write_atomically(marker, json.dumps({"name": sample.name, "loaded": loaded}) + "\n")
    changed = False
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=home.root) as workdir:
        tick: list[Tick] = [_ignore]

        def progress(text: str) -> None:
            tick[0](text)

        handovers = _handovers(settings, sample, Path(workdir), home.truth, progress)
        while True:
            with reporter.step("Prepare the sample's next files") as tick[0]:
                handover = next(handovers, None)
            if handover is None:
                break
            changed |= _take_in(settings, home, handover, reporter).changed
    _read_contact_points(settings, home, reporter)
    write_atomically(marker, json.dumps({"name": sample.name, "loaded": [*loaded, dict(sample.options)]}) + "\n")
    return home, changed


def load_files(
    settings: Settings,
    home: Home,
    source: str,
    files: Mapping[str, Sequence[Path]],
    *,
    received_at: datetime,
    historical: bool,
    reporter: Reporter,
    renames: Mapping[str, Mapping[str, str]] | None = None,
    into_sample: bool = False,
) -> LoadReport:
    """Load one hand-over of one's own files.

    Args:
        renames: for each table, the contract's column by its name in the file.
        into_sample: mix them with a sample, where the home holds one.

    Raises:
        HomeError: the home holds a sample.
        ContractError: there is no such table.
    """
    if (home.root / SAMPLE_MARKER).exists() and not into_sample:
        raise HomeError(
            f"the home at {home.root} holds a sample: set MAILWRIGHT_HOME to a new folder and make a home there with"
            " `mailwright init`, so that your data and the sample's don't mix. To try something out on the sample: --into-sample"
        )
    from ingestion import loader

    with reporter.step(f"Load {source}"):
        report = loader.load(
            settings, home, source, files, received_at=received_at, historical=historical, renames=renames
        )
    _read_contact_points(settings, home, reporter)
    return report


def parse_tables(pairs: Sequence[str]) -> dict[str, list[Path]]:
    """Read TABLE=FILE arguments; a table may be given more than once.

    Raises:
        DeliveryError: an argument is no such pair.
    """
    files: dict[str, list[Path]] = {}
    for pair in pairs:
        table, separator, name = pair.partition("=")
        if not (table and separator and name):
            raise DeliveryError(f"{pair!r} is not TABLE=FILE, for example orders=orders.csv")
        files.setdefault(table, []).append(Path(name).expanduser())
    return files


def _take_in(settings: Settings, home: Home, handover: Handover, reporter: Reporter) -> LoadReport:
    from ingestion import loader

    with reporter.step(f"Load {handover.source}: {', '.join(handover.files)}"):
        report = loader.load(
            settings,
            home,
            handover.source,
            handover.files,
            received_at=handover.received_at,
            historical=handover.historical,
            move=True,
        )
    for table in report.tables:
        reporter.note(table.describe())
    if report.errors:
        raise DeliveryError("; ".join(report.errors))
    return report


def _read_contact_points(settings: Settings, home: Home, reporter: Reporter) -> None:
    """So that dbt by hand, right after loading, finds them read."""
    from orchestration.refresh import parse_contact_points

    with reporter.step("Read the new contact points") as tick:
        parse_contact_points(settings, home, tick)


def _profile(sample: Sample) -> SampleProfile:
    if sample.name == "online-retail":
        from samples import online_retail

        return online_retail.PROFILE
    from samples import simulated

    return simulated.PROFILE


def _handovers(settings: Settings, sample: Sample, workdir: Path, truth: Path, progress: Tick) -> Iterator[Handover]:
    if sample.name == "online-retail":
        from samples import online_retail

        return online_retail.handovers(settings, workdir, truth, progress=progress, **sample.options)
    from samples import simulated

    return simulated.handovers(settings, workdir, truth, progress=progress, **sample.options)


def _ignore(text: str) -> None:
    """Say nothing."""


def _refuse_mixing(root: Path, sample: Sample) -> None:
    marker = root / SAMPLE_MARKER
    before = _read_marker(marker)
    advice = "choose another MAILWRIGHT_HOME, or start over with --reset"
    if before is None:
        if (root / "lake" / "deliveries.parquet").exists():
            raise HomeError(f"the home at {root} holds data that is no sample: choose another MAILWRIGHT_HOME")
        return
    if before["name"] != sample.name:
        raise HomeError(f"the home at {root} holds the sample {before['name']}: {advice}")
    customers = {options.get("customers") for options in before["loaded"]}
    if sample.options.get("customers") not in customers | {None} and customers:
        raise HomeError(f"the home at {root} holds the sample {sample.name} in another size: {advice}")


def _reset(root: Path) -> None:
    if not root.exists():
        return
    if (root / MARKER).exists() and not (root / SAMPLE_MARKER).exists() and (root / "lake").exists():
        raise HomeError(f"the home at {root} holds data that is no sample: delete it by hand if you mean to")
    delete_home(root)


def _read_marker(marker: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(marker.read_text(encoding="utf-8"))
        return {"name": said["name"], "loaded": list(said["loaded"])}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise HomeError(f"{marker} can't be read: start over with --reset") from None


def now() -> datetime:
    """When something is received."""
    return datetime.now(UTC)
