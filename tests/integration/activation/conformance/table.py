"""The table connector x fault that the suite prints when it is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# The worst of what a cell's tests came to is shown.
_WORTH = {"-": 0, "ok": 1, "FAILED": 2}


def table(reports: Iterable[Any]) -> list[str]:
    """Lines of the table; none where no test of the suite ran.

    Args:
        reports: pytest's, of all tests and phases.
    """
    cells: dict[tuple[str, str], str] = {}
    for report in reports:
        noted = dict(getattr(report, "user_properties", ()))
        if "fault" not in noted or "platform" not in noted or (report.when != "call" and report.passed):
            continue
        said = "ok" if report.passed else "-" if report.skipped else "FAILED"
        at = (str(noted["fault"]), str(noted["platform"]))
        cells[at] = max(said, cells.get(at, "-"), key=_WORTH.__getitem__)
    if not cells:
        return []
    faults, platforms = (list(dict.fromkeys(at[place] for at in cells)) for place in (0, 1))
    platforms.sort()
    wide = max(map(len, faults))
    lines = [f"{'':{wide}}  {'  '.join(platforms)}"]
    for fault in faults:
        row = (f"{cells.get((fault, platform), ''):{len(platform)}}" for platform in platforms)
        lines.append(f"{fault:{wide}}  {'  '.join(row)}".rstrip())
    return [*lines, "", "- : the fault can't happen there; the test says why"]
