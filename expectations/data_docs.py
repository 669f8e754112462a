"""The data docs: what each suite demands and what was found, as HTML that names rows by their keys alone."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from core.files import write_atomically
from core.home import Home
from expectations.rules import Group, Suite

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

    from expectations.runner import CheckResult


class _Line(TypedDict):
    table: str
    page: str
    checks: int
    failed: list[str]


_ELSEWHERE = re.compile(
    r"""<link\b[^>]*\bhref=["']?(?:https?:)?//[^>]*>|<script\b[^>]*\bsrc=["']?(?:https?:)?//[^>]*>\s*</script>"""
    r"""|<img\b[^>]*\bsrc=["']?(?:https?:)?//[^>]*>|<footer\b.*?</footer>"""
    r"""|<style>@import url\([^)]*\);?</style>""",
    re.DOTALL,
)
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1f2933; max-width: 70rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; width: 100%; }
th, td { border: 1px solid #e4e7eb; padding: .35rem .6rem; text-align: left; vertical-align: top; }
th { background: #f5f7fa; } a { color: #0b7285; }
.fa-check-circle::before { content: "\\2714"; color: #2b8a3e; } .fa-times::before { content: "\\2718"; color: #c92a2a; }
.fa-exclamation-triangle::before { content: "\\26a0"; color: #e8590c; } i { font-style: normal; }
.modal, .collapse:not(.show), .navbar-toggler { display: none; } .collapse.show, #section-1 .collapse { display: block; }
"""
_SUMMARY = "summary.json"
_TITLES = {"raw": "As delivered", "marts": "Marts"}
_COUNTS = ("element_count", "missing_count", "missing_percent", "unexpected_count", "unexpected_percent")


def site(home: Home, group: Group) -> Path:
    """Folder of a group's data docs; its `index.html` is the way in."""
    return home.docs / "gx" / group


def strip(result: ExpectationValidationResult, checked: CheckResult) -> None:
    """Leave in `result` counts and keys only.

    This lists what may stay rather than what must go, so that a later version of Great Expectations can't leak a value
    in a new place.
    """
    kept = {name: result.result[name] for name in _COUNTS if isinstance(result.result.get(name), int | float)}
    if isinstance(result.result.get("observed_value"), int):
        kept["observed_value"] = result.result["observed_value"]
    if checked.examples:
        kept["partial_unexpected_list"] = [" / ".join(map(str, key)) for key in checked.examples]
    result.result = kept
    failed = bool(checked.detail)
    result.exception_info = {
        "raised_exception": failed,
        "exception_message": checked.detail if failed else None,
        # Great Expectations leaves a page out silently when an error has no text here.
        "exception_traceback": "" if failed else None,
    }


def write(
    context: EphemeralDataContext,
    home: Home,
    group: Group,
    validated: Sequence[tuple[Suite, ExpectationSuiteValidationResult]],
    as_of: datetime,
) -> Path:
    """Replace the data docs of `group`. Returns its index page."""
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    target = site(home, group)
    beside = target.with_name(f".{group}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    run_id = RunIdentifier(run_name=f"as-of-{as_of:%Y-%m-%d}", run_time=as_of)
    for suite, result in validated:
        result.meta["run_id"] = run_id
        result.meta["validation_time"] = as_of.isoformat()
        key = ValidationResultIdentifier(
            expectation_suite_identifier=ExpectationSuiteIdentifier(name=suite.table),
            run_id=run_id,
            batch_identifier=suite.table,
        )
        context.validation_results_store.set(key, result)
    context.add_data_docs_site(
        group,
        {
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(beside)},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    context.build_data_docs(site_names=[group])
    for page in beside.rglob("*.html"):
        page.write_text(_self_contained(page.read_text(encoding="utf-8")), encoding="utf-8")
    # Its own list of tables needs scripts from another host; ours needs none.
    lines = _summary(beside, validated)
    (beside / _SUMMARY).write_text(json.dumps(lines), encoding="utf-8")
    (beside / "index.html").write_text(_page(_TITLES[group], _table(lines)), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)
    write_atomically(target.parent / "index.html", _entrance(home))
    return target / "index.html"


def _self_contained(page: str) -> str:
    """The page without what it would load from elsewhere, with a style of its own in its place.

    Great Expectations takes Bootstrap, icons and its logo from other hosts: without a network a page has no sign of what
    failed, and with one it tells those hosts that it was opened.
    """
    return _ELSEWHERE.sub("", page).replace("</head>", f"<style>{_STYLE}</style></head>", 1)


def _summary(folder: Path, validated: Sequence[tuple[Suite, ExpectationSuiteValidationResult]]) -> list[_Line]:
    """What was found, table by table, with the page that tells more."""
    lines: list[_Line] = []
    for suite, result in validated:
        page = next(folder.rglob(f"validations/**/{suite.table}.html"))
        failed = [rule.name for rule, one in zip(suite.rules, result.results, strict=True) if not one.success]
        lines.append(
            {
                "table": suite.table,
                "page": page.relative_to(folder).as_posix(),
                "checks": len(result.results),
                "failed": failed,
            }
        )
    return lines


def _entrance(home: Home) -> str:
    parts = []
    for group, title in _TITLES.items():
        summary = home.docs / "gx" / group / _SUMMARY
        if summary.exists():
            lines = json.loads(summary.read_text(encoding="utf-8"))
            parts.append(f"<h2>{html.escape(title)}</h2>{_table(lines, prefix=f'{group}/')}")
    return _page("Data docs", "".join(parts))


def _table(lines: Sequence[_Line], prefix: str = "") -> str:
    rows = []
    for line in lines:
        failed = ", ".join(line["failed"])
        verdict = f'<i class="fa-times"></i> {html.escape(failed)}' if failed else '<i class="fa-check-circle"></i>'
        rows.append(
            f'<tr><td><a href="{html.escape(prefix + line["page"])}">{html.escape(line["table"])}</a></td>'
            f"<td>{line['checks'] - len(line['failed'])} of {line['checks']}</td><td>{verdict}</td></tr>"
        )
    return f"<table><tr><th>table</th><th>checks passed</th><th>did not pass</th></tr>{''.join(rows)}</table>"


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        f"<p>What was checked in the last run, and what was found.</p>{body}</body></html>\n"
    )
