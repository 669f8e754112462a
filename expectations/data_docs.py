"""The data docs: what was delivered, what each suite demands and what was found, as HTML of our own.

Great Expectations' own pages load their style, icons and scripts from other hosts and print what it kept of failing
rows. These load nothing, work offline, in light and dark and on a small screen, and are made of results that hold no
contents (`expectations.results`), so that none can get in.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from core.files import write_atomically
from core.home import Home
from expectations import deliveries, results
from expectations.charts import PARTS, delivery_bars
from expectations.deliveries import Count, Delivered, Quality, TableDeliveries
from expectations.results import CheckResult, TableResult
from expectations.rules import GROUPS, Group

SHOWN = 30
"""Deliveries listed per table, the newest first; the bars show twice as many."""

_TITLES: dict[Group, str] = {
    "raw": "As delivered",
    "staging": "Staging",
    "identity": "Identity",
    "marts": "Marts",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --dim: #5a6773; --line: #d9dfe5; --field: #f4f6f8; --back: #fff;
  --link: #0b6e8a; --good: #2b7a3d; --warn: #b35309; --bad: #c02a2a;
  --accepted: #2f7fb8; --superseded: #a9b4bf; --rejected: #d9480f; --erased: #7048a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #dde3e9; --dim: #98a4b0; --line: #37414b; --field: #1f262d;
  --back: #14191e; --link: #6cc4dd; --good: #6fcf83; --warn: #f0a65a; --bad: #ff8080;
  --accepted: #4b9fd8; --superseded: #66727e; --rejected: #f2763d; --erased: #a583dc; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 76rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: .4rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .4rem; }
a { color: var(--link); } .dim { color: var(--dim); } .good { color: var(--good); } .warn { color: var(--warn); }
.bad { color: var(--bad); } ul { margin: .2rem 0; padding-left: 1.1rem; }
td p { margin: 0 0 .2rem; } nav { margin-bottom: .6rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
th { background: var(--field); font-weight: 600; } .number { text-align: right; font-variant-numeric: tabular-nums; }
td.number, .good, .warn, .bad, time { white-space: nowrap; } span.change { white-space: normal; }
svg { display: block; width: 100%; max-width: 760px; height: auto; margin: .4rem 0; } svg text { fill: var(--dim); font-size: 11px; }
.legend span { display: inline-block; margin-right: 1rem; white-space: nowrap; }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; border-radius: 2px; }
@media (max-width: 44rem) {
  svg text { font-size: 20px; }
  thead { display: none; } tr { display: block; border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0;
    padding: .3rem .1rem; } td, td.number { display: flex; justify-content: space-between; gap: 1rem; border: 0;
    text-align: right; white-space: normal; padding: .15rem .6rem; } td:empty, td.zero { display: none; }
  td::before { content: attr(data-label); color: var(--dim); text-align: left; flex: none; }
  td.wide { display: block; text-align: left; } td.wide::before { display: block; } }
"""


def folder(home: Home) -> Path:
    """Where the pages are; `index.html` is the way in."""
    return home.docs / "gx"


def page(home: Home, table: str) -> Path:
    """The page of one guarded table."""
    return folder(home) / "tables" / f"{table}.html"


def write(home: Home, found: Sequence[TableResult]) -> Path:
    """Write the pages anew: those of tables that are guarded no more go. Returns the way in."""
    known = deliveries.read(home)
    tables = folder(home) / "tables"
    wanted = {page(home, result.table) for result in found}
    for other in set(tables.glob("*.html")) - wanted:
        other.unlink()
    for result in found:
        write_atomically(page(home, result.table), _table_page(result))
    write_atomically(folder(home) / "deliveries.html", deliveries_page(known))
    write_atomically(folder(home) / "index.html", _index(found, known))
    return folder(home) / "index.html"


# The way in


def _index(found: Sequence[TableResult], known: Quality) -> str:
    checks = [check for result in found for check in result.checks]
    failed = results.failed(found)
    errors = sum(check.blocks for check in failed)
    passed = sum(check.passed and not check.skipped for check in checks)
    skipped = sum(check.skipped for check in checks)
    rejected = sum(table.total("rejected") for table in known.tables)
    body = [
        f"<p>{passed:,} checks passed, {len(failed) - errors:,} warned, {errors:,} failed"
        f"{f'; {skipped:,} had nothing to look at' if skipped else ''}.</p>",
        f'<p><a href="deliveries.html">Deliveries</a>: what each source delivered and what became of it'
        f" ({rejected:,} rows rejected).</p>",
    ]
    if failed:
        rows = [
            (_table_link(check.table), _verdict(check), _text(check.name), _text(check.found), _text(_why(check)))
            for check in failed
        ]
        body += [
            "<h2>What did not pass</h2>",
            _table(("table", "", "check", "found", "what it means"), rows, wide=(4,)),
        ]
    for group in GROUPS:
        of_group = [result for result in found if result.group == group]
        if of_group:
            body.append(f"<h2>{_TITLES[group]}</h2>")
            body.append(_table(("table", "checks passed", "as of", "did not pass"), map(_line, of_group), numbers=(1,)))
    return _page("Data docs", "".join(body))


def _line(result: TableResult) -> tuple[str, ...]:
    failed = [check for check in result.checks if not check.passed]
    if all(check.skipped for check in result.checks):
        said = '<span class="dim">no data</span>'
    elif failed:
        said = ", ".join(f"{_verdict(check)} {_text(check.name)}" for check in failed)
    else:
        said = '<span class="good">✔</span>'
    passed = sum(check.passed and not check.skipped for check in result.checks)
    looked = sum(not check.skipped for check in result.checks)
    return _table_link(result.table), f"{passed} of {looked}" if looked else "", _day(result.as_of), said


# One table's checks


def _table_page(result: TableResult) -> str:
    rows = [
        (
            _verdict(check),
            _text(check.name),
            _text(check.found),
            f"<p>{_text(check.description)}.</p>{_reason(check)}{_examples(check)}",
        )
        for check in sorted(result.checks, key=lambda check: (check.passed, check.severity))
    ]
    body = f'<p class="dim">{len(result.checks)} checks, as of {result.as_of:%Y-%m-%d %H:%M} UTC.</p>' + _table(
        ("", "check", "found", "what it demands"), rows, wide=(3,)
    )
    return _page(result.table, body, way_back="../index.html")


def _verdict(check: CheckResult) -> str:
    if check.skipped:
        return '<span class="dim" title="nothing to look at">–</span>'
    if check.passed:
        return '<span class="good" title="passed">✔</span>'
    if check.severity == "warning":
        return '<span class="warn" title="warning">⚠ warning</span>'
    return '<span class="bad" title="error">✘ error</span>'


def _why(check: CheckResult) -> str:
    return f"{check.description}. {check.reason}" if check.reason else f"{check.description}."


def _reason(check: CheckResult) -> str:
    return f'<p class="dim">Only a warning: {_text(check.reason)}</p>' if check.reason else ""


def _examples(check: CheckResult) -> str:
    return f"<ul>{''.join(f'<li>{_text(row)}</li>' for row in check.rows)}</ul>" if check.rows else ""


# Deliveries


def deliveries_page(known: Quality) -> str:
    """The page that shows what each source delivered over time, and what became of it."""
    body = [
        "<p>Every row read is accepted, superseded (something newer or earlier stands for it), rejected into quarantine"
        " with a reason, or erased at a person's request.</p>"
    ]
    if not known.tables:
        body.append("<p>Nothing was delivered yet.</p>")
        return _page("Deliveries", "".join(body), way_back="index.html")
    overview = [
        (
            f'<a href="#{table.full_name}">{table.full_name}</a>',
            f"{len(table.deliveries):,}",
            f"{table.total('read'):,}",
            *(f"{table.total(part):,}" for part in PARTS),
            _day(table.deliveries[-1].received_at),
        )
        for table in known.tables
    ]
    header = ("table", "deliveries", "read", *PARTS, "last received")
    body.append(_table(header, overview, numbers=range(1, 7)))
    if known.absent:
        body.append(f'<p class="dim">Nothing was delivered of {", ".join(known.absent)}.</p>')
    body.append(_legend())
    body += map(_deliveries_of, known.tables)
    body.append(_contact_points(known))
    return _page("Deliveries", "".join(body), way_back="index.html")


def _deliveries_of(table: TableDeliveries) -> str:
    newest = table.deliveries[::-1]
    rows = [
        (
            f"{one.sequence}",
            _day(one.received_at) + (' <span class="dim">history</span>' if one.historical else ""),
            *(f"{int(getattr(one, part)):,}" for part in ("read", *PARTS)),
            _noted(one),
        )
        for one in newest[:SHOWN]
    ]
    header = ("no.", "received", "read", *PARTS, "reasons and notices")
    earlier = len(newest) - len(rows)
    superseded = table.total("superseded")
    return (
        f'<h2 id="{table.full_name}">{table.full_name}</h2>'
        + delivery_bars(table.deliveries[-2 * SHOWN :], f"Rows of {table.full_name} by delivery")
        + (f'<p class="dim">Superseded: {table.superseded_because}.</p>' if superseded else "")
        + _table(header, rows, numbers=(0, *range(2, 7)), wide=(7,))
        + (f'<p class="dim">and {earlier:,} earlier deliveries</p>' if earlier else "")
    )


def _noted(one: Delivered) -> str:
    said = [f"{_text(reason.said)}: {reason.number:,}" for reason in one.rejected_because]
    said += [
        f'<span class="change {"warn" if change.severity == "warning" else "dim"}">columns: {_text(change.said)}</span>'
        for change in one.changes
    ]
    said += [f'<span class="dim">{_text(notice)}</span>' for notice in one.notices]
    return f"<ul>{''.join(f'<li>{line}</li>' for line in said)}</ul>" if said else ""


def _contact_points(known: Quality) -> str:
    if not known.contact_points:
        return ""
    rows = [
        (points.kind, f"{points.values:,}", f"{_total(points.problems):,}", _counts(points.problems))
        for points in known.contact_points
    ]
    return (
        '<h2 id="contact-points">Contact points</h2><p class="dim">Different values given, over all sources. One with a'
        " problem is kept as given and not used for matching.</p>"
        + _table(("", "values", "with a problem", "problems"), rows, numbers=(1, 2), wide=(3,))
    )


def _counts(counts: Sequence[Count]) -> str:
    return f"<ul>{''.join(f'<li>{_text(one.said)}: {one.number:,}</li>' for one in counts)}</ul>" if counts else ""


def _total(counts: Sequence[Count]) -> int:
    return sum(one.number for one in counts)


def _legend() -> str:
    keys = "".join(f'<span><i style="background: var(--{part})"></i>{part}</span>' for part in PARTS)
    return f'<p class="legend">{keys}</p>'


# Parts of every page


def _table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Iterable[int] = (),
    wide: Iterable[int] = (),
) -> str:
    """A table of cells that are HTML already. On a small screen each row is a card, `wide` cells below the others."""
    classes = dict.fromkeys(wide, "wide") | dict.fromkeys(numbers, "number")

    def attribute(place: int, cell: str = "") -> str:
        said = [classes[place]] if place in classes else []
        said += ["zero"] if cell == "0" else []
        return f' class="{" ".join(said)}"' if said else ""

    heads = "".join(f"<th{attribute(place)}>{html.escape(name)}</th>" for place, name in enumerate(header))
    lines = "".join(
        "<tr>"
        + "".join(
            f'<td{attribute(place, cell)} data-label="{html.escape(header[place])}">{cell}</td>'
            if cell
            else f"<td{attribute(place)}></td>"
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _table_link(table: str) -> str:
    return f'<a href="tables/{html.escape(table)}.html">{html.escape(table)}</a>'


def _day(moment: datetime) -> str:
    return f"<time>{moment:%Y-%m-%d}</time>"


def _text(said: object) -> str:
    return html.escape(str(said))


def _page(title: str, body: str, *, way_back: str | None = None) -> str:
    nav = f'<nav><a href="{way_back}">Data docs</a></nav>' if way_back else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{nav}<h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )
