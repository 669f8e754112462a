"""What runs until Ctrl-C: the UIs of Dagster and MLflow, and the documentation."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from core.errors import MailwrightError
from core.home import Home
from core.settings import Settings
from orchestration.dbt import DbtRunner
from orchestration.progress import Reporter
from orchestration.runs import prepare_dagster_home

if TYPE_CHECKING:
    from rich.console import Console

    from ml.registry import Registry


def serve_dagster(settings: Settings, home: Home, port: int, reporter: Reporter, console: Console) -> None:
    """Become `dagster dev` on loopback, with the home's instance."""
    refuse_taken_port(port)
    with reporter.step("Prepare dbt's manifest"):
        DbtRunner(settings, home).prepare()
    folder = prepare_dagster_home(home)
    console.print(f"Dagster UI: http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
    command = [
        sys.executable, "-m", "dagster", "dev", "-m", "orchestration.definitions",
        "-h", "127.0.0.1", "-p", str(port), "--log-level", "warning",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "MAILWRIGHT_HOME": str(home.root),
        "DAGSTER_HOME": str(folder),
        # Beta features are used on purpose; saying so in every process helps nobody.
        "PYTHONWARNINGS": "ignore::DeprecationWarning,ignore::FutureWarning",
    }
    os.chdir(settings.project_dir)
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)


def serve_mlflow(registry: Registry, port: int, console: Console) -> None:
    """Become `mlflow ui` on loopback, on the store that the models are kept in.

    Raises:
        MailwrightError: the port is taken, or the models are on a server, which has a UI of its own.
    """
    if registry.is_remote:
        raise MailwrightError(f"the models are on a server, which has its own UI: {registry.shown}")
    refuse_taken_port(port)
    console.print(f"MLflow UI: http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
    command = [
        sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", registry.uri,
        "--default-artifact-root", registry.artifacts.as_uri(), "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip
    sys.stdout.flush()
    os.execve(sys.executable, command, {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"})


def write_docs(settings: Settings, home: Home, reporter: Reporter, console: Console, *, port: int | None) -> None:
    """Write dbt's documentation as one page, and serve it if a port is given."""
    with reporter.step("Write the dbt documentation"):
        page = DbtRunner(settings, home).docs(home.docs / "dbt")
    console.print(f"dbt documentation: {page}", soft_wrap=True, highlight=False)
    for report in sorted((home.docs / "models").glob("*.html")):
        console.print(f"Report of the model {report.stem}: {report}", soft_wrap=True, highlight=False)
    checks = home.docs / "gx" / "index.html"
    if checks.exists():
        console.print(f"Data docs of the checks: {checks}", soft_wrap=True, highlight=False)
    if port is not None:
        refuse_taken_port(port)
        _serve(home, port, console)


def refuse_taken_port(port: int) -> None:
    """Say so before anything is started.

    Raises:
        MailwrightError: something else listens on the port.
    """
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise MailwrightError(f"port {port} is taken by something else: give another with --port") from None


def _serve(home: Home, port: int, console: Console) -> None:
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    server = ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=str(home.docs)))
    console.print(f"Serving at http://127.0.0.1:{port}/dbt/ (Ctrl-C ends it)", highlight=False)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("Ended.")
