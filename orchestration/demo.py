"""The demo: a real retailer's orders to audiences in a sandbox email platform, and what to look at then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from core.settings import Settings
from orchestration import modelling, showing
from orchestration.loading import Sample, load_sample
from orchestration.progress import Reporter
from orchestration.publishing import read_publication, segment_overlap
from orchestration.refresh import apply_plan, start_sandbox_if_needed
from orchestration.running import run_refresh

if TYPE_CHECKING:
    from rich.console import Console

DESTINATION = "mailchimp"


def run_demo(settings: Settings, console: Console, reporter: Reporter) -> None:
    """Sample, refresh, sandbox, plan, apply, summary. Always at the sandbox, whatever keys are set.

    Raises:
        MailwrightError: a step failed; running the demo again goes on from there.
    """
    from activation import old_plan as plan

    started = time.perf_counter()
    settings = settings.model_copy(update={"mailchimp_api_key": None})
    home, loaded = load_sample(
        settings, Sample("online-retail", {"orders_only": False}), reset=False, reporter=reporter
    )
    tally = run_refresh(settings, home, as_of=None, reporter=reporter)
    start_sandbox_if_needed(settings, home)
    with reporter.step("Plan the sync"):
        plan.make(settings, home, DESTINATION)
    report = apply_plan(settings, home, DESTINATION, reporter=reporter)
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
    showing.pairs(console, showing.sandbox_contents(home), "In the sandbox now")
    changed = tally.facts["changed_tables"]
    if not loaded and not changed and not report.changed:
        console.print("\n[bold green]Nothing changed: the same deliveries, the same tables, nothing sent.[/bold green]")
    else:
        showing.pairs(
            console,
            {"tables changed": len(changed), "contacts upserted": report.upserted, "tags added": report.tags_added},
            "What changed",
        )
    console.print(f"\nDone in {time.perf_counter() - started:.0f} s. Where to look next:", highlight=False)
    showing.pairs(
        console,
        {
            "the email platform": showing.sandbox_line(settings, home),
            "the graph, checks and plots": "make ui",
            "models and columns": "make docs",
            "marts for BI": home.published / "marts.duckdb",
            "reports of the models": home.docs / "models",
            "data docs of the checks": home.docs / "gx" / "index.html",
        },
    )
