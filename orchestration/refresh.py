"""The steps of a refresh, each callable without Dagster: settings and home in, a report out.

In order: `take_stock`, `parse_contact_points`, `load_clock`, dbt's stage `identity`, `resolve_identity`, dbt's `core`,
`ensure_fits`, the models (`orchestration/modelling.py`), dbt's `customers`, `check_segments`, dbt's `audiences`,
`freeze_release`, dbt's `history`, `publish_marts`, and the plans (`orchestration/syncing.py`); checks stand between
them. Each opens the warehouse late and closes it early, so that between steps anyone else may have it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core import gate
from core.clock import AsOf, resolve_as_of, write_clock
from core.contract import Table, load_contract
from core.errors import RefreshError
from core.home import Home
from core.settings import Settings
from core.warehouse import warehouse
from orchestration import watching
from orchestration.progress import Tick
from orchestration.workshop import PATIENCE_SECONDS, Tally

if TYPE_CHECKING:
    import duckdb

    from activation.releases import Release
    from orchestration.publishing import Publication
    from segments.checks import Report
    from segments.definitions import Problem


@dataclass(frozen=True)
class TableStock:
    """What the lake holds of one table, over all deliveries."""

    table: Table
    deliveries: int
    rows_read: int
    rows_accepted: int
    rows_superseded: int
    rows_rejected: int
    rows_erased: int
    last_received_at: datetime | None
    historical: bool
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stock:
    """What the lake holds."""

    tables: Mapping[tuple[str, str], TableStock]
    sequence: int = 0

    @property
    def sources(self) -> dict[str, bool]:
        """Every source of the contract, and whether anything of it was ever delivered."""
        found: dict[str, bool] = {}
        for (source, _), stock in self.tables.items():
            found[source] = found.get(source, False) or stock.deliveries > 0
        return found


def take_stock(home: Home) -> Stock:
    """Read the manifest of deliveries and check that every row of it is there.

    Raises:
        RefreshError: nothing was delivered yet, or the lake's files are not what the manifest says.
    """
    from ingestion import accounting

    if problems := accounting.check(home, thorough=False):
        raise RefreshError(
            f"the lake is not what its manifest says: {'; '.join(problems[:3])}. See `mailwright doctor`"
        )
    stock = read_stock(home)
    if not stock.sources.get("shop"):
        raise RefreshError(
            f"no orders were delivered to the home at {home.root} yet: `mailwright sample online-retail` loads the"
            " bundled retailer, `mailwright load shop orders=FILE order_lines=FILE` your own"
        )
    return stock


def read_stock(home: Home) -> Stock:
    """What the lake holds; an empty lake is no error."""
    from ingestion import manifest

    rows = manifest.read(home)
    tables: dict[tuple[str, str], TableStock] = {}
    for table in load_contract().tables.values():
        mine = sorted(
            (row for row in rows if (row.source, row.table_name) == (table.source, table.name)),
            key=lambda row: row.sequence,
        )
        tables[table.source, table.name] = TableStock(
            table,
            len(mine),
            sum(row.rows_read for row in mine),
            sum(row.rows_accepted for row in mine),
            sum(row.rows_superseded for row in mine),
            sum(row.rows_rejected for row in mine),
            sum(row.rows_erased for row in mine),
            max((row.received_at for row in mine), default=None),
            all(row.historical for row in mine),
            tuple(notice for row in mine for notice in row.notices),
        )
    return Stock(tables, max((row.sequence for row in rows), default=0))


def load_clock(home: Home, given: str | None, now: datetime) -> AsOf:
    """Decide the as_of of the run and write it where dbt reads it.

    Raises:
        MailwrightError: `given` is no date, or lies in the future.
    """
    as_of = resolve_as_of(home, given, now)
    gate.begin(home, now)
    write_clock(home, as_of.instant)
    return as_of


@dataclass(frozen=True)
class LearningReport:
    """What a learning step did, ready to be shown.

    Attributes:
        figures: single values by name.
        tables: name -> (header, rows).
        pictures: name -> PNG.
    """

    figures: Mapping[str, Any]
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def parse_contact_points(settings: Settings, home: Home, tick: Tick | None = None) -> LearningReport:
    """Have the field's libraries read the emails and phones that are new in the lake.

    Raises:
        WarehouseBusyError: another process is at it, and stays so.
    """
    from ingestion import contact_points

    report = contact_points.parse_new(settings, home, progress=tick)
    return LearningReport(
        {"outcome": report.describe()},
        tables={
            "values": (
                ("", "new", "of these unusable", "known"),
                [
                    (name, count.parsed, count.unusable, count.known)
                    for name, count in (("emails", report.emails), ("phones", report.phones))
                ],
            )
        },
    )


def resolve_identity(settings: Settings, home: Home, tick: Tick | None = None) -> LearningReport:
    """Find out which records are one person, and write what changed to the home's state."""
    from ml.identity import plots, run

    with warehouse(settings, home, wait_seconds=PATIENCE_SECONDS) as connection:
        report = run.run(connection, home, progress=tick)
    changes = report.changes
    figures: dict[str, Any] = {
        "outcome": report.explanation,
        "records": report.records,
        "customers": report.customers,
        "merged_records": report.merged_records,
        "new_records": report.new_records,
        "changed_records": report.changed_records,
        "customers_created": changes.created,
        "customers_merged": changes.merged,
        "customers_split": changes.split,
        "customers_restored": changes.restored,
        "model": report.model_status,
    }
    if report.threshold is not None:
        figures["threshold_bits"] = round(report.threshold, 2)
    return LearningReport(
        figures,
        tables={
            "links_not_followed": (("reason", "links"), sorted(report.refused.items())),
            "seconds": (("step", "seconds"), [(step, round(taken, 2)) for step, taken in report.seconds.items()]),
        },
        pictures={
            **({"match_weights": plots.match_weights(report.levels)} if report.levels else {}),
            **({"threshold_curve": plots.threshold_curve(report.curve, report.threshold)} if report.curve else {}),
            **({"cluster_sizes": plots.cluster_sizes(report.sizes)} if report.sizes else {}),
        },
    )


def ensure_fits(settings: Settings, home: Home) -> LearningReport:
    """Make the first fit of a home that has none; else say which ones it has."""
    from ml import fits

    with warehouse(settings, home, wait_seconds=PATIENCE_SECONDS) as connection:
        made = fits.ensure(connection, home)
    kept = fits.kept(home)
    return LearningReport(
        {
            "outcome": f"fit {made.version} made"
            if made
            else "kept as they are"
            if kept
            else "nothing to learn from yet",
            "fits": len(kept),
        },
        tables={
            "versions": (
                ("version", "learned as of (UTC)", "constants"),
                [(fit.version, fit.fit_as_of.isoformat(sep=" "), fit.constants) for fit in kept],
            )
        },
    )


def refit(settings: Settings, home: Home) -> LearningReport:
    """Learn the constants anew, as a further version.

    Raises:
        MailwrightError: there is nothing to learn from, or a fit of this as_of exists.
    """
    from ml import fits

    with warehouse(settings, home) as connection:
        made = fits.refit(connection, home)
    return LearningReport({"fit": made.version, "learned as of (UTC)": made.fit_as_of, "constants": made.constants})


def check_segments(settings: Settings, home: Home, kept_away: Mapping[str, Problem]) -> Report:
    """Run every segment alone, set aside what is broken, and write that where dbt reads it.

    Args:
        settings: settings.
        home: the home.
        kept_away: segments whose files dbt can't read, as `DbtRunner.kept_away` has them.
    """
    from segments import checks

    with warehouse(settings, home, wait_seconds=PATIENCE_SECONDS) as connection:
        return checks.refresh(connection, home, settings.project_dir / "dbt_project", kept_away)


def freeze_release(settings: Settings, home: Home) -> Release:
    """Freeze the audiences as they are into a release, unless they equal the newest one or a rollback is held."""
    from activation import releases
    from segments.movement import attribute
    from segments.versions import definitions

    sql = definitions(settings.project_dir / "dbt_project", home.timezone)
    with warehouse(settings, home, wait_seconds=PATIENCE_SECONDS) as connection:
        attribute(connection, home, sql)
        return releases.freeze(settings, home, connection, definitions=sql, versions=versions_in_force(connection))


def versions_in_force(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Versions of the fits, and of the models whose scores are of the current as_of, by name."""
    rows = connection.execute("""
        select 'fit ' || metric, cast(max(fit_version) as varchar)
        from staging.stg_ml__fits
        where fit_as_of <= (select as_of from marts.dim_as_ofs where is_current)
        group by metric
        union all
        select 'model ' || model, string_agg(distinct model_version, ', ' order by model_version)
        from staging.stg_ml__scores
        where as_of = (select as_of from marts.dim_as_ofs where is_current)
        group by model
        order by 1
    """).fetchall()
    return dict(rows)


def publish_marts(
    settings: Settings,
    home: Home,
    manifest: Mapping[str, Any],
    tally: Tally,
    *,
    now: datetime,
    progress: Callable[[str], None] | None = None,
) -> Publication:
    """Publish the marts, with what `mailwright status` shows of the run that made them."""
    from orchestration.publishing import publish

    facts = {key: str(value) for key, value in tally.facts.items() if key == "release"}
    facts |= {"checks": tally.checks, "models": str(tally.models)}
    as_of = datetime.fromisoformat(json.loads(home.clock.read_text())["as_of"]).replace(tzinfo=UTC)
    with warehouse(settings, home, wait_seconds=PATIENCE_SECONDS) as connection:
        facts |= {name: str(value) for name, value in headline(connection).items()}
    facts["rejected_rows"] = str(sum(table.rows_rejected for table in read_stock(home).tables.values()))
    publication = publish(settings, home, manifest, as_of=as_of, finished_at=now, facts=facts, progress=progress)
    gate.passed(home, datetime.now(UTC))
    watching.note_refresh(settings, home)
    return publication


def headline(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """The few numbers that sum a refresh up."""
    found = connection.execute(
        """
        select
            (select count(*) from intermediate.int_person_records) as records,
            (select count(*) from marts.dim_customers) as customers,
            (
                select count(*) - count(distinct identifiers.customer_id)
                from intermediate.int_person_records as records
                inner join marts.customer_identifiers as identifiers using (identifier_id)
            ) as merged_records,
            (select count(*) from marts.fct_orders) as orders,
            (select count(*) from marts.fct_orders where customer_id is null) as unattributed_orders,
            (select count(distinct segment) from activation.segment_memberships) as segments,
            (select count(*) from activation.sendable_audience where is_sendable) as sendable_addresses
        """
    )
    names = [column[0] for column in found.description]
    row = found.fetchone()
    return dict(zip(names, row, strict=True)) if row else {}
