"""What is checked of every segment: that it works, is described, has the size it should have, and can show an effect.

`refresh` does so in the warehouse before segments are built, and sets aside what is broken. `check` does so from the
files and the published marts alone, so that it never waits for the warehouse.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import RefreshError
from core.home import Home
from segments import setting_aside
from segments.campaigns import check_campaigns, read_campaigns
from segments.definitions import Problem, Segment, survey, variables
from segments.models import Models, read_models
from segments.outcomes import Outcome, former_outcomes
from segments.power import smallest_effect, smallest_mean_effect

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Row:
    """What was found of one segment.

    Attributes:
        members: customers that its SQL returns, or None where it could not be run.
        share: the same as a share of all customers.
        effect: the effect that its YAML states.
        smallest: the smallest effect that its members can show at an even split, or None where nothing is known of
            what members did before.
        base: what the smallest effect was judged by.
        problem: why it is set aside.
        errors: what has to be corrected, in sentences.
        warnings: what should be looked at, in sentences.
    """

    segment: str
    members: int | None = None
    share: float | None = None
    metric: str | None = None
    effect: float | None = None
    smallest: float | None = None
    base: Outcome | None = None
    problem: Problem | None = None
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def cells(self) -> tuple[str, str, str, str, str, str]:
        """For people: segment, customers, share, KPI, stated and smallest effect."""
        return (
            self.segment,
            "" if self.members is None else f"{self.members:,}",
            "" if self.share is None else f"{self.share:.1%}",
            self.metric or "",
            "" if self.effect is None else _points(self.effect),
            "set aside" if self.problem else "unknown" if self.smallest is None else _points(self.smallest),
        )


HEADER = ("segment", "customers", "share", "KPI", "stated effect", "smallest that shows")


@dataclass(frozen=True)
class Report:
    """What was found of all segments, and of the campaigns that use them."""

    rows: tuple[Row, ...]
    campaigns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def set_aside(self) -> list[Problem]:
        return [row.problem for row in self.rows if row.problem is not None]

    @property
    def errors(self) -> list[str]:
        """Everything that has to be corrected, in sentences."""
        said = [str(problem) for problem in self.set_aside]
        said += [f"segment {row.segment}: {error}" for row in self.rows for error in row.errors]
        return [*said, *self.campaigns]

    @property
    def warnings(self) -> list[str]:
        return [f"segment {row.segment}: {warning}" for row in self.rows for warning in row.warnings]

    def markdown(self) -> str:
        """For an asset: the table, then what is wrong."""
        lines = ["| " + " | ".join(HEADER) + " |", "| --- | ---: | ---: | --- | ---: | ---: |"]
        lines += ["| " + " | ".join(row.cells) + " |" for row in self.rows]
        lines += [f"\n- **{_escaped(error)}**" for error in self.errors]
        lines += [f"\n- {_escaped(warning)}" for warning in [*self.warnings, *self.notes]]
        return "\n".join(lines)


def refresh(
    connection: duckdb.DuckDBPyConnection, home: Home, project_dir: Path, kept_away: Mapping[str, Problem]
) -> Report:
    """Run every segment alone, set aside what is broken, and write how all of them stand where dbt reads it.

    Args:
        connection: the warehouse, with the marts of this run; no table is written to it.
        home: the home.
        project_dir: the dbt project.
        kept_away: segments that dbt can't read.

    Raises:
        RefreshError: the home has no clock, or the project's other YAML can't be read.
    """
    found, models = survey(project_dir), read_models(project_dir)
    problems = {**{said.segment: said for said in found.problems}, **kept_away}
    readable = [segment for segment in found.segments if segment.name not in problems]
    problems |= setting_aside.unusable(readable, models)
    usable = [segment for segment in readable if segment.name not in problems]
    sizes, failed = setting_aside.run_each(connection, usable, models.relation, timezone=home.timezone)
    problems |= failed
    good = [segment for segment in usable if segment.name in sizes]
    outcomes = former_outcomes(connection, good, models, timezone=home.timezone)
    before = setting_aside.read_control(home)
    setting_aside.write_control(home, setting_aside.standings(found, problems, before, _clock(home), outcomes))
    everyone = connection.execute("select count(*) from marts.dim_customers").fetchone()
    return _report(project_dir, found.segments, problems, sizes, everyone[0] if everyone else 0, outcomes)


def check(home: Home | None, project_dir: Path) -> Report:
    """The same from the files and, where there are any, the published marts. Writes nothing.

    Args:
        home: whose marts are looked at, or None to look at files only.
        project_dir: the dbt project.

    Raises:
        MailwrightError: `dbt_project.yml` or the project's other YAML can't be read.
    """
    found, models = survey(project_dir), read_models(project_dir)
    problems = setting_aside.broken_files(project_dir, found)
    readable = [segment for segment in found.segments if segment.name not in problems]
    problems |= setting_aside.unusable(readable, models)
    good = [segment for segment in readable if segment.name not in problems]
    if home is None or not (home.published / "marts.duckdb").exists():
        note = "sizes and effects are unknown: nothing is published yet (mailwright refresh)"
        return _report(project_dir, found.segments, problems, {}, None, {}, notes=(note,))
    sizes, everyone, doubts = _sizes(home, good, models)
    outcomes = {
        name: said.outcome for name, said in setting_aside.read_control(home).items() if said.outcome is not None
    }
    return _report(project_dir, found.segments, problems, sizes, everyone, outcomes, doubts)


def smallest_visible(members: int, outcome: Outcome) -> float:
    """The smallest effect on its metric that members can show at an even split: absolute for a rate, relative for revenue.

    Infinity where nothing would show.
    """
    if outcome.metric.startswith("revenue"):
        return float("inf") if outcome.variation is None else smallest_mean_effect(members, outcome.variation)
    return smallest_effect(members, outcome.mean)


def _sizes(home: Home, segments: Sequence[Segment], models: Models) -> tuple[dict[str, int], int, dict[str, str]]:
    """Customers by segment over the published marts, all customers, and why some segments could not be run there."""
    import duckdb

    with duckdb.connect(str(home.published / "marts.duckdb"), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        rows = connection.execute("select table_name from information_schema.tables").fetchall()
        published = {str(name) for (name,) in rows}

        def relation(name: str) -> str:
            models.relation(name)
            if name not in published:
                raise LookupError(f"{name} is not published: the next refresh says how many it has")
            return f'main."{name}"'

        sizes, failed = setting_aside.run_each(
            connection, segments, relation, customers="main.dim_customers", timezone=home.timezone
        )
        everyone = connection.execute("select count(*) from main.dim_customers").fetchone()
    return sizes, everyone[0] if everyone else 0, {name: problem.reason for name, problem in failed.items()}


def _report(
    project_dir: Path,
    segments: Iterable[Segment],
    problems: Mapping[str, Problem],
    sizes: Mapping[str, int],
    everyone: int | None,
    outcomes: Mapping[str, Outcome],
    doubts: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Report:
    floor = int(variables(project_dir).get("segment_min_members", 0))
    rows = {name: Row(name, problem=problem) for name, problem in problems.items()}
    for segment in segments:
        if segment.name not in problems:
            row = _row(segment, sizes.get(segment.name), everyone, outcomes.get(segment.name), floor)
            if doubt := (doubts or {}).get(segment.name):
                row = replace(row, warnings=(*row.warnings, f"on the published marts it {doubt}"))
            rows[segment.name] = row
    campaigns, wrong = read_campaigns(project_dir)
    return Report(
        tuple(rows[name] for name in sorted(rows)), (*wrong, *check_campaigns(campaigns, frozenset(rows))), notes
    )


def _row(segment: Segment, members: int | None, everyone: int | None, base: Outcome | None, floor: int) -> Row:
    errors, warnings = [], []
    if segment.missing:
        where = segment.file.removesuffix(".sql") + ".yml"
        errors.append(f"states no {', '.join(segment.missing)} (dbt_project/{where})")
    if segment.unknown:
        warnings.append(f"states {', '.join(segment.unknown)}, which has no meaning")
    share = members / everyone if members is not None and everyone else None
    smallest = None
    if members is not None:
        if members < floor:
            errors.append(f"has {members:,} customers; below {floor} nothing can be learned of it")
        warnings += _size_warnings(segment, members, share)
        if base is not None and base.metric == segment.kpi_metric and segment.kpi_effect is not None:
            smallest = smallest_visible(members, base)
            if segment.kpi_effect < smallest:
                warnings.append(
                    f"is to move {segment.kpi_metric} by {_points(segment.kpi_effect)}, but {members:,} customers show"
                    f" no less than {_points(smallest)} at an even split"
                )
        else:
            base = None
    return Row(
        segment.name,
        members,
        share,
        segment.kpi_metric,
        segment.kpi_effect,
        smallest,
        base,
        None,
        tuple(errors),
        tuple(warnings),
    )


def _size_warnings(segment: Segment, members: int, share: float | None) -> list[str]:
    low, high = segment.min_size, segment.max_size
    warnings = []
    if (low is not None and members < low) or (high is not None and members > high):
        warnings.append(f"has {members:,} customers, expected are {_range(low, high, '{:,}')}")
    low_share, high_share = segment.min_share, segment.max_share
    if share is not None and (
        (low_share is not None and share < low_share) or (high_share is not None and share > high_share)
    ):
        expected = _range(low_share, high_share, "{:.1%}")
        warnings.append(f"has {share:.1%} of all customers ({members:,}), expected are {expected}")
    return warnings


def _range(low: float | None, high: float | None, form: str) -> str:
    if low is None:
        return f"at most {form.format(high)}"
    return f"at least {form.format(low)}" if high is None else f"{form.format(low)} to {form.format(high)}"


def _points(effect: float) -> str:
    return "nothing" if isinf(effect) else f"{effect:.1%}"


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")


def _clock(home: Home) -> datetime:
    try:
        return datetime.fromisoformat(json.loads(home.clock.read_text())["as_of"]).replace(tzinfo=UTC)
    except (FileNotFoundError, ValueError, KeyError):
        raise RefreshError(f"{home.clock} is missing or unreadable: run `mailwright refresh`") from None
