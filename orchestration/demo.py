"""The demo: a real retailer's orders to audiences in three sandbox email platforms, and what to look at then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from core.settings import Settings
from orchestration import modelling, showing
from orchestration.loading import Sample, load_sample
from orchestration.progress import Reporter
from orchestration.publishing import read_publication, segment_overlap
from orchestration.running import run_refresh
from orchestration.syncing import apply_sync, plan_sync

if TYPE_CHECKING:
    from rich.console import Console

DESTINATIONS = ("mailchimp", "braze", "sfmc")


def run_demo(settings: Settings, console: Console, reporter: Reporter) -> None:
    """Sample, refresh, sandboxes, plans, applies, summary. Always at the sandboxes, whatever keys are set.

    Raises:
        MailwrightError: a step failed; running the demo again goes on from there.
    """
    started = time.perf_counter()
    settings = settings.model_copy(update={"sandbox": True})
    home, loaded = load_sample(
        settings, Sample("online-retail", {"orders_only": False}), reset=False, reporter=reporter
    )
    tally = run_refresh(settings, home, as_of=None, reporter=reporter)
    planned = tally.facts.get("plans", {})
    plans = [planned.get(name) or plan_sync(settings, home, name, reporter=reporter) for name in DESTINATIONS]
    reports = [apply_sync(settings, home, made.destination, plan_hash=made.hash, reporter=reporter) for made in plans]
    publication = read_publication(home)
    assert publication is not None
    showing.pairs(
        console,
        {
            "as of": tally.facts["as_of"],
            "records of people": int(publication.facts["records"]),
            "persons": int(publication.facts["customers"]),
            "merged records": int(publication.facts["merged_records"]),
            "rejected rows": int(publication.facts["rejected_rows"]),
            "orders": int(publication.facts["orders"]),
            "checks": tally.checks,
            "release": tally.facts["release"],
        },
        "What was made",
    )
    showing.table(
        console,
        ("model", *modelling.CONTEST, "scored"),
        [(run.model, *modelling.contest(run.champion), run.figures["scoring"]) for run in tally.facts["models"]],
        "Models, each against what it has to beat",
    )
    console.print("\n[bold]Segments, and how much of each lies in each other one[/bold]")
    console.print(segment_overlap(home).table(), highlight=False)
    showing.table(
        console,
        ("destination", "create", "update", "tags on", "tags off", "withdrawals", "calls", "refused", "seconds"),
        [
            (
                made.destination,
                made.creates,
                made.updates,
                sum(made.tag_adds.values()),
                sum(made.tag_removes.values()),
                made.unsubscribes + made.erasures,
                report.calls,
                report.rejected,
                f"{report.seconds:.1f}",
            )
            for made, report in zip(plans, reports, strict=True)
        ],
        "Planned and carried out",
    )
    showing.pairs(console, showing.sandbox_contents(home), "In the sandboxes now")
    changed, sent = tally.facts["changed_tables"], sum(report.changed for report in reports)
    if not loaded and not changed and not sent:
        console.print("\n[bold green]Nothing changed: the same deliveries, the same tables, nothing sent.[/bold green]")
    else:
        showing.pairs(
            console,
            {"tables changed": len(changed), "rows sent": sent},
            "What changed",
        )
    console.print(f"\nDone in {time.perf_counter() - started:.0f} s. Where to look next:", highlight=False)
    showing.pairs(
        console,
        {
            "the email platforms": showing.sandbox_line(home),
            "the graph, checks and plots": "make ui",
            "models and columns": "make docs",
            "marts for BI": home.published / "marts.duckdb",
            "reports of the models": home.docs / "models",
            "data docs of the checks": home.docs / "gx" / "index.html",
        },
    )
