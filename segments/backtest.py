"""Two definitions of a segment replayed over the past: how large it was, who came and went, and what they bought next.

Both are run at every as_of of the feature spine, on what was knowable then (`customer_history`), and what followed is read
from `outcomes`. A definition that uses what nobody knew in the past is not replayed there, and it is said why: an answer
from other data would look like one. Opens the warehouse, as the history is not published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from math import sqrt
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

from core.errors import MailwrightError
from core.home import Home
from core.settings import Settings
from core.warehouse import warehouse
from segments import anatomy, markdown
from segments.data import CUSTOMERS, PATIENCE_SECONDS, evaluate, offer, referring, relations_of, said_of
from segments.power import smallest_effect
from segments.versions import Difference, Version

if TYPE_CHECKING:
    import duckdb

HORIZON_DAYS = 90
HISTORY = "customer_history"
OUTCOMES = "outcomes"
AS_OFS = "dim_as_ofs"
# Relations with a row for every past as_of; of anything else only today's state is kept.
BY_AS_OF = (HISTORY, "customer_rfm", "feat_customers", "feat_rfm", AS_OFS)
# Columns that a model filled -> the column that is not null once it has. Before its first scores there is nothing.
SCORED = {
    "churn_score": "churn_score",
    "churn_band": "churn_score",
    "churn_reason_1": "churn_score",
    "churn_reason_2": "churn_score",
    "churn_reason_3": "churn_score",
    "churn_scored_at": "churn_score",
    "purchase_30_score": "purchase_30_score",
    "purchase_30_band": "purchase_30_score",
    "purchase_30_scored_at": "purchase_30_score",
    "purchase_90_score": "purchase_90_score",
    "purchase_90_band": "purchase_90_score",
    "purchase_90_scored_at": "purchase_90_score",
    "clv_365": "clv_365",
    "clv_365_low": "clv_365",
    "clv_365_high": "clv_365",
    "clv_band": "clv_365",
    "clv_scored_at": "clv_365",
    "cluster_id": "cluster_id",
    "cluster_name": "cluster_id",
    "cluster_scored_at": "cluster_id",
    "best_send_hour": "best_send_hour",
    "best_send_label": "best_send_hour",
    "send_time_scored_at": "best_send_hour",
}
_MEMBERS = "mailwright_replayed"  # (segment, side, as_of, customer_id)


@dataclass(frozen=True)
class Outcome:
    """What a group did in the days after an as_of. Revenue is in the reporting currency."""

    customers: int
    bought: int
    revenue: Decimal

    @property
    def share(self) -> float | None:
        """Share that bought; None of an empty group."""
        return self.bought / self.customers if self.customers else None

    @property
    def revenue_each(self) -> float | None:
        return float(self.revenue) / self.customers if self.customers else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share."""
        return wilson(self.bought, self.customers)


@dataclass(frozen=True)
class Point:
    """One definition at one as_of.

    Attributes:
        as_of_on: its local date.
        entered: since the replayed as_of before; None for the first.
        left: since then.
        members: what they did next; None while the days have not passed.
        others: what everyone else did.
    """

    as_of_on: date
    size: int
    entered: int | None
    left: int | None
    members: Outcome | None = None
    others: Outcome | None = None


@dataclass(frozen=True)
class Replay:
    """One definition over the as_ofs at which it could be replayed, the oldest first.

    Attributes:
        side: old or new.
        notes: what could not be replayed, and why.
    """

    side: str
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()

    @property
    def sizes(self) -> list[int]:
        return [point.size for point in self.points]

    @property
    def turnover(self) -> float | None:
        """Mean share of the members that had left by the next as_of; None without two as_ofs."""
        shares = [
            after.left / before.size
            for before, after in zip(self.points, self.points[1:], strict=False)
            if before.size and after.left is not None
        ]
        return fmean(shares) if shares else None

    @property
    def closed(self) -> list[tuple[Outcome, Outcome]]:
        """(members, others) of the as_ofs whose days have passed."""
        return [(point.members, point.others) for point in self.points if point.members and point.others]

    def together(self) -> tuple[Outcome, Outcome] | None:
        """Members and others over all as_ofs that have passed, each counted at each; None without any."""
        if not self.closed:
            return None
        return _sum([members for members, _ in self.closed]), _sum([others for _, others in self.closed])


@dataclass(frozen=True)
class Backtest:
    """Both definitions of one segment over the past."""

    name: str
    currency: str
    replays: tuple[Replay, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be replayed, and why; once where it holds for both definitions."""
        of: dict[str, list[str]] = {}
        for replay in self.replays:
            for note in replay.notes:
                of.setdefault(note, []).append(replay.side)
        return tuple(f"{' and '.join(sides)} definition: {note}" for note, sides in of.items())

    def tables(self) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
        """(title, header, rows) for people."""
        told = [replay for replay in self.replays if replay.points]
        if not told:
            return
        columns = [self._summary(replay) for replay in told]
        rows = [(what, *(column[what] for column in columns)) for what in columns[0]]
        yield "replayed", ("", *(f"{replay.side} definition" for replay in told)), rows
        if quarters := list(self._quarters(told)):
            header = ("quarter", *(f"{replay.side} {what}" for replay in told for what in ("size", "bought")), "others")
            yield "by calendar quarter", header, quarters
        header = ("as of", *(f"{replay.side} {what}" for replay in told for what in ("size", "+", "-", "bought")))
        yield "over time", header, list(self._over_time(told))

    def markdown(self) -> list[str]:
        """Lines for a pull request; the course of time is folded away."""
        lines: list[str] = []
        for note in self.notes:
            lines += [f"- **Note:** {note}"]
        for title, header, rows in self.tables():
            shown = markdown.table(header, rows)
            if title == "over time":
                lines += ["", "<details><summary>Over time</summary>", "", *shown, "", "</details>"]
            else:
                lines += ["", f"**{title[0].upper()}{title[1:]}**", "", *shown]
        return lines

    def _summary(self, replay: Replay) -> dict[str, str]:
        """Measure to value. What was bought is over all as_ofs whose days have passed, each member counted at each."""
        together = replay.together()
        members, others = together if together is not None else (None, None)
        newest = replay.closed[-1][0] if replay.closed else None
        effect = smallest_effect(replay.sizes[-1], members.share) if members and members.share is not None else None
        return {
            "as_ofs": f"{len(replay.points)}, {len(replay.closed)} of them with what followed",
            "customers, least to most": f"{min(replay.sizes):,} to {max(replay.sizes):,}",
            "leave by the next as_of": _percent(replay.turnover),
            f"bought in the next {HORIZON_DAYS} days": _percent(members.share if members else None),
            "the newest of these, with its 95 % interval": _interval(newest),
            "everyone else bought": _percent(others.share if others else None),
            f"{self.currency} per member": _money(members.revenue_each if members else None),
            f"{self.currency} per customer elsewhere": _money(others.revenue_each if others else None),
            "smallest rise of that share that mail could show": (
                "–" if effect is None or effect > 1 else f"{effect * 100:.2g} points"
            ),
        }

    def _quarters(self, told: Sequence[Replay]) -> Iterator[tuple[str, ...]]:
        """Means by calendar quarter of the as_of, of those quarters that were replayed."""
        for quarter in range(1, 5):
            cells: list[str] = []
            others: list[Outcome] = []
            for replay in told:
                points = [point for point in replay.points if (point.as_of_on.month + 2) // 3 == quarter]
                bought = _sum([point.members for point in points if point.members])
                others = others or [point.others for point in points if point.others]
                cells += [f"{fmean(point.size for point in points):,.0f}" if points else "–", _percent(bought.share)]
            if any(cell != "–" for cell in cells):
                yield (f"Q{quarter}", *cells, _percent(_sum(others).share))

    def _over_time(self, told: Sequence[Replay]) -> Iterator[tuple[str, ...]]:
        days = sorted({point.as_of_on for replay in told for point in replay.points})
        by_day = [{point.as_of_on: point for point in replay.points} for replay in told]
        for day in days:
            cells: list[str] = []
            for points in by_day:
                point = points.get(day)
                cells += (
                    ["–"] * 4
                    if point is None
                    else [f"{point.size:,}", _whole(point.entered), _whole(point.left), _interval(point.members)]
                )
            yield (day.isoformat(), *cells)


def replay(
    settings: Settings,
    home: Home,
    differences: Sequence[Difference],
    *,
    notify: Callable[[str], None] | None = None,
) -> dict[str, Backtest]:
    """Replay both definitions of each segment over the feature spine.

    Args:
        notify: told which segment is at work.

    Raises:
        MailwrightError: the warehouse holds no history yet.
        WarehouseBusyError: another process has it.
    """
    with warehouse(settings, home, wait_seconds=PATIENCE_SECONDS, notify=notify) as connection:
        present = relations_of(connection)
        if missing := [name for name in (HISTORY, OUTCOMES, AS_OFS) if name not in present]:
            raise MailwrightError(f"the warehouse has no {', '.join(missing)} to replay: run `mailwright refresh`")
        past = _Past(connection, present)
        with referring(connection, {}):
            found = {}
            for difference in differences:
                if notify is not None:
                    notify(f"replay {difference.name}")
                sides = [("old", difference.before), ("new", difference.after)]
                replays = tuple(
                    past.replay(side, version) for side, version in sides if version is not None and version.sql
                )
                found[difference.name] = Backtest(difference.name, home.currency, replays)
        return found


def wilson(successes: int, of: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, JASA 22, 1927); 0 to 1 of none."""
    if of == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


class _Past:
    """The spine of a warehouse, and what is knowable at each as_of of it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, present: Mapping[str, str]) -> None:
        self._connection, self._present = connection, present
        self._as_ofs: list[tuple[datetime, date]] = connection.execute(
            f"select as_of, as_of_on from {present[AS_OFS]} order by as_of"
        ).fetchall()
        self._today = self._columns(CUSTOMERS)
        self._then = self._columns(HISTORY)
        self._everyone = self._outcomes_of_everyone()

    def replay(self, side: str, version: Version) -> Replay:
        """Run one definition at every as_of at which it has an answer."""
        import duckdb

        sql = version.sql or ""
        try:
            if unknowable := self._unknowable(sql):
                return Replay(side, (), (unknowable,))
            as_ofs, notes = self._answerable(sql)
            counts = self._members(sql, as_ofs)
        except (duckdb.Error, MailwrightError) as error:
            said = said_of(error) if isinstance(error, duckdb.Error) else str(error)
            return Replay(side, (), (f"it can't be replayed: {said}",))
        outcomes = self._outcomes_of_members()
        points = []
        for (as_of, day), (size, entered, left) in zip(as_ofs, counts, strict=True):
            members = others = None
            if as_of in self._everyone:
                members = outcomes.get(as_of, Outcome(0, 0, Decimal(0)))
                everyone = self._everyone[as_of]
                others = Outcome(
                    everyone.customers - members.customers,
                    everyone.bought - members.bought,
                    everyone.revenue - members.revenue,
                )
            points.append(Point(day, size, entered, left, members, others))
        return Replay(side, tuple(points), notes)

    def _columns(self, name: str) -> frozenset[str]:
        if name not in self._present:
            return frozenset()
        described = self._connection.execute(f"describe select * from {self._present[name]}").fetchall()
        return frozenset(str(row[0]).lower() for row in described)

    def _unknowable(self, sql: str) -> str | None:
        """What the definition uses that is only known of today."""
        relations = anatomy.relations(sql)
        stateless = {name for name, source in self._present.items() if ".seeds." in source.replace('"', "")}
        today_only = sorted(relations - {CUSTOMERS, *BY_AS_OF} - stateless)
        columns = sorted((anatomy.columns(sql) & self._today) - self._then) if CUSTOMERS in relations else []
        if not today_only and not columns:
            return None
        said = [f"of {', '.join(today_only)}"] if today_only else []
        said += [", ".join(columns)] if columns else []
        return f"it can't be replayed, as only today's state is kept {'and of '.join(said) if today_only else 'of ' + said[0]}"

    def _answerable(self, sql: str) -> tuple[list[tuple[datetime, date]], tuple[str, ...]]:
        """The as_ofs at which every column that is used had been filled, and what is to be said of the others."""
        used = sorted({SCORED[column] for column in anatomy.columns(sql) if column in SCORED})
        as_ofs = self._as_ofs
        notes: list[str] = []
        for column in used:
            row = self._connection.execute(
                f"select min(as_of) from {self._present[HISTORY]} where {column} is not null"
            ).fetchone()
            first = row[0] if row else None
            kept = [one for one in as_ofs if first is not None and one[0] >= first]
            if len(kept) < len(as_ofs):
                notes.append(
                    f"{column} is known "
                    + (f"since {kept[0][1]}" if kept else "at no as_of")
                    + f": not replayed at the {len(as_ofs) - len(kept)} as_ofs before"
                )
            as_ofs = kept
        return as_ofs, tuple(notes)

    def _members(self, sql: str, as_ofs: Sequence[tuple[datetime, date]]) -> list[tuple[int, int | None, int | None]]:
        """Keep the members at each as_of; returns (size, entered, left) by as_of."""
        execute = self._connection.execute
        execute(f"create or replace temp table {_MEMBERS} (as_of timestamp, customer_id varchar)")
        relations = anatomy.relations(sql)
        counts: list[tuple[int, int | None, int | None]] = []
        for position, (as_of, _) in enumerate(as_ofs):
            offer(self._connection, {name: self._at(name, as_of) for name in relations})
            size, _ = evaluate(self._connection, sql, "mailwright_now")
            moved: tuple[int | None, int | None] = (None, None)
            if position:
                row = execute(
                    """
                    select
                        count(*) filter (where was.customer_id is null),
                        count(*) filter (where now.customer_id is null)
                    from mailwright_now as now
                    full join mailwright_then as was on now.customer_id = was.customer_id
                    """
                ).fetchone()
                moved = row if row is not None else moved
            execute(f"insert into {_MEMBERS} select $1, customer_id from mailwright_now", [as_of])
            execute("create or replace temp table mailwright_then as select customer_id from mailwright_now")
            counts.append((size, *moved))
        return counts

    def _at(self, name: str, as_of: datetime) -> str:
        """A relation as it stood at an as_of, as SQL."""
        instant = f"timestamp '{as_of.isoformat(sep=' ')}'"
        if name == CUSTOMERS:
            return f"select * from {self._present[HISTORY]} where as_of = {instant}"
        if name not in BY_AS_OF or name not in self._present:
            return self._present.get(name, name)
        is_current = f" replace (as_of = {instant} as is_current)" if "is_current" in self._columns(name) else ""
        return f"select *{is_current} from {self._present[name]} where as_of <= {instant}"

    def _outcomes_of_everyone(self) -> dict[datetime, Outcome]:
        rows = self._connection.execute(
            f"""
            select as_of, count(*), count(*) filter (where bought), sum(revenue)
            from {self._present[OUTCOMES]} where horizon_days = {HORIZON_DAYS} group by as_of
            """
        ).fetchall()
        return {as_of: Outcome(customers, bought, revenue) for as_of, customers, bought, revenue in rows}

    def _outcomes_of_members(self) -> dict[datetime, Outcome]:
        rows = self._connection.execute(
            f"""
            select outcomes.as_of, count(*), count(*) filter (where outcomes.bought), sum(outcomes.revenue)
            from {self._present[OUTCOMES]} as outcomes
            inner join {_MEMBERS} as members
                on outcomes.customer_id = members.customer_id and outcomes.as_of = members.as_of
            where outcomes.horizon_days = {HORIZON_DAYS}
            group by outcomes.as_of
            """
        ).fetchall()
        return {as_of: Outcome(customers, bought, revenue) for as_of, customers, bought, revenue in rows}


def _sum(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        sum(one.customers for one in outcomes),
        sum(one.bought for one in outcomes),
        sum((one.revenue for one in outcomes), Decimal(0)),
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _interval(outcome: Outcome | None) -> str:
    if outcome is None or outcome.share is None:
        return "–"
    low, high = outcome.interval
    return f"{outcome.share:.1%} ({low * 100:.1f} to {high * 100:.1f})"


def _money(amount: float | None) -> str:
    return "–" if amount is None else f"{amount:,.2f}"


def _whole(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
