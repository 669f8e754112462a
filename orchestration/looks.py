"""What is worth looking at on a model that was built: tables and pictures for Dagster's metadata, from the warehouse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from orchestration import markdown

if TYPE_CHECKING:
    import duckdb

    from activation.releases import Release
    from core.home import Home

Look = Callable[["duckdb.DuckDBPyConnection"], dict[str, Any]]


def rfm(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Customers by recency and frequency now, and where they came from since the newest past as_of of the spine."""
    from ml import plots

    rows = connection.execute(
        "select r_score, f_score, any_value(rfm_segment), count(*) from marts.customer_rfm where is_current"
        " group by r_score, f_score"
    ).fetchall()
    counts = {(r, f): count for r, f, _, count in rows}
    names = {(r, f): name for r, f, name, _ in rows}
    said: dict[str, Any] = {
        "heat_map": _picture(plots.rfm_heatmap(counts, names), "customers by recency and frequency score"),
        "current_customers": sum(counts.values()),
    }
    dates = connection.execute(
        """
        select
            max(as_of_on) filter (where not is_current) as earlier_on,
            max(as_of_on) filter (where is_current) as current_on
        from marts.customer_rfm
        """
    ).fetchone()
    if dates is not None and all(dates):
        moved = connection.execute(
            """
            select earlier.rfm_segment, later.rfm_segment, count(*)
            from (select * from marts.customer_rfm where not is_current and as_of_on = $earlier) as earlier
            full join (select * from marts.customer_rfm where is_current) as later using (customer_id)
            group by all
            """,
            {"earlier": dates[0]},
        ).fetchall()
        labels = (dates[0].isoformat(), dates[1].isoformat())
        picture = plots.rfm_migration({(source, target): customers for source, target, customers in moved}, labels)
        said["migration"] = _picture(picture, f"RFM segments of {labels[0]} and {labels[1]}")
    return said


def lifecycle(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Customers by stage, the largest first, and how they moved in the last four weeks."""
    from ml import plots

    stages = connection.execute(
        "select stage, count(*) from marts.customer_lifecycle group by stage order by count(*) desc, stage"
    ).fetchall()
    said: dict[str, Any] = {"stages": _table(("stage", "customers"), stages)}
    dates = connection.execute("select max(as_of_on), max(as_of_on) - 28 from marts.customer_lifecycle").fetchone()
    if dates is not None and all(dates):
        on = "entered_on <= {0} and (left_on is null or left_on > {0})"
        flows = connection.execute(
            f"""
            select earlier.stage, later.stage, count(*)
            from (select * from marts.customer_lifecycle_history where {on.format("$earlier")}) as earlier
            full join (select * from marts.customer_lifecycle_history where {on.format("$later")}) as later
                using (customer_id)
            group by all
            """,
            {"earlier": dates[1], "later": dates[0]},
        ).fetchall()
        labels = (dates[1].isoformat(), dates[0].isoformat())
        said["flow"] = _picture(plots.lifecycle_flow(flows, *labels), f"stages of {labels[0]} and {labels[1]}")
    return said


def funnel(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Addresses left after each step of the audience funnel."""
    from ml import plots

    steps = connection.execute("select step, addresses from activation.audience_funnel order by step_number").fetchall()
    return {
        "funnel": _picture(plots.audience_funnel(steps), "audience funnel"),
        "steps": _table(("step", "addresses"), steps),
    }


def segments(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Segments with their members, the largest first, and how much any two have in common."""
    from segments.overlap import overlap

    sizes = connection.execute(
        "select segment, count(*) from activation.segment_memberships group by segment order by count(*) desc, segment"
    ).fetchall()
    return {
        "sizes": _table(("segment", "customers"), sizes),
        "overlap": dg.MetadataValue.md(overlap(connection, "activation.segment_memberships").markdown()),
    }


def release(home: Home, frozen: Release) -> dict[str, Any]:
    """How customers moved between lifecycle stages since the release before; nothing where either kept no states."""
    import duckdb

    from activation import releases
    from activation.releases import STATES
    from ml import plots

    if frozen.previous is None or frozen.previous not in releases.numbers(home):
        return {}
    before = releases.read(home, frozen.previous)
    if not (frozen.file(STATES).exists() and before.file(STATES).exists()):
        return {}
    with duckdb.connect() as connection:
        flows = connection.execute(
            """
            select earlier.lifecycle_stage, later.lifecycle_stage, count(*)
            from read_parquet($earlier) as earlier
            full join read_parquet($later) as later using (customer_id)
            group by all
            """,
            {"earlier": str(before.file(STATES)), "later": str(frozen.file(STATES))},
        ).fetchall()
    picture = plots.lifecycle_flow(flows, f"release {before.number}", f"release {frozen.number}")
    return {"lifecycle_flow": _picture(picture, f"stages in release {before.number} and in release {frozen.number}")}


LOOKS: Mapping[str, Look] = {
    "customer_rfm": rfm,
    "customer_lifecycle": lifecycle,
    "audience_funnel": funnel,
    "segment_memberships": segments,
}
"""What to show on a model, by its name."""


def _picture(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(markdown.image(png, alt))


def _table(header: tuple[str, ...], rows: Any) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(markdown.table(header, rows))
