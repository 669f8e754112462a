"""Both samples, made small: counts of the real files, contract, references, privacy, determinism, ground truth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest

from core.contract import load_contract
from core.errors import ContractError
from core.files import sha256_of
from core.settings import Settings, load_settings
from samples import online_retail, simulated
from samples.draws import connect, write_raw
from samples.handover import Handover
from samples.names import ascii_form, draw_pools, read_csv

CUSTOMERS, SIMULATED = 160, 1_200


def settings(threads: int = 2) -> Settings:
    return load_settings().model_copy(update={"threads": threads})


@dataclass(frozen=True)
class Made:
    """A sample that was made, with views `<source>_<table>` over its raw files and `truth_<name>` over its truth."""

    handovers: list[Handover]
    raw: Path
    truth: Path
    connection: duckdb.DuckDBPyConnection

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return self.connection.execute(query).fetchall()

    def one(self, query: str) -> object:
        [(value,)] = self.rows(query)
        return value


def _made(handovers: Iterator[Handover], folder: Path) -> Made:
    done = list(handovers)
    connection = duckdb.connect()
    files: dict[str, list[str]] = {}
    for handover in done:
        for table, paths in handover.files.items():
            files.setdefault(f"{handover.source}_{table}", []).extend(str(path) for path in paths)
    for truth in (folder / "truth").glob("*.parquet"):
        files[f"truth_{truth.stem}"] = [str(truth)]
    for name, sources in files.items():
        connection.execute(f"create view {name} as from read_parquet({sources!r}, filename = true)")
    return Made(done, folder / "raw", folder / "truth", connection)


def _real(folder: Path, threads: int = 2, customers: int = CUSTOMERS, seed: int = 1) -> Made:
    return _made(
        online_retail.handovers(
            settings(threads), folder / "raw", folder / "truth", orders_only=False, seed=seed, customers=customers
        ),
        folder,
    )


def _simulated(folder: Path, threads: int = 2, customers: int = SIMULATED, seed: int = 1) -> Made:
    return _made(
        simulated.handovers(settings(threads), folder / "raw", folder / "truth", customers=customers, seed=seed), folder
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _real(tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _simulated(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(params=["real", "fake"])
def sample(request: pytest.FixtureRequest) -> Made:
    made = request.getfixturevalue(request.param)
    assert isinstance(made, Made)
    return made


# The real files


def test_real_files_are_two_deliveries_with_every_line(real: Made) -> None:
    shop = [handover for handover in real.handovers if handover.source == "shop"]
    assert [set(handover.files) for handover in shop] == [{"orders", "order_lines", "products"}] * 2
    assert all(earlier.received_at < later.received_at for earlier, later in pairwise(shop))
    lines = [real.one(f"select count(*) from '{path}'") for handover in shop for path in handover.files["order_lines"]]
    assert lines == [525_461, 541_910]


def test_real_overlap_is_delivered_again_and_the_rest_counts_as_published(real: Made) -> None:
    first, second = (str(handover.files["order_lines"][0]) for handover in real.handovers[:2])
    redelivered = f"order_id in (select order_id from '{second}')"
    assert real.one(f"select count(*) from '{first}' where {redelivered}") == 22_523
    real.connection.execute(
        f"create or replace temp table kept as from '{first}' where not {redelivered} union all from '{second}'"
    )
    assert real.one("select count(*) from kept") == 1_044_848
    [(orders, unattributed)] = real.rows(
        """
        select count(*), count(*) filter (customer_ref is null)
        from (
            select order_id, any_value(customer_ref) as customer_ref
            from kept
            where is_goods and not is_cancellation and not is_adjustment and quantity > 0 and unit_price > 0
            group by order_id
        )
        """
    )
    assert (orders, unattributed) == (39_516, 2_922)


def test_real_lines_are_numbered_within_their_invoice_in_file_order(real: Made) -> None:
    first = str(real.handovers[0].files["order_lines"][0])
    source = str(online_retail.FOLDER / "year_2009_2010.parquet")
    assert real.rows(
        f"select product_id, line_number from '{first}' where order_id = '489434' order by 2"
    ) == real.rows(
        f"""
        select upper(trim("StockCode")), row_number() over (order by file_row_number)
        from read_parquet('{source}', file_row_number = true) where "Invoice" = '489434' order by file_row_number
        """
    )
    assert (
        real.one(
            "select count(*) from (select 1 from shop_order_lines group by filename, order_id, line_number having count(*) > 1)"
        )
        == 0
    )


@pytest.mark.parametrize(
    ("code", "is_goods"),
    [("85123A", True), ("22423", True), ("DCGS0003", True), ("DCGSSGIRL", True), ("POST", False), ("M", False),
     ("BANK CHARGES", False), ("GIFT_0001_20", False), ("SP1002", False), ("C2", False), ("TEST001", False)],
)  # fmt: skip
def test_real_goods_follow_their_stock_code(real: Made, code: str, is_goods: bool) -> None:
    assert real.rows(f"select distinct is_goods from shop_order_lines where product_id = '{code}'") == [(is_goods,)]
    assert real.rows(f"select distinct is_goods from shop_products where product_id = '{code}'") == [(is_goods,)]


def test_real_cancellations_and_adjustments_follow_the_invoice(real: Made) -> None:
    assert real.rows(
        "select left(order_id, 1), is_cancellation, is_adjustment, count(*) from shop_order_lines"
        " where not regexp_full_match(order_id, '[0-9]+') group by all order by all"
    ) == [("A", False, True, 6), ("C", True, False, 19_494)]
    assert real.one("select count(distinct order_id) from shop_orders where is_cancellation") == 8_292


def test_real_orders_only_stops_after_the_shop(tmp_path: Path) -> None:
    made = list(online_retail.handovers(settings(2), tmp_path / "raw", tmp_path / "truth", orders_only=True))
    assert [handover.source for handover in made] == ["shop", "shop"]
    assert not (tmp_path / "truth").exists()


def test_real_products_are_named_by_what_was_sold(real: Made) -> None:
    [(name, category, price)] = real.rows(
        f"select name, category, unit_price from '{real.handovers[1].files['products'][0]}' where product_id = '85123A'"
    )
    assert (name, category) == ("WHITE HANGING HEART T-LIGHT HOLDER", "Lighting and candles")
    assert 2 < float(str(price)) < 4
    labelled = "attributes like '%derived from the description%'"
    assert real.one(f"select bool_and((category is null) = ({labelled} is not true)) from shop_products") is True


# Both


def test_every_file_keeps_the_contract(sample: Made) -> None:
    contract = load_contract()
    for handover in sample.handovers:
        assert handover.historical
        assert handover.received_at.tzinfo is not None
        for name, paths in handover.files.items():
            table = contract.table(handover.source, name)
            types = {column.name: column.data_type for column in table.columns}
            for path in paths:
                described = sample.rows(f"describe from '{path}'")
                assert {str(row[0]): str(row[1]).lower() for row in described}.items() <= types.items(), path
                given = {str(row[0]) for row in described}
                for column in table.columns:
                    if column.required:
                        assert sample.one(f"select count(*) from '{path}' where {column.name} is null") == 0
                    if column.values and column.name in given:
                        found = {row[0] for row in sample.rows(f"select distinct {column.name} from '{path}'")} - {None}
                        assert found <= set(column.values), (path, column.name)
                    if column.one_value_per and column.name in given:
                        assert (
                            sample.one(
                                f"select count(*) from (select 1 from '{path}' group by {column.one_value_per}"
                                f" having count(distinct {column.name}) > 1)"
                            )
                            == 0
                        )
                if (table.entity_key == ("order_id",) and name == "orders") or name in ("contacts", "products"):
                    key = ", ".join(table.entity_key)
                    assert sample.one(f"select count(*) - count(distinct ({key})) from '{path}'") == 0


def test_every_source_is_there(sample: Made) -> None:
    assert {handover.source for handover in sample.handovers} == {"shop", "crm", "web", "email", "pos", "third_party"}
    for handover in sample.handovers:
        for name in handover.files:
            assert sample.one(f"select count(*) from {handover.source}_{name}") != 0


def test_everything_simulated_says_so(sample: Made) -> None:
    for view, label in {
        "crm_contacts": "contact_id like 'sim-%'",
        "crm_consents": "consent_id like 'sim-%' and source like 'simulated%' and evidence like 'simulated%'",
        "web_events": """event_id like 'sim-%' and properties = '{"simulated":true}'""",
        "email_campaigns": "campaign_id like 'sim-%' and name like 'Simulated%'",
        "email_sends": "send_id like 'sim-%' and campaign_id like 'sim-%'",
        "email_events": "event_id like 'sim-%'",
        "pos_sales": "sale_id like 'sim-%' and store_id like 'simulated-%'",
        "third_party_demographics": "provider = 'simulated'",
    }.items():
        assert sample.one(f"select bool_and({label} and filename like '%/simulated_%') from {view}") is True, view


def test_completed_orders_are_real_and_their_visit_comes_before(sample: Made) -> None:
    sample.connection.execute(
        """
        create or replace temp table completed as
        select distinct on (event_id) events.*, ordered_at, orders.customer_ref
        from web_events as events
        left join (select order_id, min(ordered_at) as ordered_at, min(customer_ref) as customer_ref from shop_orders where not is_cancellation group by 1) as orders
            using (order_id)
        where event_name = 'Order Completed'
        order by event_id, occurred_at
        """
    )
    [(count, unknown, late, foreign)] = sample.rows(
        """
        select
            count(*), count(*) filter (ordered_at is null), count(*) filter (occurred_at > ordered_at),
            count(*) filter (user_id is distinct from customer_ref)
        from completed
        """
    )
    assert isinstance(count, int)
    assert count > 100
    assert (unknown, late, foreign) == (0, 0, 0)
    assert sample.one("select count(*) - count(distinct order_id) from completed") == 0
    added = """
        select count(*) from completed
        where not exists (
            select 1 from web_events as added
            inner join shop_order_lines as lines on lines.order_id = completed.order_id and lines.product_id = added.product_id
            where added.cart_id = completed.cart_id and added.event_name = 'Product Added'
                and added.occurred_at < completed.occurred_at
        )
    """
    assert sample.one(added) == 0


def test_web_behaviour_has_its_kinds(sample: Made) -> None:
    [(events, ids, bots, anonymous, carts, identified)] = sample.rows(
        """
        select
            count(*), count(distinct event_id), count(*) filter (user_agent ilike '%bot%'),
            count(distinct anonymous_id) - count(distinct anonymous_id) filter (user_id is not null),
            count(distinct cart_id) - count(distinct cart_id) filter (event_name = 'Order Completed'),
            count(*) filter (event_type = 'identify' and email is not null)
        from web_events
        """
    )
    assert isinstance(events, int)
    assert isinstance(ids, int)
    assert 0.04 < 1 - ids / events < 0.1
    assert all(isinstance(number, int) and number > 0 for number in (bots, anonymous, carts, identified))
    # Someone is anonymous on a device first, and signs in on it later.
    assert sample.one(
        """
        select count(*) from (
            select anonymous_id from web_events group by anonymous_id
            having min(occurred_at) < min(occurred_at) filter (user_id is not null)
        )
        """
    ) != 0  # fmt: skip


@pytest.mark.parametrize(
    ("view", "column", "target"),
    [
        ("crm_contacts", "customer_ref", "select customer_ref from shop_orders"),
        ("crm_consents", "contact_id", "select contact_id from crm_contacts"),
        ("email_sends", "campaign_id", "select campaign_id from email_campaigns"),
        ("email_events", "send_id", "select send_id from email_sends"),
        ("web_events", "user_id", "select customer_ref from shop_orders"),
        ("web_events", "product_id", "select product_id from shop_products"),
        ("web_events", "campaign_name", "select campaign_id from email_campaigns"),
        ("pos_sales", "customer_ref", "select customer_ref from shop_orders"),
        ("pos_sales", "product_id", "select product_id from shop_products"),
        ("shop_order_lines", "order_id", "select order_id from shop_orders"),
        ("shop_order_lines", "product_id", "select product_id from shop_products"),
    ],
)
def test_references_are_kept(sample: Made, view: str, column: str, target: str) -> None:
    # A customer of the simulated shop may only have guest orders, which carry no number.
    lost = f"select distinct {column} from {view} where {column} is not null and {column} not in (select * from ({target}) as t (key) where key is not null)"
    allowed = len(sample.rows("select 1 from truth_people")) * 0.03 if "customer_ref" in target else 0
    assert len(sample.rows(lost)) <= (allowed if "shop_exchange_rates" in _views(sample) else 0)


def _views(sample: Made) -> set[object]:
    return {row[0] for row in sample.rows("select view_name from duckdb_views()")}


@pytest.mark.parametrize(
    ("view", "column"),
    [("shop_orders", "ordered_at"), ("web_events", "occurred_at"), ("email_sends", "sent_at"), ("email_events", "occurred_at"),
     ("pos_sales", "sold_at"), ("crm_contacts", "created_at"), ("crm_contacts", "updated_at")],
)  # fmt: skip
def test_nothing_but_consent_happens_after_as_of(sample: Made, view: str, column: str) -> None:
    profile = online_retail.PROFILE if "shop_exchange_rates" not in _views(sample) else simulated.PROFILE
    as_of = profile.as_of.astimezone(ZoneInfo(profile.timezone)).replace(tzinfo=None)
    assert sample.one(f"select count(*) from {view} where {column} >= timestamp '{as_of}'") == 0


@pytest.mark.parametrize(
    ("view", "key"),
    [
        ("email_sends", "send_id"),
        ("email_events", "event_id"),
        ("crm_consents", "consent_id"),
        ("crm_contacts", "contact_id"),
        ("pos_sales", "(sale_id, line_number)"),
        ("shop_order_lines", "(filename, order_id, line_number)"),
        ("shop_orders", "(filename, order_id)"),
        ("email_campaigns", "campaign_id"),
    ],
)
def test_keys_are_unique(sample: Made, view: str, key: str) -> None:
    assert sample.one(f"select count(*) - count(distinct {key}) from {view}") == 0


def test_consents_have_every_state_and_some_come_after_as_of(sample: Made) -> None:
    states = {str(row[0]) for row in sample.rows("select distinct state from crm_consents")}
    assert {"pending", "granted", "confirmed", "withdrawn"} <= states
    assert sample.one("select count(*) from crm_consents where expires_at is not null") != 0
    as_of = max(handover.received_at for handover in sample.handovers).replace(tzinfo=None)
    assert sample.one(f"select count(*) from crm_consents where captured_at > timestamp '{as_of}'") != 0


def test_mail_stops_when_someone_leaves(sample: Made) -> None:
    assert sample.one(
        """
        select count(*)
        from email_sends as sends
        inner join (select email, send_id from email_events where event_type in ('unsubscribed', 'complained')) as left_by using (email)
        inner join email_sends as last on last.send_id = left_by.send_id
        where sends.sent_at > last.sent_at
        """
    ) == 0  # fmt: skip
    kinds = {str(row[0]) for row in sample.rows("select distinct event_type from email_events")}
    assert {"delivered", "opened", "clicked", "bounced"} <= kinds
    assert (
        sample.one("select count(*) from email_events where occurred_at < (select min(sent_at) from email_sends)") == 0
    )


def test_mail_is_clicked_more_when_it_meets_the_taste(fake: Made) -> None:
    [(met, missed)] = fake.rows(
        """
        with people as (
            select email, person_id from crm_contacts inner join truth_contacts using (contact_id)
            where email is not null qualify row_number() over (partition by email order by contact_id) = 1
        ),
        outcome as (
            select affinity.person_id is not null as is_met, bool_or(event_type = 'opened' and user_agent not like '%Proxy%') as is_opened
            from email_events
            inner join email_campaigns as campaigns using (campaign_id)
            inner join people using (email)
            left join truth_affinity as affinity on affinity.person_id = people.person_id and affinity.category = campaigns.category
            where campaigns.category is not null
            group by send_id, affinity.person_id
        )
        select avg(is_opened::integer) filter (is_met), avg(is_opened::integer) filter (not is_met) from outcome
        """
    )
    assert isinstance(met, float)
    assert isinstance(missed, float)
    assert met > 1.3 * missed


# Privacy


def test_emails_are_at_reserved_domains(sample: Made) -> None:
    columns = [
        ("crm_contacts", "email"),
        ("web_events", "email"),
        ("email_sends", "email"),
        ("email_events", "email"),
        ("pos_sales", "email"),
    ]
    if "shop_exchange_rates" in _views(sample):
        columns.append(("shop_orders", "email"))
    for view, column in columns:
        wrong = f"select count(*) from {view} where not regexp_full_match(lower(trim({column})), '[a-z0-9._]+@example\\.(com|org|net)')"
        assert sample.one(wrong) == 0, view
    points = "select count(*) from third_party_demographics where contact_point_type = 'email' and contact_point not like '%@example.%'"
    assert sample.one(points) == 0


def test_phones_lie_in_ranges_reserved_for_fiction(sample: Made) -> None:
    national = [
        re.sub(r"\D", "", row["national_prefix"]) + rf"\d{{{row['digits']}}}" for row in read_csv("phone_ranges.csv")
    ]
    allowed = re.compile(
        rf"({'|'.join(national)})|(\+|00)\d{{1,3}}({'|'.join(n.removeprefix('0') for n in national)}|0000\d{{7}})"
    )
    written = {str(row[0]) for row in sample.rows(
        """
        select phone from crm_contacts where phone is not null
        union select contact_point from third_party_demographics where contact_point_type = 'phone'
        union select contact_point from crm_consents where channel = 'sms' and contact_point is not null
        """
    )}  # fmt: skip
    assert len(written) > 50
    wrong = {number for number in written if not allowed.fullmatch(re.sub(r"[ ()-]", "", number))}
    assert not wrong


def test_people_share_a_number_or_an_email_only_within_a_household(sample: Made) -> None:
    shared = """
        select count(*) from (
            select lower(trim(email)) from crm_contacts
            inner join truth_contacts using (contact_id) inner join truth_people using (person_id)
            where email is not null group by 1 having count(distinct household_id) > 1
        )
    """
    assert sample.one(shared) == 0


# Ground truth


def test_truth_stands_apart_and_covers_everyone(sample: Made) -> None:
    assert sample.one("select count(*) - count(distinct person_id) from truth_people") == 0
    assert sample.rows("select contact_id from crm_contacts order by 1") == sample.rows(
        "select contact_id from truth_contacts order by 1"
    )
    assert sample.one("select count(*) from truth_contacts anti join truth_people using (person_id)") == 0
    paths = [path for handover in sample.handovers for files in handover.files.values() for path in files]
    assert all(path.is_relative_to(sample.raw) for path in paths)
    assert sorted(path.suffix for path in sample.truth.iterdir()) == [".parquet"] * len(list(sample.truth.iterdir()))


def test_each_customer_has_at_most_three_contacts_and_flaws_occur(real: Made) -> None:
    counts = {row[0] for row in real.rows("select count(*) from truth_contacts group by person_id")}
    assert counts == {1, 2, 3}
    assert (
        real.one("select bool_or(is_nickname) and bool_or(has_slip) and bool_or(has_moved) from truth_contacts") is True
    )
    assert real.one("select count(*) from crm_contacts where customer_ref is null") != 0
    assert real.one("select count(*) from truth_people where customer_ref is null") != 0  # prospects


def test_caused_orders_exist_and_follow_their_message(fake: Made) -> None:
    assert fake.one("select count(*) from truth_caused_orders") != 0
    assert fake.one(
        """
        select count(*) from truth_caused_orders inner join shop_orders using (order_id)
        inner join email_campaigns using (campaign_id) where ordered_at <= sent_at
        """
    ) == 0  # fmt: skip


def test_simulated_returns_take_back_what_was_sold(fake: Made) -> None:
    assert fake.one("select count(*) from shop_orders where is_cancellation") != 0
    assert fake.one(
        """
        select count(*) from shop_order_lines as back
        left join shop_order_lines as sold
            on sold.order_id = 'S' || substr(back.order_id, 2) and sold.line_number = back.line_number
        where back.is_cancellation and (back.quantity + sold.quantity <> 0 or sold.quantity is null)
        """
    ) == 0  # fmt: skip


def test_simulated_process_is_seasonal_and_customers_leave(fake: Made) -> None:
    alive = fake.one("select avg(is_alive::integer) from truth_people where customer_ref is not null")
    assert isinstance(alive, float)
    assert 0.2 < alive < 0.9
    curves = simulated.seasons()
    assert curves.shape[0] == 3
    assert (curves[:, 0] == 0).all()
    assert (curves[:, 1:] > curves[:, :-1]).all()
    orders = fake.one(f"select count(*) filter (not is_cancellation) / {SIMULATED} from shop_orders")
    assert isinstance(orders, float)
    assert 5 < orders < 15


# Determinism


def _hashes(made: Made) -> dict[str, str]:
    root = made.raw.parent
    return {str(path.relative_to(root)): sha256_of(path) for path in sorted(root.rglob("*.parquet"))}


def test_simulated_files_are_the_same_to_the_byte_on_one_thread_and_on_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "BLOCK_SIZE", 40)
    one, two = (_hashes(_simulated(tmp_path / str(threads), threads, customers=90)) for threads in (1, 2))
    assert one == two
    assert sum("web/events" in name for name in one) == 3


def test_another_seed_gives_other_people(tmp_path: Path, fake: Made) -> None:
    other = _simulated(tmp_path, customers=20, seed=2)
    said = "select email from crm_contacts where email is not null"
    assert not set(other.rows(said)) & set(fake.rows(said))


def test_real_files_are_the_same_to_the_byte_on_one_thread_and_on_two(tmp_path: Path, real: Made) -> None:
    assert _hashes(_real(tmp_path, threads=1)) == _hashes(real)


def test_truth_left_by_a_killed_run_is_not_joined(tmp_path: Path) -> None:
    left = tmp_path / "truth" / ".parts" / "people" / "0099.parquet"
    left.parent.mkdir(parents=True)
    duckdb.execute(f"copy (select 'nobody' as person_id) to '{left}'")
    made = _simulated(tmp_path, customers=20)
    assert made.one("select count(*) from truth_people where person_id = 'nobody'") == 0


# Parts


def test_draws_are_even_and_independent_between_purposes() -> None:
    with connect(settings(1), 5, threads=1) as connection:
        [(mean, together, apart)] = connection.execute(
            """
            select avg(draw(i, 'a')), corr(draw(i, 'a'), draw(i, 'b')), avg(((draw(i, 'a') < 0.5) = (draw(i, 'b') < 0.5))::integer)
            from range(100000) as numbers (i)
            """
        ).fetchall()
    assert abs(mean - 0.5) < 0.01
    assert abs(together) < 0.02
    assert abs(apart - 0.5) < 0.01


@pytest.mark.parametrize(
    ("query", "message"),
    [("select 'x' as product_id, 1 as colour", "no column colour"), ("select 'x' as name", "needs product_id")],
    ids=["unknown column", "required column missing"],
)
def test_a_file_against_the_contract_is_refused(tmp_path: Path, query: str, message: str) -> None:
    with connect(settings(1), 5, threads=1) as connection, pytest.raises(ContractError, match=message):
        write_raw(connection, "shop", "products", query, tmp_path / "products.parquet")


@pytest.mark.parametrize(
    ("name", "plain"),
    [("Müller", "muller"), ("O'Neill", "oneill"), ("Strauß", "strauss"), ("Łukasz", "lukasz"), ("くみ子", "")],
)
def test_ascii_form(name: str, plain: str) -> None:
    assert ascii_form(name) == plain


def test_pools_are_drawn_alike_for_the_same_seed_and_by_country() -> None:
    first, again, other = (
        draw_pools(1, ["Japan", "Norway"]),
        draw_pools(1, ["Norway", "Japan"]),
        draw_pools(2, ["Japan", "Norway"]),
    )
    assert first == again
    assert first.names != other.names
    assert set(first.names.column("locale").to_pylist()) == {"ja_JP", "no_NO"}
    assert draw_pools(1, ["Atlantis"]).countries.column("locale").to_pylist() == ["en_GB"]


def test_simulated_needs_a_customer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(simulated.handovers(settings(), tmp_path, tmp_path, customers=0))
