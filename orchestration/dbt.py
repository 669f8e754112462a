"""dbt in this process: one parse, one call per stage, results as values instead of log lines.

A dbt command line costs five seconds of start-up; `dbtRunner` with a manifest in hand costs about one. Paths are
absolute and the target folder lies in the home, so that two homes never share artifacts and the checkout may be
read-only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import lock
from core.errors import RefreshError
from core.files import write_atomically
from core.home import Home
from core.settings import Settings
from segments import setting_aside
from segments.definitions import PREFIX, Problem

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

# The stages of a refresh, in order. What each builds is said once, in `dbt_project/selectors.yml`.
STAGES = ("identity", "core", "customers", "audiences", "history")

_TESTS = ("test", "unit_test")


@dataclass(frozen=True)
class NodeResult:
    """What became of one model, seed or test.

    Attributes:
        status: success, pass, warn, fail, error or skipped.
        failures: rows that a data test found, else None.
        rows: rows of the table that was built, where the warehouse knows them.
    """

    unique_id: str
    name: str
    resource_type: str
    path: str
    status: str
    message: str
    seconds: float
    failures: int | None = None
    rows: int | None = None

    @property
    def is_test(self) -> bool:
        return self.resource_type in _TESTS

    @property
    def ok(self) -> bool:
        return self.status in ("success", "pass", "warn")


@dataclass(frozen=True)
class StageReport:
    """The nodes of one stage in the order in which they finished."""

    stage: str
    nodes: tuple[NodeResult, ...]

    @property
    def failed(self) -> tuple[NodeResult, ...]:
        return tuple(node for node in self.nodes if node.status in ("error", "fail", "runtime error"))

    @property
    def tests_passed(self) -> int:
        return sum(node.is_test and node.status == "pass" for node in self.nodes)

    @property
    def tests_warned(self) -> int:
        return sum(node.is_test and node.status == "warn" for node in self.nodes)

    @property
    def models_built(self) -> int:
        return sum(not node.is_test and node.status == "success" for node in self.nodes)

    def raise_if_failed(self) -> None:
        """Turn failures into one clear message.

        Raises:
            RefreshError: names each failed model or test (at most five), its file and what dbt said.
        """
        if not self.failed:
            return
        lines = [_describe(node) for node in self.failed[:5]]
        if len(self.failed) > 5:
            lines.append(f"and {len(self.failed) - 5} more")
        skipped = sum(node.status == "skipped" for node in self.nodes)
        after = f" ({skipped} that depend on it were skipped)" if skipped else ""
        raise RefreshError(f"dbt stage {self.stage} failed{after}: " + "; ".join(lines))


class DbtRunner:
    """Runs dbt commands for one home within this process. Parses at most once, and only what changed.

    Segments whose files dbt could not read are kept from it: it sees the project without them.
    """

    def __init__(self, settings: Settings, home: Home) -> None:
        self._home = home
        self.project_dir = settings.project_dir / "dbt_project"
        self.target = home.dagster / "dbt"
        self._manifest: Manifest | None = None
        self._parsed: str | None = None
        self._seen_dir = self.project_dir

    @property
    def manifest_path(self) -> Path:
        return self.target / "manifest.json"

    def prepare(self) -> Path:
        """Make sure that `manifest.json` describes the project's files as they are; parse only if they changed.

        Returns:
            The path of `manifest.json`. Needs no warehouse.

        Raises:
            RefreshError: the project can't be parsed; carries dbt's message.
        """
        now = self.fingerprint()
        if not self._is_parsed(now):
            self._parse(now)
        return self.manifest_path

    def kept_away(self) -> dict[str, Problem]:
        """Segments whose files dbt can't read and does not see, by name."""
        self.prepare()
        said = json.loads((self.target / "kept_away.json").read_text(encoding="utf-8"))
        return {entry["segment"]: Problem(**entry) for entry in said}

    def stages(self) -> dict[str, list[str]]:
        """Stage -> unique ids of its models, seeds and tests, as dbt's own selection has them."""
        self.prepare()
        said: dict[str, list[str]] = json.loads((self.target / "stages.json").read_text(encoding="utf-8"))
        return said

    def fingerprint(self) -> str:
        """Hash of everything that dbt parses: names, sizes and times of the project's files, and dbt's version."""
        from importlib.metadata import version

        digest = hashlib.sha256(f"{version('dbt-core')} {version('dbt-duckdb')} {self.project_dir}".encode())
        for path in sorted(self.project_dir.rglob("*")):
            relative = path.relative_to(self.project_dir)
            if path.is_file() and relative.parts[0] not in ("target", "logs") and path.suffix != ".pyc":
                said = path.stat()
                digest.update(f"{relative}\0{said.st_size}\0{said.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def build(
        self,
        stage: str,
        *,
        names: Sequence[str] | None = None,
        on_node: Callable[[NodeResult], None] | None = None,
    ) -> StageReport:
        """Build and test one stage, without the segments that the last check set aside.

        A segment that fails in spite of the check, or whose own tests do, is set aside too, and the rest built again.

        Args:
            stage: one of `STAGES`.
            names: only these models and seeds with their tests, instead of the whole stage.
            on_node: told of every node as it finishes.

        Raises:
            RefreshError: dbt could not run at all. Failed nodes are in the report; see `raise_if_failed`.
            WarehouseBusyError: another process has the warehouse.
        """
        report = self._build(stage, names, on_node)
        broken = _broken_segments(report, self.manifest())
        if not broken:
            return report
        setting_aside.set_aside_too(self._home, broken)
        again = self._build(stage, names, None)
        left_out = {PREFIX + name for name in broken}
        nodes = [node for node in [*report.nodes, *again.nodes] if node.name not in left_out]
        good = {node.unique_id: node for node in nodes if node.ok}
        return StageReport(stage, (*good.values(), *again.failed))

    def _build(
        self, stage: str, names: Sequence[str] | None, on_node: Callable[[NodeResult], None] | None
    ) -> StageReport:
        manifest = self.manifest()
        left_out = {PREFIX + name for name in setting_aside.set_aside(self._home)}
        if names is None and left_out:
            models = [name.split(".")[-1] for name in self.stages()[stage] if name.startswith(("model.", "seed."))]
            names = models if left_out & set(models) else None
        if names is None:
            arguments = ["build", "--selector", stage]
        else:
            wanted = [name for name in names if name not in left_out]
            if not wanted:
                return StageReport(stage, ())
            arguments = ["build", "--indirect-selection", "buildable", "--select", *wanted]
            arguments += ["--exclude", "resource_type:unit_test"]
        finished: list[NodeResult] = []

        def note(event: Any) -> None:
            if event.info.name == "NodeFinished":
                node = _from_event(event, manifest)
                if node is not None and on_node is not None:
                    on_node(node)

        with lock.held(self._home.warehouse):
            try:
                result = self._invoke(arguments, manifest, note)
            finally:
                _close_dbt()
            rows = self._row_counts() if result.result is not None else {}
        if result.result is None or not hasattr(result.result, "results"):
            raise RefreshError(f"dbt stage {stage} could not run: {_one_line(result.exception)}")
        for said in result.result.results:
            node = said.node
            finished.append(
                NodeResult(
                    node.unique_id,
                    node.name,
                    str(node.resource_type),
                    node.original_file_path,
                    str(said.status),
                    said.message or "",
                    said.execution_time,
                    said.failures,
                    rows.get((getattr(node, "schema", ""), getattr(node, "alias", node.name))),
                )
            )
        return StageReport(stage, tuple(finished))

    def docs(self, folder: Path) -> Path:
        """Write dbt's documentation as one self-contained page; returns its path.

        Raises:
            RefreshError: dbt could not write it.
            WarehouseBusyError: another process has the warehouse.
        """
        with lock.held(self._home.warehouse):
            try:
                result = self._invoke(["docs", "generate", "--static"], self.manifest(), None)
            finally:
                _close_dbt()
        page = self.target / "static_index.html"
        if not result.success or not page.exists():
            raise RefreshError(f"dbt docs could not be written: {_one_line(result.exception)}")
        write_atomically(folder / "index.html", page.read_text(encoding="utf-8"))
        return folder / "index.html"

    def manifest(self) -> Manifest:
        """The parsed project, from memory if its files have not changed since."""
        now = self.fingerprint()
        if self._manifest is None or self._parsed != now:
            self._parse(now)
        assert self._manifest is not None
        return self._manifest

    def _is_parsed(self, fingerprint: str) -> bool:
        needed = ("project.sha256", "partial_parse.msgpack", "kept_away.json", "stages.json", "manifest.json")
        stamp, *others = (self.target / name for name in needed)
        return all(path.exists() for path in (stamp, *others)) and stamp.read_text() == fingerprint

    def _parse(self, fingerprint: str) -> None:
        if self._is_parsed(fingerprint) and self._read_back(fingerprint):
            return
        # From here on what lies in the target folder is no parse of anything until its stamp is there again.
        (self.target / "project.sha256").unlink(missing_ok=True)
        kept_away = setting_aside.broken_files(self.project_dir)
        while True:
            self._seen_dir = setting_aside.project_without(self.project_dir, self._home.dagster / "project", kept_away)
            result = self._invoke(["parse", "--no-partial-parse"], None, None)
            if result.success:
                break
            said = _one_line(result.exception)
            culprit = setting_aside.blamed(str(result.exception), self._segments() - set(kept_away))
            if culprit is None:
                raise RefreshError(f"the dbt project can't be parsed: {said}")
            kept_away[culprit] = Problem(culprit, f"models/segments/{PREFIX}{culprit}.sql", said)
        self._manifest, self._parsed = result.result, fingerprint
        stages = {stage: self._select(stage, result.result) for stage in STAGES}
        write_atomically(self.target / "kept_away.json", json.dumps([asdict(said) for said in kept_away.values()]))
        write_atomically(self.target / "stages.json", json.dumps(stages, indent=1))
        write_atomically(self.target / "project.sha256", fingerprint)

    def _read_back(self, fingerprint: str) -> bool:
        """Take the last parse as dbt stored it: a tenth of a second, where a partial parse looks at every file again.

        Returns:
            Whether it could be read.
        """
        from dbt.contracts.graph.manifest import Manifest
        from dbt.parser.manifest import extended_mashumuro_decoder

        try:
            packed = (self.target / "partial_parse.msgpack").read_bytes()
            manifest = Manifest.from_msgpack(packed, decoder=extended_mashumuro_decoder)
        except Exception:  # cut off while it was written: mashumaro and msgpack have a type of error for each way
            return False
        manifest.build_flat_graph()
        said = json.loads((self.target / "kept_away.json").read_text(encoding="utf-8"))
        kept_away = {entry["segment"]: Problem(**entry) for entry in said}
        self._seen_dir = setting_aside.project_without(self.project_dir, self._home.dagster / "project", kept_away)
        self._manifest, self._parsed = manifest, fingerprint
        return True

    def _segments(self) -> set[str]:
        return {path.stem.removeprefix(PREFIX) for path in (self.project_dir / "models" / "segments").rglob("*.sql")}

    def _select(self, stage: str, manifest: Manifest) -> list[str]:
        result = self._invoke(
            ["list", "--selector", stage, "--output", "json", "--output-keys", "unique_id"], manifest, None
        )
        if not result.success:
            raise RefreshError(f"dbt can't select the stage {stage}: {_one_line(result.exception)}")
        return sorted(json.loads(line)["unique_id"] for line in result.result)

    def _invoke(self, arguments: list[str], manifest: Manifest | None, note: Callable[[Any], None] | None) -> Any:
        from dbt.cli.main import dbtRunner

        self.target.mkdir(parents=True, exist_ok=True)
        paths = {
            "--project-dir": self._seen_dir,
            "--profiles-dir": self._seen_dir,
            "--target-path": self.target,
            "--log-path": self.target / "logs",
        }
        quiet = ["--quiet", "--log-level", "none", "--no-use-colors", "--no-send-anonymous-usage-stats"]
        runner = dbtRunner(manifest=manifest, callbacks=[note] if note else [])
        with _environment(MAILWRIGHT_HOME=str(self._home.root), DO_NOT_TRACK="1"):
            result = runner.invoke([*arguments, *(str(part) for pair in paths.items() for part in pair), *quiet])
        if isinstance(result.exception, KeyboardInterrupt | SystemExit):
            raise result.exception
        return result

    def _row_counts(self) -> dict[tuple[str, str], int]:
        """Rows of every table, from the warehouse's own statistics: free, and exact for a table just built."""
        import duckdb

        with duckdb.connect(str(self._home.warehouse)) as connection:
            found = connection.execute("select schema_name, table_name, estimated_size from duckdb_tables()").fetchall()
        return {(schema, table): rows for schema, table, rows in found}


def personal_columns(manifest: Mapping[str, Any], model: str) -> frozenset[str]:
    """Columns of a model tagged `meta.pii`, from a `manifest.json` read as a dict."""
    for node in manifest["nodes"].values():
        if node["resource_type"] in ("model", "seed") and node["name"] == model:
            return frozenset(name for name, column in node["columns"].items() if _is_personal(column))
    return frozenset()


def read_manifest(path: Path) -> dict[str, Any]:
    """A `manifest.json` as a dict."""
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return said


def _is_personal(column: Mapping[str, Any]) -> bool:
    return bool(column.get("meta", {}).get("pii") or column.get("config", {}).get("meta", {}).get("pii"))


def _from_event(event: Any, manifest: Manifest) -> NodeResult | None:
    info = event.data.node_info
    node = manifest.nodes.get(info.unique_id) or getattr(manifest, "unit_tests", {}).get(info.unique_id)
    if node is None:
        return None
    said = event.data.run_result
    return NodeResult(
        info.unique_id,
        node.name,
        str(node.resource_type),
        node.original_file_path,
        said.status,
        said.message,
        said.execution_time,
    )


def _broken_segments(report: StageReport, manifest: Manifest) -> dict[str, Problem]:
    """Segments whose failure explains every failure of a stage, by name; none if something else failed as well."""
    broken: dict[str, Problem] = {}
    for failed in report.failed:
        node = manifest.nodes.get(failed.unique_id)
        looked_at = node.depends_on_nodes if node is not None and failed.is_test else [failed.unique_id]
        models = {name.split(".")[-1] for name in looked_at}
        named = [name.removeprefix(PREFIX) for name in models if name.startswith(PREFIX)]
        if len(named) != 1:
            return {}
        kind = f"its test {failed.name} fails" if failed.is_test else "can't be built"
        (name,) = named
        broken.setdefault(name, Problem(name, failed.path, f"{kind}: {_gist(failed.message)}"))
    return broken


def _describe(node: NodeResult) -> str:
    kind = {"unit_test": "unit test"}.get(node.resource_type, node.resource_type)
    return f"{kind} {node.name} (dbt_project/{node.path}): {_gist(node.message)}"


def _gist(message: str) -> str:
    """What dbt said, without the name of the node that it begins with and the stack of macros that it ends with."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if len(lines) > 1 and re.match(r"\w+ Error in ", lines[0]):
        lines = lines[1:]
    said = []
    for line in lines:
        if line.startswith((">", "compiled code at")):
            break
        said.append(line)
    return _one_line(" ".join(said), limit=250)


def _one_line(said: object, limit: int = 400) -> str:
    text = " ".join(str(said).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _close_dbt() -> None:
    from core import dbt_plugin

    dbt_plugin.close()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the length of a block: dbt's profile reads them when it is called."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
