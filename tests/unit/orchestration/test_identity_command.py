from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from core.errors import MailwrightError
from core.home import Home
from ml.identity import dedupe, store
from ml.identity.dedupe import DedupeReport
from ml.identity.model import IdentityModel
from ml.identity.store import Run, StoredModel
from orchestration.commands import identity

DAY = datetime(2026, 1, 1)
REF = "cast('0x' || substr(md5('{}|{}|' || '{}'), 1, 15) as bigint)"


def ask(*arguments: str | Path) -> str:
    """Run a command; an error of ours is raised, as `main` would show it."""
    found = CliRunner().invoke(identity.app, [str(argument) for argument in arguments])
    if isinstance(found.exception, MailwrightError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def contact(name: str) -> str:
    return REF.format("crm", "contact_id", name)


def shop(ref: str) -> str:
    return REF.format("shop", "customer_ref", ref)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MAILWRIGHT_HOME", str(tmp_path / "home"))
    return Home.create(tmp_path / "home", "Europe/London", "GBP", DAY.replace(tzinfo=UTC))


@pytest.fixture
def identified(home):
    """Contacts a, b and c are one customer (c wrongly, by a score); d was merged into the shop's customer 1."""
    with duckdb.connect() as connection:
        a, b, c, d = map(contact, "abcd")
        one, two = shop("1"), shop("2")
        connection.execute(
            f"""
            create table records as
            select identifier_id, 'hash' as content_hash, '' as ties_hash, 1 as content_run
            from (values ({a}), ({b}), ({c}), ({d}), ({one}), ({two})) as given (identifier_id);
            create table links as
            select * from (
                values ({a}, {b}, 20.5, 1.0, ['email', 'surname']), ({b}, {c}, 3.25, 0.9, ['surname']),
                    ({c}, {d}, -2.0, 0.2, ['email'])
            ) as given (record_l, record_r, match_weight, match_probability, agreed);
            create table assignments as
            select * from (
                values ({a}, 'aaaa000000000001'), ({b}, 'aaaa000000000001'), ({c}, 'aaaa000000000001'),
                    ({d}, 'dddd000000000001'), ({one}, 'bbbb000000000001'), ({two}, 'bbbb000000000001')
            ) as given (identifier_id, customer_id);
            create table journal as
            select
                1 as entry, 'created' as event, 'dddd000000000001' as customer_id, null as other_customer_id,
                [{d}] as identifier_ids, '{{}}' as evidence;
            create table none as from links limit 0;
            create table later as select {d} as identifier_id, 'bbbb000000000001' as customer_id;
            create table merged as
            select
                1 as entry, 'merged' as event, 'bbbb000000000001' as customer_id,
                'dddd000000000001' as other_customer_id, [{d}] as identifier_ids,
                '{{"links":1,"surest":[{{"left":' || {d} || ',"right":' || {one}
                || ',"rule":"customer_ref","weight":null,"agreed":null}}]}}' as evidence
            """
        )
        model = IdentityModel(("email",), {"comparisons": []}, (), (), {}, 1.0)
        first = {"records": "records", "links": "links", "assignments": "assignments", "journal": "journal"}
        store.write(connection, home, Run(1, DAY), first, StoredModel(1, 6, model))
        store.write(connection, home, Run(2, datetime(2026, 1, 2)), {"assignments": "later", "journal": "merged"}, None)
        home.truth.mkdir()
        connection.execute(
            f"""
            copy (from (values ('a', 'p1'), ('b', 'p1'), ('c', 'p2'), ('d', 'p2')) as given (contact_id, person_id))
            to '{home.truth}/contacts.parquet';
            copy (from (values ('1', 'p2'), ('2', 'p3'), (null, 'p1')) as given (customer_ref, person_id))
            to '{home.truth}/people.parquet'
            """
        )
    return home


def test_the_home_is_judged_by_its_own_truth(identified):
    said = ask("evaluate")

    assert re.search(r"records +4\n", said)
    assert "2, of which 1 found, 1 missed" in said
    assert "3, of which 2 false" in said
    assert re.search(r"pairwise +0.3333 +0.5000 +0.4000", said)
    assert re.search(r"B-cubed +0.6667 +0.7500 +0.7059", said)
    assert re.search(r"false merge +\d+ +\d+ +3.2 +surname", said)
    assert re.search(r"missed +\d+ +\d+ +-2.0 +email", said)
    assert "False merges across two shop customers: 1 (50.000% of 2 shop customers; 2 of them" in said


def test_a_result_is_judged_by_any_truth(tmp_path, home):
    result, truth = tmp_path / "who.csv", tmp_path / "labels.csv"
    result.write_text("id,customer_id,probability\n1,1,0.9\n2,1,0.9\n3,3,1\n")
    truth.write_text("number,label\n1,x\n2,x\n3,x\n4,y\n")

    said = ask("evaluate", result, "--truth", truth)

    assert re.search(r"pairwise +1.0000 +0.3333 +0.5000", said)
    assert "1 of the truth are not in the result" in said

    truth.write_text("row,who,number\n5,x,1\n6,x,2\n7,x,3\n")
    assert re.search(
        r"pairwise +1.0000 +0.3333 +0.5000",
        ask("evaluate", result, "--truth", truth, "--id", "number", "--person", "who"),
    )


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b,c\n1,2,3\n", (), "has the columns a, b, c: say which"),
        ("id,person\n1,2\n", ("--person", "who"), "--person who: .* no such column; it has id, person"),
        ("id,person\n1,2\n1,3\n", (), "1 ids in column id occur more than once"),
        ("", (), "labels.csv"),
        (None, (), "there is no file"),
    ],
    ids=["many columns", "no such column", "an id twice", "empty", "absent"],
)
def test_a_truth_that_can_not_be_read_is_refused_with_what_to_do(tmp_path, home, content, options, message):
    result, truth = tmp_path / "who.csv", tmp_path / "labels.csv"
    result.write_text("id,customer_id\n1,1\n")
    if content is not None:
        truth.write_text(content)

    with pytest.raises(MailwrightError, match=message):
        ask("evaluate", result, "--truth", truth, *options)


def test_a_result_needs_a_truth(tmp_path, home):
    with pytest.raises(MailwrightError, match="--truth FILE is missing"):
        ask("evaluate", tmp_path / "who.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "holds no truth"),
        (["explain", "aa"], "nobody was identified"),
        (["journal"], "nobody was identified"),
    ],
    ids=["evaluate", "explain", "journal"],
)
def test_an_empty_home_says_what_to_do(home, arguments, message):
    with pytest.raises(MailwrightError, match=message):
        ask(*arguments)


def test_a_customer_is_explained_by_keys_and_weights(identified):
    said = ask("explain", "aaaa")

    assert said.startswith("Customer aaaa000000000001\n")
    assert re.search(r"\d+ +\d+ +score +20.5 bits +email, surname", said)
    assert re.search(r"\d+ +\d+ +score +3.2 bits +surname", said)
    assert "-2.0 bits" not in said

    said = ask("explain", "bbbb000000000001")
    assert re.search(r"\d+ +\d+ +customer_ref +certain", said)
    assert "2026-01-02 (run 2) merged dddd000000000001 into bbbb000000000001: 1 record [customer_ref]" in said


def test_a_customer_who_went_into_another_says_so(identified):
    said = ask("explain", "dddd")

    assert "went into customer bbbb000000000001" in said
    assert "2026-01-01 (run 1) created dddd000000000001 with 1 record" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [("", "is no customer_id"), ("xyz", "is no customer_id"), ("0", "no customer has"), ("ffff", "no customer has")],
)
def test_an_unknown_customer_is_an_error(identified, given, message):
    with pytest.raises(MailwrightError, match=message):
        ask("explain", given)


def test_the_journal_shows_the_newest_first_and_new_customers_on_demand(identified):
    assert (
        ask("journal") == "2026-01-02 (run 2) merged dddd000000000001 into bbbb000000000001: 1 record [customer_ref]\n"
    )
    assert len(ask("journal", "--with-new").splitlines()) == 2
    assert len(ask("journal", "--with-new", "--limit", "1").splitlines()) == 1


def test_dedupe_reads_its_arguments_and_says_what_it_found(tmp_path, home, monkeypatch):
    asked: dict[str, object] = {}

    def resolved(file, out, **options):
        asked.update(options, file=file, out=out)
        options["progress"]("Score pairs")
        return DedupeReport(3, 2, 2, 1, {"conflict": 4}, 1.5, 0.99, 0.9, ("email", "surname"), ("email",), {})

    monkeypatch.setattr(dedupe, "dedupe", resolved)
    file = tmp_path / "people.csv"
    file.write_text("no,last,road,house\n")

    said = ask(
        "dedupe", file, "--id", "no", "--columns", "surname=last,address=house+road", "--source", "shop",
        "--out", tmp_path / "who.parquet",
    )  # fmt: skip

    assert asked["columns"] == {"surname": ("last",), "address": ("house", "road")}
    assert (asked["id_column"], asked["source_column"], asked["out"]) == ("no", "shop", tmp_path / "who.parquet")
    assert re.search(r"persons +2\n", said)
    assert "1 of at least 1.5 bits" in said
    assert re.search(r"links not followed +conflict 4\n", said)


@pytest.mark.parametrize(
    ("name", "columns", "out", "message"),
    [
        ("none.csv", "email", "who.csv", "there is no file"),
        ("", "email", "who.csv", "it is a folder"),
        ("people.csv", "email", "who.xlsx", "ends in .csv or .parquet"),
        ("people.csv", "email", "people.csv", "is the file itself"),
        ("people.csv", "email", "nowhere/who.csv", "there is no folder"),
        ("people.csv", "shoe_size=a", "who.csv", "shoe_size"),
        ("people.csv", "email=mail", "who.csv", "mail"),
    ],
    ids=["absent", "folder", "format", "same file", "no folder", "unknown name", "no such column"],
)
def test_wrong_arguments_of_dedupe_are_refused_before_anything_is_written(tmp_path, home, name, columns, out, message):
    (tmp_path / "people.csv").write_text("id,email\n1,a@example.com\n")

    with pytest.raises(MailwrightError, match=message):
        ask("dedupe", tmp_path / name, "--id", "id", "--columns", columns, "--out", tmp_path / out)
    assert not (tmp_path / "who.csv").exists()
