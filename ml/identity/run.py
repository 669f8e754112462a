"""One run of identity resolution on the warehouse: who is who, as of the clock.

dbt has made the records and what is certain of them; here pairs are scored, groups resolved, ids kept, and the outcome
appended to `home.identity`, which dbt reads. Only what changed is scored and resolved anew; the rest stays as it is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.home import Home
from ml.identity import store
from ml.identity.customers import Changes, follow
from ml.identity.resolution import FORCED, Limits, Resolution, resolve

if TYPE_CHECKING:
    import duckdb

    from ml.identity.keys import Prepared
    from ml.identity.model import IdentityModel

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "given_name": ("given_name",),
    "surname": ("surname",),
    "full_name": ("full_name",),
    "date_of_birth": ("date_of_birth",),
    "gender": ("gender",),
    "email": ("email",),
    "phone": ("phone",),
    "address": ("address",),
    "city": ("city",),
    "region": ("region",),
    "postal_code": ("postal_code",),
    "country": ("country",),
    "identifier:customer_ref": ("customer_ref",),
}
"""What records are compared by: person column -> columns of `int_person_records`."""

TELLING = ("given_name", "surname", "full_name", "date_of_birth", "email", "phone", "address")
"""A record with none of these is compared with nobody."""

CARRIED = ("customer_ref", "email", "phone")
"""Identifiers of which one person has only so many."""

PRIORITIES: Mapping[str, int] = {"steward": FORCED, "customer_ref": 1, "contact_point": 2}

GROWTH = 10
"""A model that has learned from fewer than a tenth of the records is trained anew."""

KEPT = "identity_keys"
"""Schema of the warehouse that keeps comparison keys from run to run; like the whole warehouse, it may be deleted."""

_CURVE_STEP = 0.5  # bits of match weight between two points of the threshold curve

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LevelWeight:
    """What it says, in bits, that a comparison of two records comes out at a level."""

    comparison: str
    level: str
    weight: float


@dataclass(frozen=True)
class ThresholdPoint:
    """What the model expects of a threshold, by its own probabilities and without labels.

    Attributes:
        threshold: match weight in bits.
        pairs: scored pairs at or above it.
        recall: of the matches among the pairs that were scored.
    """

    threshold: float
    pairs: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class IdentityReport:
    """What a run did.

    Attributes:
        status: resolved; unchanged, when there was nothing new; or replay, when as_of lies before the newest run's: then
            nothing is written, and the assignments of that run hold.
        run: number of the newest run, this one included; None before the first.
        records: that are there as of now.
        customers: that they belong to.
        merged_records: records less customers.
        gone_records: that were there in the run before.
        resolved_records: that were resolved anew; the others are as they were.
        refused: links of those that were not followed, by reason.
        barred_pairs: by a steward.
        links: at or above the threshold.
        seconds: by step.
        levels: match weights of the model.
        curve: what the model expects, by threshold.
        sizes: customers by how many records they have.
    """

    status: Literal["resolved", "unchanged", "replay"]
    as_of: datetime
    run: int | None
    records: int = 0
    customers: int = 0
    new_records: int = 0
    changed_records: int = 0
    gone_records: int = 0
    resolved_records: int = 0
    changes: Changes = field(default_factory=lambda: Changes(0, 0))
    refused: Mapping[str, int] = field(default_factory=dict)
    barred_pairs: int = 0
    pairs_scored: int = 0
    links: int = 0
    threshold: float | None = None
    model_status: Literal["trained", "reused", "none"] = "none"
    seconds: Mapping[str, float] = field(default_factory=dict)
    levels: tuple[LevelWeight, ...] = ()
    curve: tuple[ThresholdPoint, ...] = ()
    sizes: Mapping[int, int] = field(default_factory=dict)

    @property
    def merged_records(self) -> int:
        return self.records - self.customers

    @property
    def explanation(self) -> str:
        """In one line, for people."""
        if self.status == "replay":
            return "as of before the newest run: nothing is decided anew, its assignments hold"
        if self.status == "unchanged":
            return "no record and no decision changed: everybody stays who they are"
        return f"{self.records:,} records are {self.customers:,} customers"


def run(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    *,
    retrain: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> IdentityReport:
    """Decide who is who as of the clock, and write down what changed. If nothing changed, nothing is written.

    Reads `intermediate.int_person_records`, `int_identity_links`, `int_identity_barred` and `lake.clock`; leaves
    nothing in the warehouse but comparison keys, so that those of a record that did not change are not made again.

    Args:
        connection: the warehouse, open.
        retrain: train a new model and score all pairs anew, even if there is a model.
        progress: called with the name of each step.
    """
    return _Run(connection, home, limits or Limits(), progress).run(retrain=retrain)


class _Run:
    """The steps of `run`. Tables live in a database in memory, as they hold contents of records."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, home: Home, limits: Limits, progress: Progress | None
    ) -> None:
        self.connection = connection
        self.home = home
        self.limits = limits
        self.progress = progress or (lambda _: None)
        self.seconds: dict[str, float] = {}
        self.warehouse = str(self._value("select current_database()"))

    def run(self, *, retrain: bool) -> IdentityReport:
        store.forget_unfinished(self.home)
        before = store.newest(self.home)
        as_of = self._as_of()
        with self._workspace():
            with self._step("Read records"):
                self._read()
            if before is not None and as_of < before.as_of:
                return self._report("replay", as_of, before)
            stored = store.read_model(self.home)
            if stored is not None and self._count("telling") >= GROWTH * stored.records:
                stored = None
            unseen = self._count("unseen")
            if (
                before is not None
                and not retrain
                and not unseen
                and not self._count("retied")
                and not self._count("gone")
            ):
                return self._report("unchanged", as_of, before)
            now = store.Run(before.number + 1 if before else 1, as_of)
            return self._resolve(now, None if retrain else stored)

    def _resolve(self, now: store.Run, stored: store.StoredModel | None) -> IdentityReport:
        trained, prepared = None, None
        is_all = stored is None
        if self._count("telling") > 1 and (is_all or self._count("unseen")):
            prepared = self._prepare()
            if stored is not None and not set(prepared.columns) <= set(stored.model.columns):
                stored, is_all = None, True  # records hold something now that the model can't compare
            if stored is None:
                stored = trained = self._train(prepared, now.number)
            self._score(prepared, stored.model, is_all=is_all)
        with self._step("Gather links"):
            threshold = stored.model.threshold if stored else 0.0
            self._gather(threshold, is_all=is_all)
        with self._step("Find what changed"):
            self._find_affected(is_all=is_all)
        if prepared is None and self._value("select count(*) from affected inner join telling using (record_id)") > 1:
            prepared = self._prepare()
        with self._step("Resolve"):
            resolution = self._cluster(prepared, threshold)
        with self._step("Keep ids"):
            changes = self._follow(now)
        with self._step("Write"):
            self._write(now, trained)
        model_status: Literal["trained", "reused", "none"] = "trained" if trained else "reused" if stored else "none"
        return self._report("resolved", now.as_of, now, resolution, changes, model_status)

    # Reading

    def _as_of(self) -> datetime:
        as_of = self._value("select as_of from lake.clock")
        assert isinstance(as_of, datetime)
        return as_of

    def _read(self) -> None:
        """`records`, and of them `unseen` (new or changed), `retied` (other certain links or bars), `telling`; `gone`."""
        store.read_records(self.connection, self.home, out="known")
        store.read(self.connection, self.home, "assignments", out="history")
        columns = [name for names in COLUMNS.values() for name in names]
        content = ", ".join(f"coalesce(cast({name} as varchar), chr(30))" for name in columns)
        self._make(
            "certain",
            f"""
            select left_id as record_l, right_id as record_r, rule, {self._priority()} as priority
            from {self._dbt("int_identity_links")}
            """,
        )
        self._make(
            "barred", f"select left_id as record_l, right_id as record_r from {self._dbt('int_identity_barred')}"
        )
        self._make(
            "records",
            f"""
            with ends as (
                select record_l as record_id, rule || ' ' || record_r as tie from certain
                union all
                select record_r, rule || ' ' || record_l from certain
                union all
                select record_l, 'barred ' || record_r from barred
                union all
                select record_r, 'barred ' || record_l from barred
            ),

            ties as (
                select record_id, substr(md5(string_agg(distinct tie, chr(31) order by tie)), 1, 16) as ties_hash
                from ends
                group by record_id
            ),

            described as (
                select
                    identifier_id as record_id,
                    own_customer_id,
                    first_known_at,
                    substr(md5(concat_ws(chr(31), {content})), 1, 16) as content_hash,
                    coalesce({", ".join(f"cast({name} as varchar)" for name in TELLING)}) is not null as is_telling
                from {self._dbt("int_person_records")}
            )

            select described.*, coalesce(ties.ties_hash, '') as ties_hash
            from described
            left join ties on described.record_id = ties.record_id
            """,
        )
        self._make(
            "unseen",
            """
            select records.record_id, known.content_hash is null as is_new
            from records
            left join known on records.record_id = known.identifier_id
            where known.content_hash is distinct from records.content_hash
            """,
        )
        self._make(
            "retied",
            """
            select records.record_id
            from records
            inner join known on records.record_id = known.identifier_id
            where known.content_hash = records.content_hash and known.ties_hash <> records.ties_hash
            """,
        )
        self._make(
            "gone",
            """
            select identifier_id as record_id
            from known
            where content_hash is not null and identifier_id not in (select record_id from records)
            """,
        )
        # A shop gives its numbers in sequence: one that differs by a digit is no slip but somebody else, so they are
        # compared by a hash.
        self.connection.execute(
            f"""
            create or replace view telling as
            select identifier_id as record_id, * exclude (identifier_id) replace (md5(customer_ref) as customer_ref)
            from {self._dbt("int_person_records")}
            where identifier_id in (select record_id from records where is_telling)
            """
        )

    def _priority(self) -> str:
        whens = " ".join(f"when '{rule}' then {priority}" for rule, priority in PRIORITIES.items())
        return f"case rule {whens} else {max(PRIORITIES.values()) + 1} end"

    # Scoring

    def _prepare(self) -> Prepared:
        """Comparison keys of all telling records. Those of records that did not change are kept in the warehouse."""
        from ml.identity.columns import identifier_key
        from ml.identity.keys import KEYS, Prepared, prepare

        with self._step("Prepare records"):
            kept = self._kept_keys()
            is_kept = bool(
                self._value(
                    f"select count(*) from duckdb_tables() where schema_name = '{KEPT}' and table_name = '{kept}'"
                )
            )
            kept = f'"{self.warehouse}".{KEPT}.{kept}'
            known = f"select record_id, content_hash from {kept}" if is_kept else "select null, null where false"
            self._make(
                "unprepared",
                f"""
                select record_id
                from records
                where is_telling and (record_id, content_hash) not in ({known})
                """,
            )
            if not is_kept or self._count("unprepared"):
                self.connection.execute(
                    "create or replace view compared as"
                    " select * from telling where record_id in (select record_id from unprepared)"
                )
                prepare(self.connection, "compared", id_column="record_id", columns=COLUMNS, out="identity_run_part")
                self._keep_keys(kept, is_kept=is_kept)
            self.connection.execute(
                f"""
                create or replace view identity_run_prepared as
                select * exclude (content_hash)
                from {kept}
                where record_id in (select record_id from records where is_telling)
                """
            )
            names = [name for name in COLUMNS if name != "full_name"]
            keys = [KEYS[name][0] if name in KEYS else identifier_key(name) for name in names]
            counts = self.connection.execute(
                f"select count(*), {', '.join(f'count({key})' for key in keys)} from identity_run_prepared"
            ).fetchall()[0]
            held = tuple(name for name, count in zip(names, counts[1:], strict=True) if count)
            return Prepared("identity_run_prepared", held, has_source=False, records=counts[0])

    def _kept_keys(self) -> str:
        """Name of the table of kept keys: another one whenever the code that makes them changes."""
        from ml.identity import keys

        folder = Path(keys.__file__).parent
        made_by = [folder / name for name in ("keys.py", "nicknames.csv")]
        return "keys_" + hashlib.sha256(b"".join(path.read_bytes() for path in made_by)).hexdigest()[:12]

    def _keep_keys(self, kept: str, *, is_kept: bool) -> None:
        part = "select part.*, records.content_hash from identity_run_part as part inner join records using (record_id)"
        if is_kept:
            self.connection.execute(
                f"delete from {kept} where record_id not in (select record_id from records where is_telling)"
                " or record_id in (select record_id from unprepared)"
            )
            self.connection.execute(f"insert into {kept} {part}")
        else:
            self.connection.execute(f'drop schema if exists "{self.warehouse}".{KEPT} cascade')
            self.connection.execute(f'create schema "{self.warehouse}".{KEPT}')
            self.connection.execute(f"create table {kept} as {part}")
        self.connection.execute("drop table identity_run_part")

    def _train(self, prepared: Prepared, number: int) -> store.StoredModel:
        from ml.identity.model import train

        with self._step("Train the model"):
            return store.StoredModel(number, prepared.records, train(self.connection, prepared, progress=self.progress))

    def _score(self, prepared: Prepared, model: IdentityModel, *, is_all: bool) -> None:
        from ml.identity.linking import score

        with self._step("Score pairs"):
            new = None if is_all else "unseen"
            score(self.connection, prepared, model, new=new, out="identity_run_scored")
            self.connection.execute("alter table identity_run_scored rename to scored")

    def _gather(self, threshold: float, *, is_all: bool) -> None:
        """`linked`: all scored pairs in force. `links`: what may hold customers together, with its rule."""
        self._ensure_scored()
        store.read_links(self.connection, self.home, records="known", out="kept")
        self._make(
            "linked",
            f"""
            select record_l, record_r, match_weight, match_probability, agreed
            from kept
            where
                not {is_all}
                and record_l in (select record_id from records)
                and record_r in (select record_id from records)
                and record_l not in (select record_id from unseen)
                and record_r not in (select record_id from unseen)
            union all
            select record_l, record_r, match_weight, match_probability, agreed from scored
            """,
        )
        self._make(
            "links",
            f"""
            select record_l, record_r, 'score' as rule, match_weight, agreed from linked where match_weight >= {threshold!r}
            union all
            select record_l, record_r, rule, cast(null as double), cast(null as varchar[]) from certain
            """,
        )

    def _ensure_scored(self) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in store.COLUMNS["links"].items() if name != "run")
        self.connection.execute(f"create table if not exists scored ({columns})")

    # Resolving

    def _find_affected(self, *, is_all: bool) -> None:
        """`affected`: the records whose customer may change: all that can be reached from a change.

        Records reach each other by links and by having had the same customer. What can't be reached is as it was: its
        records, links, bars and customer are.
        """
        if is_all:
            self._make("affected", "select record_id from records")
            return
        import numpy as np
        import pyarrow as pa
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        self._make("before", "select identifier_id, arg_max(customer_id, run) as customer_id from history group by all")
        self._make(
            "numbered",
            """
            select
                records.record_id,
                before.customer_id,
                row_number() over () - 1 as node
            from records
            left join before on records.record_id = before.identifier_id
            """,
        )
        edges = self.connection.execute(
            """
            with customers as (
                select customer_id, min(node) as node from numbered where customer_id is not null group by customer_id
            )

            select l.node as one, r.node as other
            from links
            inner join numbered as l on links.record_l = l.record_id
            inner join numbered as r on links.record_r = r.record_id
            union all
            select numbered.node, customers.node from numbered inner join customers using (customer_id)
            """
        ).fetchnumpy()
        touched = self.connection.execute(
            """
            select node
            from numbered
            where
                record_id in (select record_id from unseen)
                or record_id in (select record_id from retied)
                or customer_id in (
                    select before.customer_id from before inner join gone on before.identifier_id = gone.record_id
                )
            """
        ).fetchnumpy()["node"]
        count = self._count("numbered")
        graph = coo_array((np.ones(len(edges["one"]), np.int8), (edges["one"], edges["other"])), shape=(count, count))
        component = connected_components(graph, directed=False)[1] if count else np.empty(0, np.int64)
        reached = np.flatnonzero(np.isin(component, component[touched]))
        self.connection.register("reached", pa.table({"node": reached}))
        self._make("affected", "select record_id from numbered inner join reached using (node)")
        self.connection.unregister("reached")

    def _cluster(self, prepared: Prepared | None, threshold: float) -> Resolution:
        """`clusters` and `clusters_refused`, of the affected; then `everybody`, with the others as they were."""
        from ml.identity.conflicts import conflicts

        def find_conflicts(pairs: str, out: str) -> None:
            assert prepared is not None
            conflicts(self.connection, prepared, pairs, out=out)

        carried = " union all ".join(
            f"select identifier_id as record_id, '{kind}' as kind, {kind} as value from {self._dbt('int_person_records')}"
            f" where {kind} is not null and identifier_id in (select record_id from affected)"
            for kind in CARRIED
        )
        self.connection.execute(f"create or replace view carried as {carried}")
        resolution = resolve(
            self.connection,
            records="affected",
            links="linked",
            threshold=threshold,
            certain="certain",
            barred="barred",
            conflicts=find_conflicts if prepared is not None else None,
            carried="carried",
            limits=self.limits,
            out="clusters",
        )
        self._make(
            "everybody",
            """
            with before as (
                select identifier_id, arg_max(customer_id, run) as customer_id from history group by identifier_id
            ),

            unaffected as (
                select identifier_id as record_id, customer_id
                from before
                where
                    identifier_id in (select record_id from records)
                    and identifier_id not in (select record_id from affected)
            )

            select record_id, cluster from clusters
            union all
            select record_id, -1 - min(record_id) over (partition by customer_id) as cluster from unaffected
            """,
        )
        return resolution

    def _follow(self, now: store.Run) -> Changes:
        self._make(
            "apart",
            """
            select record_l, record_r, reason from clusters_refused
            union all
            select record_l, record_r, 'barred' from barred
            """,
        )
        return follow(
            self.connection,
            clusters="everybody",
            records="records",
            history="history",
            run=now.number,
            as_of=now.as_of,
            links="links",
            refused="apart",
            out_assignments="assignments",
            out_journal="journal",
        )

    def _write(self, now: store.Run, trained: store.StoredModel | None) -> None:
        self._make(
            "noted",
            f"""
            select
                records.record_id as identifier_id,
                records.content_hash,
                records.ties_hash,
                case
                    when known.content_hash = records.content_hash then known.content_run
                    else {now.number}
                end as content_run
            from records
            left join known on records.record_id = known.identifier_id
            where
                known.content_hash is distinct from records.content_hash
                or known.ties_hash is distinct from records.ties_hash
            union all
            select record_id, null, null, {now.number} from gone
            """,
        )
        tables = {"records": "noted", "links": "scored", "journal": "journal", "assignments": "assignments"}
        store.write(self.connection, self.home, now, tables, trained)

    # Reporting

    def _report(
        self,
        status: Literal["resolved", "unchanged", "replay"],
        as_of: datetime,
        newest: store.Run,
        resolution: Resolution | None = None,
        changes: Changes | None = None,
        model_status: Literal["trained", "reused", "none"] = "none",
    ) -> IdentityReport:
        stored = store.read_model(self.home)
        if status != "resolved":
            self._ensure_scored()
            store.read_links(self.connection, self.home, records="known", out="linked")
            model_status = "reused" if stored else "none"
        store.read(self.connection, self.home, "assignments", out="history")
        sizes = dict(
            self.connection.execute(
                """
                with current_assignments as (
                    select identifier_id, arg_max(customer_id, run) as customer_id from history group by identifier_id
                ),

                customers as (
                    select coalesce(customer_id, own_customer_id) as customer_id, count(*) as records
                    from records
                    left join current_assignments on records.record_id = current_assignments.identifier_id
                    group by all
                )

                select records, count(*) from customers group by records order by records
                """
            ).fetchall()
        )
        threshold = stored.model.threshold if stored else None
        [(new, changed)] = self.connection.execute(
            "select count(*) filter (where is_new), count(*) filter (where not is_new) from unseen"
        ).fetchall()
        replayed = status == "replay"
        return IdentityReport(
            status=status,
            as_of=as_of,
            run=newest.number,
            records=self._count("records"),
            customers=sum(sizes.values()),
            new_records=0 if replayed else new,
            changed_records=0 if replayed else changed,
            gone_records=0 if replayed else self._count("gone"),
            resolved_records=resolution.records if resolution else 0,
            changes=changes or Changes(sum(sizes.values()), 0),
            refused=resolution.refused if resolution else {},
            barred_pairs=self._count("barred"),
            pairs_scored=self._count("scored"),
            links=self._linked(threshold),
            threshold=threshold,
            model_status=model_status,
            seconds=self.seconds,
            levels=level_weights(stored.model) if stored else (),
            curve=self._curve(),
            sizes=sizes,
        )

    def _linked(self, threshold: float | None) -> int:
        if threshold is None:
            return 0
        return int(self._value(f"select count(*) from linked where match_weight >= {threshold!r}"))

    def _curve(self) -> tuple[ThresholdPoint, ...]:
        rows = self.connection.execute(
            f"""
            select
                floor(match_weight / {_CURVE_STEP}) * {_CURVE_STEP} as threshold,
                count(*) as pairs,
                sum(cast(match_probability as decimal(18, 9))) as matches
            from linked
            group by threshold
            order by threshold desc
            """
        ).fetchall()
        everything = sum(matches for *_, matches in rows)
        points, pairs, matches = [], 0, Decimal(0)
        for threshold, more, expected in rows:
            pairs, matches = pairs + more, matches + expected
            precision, recall = float(matches / pairs), float(matches / everything) if everything else 1.0
            total = precision + recall
            points.append(
                ThresholdPoint(threshold, pairs, precision, recall, 2 * precision * recall / total if total else 0.0)
            )
        return tuple(reversed(points))

    # Small things

    @contextmanager
    def _workspace(self) -> Iterator[None]:
        """A database in memory, current for the length of a block; afterwards nothing is left of what was in it."""
        [(database, schema)] = self.connection.execute("select current_database(), current_schema()").fetchall()
        others = self._temporary()
        self.connection.execute("attach ':memory:' as identity_run")
        self.connection.execute("use identity_run")
        try:
            yield
        finally:
            self.connection.execute(f'use "{database}"."{schema}"')
            self.connection.execute("detach identity_run")
            for name, kind in sorted(self._temporary() - others):
                self.connection.execute(f'drop {kind} temp."{name}"')

    def _temporary(self) -> set[tuple[str, str]]:
        """Temporary tables and views, with their kind."""
        return set(
            self.connection.execute(
                """
                select table_name, 'table' from duckdb_tables() where temporary
                union all
                select view_name, 'view' from duckdb_views() where temporary and not internal
                """
            ).fetchall()
        )

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.progress(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def _dbt(self, model: str) -> str:
        return f'"{self.warehouse}".intermediate.{model}'

    def _make(self, name: str, query: str) -> None:
        self.connection.execute(f"create or replace table {name} as {query}")

    def _count(self, table: str) -> int:
        return int(self._value(f"select count(*) from {table}"))

    def _value(self, query: str) -> Any:
        return self.connection.execute(query).fetchall()[0][0]


def level_weights(model: IdentityModel) -> tuple[LevelWeight, ...]:
    """The match weight of each level of each comparison. Levels that use a value's own frequency are shown at the mean."""
    import math

    found = []
    for comparison in model.settings["comparisons"]:
        for level in comparison["comparison_levels"]:
            if level.get("is_null_level"):
                continue
            weight = math.log2(level["m_probability"] / level["u_probability"])
            name, label = comparison["output_column_name"], level.get("label_for_charts") or "other"
            found.append(LevelWeight(str(name), str(label), weight))
    return tuple(found)
