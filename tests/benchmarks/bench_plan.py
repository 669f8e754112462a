"""How long a plan takes for a million members: the first one, one without changes, and one with 10,000.

Run: python -m tests.benchmarks.bench_plan [members] [changes]

Synthetic: members with as many fields as the shipped sync maps and two of twelve segments each, everybody in the ledger,
and a lake with their consents, the refusals of a tenth as many others, and their opens. Each plan is made by a process of
its own, as by the command line. The floor reads the release's profiles and the ledger's rows and counts them. Figures are
printed and never asserted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from activation import plan, releases
from activation import sync as syncs
from activation.connector import Connector, SandboxAccount
from activation.ledger import Acknowledgement, Ledger, State
from core.contract import load_contract
from core.home import Home
from core.settings import PROJECT_ROOT, Settings, load_settings
from core.warehouse import in_memory
from tests.benchmarks.measuring import Cost, run, say

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
MEMBERS, CHANGES = 1_000_000, 10_000
AT_ONCE = 20_000

PEOPLE = """
    create table people as
    select
        i, 'person' || lpad(i::varchar, 8, '0') || '@example.com' as email, left(md5(i::varchar), 16) as customer_id,
        i >= {members} as refused
    from range({everybody}) as numbers(i)
"""
PROFILES = """
    create table activation.sync_profiles as
    select
        email, customer_id, 'Given' || (i % 997) as given_name, 'Family' || (i % 9973) as surname,
        (['GB', 'DE', 'FR'])[1 + i % 3] as country_code, 'en' as language, 'private' as account_type, '25-34' as age_band,
        (['active', 'dormant', 'lost'])[1 + i % 3] as lifecycle_stage,
        if(i < {changes}, 'at_risk', 'loyal') as rfm_segment, 'top' as value_tier, 'engaged' as engagement_state,
        'low' as churn_band, 'high' as purchase_30_band, 'high' as purchase_90_band, 'high' as clv_band,
        'cluster ' || (i % 7) as cluster_name, 'category ' || (i % 40) as favourite_category,
        'Tue ' || (i % 24) || ':00' as best_send_label,
        list_sort(list_distinct([({segments})[1 + (hash(i) % 12)::int], ({segments})[1 + (hash(i + 7) % 12)::int]])) as segments
    from people
    where not refused
"""
OTHERS = """
    create table activation.sendable_audience as
    select email, not refused as is_sendable, true as may_profile, false as needs_double_opt_in from people;
    create table marts.contact_point_holders as
    select 'email' as contact_point_type, email as contact_point, customer_id from people;
    create table marts.contact_point_records (contact_point varchar, is_blocked boolean);
    create table marts.refusal_bindings as
    select cast('0x' || substr(md5('any|email|' || email), 1, 15) as bigint) as identifier_id, customer_id,
        cast(null as timestamp) as ended_at from people;
    create table marts.suppressed_addresses as
    select email, 'marketing' as purpose, 'unsubscribe' as suppression_type from people where refused;
    create table activation.segment_memberships as
    select customer_id, unnest(segments) as segment from activation.sync_profiles;
    create table marts.customer_360 as
    select customer_id, lifecycle_stage, rfm_segment, value_tier, engagement_state from activation.sync_profiles;
    create table activation.audience_funnel as
    select 1 as step_number, 'all addresses' as step, count(*) as addresses from people
"""
# Table of the lake -> its columns that are not empty.
LAKE = {
    ("crm", "contacts"): "'k' || i as contact_id, email, timestamp '2025-01-01' as created_at from people",
    ("crm", "consents"): (
        "'e' || i || what as consent_id, 'k' || i as contact_id, email as contact_point, 'email' as channel,"
        " 'marketing' as purpose, what as state, timestamp '2025-01-02' + interval (length(what)) day as captured_at"
        " from people, (values ('granted'), ('withdrawn')) as said(what) where what = 'granted' or refused"
    ),
    ("email", "events"): (
        "'o' || i || '-' || n as event_id, 'opened' as event_type, email, timestamp '2025-06-01' as occurred_at"
        " from people, range(10) as times(n)"
    ),
}


def fill_lake(home: Home, connection: duckdb.DuckDBPyConnection) -> None:
    """One delivery of each table."""
    for (source, table), selected in LAKE.items():
        columns = [f"{column.name} {column.data_type}" for column in load_contract().table(source, table).columns]
        connection.execute(
            f"create or replace table said ({', '.join([*columns, 'delivery_id varchar', 'row_number bigint'])})"
        )
        connection.execute(
            f"insert into said by name select 'd1' as delivery_id, row_number() over () as row_number, {selected}"
        )
        folder = home.accepted(source, table)
        folder.mkdir(parents=True)
        connection.execute(f"copy said to '{folder / 'd1.parquet'}' (format parquet)")
    connection.execute(
        "copy (select 'd1' as delivery_id, 1::bigint as sequence, false as historical,"
        f" timestamp '2025-12-01' as received_at) to '{home.deliveries}' (format parquet)"
    )


def release(settings: Settings, home: Home, members: int, changes: int) -> None:
    """Freeze a release in which `changes` members have another value in one field than without."""
    with duckdb.connect() as connection:
        connection.execute("create schema activation; create schema marts")
        connection.execute(PEOPLE.format(members=members, everybody=members + members // 10))
        segments = sorted(syncs.segment_names(PROJECT_ROOT / "dbt_project"))[:12]
        connection.execute(PROFILES.format(changes=changes, segments=segments))
        connection.execute(OTHERS)
        if not home.deliveries.exists():
            fill_lake(home, connection)
        releases.freeze(settings, home, connection, as_of=AS_OF + timedelta(days=len(releases.numbers(home))))


def connector() -> Connector:
    """An account at Mailchimp that is never called."""
    kind = syncs.read(load_settings(), "mailchimp").connector
    secrets = {"api_key": "none", "key": "none", "list_id": "none"}
    return kind.connect(kind.sandbox_credentials(SandboxAccount("bench", lambda: "http://127.0.0.1:1", secrets)))


def acknowledge(settings: Settings, home: Home) -> None:
    """Write into the ledger that everything of the kept plan was acknowledged."""
    made, target = plan.read(home, "mailchimp"), connector().target
    with Ledger(home, settings) as ledger, duckdb.connect() as connection:
        run_id = ledger.begin(target, made.hash, made.base_revision, made.release, [], AS_OF)
        layout = ledger.layout_id(target, [mapped.name for mapped in made.fields])
        rows = connection.execute(f"""
            with operations as (from read_parquet('{made.path}')),
            tags as (select key, list(tag) as tags from operations where action = 'tag_add' group by key)
            select operations.key, content_hash, field_hashes, coalesce(tags, [])
            from operations left join tags on operations.key = tags.key where action = 'create'
        """)
        while some := rows.fetchmany(AT_ONCE):
            ledger.acknowledge(
                run_id,
                target,
                [
                    Acknowledgement(bytes.fromhex(key), "create", State.SYNCED, content, layout, fields, add=tags)
                    for key, content, fields, tags in some
                ],
                AS_OF,
            )
        ledger.end(run_id, "done", {}, AS_OF)


def make(settings: Settings, home: Home) -> None:
    """In a process of its own: make a plan, as the command line does."""
    made = plan.make(settings, home, "mailchimp", connector=connector(), now=AS_OF + timedelta(days=1))
    print(f"{made.operations} operations, {made.funnel}")


def floor(settings: Settings, home: Home) -> None:
    """In a process of its own: read what a plan is made from."""
    newest = releases.latest(home)
    assert newest is not None
    with Ledger(home, settings) as ledger, in_memory(settings) as connection:
        connection.register("known", ledger.rows(connector().target))
        connection.execute(f"select count(columns(*)) from read_parquet('{newest.file('profiles')}')").fetchone()
        connection.execute("select count(columns(*)) from known").fetchone()


def read_nobody(settings: Settings, home: Home) -> None:
    """In a process of its own: note that nobody is there yet."""
    with Ledger(home, settings) as ledger:
        ledger.import_members(connector().target, [], AS_OF)


def bench(members: int, changes: int, folder: Path) -> None:
    """Make the home, then plan thrice. This process stays small: a child's peak of memory begins with its parent's."""
    home = Home.create(folder / "home", "Europe/London", "GBP")
    environment = {**os.environ, "MAILWRIGHT_HOME": str(home.root)}

    def step(mode: str, changed: int = 0) -> Cost:
        options = [str(members), str(changed), "--mode", mode]
        return run([sys.executable, "-m", "tests.benchmarks.bench_plan", *options], environment, PROJECT_ROOT)

    def measure(what: str, mode: str, floor: Cost | None = None) -> Cost:
        cost = step(mode)
        say(f"{what}: clock", cost.seconds, "s")
        say(f"{what}: processor", cost.cpu_seconds, "s", floor.cpu_seconds if floor else None)
        say(f"{what}: memory", cost.memory, "GB")
        return cost

    step("release")
    step("read")
    measure(f"first plan of {members:,} members", "plan")
    step("acknowledge")
    least = measure("floor, reading release and ledger", "floor")
    measure("plan without changes", "plan", least)
    step("release", changes)
    measure(f"plan of {changes:,} changes", "plan", least)


def main() -> None:
    """Read the command line, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_plan", description=__doc__)
    parser.add_argument("members", nargs="?", type=int, default=MEMBERS)
    parser.add_argument("changes", nargs="?", type=int, default=CHANGES)
    modes = {"read": read_nobody, "plan": make, "acknowledge": acknowledge, "floor": floor}
    parser.add_argument("--mode", choices=["release", *modes], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.mode:
        settings = load_settings()
        home = Home.open(settings.home)
        if given.mode == "release":
            release(settings, home, given.members, given.changes)
        else:
            modes[given.mode](settings, home)
        return
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        bench(given.members, given.changes, Path(folder))


if __name__ == "__main__":
    main()
