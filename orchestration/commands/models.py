"""`mailwright models`: which model scores, how good it is, and which version takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.terminal import open_console, open_reporter, open_settings

if TYPE_CHECKING:
    from rich.console import Console

    from core.home import Home
    from core.settings import Settings
    from ml.registry import Registry

app = typer.Typer(help="Models: what scores, how good it is, which version takes its place.", no_args_is_help=True)

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="As `mailwright models list` names it.")]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version's number or label, `champion` or `challenger`.")
]


@app.command("list")
def list_models() -> None:
    """Every model: its champion, how it compares with its baseline, when it last scored."""
    from ml.models import models
    from ml.registry import ROLES
    from ml.scores import newest_scores
    from orchestration import modelling, showing

    console, _, home, registry = _open()
    rows = []
    for model in models():
        champion, challenger = (registry.holding(model.name, role) for role in ROLES)
        last = newest_scores(home, model.name)
        rows.append(
            (
                model.name,
                "none" if champion is None else f"{champion.number} of {champion.card.as_of:%Y-%m-%d}",
                *modelling.contest(champion),
                "never" if last is None else f"{last:%Y-%m-%d}",
                "" if challenger is None else f"{challenger.number}",
            )
        )
    showing.table(console, ("model", "champion", *modelling.CONTEST, "scored", "challenger"), rows)
    if not any(row[1] != "none" for row in rows):
        console.print("Nothing scores yet. Next: mailwright refresh")


@app.command()
def report(model: ModelArgument) -> None:
    """Write a model's report, one HTML page, and say where it is; with its versions.

    A refresh writes it too, with what was watched then.
    """
    from ml import reports
    from ml.models import model_named
    from orchestration import showing

    wanted = model_named(model)
    console, _, home, registry = _open()
    versions = registry.versions(model)
    page = reports.page(home, model)
    if not page.exists():
        page = reports.write(home, wanted, registry).path
    rows = [
        (
            version.number,
            version.role or "",
            f"{version.card.as_of:%Y-%m-%d %H:%M}",
            version.card.evaluation["metric"],
            version.card.evaluation["model"],
            version.card.evaluation["baseline"],
            version.card.evaluation["reason"],
        )
        for version in versions
    ]
    console.print(wanted.question, highlight=False)
    showing.table(console, ("version", "part", "as of", "metric", "model's", "baseline's", "why"), rows)
    console.print(f"Report: {page}", soft_wrap=True, highlight=False)


@app.command()
def compare(model: ModelArgument, one: VersionArgument = "champion", other: VersionArgument = "challenger") -> None:
    """Two versions side by side, figure by figure.

    Each was judged on the newest period of its own day: see `judged on`. At training a challenger is also judged
    against the champion on the same customers; `why` has what came of it.

    [dim]mailwright models compare churn_180 champion 3[/dim]
    """
    from ml.models import model_named
    from orchestration import showing

    model_named(model)
    console, _, _, registry = _open()
    pair = [registry.find(model, wanted) for wanted in (one, other)]
    said = [version.card.evaluation for version in pair]
    names = sorted({name for evaluation in said for name in evaluation["figures"]})
    rows = [
        ("as of", *(f"{version.card.as_of:%Y-%m-%d %H:%M}" for version in pair)),
        ("judged on", *(evaluation["judged_on"] for evaluation in said)),
        ("rows", *(f"{evaluation['rows']:,}" for evaluation in said)),
        ("features", *(str(len(version.card.features)) for version in pair)),
        *((name, *(_figure(evaluation["figures"].get(name)) for evaluation in said)) for name in names),
        ("why", *(evaluation["reason"] for evaluation in said)),
    ]
    header = ("", *(f"version {version.number}" + (f", {version.role}" if version.role else "") for version in pair))
    showing.table(console, header, rows)


@app.command()
def promote(
    model: ModelArgument,
    version: VersionArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Have a version score from the next refresh on, whatever the automatic rule said. Also the way back.

    [dim]mailwright models promote churn_180 2[/dim]
    """
    from ml import reports
    from ml.models import model_named

    known = model_named(model)
    console, _, home, registry = _open()
    wanted, champion = registry.find(model, version), registry.holding(model, "champion")
    if champion is not None and champion.number == wanted.number:
        console.print(f"Version {wanted.number} of {model} is the champion already.", highlight=False)
        return
    registry.load(wanted)  # what can't be read can't score
    said = wanted.card.evaluation
    console.print(
        f"{model} version {wanted.number}: {said['metric']} {said['model']:.3f} against {said['baseline']:.3f} by the"
        f" baseline, judged on {said['judged_on']}. At training: {said['reason']}",
        highlight=False,
        soft_wrap=True,
    )
    if not yes:
        typer.confirm("Promote it?", abort=True)
    registry.promote(wanted)
    reports.write(home, known, registry)
    console.print("Promoted. The next `mailwright refresh` scores with it.")


@app.command()
def train(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL...", help="Which models; all of them by default.")
    ] = None,
) -> None:
    """Train models anew on the features of the last refresh, promote what earns it, and score with the champions.

    Dagster's `weekly_retraining` does the same for all models.

    [dim]mailwright models train churn_180 purchase_30[/dim]
    """
    from ml.models import model_named, models
    from orchestration import modelling

    wanted = [model_named(name) for name in names] if names else list(models())
    console, settings, home, registry = _open()
    reporter = open_reporter(console)
    for model in wanted:
        with reporter.step(f"Train {model.name}"):
            run = modelling.run_model(settings, home, model, retrain=True, registry=registry)
        assert run.training is not None
        style = "green" if run.training.decision.promote else None
        console.print(f"  {run.training.decision.reason}", style=style, highlight=False, soft_wrap=True)


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="Loopback port.")] = 5000) -> None:
    """Open MLflow's own UI on the models of the home. Runs until Ctrl-C."""
    from orchestration.serving import serve_mlflow

    console, _, _, registry = _open()
    serve_mlflow(registry, port, console)


def _open() -> tuple[Console, Settings, Home, Registry]:
    from core.home import open_home
    from orchestration.modelling import open_registry

    settings = open_settings()
    home = open_home(settings)
    return open_console(), settings, home, open_registry(settings, home)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.4f}" if abs(value) < 1_000 else f"{value:,.0f}"
