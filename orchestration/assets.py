"""Dagster's assets, from the lake to the release. Each is a few lines around a step of `refresh` or a room's own function."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator

from core.contract import load_contract
from core.warehouse import warehouse
from ml.models import models
from ml.verbs import checks_of
from orchestration import looks, markdown, modelling, publishing, refresh
from orchestration.checks import CHECK, WAREHOUSE_GROUPS, run_suites
from orchestration.checks import check_specs as expectation_specs
from orchestration.dbt import NodeResult, StageReport
from orchestration.runs import POOL
from orchestration.workshop import Workshop
from segments.definitions import PREFIX
from segments.setting_aside import set_aside

if TYPE_CHECKING:
    from ml.model import Model

# Retried only where it can help: see `Workshop.step`.
RETRY = dg.RetryPolicy(max_retries=2, delay=15, backoff=dg.Backoff.EXPONENTIAL)
DAILY = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=26))
NEEDS = {"workshop"}

DELIVERIES = dg.AssetKey(["lake", "deliveries"])
CLOCK = dg.AssetKey(["lake", "clock"])
LAKE_KEYS = {
    (table.source, table.name): dg.AssetKey([table.source, table.name]) for table in load_contract().tables.values()
}
CONTACT_POINTS = dg.AssetKey(["lake", "contact_points"])
IDENTITY = dg.AssetKey("identity")
FITS = dg.AssetKey("fits")
MODELS = {model.name: dg.AssetKey(["models", model.name]) for model in models()}
SEGMENT_CHECKS = dg.AssetKey("segment_checks")
RELEASE = dg.AssetKey("release")
PUBLISHED = dg.AssetKey("published_marts")

# dbt source -> the Python assets that write it, where it is no asset of its own.
_WRITTEN_BY: Mapping[tuple[str, ...], tuple[dg.AssetKey, ...]] = {
    ("lake", "emails"): (CONTACT_POINTS,),
    ("lake", "phones"): (CONTACT_POINTS,),
    ("identity", "assignments"): (IDENTITY,),
    ("identity", "journal"): (IDENTITY,),
    ("identity", "links"): (IDENTITY,),
    ("lake", "segments_set_aside"): (SEGMENT_CHECKS,),
    # An earlier run's: the release at work is made of what is built on them.
    ("releases", "membership_changes"): (),
    ("releases", "memberships"): (),
    ("releases", "newest"): (),
    ("shipped", "postal_codes"): (),  # a file of the project
    ("state", "category_affinities"): (MODELS["affinity"],),
    ("state", "fits"): (FITS,),
    ("state", "lifetime_values"): (MODELS["clv_365"],),
    ("state", "recommendations"): (MODELS["affinity"],),
    ("state", "scores"): tuple(key for name, key in MODELS.items() if name != "affinity"),
    ("state", "similar_products"): (MODELS["affinity"],),
    # Of earlier syncs: what a sync does is no input of the refresh before it.
    ("syncs", "rows"): (),
    ("syncs", "runs"): (),
}


# Models that read what the release at work has just said.
_AFTER_RELEASE = frozenset({"model.mailwright.segment_membership_history"})


class Translator(DagsterDbtTranslator):
    """Groups by room, and Python's state instead of dbt's sources for what Python wrote."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The folder: staging, intermediate, marts_core, marts_customers, features, segments, activation; or a subfolder.

        What Python wrote comes back in `staging/ml`, `staging/identity`, `staging/releases` and `staging/syncs`: with the rest of staging
        the groups would go round.
        """
        if dbt_resource_props["resource_type"] == "source":
            return "lake"
        if dbt_resource_props["resource_type"] == "seed":
            return "seeds"
        folders = dbt_resource_props["fqn"][1:-1]
        if folders[-1] in ("ml", "identity", "releases", "syncs"):
            return str(folders[-1])
        return f"marts_{folders[1]}" if folders[0] == "marts" else folders[0]

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        """A model that reads state depends on the assets that write it."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        deps = [
            dg.AssetDep(writer)
            for dep in spec.deps
            for writer in _WRITTEN_BY.get(tuple(dep.asset_key.path), (dep.asset_key,))
        ]
        if unique_id.startswith(f"model.mailwright.{PREFIX}"):
            deps.append(dg.AssetDep(SEGMENT_CHECKS))
        if unique_id in _AFTER_RELEASE:
            deps.append(dg.AssetDep(RELEASE))
        return spec.replace_attributes(deps=deps)

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        """Also tests that look at several models: they hang on the last of those that they name."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        node = manifest["nodes"][unique_id]
        if spec is not None or node.get("attached_node"):
            return spec
        parents = [name for name in node["depends_on"]["nodes"] if name in manifest["nodes"]]
        if not parents or parents[-1] != asset_spec.metadata["dagster_dbt/unique_id"]:
            return None
        return dg.AssetCheckSpec(
            node["name"],
            asset=asset_spec.key,
            description=node.get("description") or None,
            blocking=str(node["config"].get("severity", "error")).lower() == "error",
        )


def lake_assets() -> list[dg.AssetsDefinition]:
    """One asset per table of the contract, the manifest of deliveries, and the clock."""
    tables = load_contract().tables

    @dg.multi_asset(
        name="lake",
        specs=[
            *(
                dg.AssetSpec(
                    LAKE_KEYS[key],
                    group_name="lake",
                    description=table.description,
                    kinds={"parquet"},
                    metadata={
                        "dagster/column_schema": dg.TableSchema(
                            [
                                dg.TableColumn(column.name, column.data_type, column.description)
                                for column in table.columns
                            ]
                        )
                    },
                    skippable=True,
                )
                for key, table in tables.items()
            ),
            dg.AssetSpec(
                DELIVERIES,
                group_name="lake",
                description="The manifest: one row per delivery and table, every row accounted for.",
                kinds={"parquet"},
                skippable=True,
            ),
        ],
        can_subset=True,
        required_resource_keys=NEEDS,
    )
    def lake(context: dg.AssetExecutionContext) -> Iterator[Any]:
        """Takes stock of what was delivered."""
        shop: Workshop = context.resources.workshop
        with shop.step("Take stock of the lake"):
            stock = refresh.take_stock(shop.home)
        absent = sorted(source for source, present in stock.sources.items() if not present)
        for key, said in stock.tables.items():
            if LAKE_KEYS[key] in context.selected_asset_keys:
                yield dg.MaterializeResult(
                    LAKE_KEYS[key],
                    metadata={
                        "dagster/row_count": said.rows_accepted,
                        "rows_read": said.rows_read,
                        "rows_superseded": said.rows_superseded,
                        "rows_rejected": said.rows_rejected,
                        "rows_erased": said.rows_erased,
                        "deliveries": said.deliveries,
                        "last_received_at": _instant(said.last_received_at),
                        "notices": dg.MetadataValue.md("\n".join(f"- {notice}" for notice in said.notices) or "none"),
                    },
                )
        if DELIVERIES in context.selected_asset_keys:
            yield dg.MaterializeResult(
                DELIVERIES,
                metadata={
                    "sequence": stock.sequence,
                    "absent_sources": ", ".join(absent) or "none",
                    "tables": dg.MetadataValue.md(
                        markdown.table(
                            ("table", "deliveries", "read", "accepted", "superseded", "rejected", "erased"),
                            (
                                (
                                    s.table.full_name,
                                    s.deliveries,
                                    s.rows_read,
                                    s.rows_accepted,
                                    s.rows_superseded,
                                    s.rows_rejected,
                                    s.rows_erased,
                                )
                                for s in stock.tables.values()
                                if s.deliveries
                            ),
                        )
                    ),
                },
            )

    @dg.asset(
        key=CLOCK,
        deps=[
            DELIVERIES
        ],  # not the orders: their checks ask the clock how fresh they are, and would wait for it in turn
        group_name="lake",
        description="The as_of of the run: an exclusive bound on what is known.",
        config_schema={"as_of": dg.Field(dg.Noneable(str), default_value=None, is_required=False)},
        required_resource_keys=NEEDS,
    )
    def clock(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        shop: Workshop = context.resources.workshop
        with shop.step("Set the clock"):
            as_of = refresh.load_clock(shop.home, context.op_execution_context.op_config["as_of"], datetime.now(UTC))
        shown = as_of.describe(shop.home.timezone)
        shop.tally.facts["as_of"] = shown
        shop.reporter.note(f"as of {shown}")
        return dg.MaterializeResult(metadata={"as_of": _instant(as_of.instant), "origin": as_of.origin, "shown": shown})

    @dg.asset(
        key=CONTACT_POINTS,
        deps=[LAKE_KEYS[key] for key, table in tables.items() if any(column.contact_point for column in table.columns)],
        group_name="lake",
        kinds={"python", "parquet"},
        description="Email addresses and phone numbers as the field's libraries read them: each new value once.",
        required_resource_keys=NEEDS,
    )
    def contact_points(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        shop: Workshop = context.resources.workshop
        with shop.step("Read the new contact points") as tick:
            report = refresh.parse_contact_points(shop.settings, shop.home, tick)
        return dg.MaterializeResult(metadata=_shown(report))

    return [lake, clock, contact_points]


@dataclass(frozen=True)
class _Stage:
    """One dbt stage as an op.

    Attributes:
        nodes: unique ids of its models, seeds and tests.
    """

    name: str
    title: str
    nodes: Sequence[str]
    manifest: Mapping[str, Any]
    translator: Translator

    def assets(self) -> dg.AssetsDefinition:
        specs = {
            name: self.translator.get_asset_spec(self.manifest, name, None)
            for name in self.nodes
            if name.startswith(("model.", "seed."))
        }
        tests = [name for name in self.nodes if name.startswith("test.")]
        every_spec = {
            name: self.translator.get_asset_spec(self.manifest, name, None)
            for name in self.manifest["nodes"]
            if name.startswith(("model.", "seed."))
        }
        found = [
            self.translator.get_asset_check_spec(every_spec[parent], self.manifest, test, None)
            for test in tests
            for parent in self.manifest["nodes"][test]["depends_on"]["nodes"]
            if parent in every_spec
        ]
        checks = {spec.key: spec for spec in found if spec is not None}
        checks |= {spec.key: spec for spec in expectation_specs(among={spec.key for spec in specs.values()})}

        @dg.multi_asset(
            name=f"dbt_{self.name}",
            specs=list(specs.values()),
            check_specs=list(checks.values()),
            can_subset=True,
            pool=POOL,
            required_resource_keys=NEEDS,
            retry_policy=RETRY,
            allow_arbitrary_check_specs=True,
        )
        def stage(context: dg.AssetExecutionContext) -> Iterator[Any]:
            yield from self.run(context, context.resources.workshop)

        return stage

    def run(self, context: dg.AssetExecutionContext, shop: Workshop) -> Iterator[Any]:
        """Build the stage in this process, then tell Dagster what became of each model and test."""
        whole = self.keys()
        wanted = set(context.selected_asset_keys)
        names = None if wanted == set(whole) else sorted(whole[key] for key in wanted)
        with shop.step(self.title, total=len(self.nodes) if names is None else None) as tick:
            report = shop.dbt.build(self.name, names=names, on_node=lambda node: tick(node.name))
            if self.name == "audiences":
                shop.tally.facts["segments_set_aside"] = [str(said) for said in set_aside(shop.home).values()]
            shown = self.look(shop, report)
        shop.tally.models += report.models_built
        shop.tally.checks_passed += report.tests_passed
        yield from self.events(context, shop, report, shown)
        with shop.failing_clearly():
            report.raise_if_failed()
        guarded = {key for key in context.selected_asset_check_keys if key.name == CHECK}
        if guarded:
            with shop.step(f"Check what the stage {self.name} built"):
                results = run_suites(shop, WAREHOUSE_GROUPS, guarded)
            yield from results

    def keys(self) -> dict[dg.AssetKey, str]:
        """Asset key -> name of every model and seed of the stage."""
        said = [self.manifest["nodes"][name] for name in self.nodes if name.startswith(("model.", "seed."))]
        return {self.translator.get_asset_key(node): node["name"] for node in said}

    def look(self, shop: Workshop, report: StageReport) -> dict[str, dict[str, Any]]:
        """What is worth looking at on the models that were built, by model."""
        built = {node.name for node in report.nodes if node.ok and not node.is_test}
        if not built & set(looks.LOOKS):
            return {}
        with warehouse(shop.settings, shop.home) as connection:
            return {name: look(connection) for name, look in looks.LOOKS.items() if name in built}

    def events(
        self,
        context: dg.AssetExecutionContext,
        shop: Workshop,
        report: StageReport,
        shown: Mapping[str, Mapping[str, Any]],
    ) -> Iterator[Any]:
        """Materializations of what was built and results of what was tested."""
        checks = {key.name: key for key in context.selected_asset_check_keys}
        for node in report.nodes:
            said = self.manifest["nodes"].get(node.unique_id)
            if node.resource_type == "test" and node.name in checks and node.status != "skipped":
                if node.status == "warn":
                    shop.tally.unheeded.append(node.name)
                yield _check_result(checks[node.name], node)
            elif said is not None and not node.is_test and node.ok:
                key = self.translator.get_asset_key(said)
                if key in context.selected_asset_keys:
                    rows = {} if node.rows is None else {"dagster/row_count": node.rows}
                    timing = {"seconds": round(node.seconds, 3)}
                    yield dg.MaterializeResult(key, metadata={**timing, **rows, **shown.get(node.name, {})})
        slow = sorted(report.nodes, key=lambda node: -node.seconds)[:5]
        context.log.info(
            f"{report.models_built} models, {report.tests_passed} checks passed; slowest: "
            + ", ".join(f"{node.name} {node.seconds:.1f} s" for node in slow)
        )


def dbt_stages(manifest: Mapping[str, Any], nodes: Mapping[str, Sequence[str]]) -> list[dg.AssetsDefinition]:
    """The dbt models and their tests, one op per stage.

    Args:
        nodes: stage -> unique ids of its models, seeds and tests.
    """
    translator = Translator()
    titles = {
        "identity": "Build staging and what identities are known by",
        "core": "Build marts and features",
        "customers": "Build the customer marts",
        "audiences": "Build segments and audiences",
        "history": "Build the history of memberships",
    }
    return [_Stage(name, title, nodes[name], manifest, translator).assets() for name, title in titles.items()]


def identity_assets() -> list[dg.AssetsDefinition]:
    """Who is who; dbt reads it back."""

    @dg.asset(
        key=IDENTITY,
        deps=[
            _model("intermediate", name) for name in ("int_person_records", "int_identity_links", "int_identity_barred")
        ],
        group_name="identity",
        kinds={"python", "parquet"},
        description="Which records are one person: assignments and the journal of every merge and split.",
        pool=POOL,
        required_resource_keys=NEEDS,
        retry_policy=RETRY,
    )
    def identity(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        shop: Workshop = context.resources.workshop
        with shop.step("Find out who is who") as tick:
            report = refresh.resolve_identity(shop.settings, shop.home, tick)
        return dg.MaterializeResult(metadata=_shown(report))

    return [identity]


def fit_assets() -> list[dg.AssetsDefinition]:
    """Constants that Python learns from the features; dbt reads them back."""

    @dg.asset(
        key=FITS,
        deps=[_model("features", name) for name in ("feat_fit_candidates", "feat_anchors")],
        group_name="ml",
        kinds={"python"},
        description="RFM cut points and the repurchase gap, learned on purpose and kept: made when there are none.",
        pool=POOL,
        required_resource_keys=NEEDS,
        retry_policy=RETRY,
    )
    def fits(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        shop: Workshop = context.resources.workshop
        with shop.step("Look up the fits"):
            report = refresh.ensure_fits(shop.settings, shop.home)
        return dg.MaterializeResult(metadata=_shown(report))

    return [fits]


def model_assets() -> list[dg.AssetsDefinition]:
    """One asset per model: its scores, with what is watched of it as checks, and its report."""
    return [_model_asset(model) for model in models()]


def _model_asset(model: "Model") -> dg.AssetsDefinition:
    key = MODELS[model.name]

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(name.split(".")) for name in model.reads],
        group_name="models",
        kinds={"python", "scikitlearn"},
        description=f"{model.question} Judged against: {model.baseline}.",
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=said) for name, said in checks_of(model).items()],
        config_schema={"retrain": dg.Field(bool, default_value=False, is_required=False)},
        pool=POOL,
        required_resource_keys=NEEDS,
        retry_policy=RETRY,
    )
    def scores(context: dg.AssetExecutionContext) -> Iterator[Any]:
        shop: Workshop = context.resources.workshop
        retrain = context.op_execution_context.op_config["retrain"]
        with shop.step(f"{'Train' if retrain else 'Score with'} {model.name}"):
            run = modelling.run_model(shop.settings, shop.home, model, retrain=retrain)
        shop.tally.facts.setdefault("models", []).append(run)
        shop.tally.unheeded += [f"{model.name}.{finding.check}" for finding in run.findings if not finding.passed]
        shop.tally.checks_passed += sum(finding.passed for finding in run.findings)
        yield dg.MaterializeResult(
            metadata=_shown(
                refresh.LearningReport(
                    run.figures | ({"report": dg.MetadataValue.path(str(run.page))} if run.page else {}),
                    {name: (table.columns, table.rows) for name, table in run.tables.items()},
                    run.pictures,
                )
            ),
            check_results=[
                dg.AssetCheckResult(
                    passed=finding.passed,
                    check_name=finding.check,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"found": finding.said},
                )
                for finding in run.findings
            ],
        )

    return scores


def segment_assets(manifest: Mapping[str, Any]) -> list[dg.AssetsDefinition]:
    """Every segment checked by itself, before dbt builds them: what is broken is set aside."""
    # They are built last of what segments read. Naming the others too would have Dagster part the dbt stages, as some of
    # their checks look at audiences.
    reads = [
        dg.AssetKey([node["schema"], node["name"]])
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["fqn"][1:-1] == ["marts", "customers"]
    ]

    @dg.asset(
        key=SEGMENT_CHECKS,
        deps=reads,
        group_name="segments",
        kinds={"python"},
        description="Each segment compiled and run alone: what is broken is set aside and keeps its members.",
        check_specs=[
            dg.AssetCheckSpec(
                "no_segment_is_set_aside", asset=SEGMENT_CHECKS, description="Every segment file can be used"
            )
        ],
        pool=POOL,
        required_resource_keys=NEEDS,
        retry_policy=RETRY,
    )
    def segment_checks(context: dg.AssetExecutionContext) -> Iterator[Any]:
        shop: Workshop = context.resources.workshop
        with shop.step("Check the segments"):
            report = refresh.check_segments(shop.settings, shop.home, shop.dbt.kept_away())
        for problem in report.set_aside:
            shop.reporter.note(f"set aside: {problem}")
        yield dg.MaterializeResult(
            metadata={"segments": len(report.rows), "report": dg.MetadataValue.md(report.markdown())},
            check_results=[
                dg.AssetCheckResult(
                    passed=not report.set_aside,
                    check_name="no_segment_is_set_aside",
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={problem.segment: str(problem) for problem in report.set_aside},
                )
            ],
        )

    return [segment_checks]


def release_assets() -> list[dg.AssetsDefinition]:
    """The release. What is made of it is in `sync_assets`."""

    @dg.asset(
        key=RELEASE,
        deps=[
            _model("activation", name)
            for name in ("segment_memberships", "sendable_audience", "audience_funnel", "sync_profiles")
        ],
        group_name="activation",
        kinds={"parquet"},
        description="A numbered, immutable set of memberships and mapped profiles.",
        pool=POOL,
        required_resource_keys=NEEDS,
        retry_policy=RETRY,
    )
    def release(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        shop: Workshop = context.resources.workshop
        with shop.step("Freeze the release"):
            frozen = refresh.freeze_release(shop.settings, shop.home)
        shop.tally.facts["release"] = frozen.describe()
        sizes = sorted(frozen.segments.items(), key=lambda entry: -entry[1])
        return dg.MaterializeResult(
            metadata={
                **frozen.summary(),
                "segment_sizes": dg.MetadataValue.md(markdown.table(("segment", "customers"), sizes)),
                **looks.release(shop.home, frozen),
            }
        )

    return [release]


def publishing_assets(manifest: Mapping[str, Any], marts: list[dg.AssetKey]) -> list[dg.AssetsDefinition]:
    """What BI reads."""

    @dg.asset(
        key=PUBLISHED,
        deps=[*marts, RELEASE],
        group_name="publishing",
        kinds={"duckdb", "parquet"},
        description="Read-only copies of the marts without personal columns, replaced as a whole.",
        freshness_policy=DAILY,
        pool=POOL,
        required_resource_keys=NEEDS,
        retry_policy=RETRY,
    )
    def published_marts(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        shop: Workshop = context.resources.workshop
        with shop.step("Publish the marts") as tick:
            before = publishing.read_publication(shop.home)
            publication = refresh.publish_marts(
                shop.settings, shop.home, manifest, shop.tally, now=datetime.now(UTC), progress=tick
            )
        changed = publishing.changes(before, publication)
        shop.tally.facts["changed_tables"] = changed
        return dg.MaterializeResult(
            metadata={
                "folder": dg.MetadataValue.path(str(shop.home.published)),
                "changed_tables": ", ".join(changed) or "none: everything is as it was",
                "tables": dg.MetadataValue.md(
                    markdown.table(
                        ("table", "rows", "personal columns left out"),
                        ((table.name, table.rows, ", ".join(table.left_out)) for table in publication.tables),
                    )
                ),
            }
        )

    return [published_marts]


def _model(schema: str, name: str) -> dg.AssetKey:
    return dg.AssetKey([schema, name])


def _shown(report: refresh.LearningReport) -> dict[str, Any]:
    """A report as metadata: figures as they are, tables and pictures as Markdown."""
    shown: dict[str, Any] = dict(report.figures)
    shown |= {name: dg.MetadataValue.md(markdown.table(*table)) for name, table in report.tables.items()}
    shown |= {name: dg.MetadataValue.md(markdown.image(png, name)) for name, png in report.pictures.items()}
    return shown


def _check_result(key: dg.AssetCheckKey, node: NodeResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=node.status == "pass",
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.WARN if node.status == "warn" else dg.AssetCheckSeverity.ERROR,
        metadata={
            "seconds": round(node.seconds, 3),
            "failing_rows": node.failures or 0,
            "message": node.message or "",
            "file": f"dbt_project/{node.path}",
        },
    )


def _instant(moment: datetime | None) -> Any:
    if moment is None:
        return "never"
    return dg.MetadataValue.timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
