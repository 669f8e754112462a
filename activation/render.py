"""Plans and reports as Markdown, for the orchestrator's metadata and for files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from activation.old_apply import ApplyReport
from activation.old_plan import Plan


def plan_markdown(plan: Plan) -> str:
    """A plan: what would change, field by field and tag by tag, and who is left at each step of the funnel."""
    parts = [_pairs(plan.summary())]
    if plan.updates_by_field:
        parts.append(_table(("updated field", "contacts"), plan.updates_by_field.items()))
    tags = sorted({*plan.tag_adds, *plan.tag_removes})
    if tags:
        rows = [(tag, plan.tag_adds.get(tag, 0), plan.tag_removes.get(tag, 0)) for tag in tags]
        parts.append(_table(("tag", "to add", "to remove"), rows))
    parts.append(_table(("funnel", "addresses"), plan.funnel))
    if plan.calls:
        parts.append(_table(("calls", "number"), plan.calls.items()))
    return "\n\n".join(parts)


def report_markdown(report: ApplyReport) -> str:
    """What an apply did, and what the platform said about rows that it refused."""
    parts = [_pairs(report.summary())]
    if report.reasons:
        parts.append(_table(("refused, in the platform's words", "rows"), report.reasons.most_common(20)))
    return "\n\n".join(parts)


def _pairs(said: Mapping[str, str | int]) -> str:
    return _table(("", ""), said.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in rows:
        cells = (f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
