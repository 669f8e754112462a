"""`mailwright identity`: who is who, in a file of one's own or in the home, how right it is, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import MailwrightError
from orchestration.terminal import open_console, open_reporter, open_settings

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console

    from ml.identity.evaluation import Evaluation
    from ml.identity.explain import Entry, Explanation

app = typer.Typer(help="Who is who: resolve records to persons, judge it, explain it.", no_args_is_help=True)

ID_NAMES = ("id", "record_id", "contact_id", "rec_id", "unique_id")
PERSON_NAMES = ("person_id", "person", "cluster", "cluster_id", "entity_id", "label", "truth", "customer_id")
RESULT_NAMES = ("customer_id", "cluster", "cluster_id")


@app.command()
def dedupe(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or Parquet, one person record per row.")],
    id_column: Annotated[str, typer.Option("--id", metavar="COL", help="The column that names a record.")],
    columns: Annotated[
        str,
        typer.Option(metavar="NAME=COL,...", help="What each column holds; several of the file's are joined with +."),
    ],
    out: Annotated[Path, typer.Option(metavar="OUT", help="What to write: .csv or .parquet.")],
    source: Annotated[
        str | None, typer.Option(metavar="COL", help="The column that says where a record comes from.")
    ] = None,
) -> None:
    """Find out which records of a file are one person, and write (id, customer_id, probability).

    Known are given_name, surname, full_name, date_of_birth, gender, email, phone, address, city, region, postal_code,
    country, occupation and identifier:NAME for any other number of a person. Give those that there are, in whatever
    state they are; comparisons and blocking are chosen from them. No labels are needed, and no home.

    [dim]mailwright identity dedupe people.csv --id id --columns given_name=first,surname=last,address=no+street,email --out who.csv[/dim]
    """
    from ml.identity.columns import parse_columns
    from ml.identity.dedupe import dedupe as resolve_file

    if not file.is_file():
        raise MailwrightError(f"there is no file {file}" + (": it is a folder" if file.is_dir() else ""))
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise MailwrightError(f"--out {out}: give it a name that ends in .csv or .parquet")
    if out.resolve() == file.resolve():
        raise MailwrightError(f"--out {out} is the file itself: give another name")
    if not out.absolute().parent.is_dir():
        raise MailwrightError(f"--out {out}: there is no folder {out.absolute().parent}")
    mapping = parse_columns(columns)
    console = open_console()
    with open_reporter(console).step(f"Find out who is who in {file.name}") as tick:
        report = resolve_file(
            file,
            out,
            id_column=id_column,
            columns=mapping,
            source_column=source,
            settings=open_settings(),
            progress=tick,
        )
    _pairs(
        console,
        {
            "records": f"{report.records:,}",
            "persons": f"{report.customers:,}",
            "records that share a person": f"{report.merged:,}",
            "compared by": ", ".join(report.columns) or "nothing: no two records have anything to compare",
            "pairs linked": f"{report.pairs:,} of at least {report.threshold:.1f} bits",
            "expected by the model": f"precision {report.expected_precision:.1%}, recall {report.expected_recall:.1%}",
            "links not followed": _reasons(report.refused),
            "written": str(out),
        },
    )


@app.command()
def evaluate(
    result: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RESULT]", help="What dedupe wrote. Without it: the customers of the home's CRM contacts."
        ),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV or Parquet: whose each record is. Default: the home's own.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COL", help="The truth's column of record ids.")
    ] = None,
    person_column: Annotated[str | None, typer.Option("--person", metavar="COL", help="Its column of persons.")] = None,
    errors: Annotated[int, typer.Option(min=0, max=1000, help="How many errors of each kind to show.")] = 5,
) -> None:
    """How right a resolution is: pairwise and B-cubed precision, recall and F1, and the errors with the most weight.

    Errors show keys, weights and which columns agree, never contents. Never needs the warehouse, so it works at any time.

    [dim]mailwright identity evaluate
    mailwright identity evaluate who.csv --truth labels.csv --id id --person person_id[/dim]
    """
    from core.warehouse import in_memory

    settings = open_settings()
    console = open_console()
    with in_memory(settings) as connection:
        if result is not None:
            if truth is None:
                raise MailwrightError("--truth FILE is missing: whose the records of RESULT really are")
            _read_table(connection, result, None, None, "predicted", "customer", RESULT_NAMES)
            _read_table(connection, truth, id_column, person_column, "truth", "person", PERSON_NAMES)
            _show_evaluation(console, _judge(connection, errors), f"{result} against {truth}")
        else:
            _evaluate_home(connection, console, settings, truth, id_column, person_column, errors)


@app.command()
def explain(
    customer_id: Annotated[str, typer.Argument(help="A customer's id, or the beginning of one.")],
) -> None:
    """Why a customer is who they are: records, the links that hold them together, what happened to them.

    [dim]mailwright identity explain 4f1a[/dim]
    """
    from core.home import open_home
    from core.warehouse import in_memory
    from ml.identity import explain as explaining

    settings = open_settings()
    home = open_home(settings)
    with in_memory(settings) as connection:
        _show_explanation(open_console(), explaining.explain(connection, home, customer_id))


@app.command()
def journal(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many entries.")] = 20,
    with_new: Annotated[
        bool, typer.Option("--with-new", help="Also new customers, and new records that joined one.")
    ] = False,
) -> None:
    """The last merges, splits and restorations of customers, newest first.

    [dim]mailwright identity journal --limit 50[/dim]
    """
    from core.home import open_home
    from core.warehouse import in_memory
    from ml.identity import explain as explaining

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    with in_memory(settings) as connection:
        entries = explaining.journal(connection, home, limit=limit, with_new=with_new)
    if not entries:
        console.print("No customers were merged or split yet.")
    for entry in entries:
        console.print(_told(entry), highlight=False, markup=False, soft_wrap=True)


def _evaluate_home(
    connection: duckdb.DuckDBPyConnection,
    console: Console,
    settings: Any,
    truth: Path | None,
    id_column: str | None,
    person_column: str | None,
    errors: int,
) -> None:
    from core.home import open_home
    from ml.identity import store

    home = open_home(settings)
    own_truth = home.truth / "contacts.parquet"
    if truth is None and not own_truth.exists():
        raise MailwrightError(
            f"the home at {home.root} holds no truth, which only samples have: give --truth FILE with each contact_id"
            " and the person whose it is"
        )
    if store.newest(home) is None:
        raise MailwrightError(f"nobody was identified in the home at {home.root} yet: run `mailwright refresh` first")
    store.read_assignments(connection, home, out="assignments")
    store.read_records(connection, home, out="known")
    store.read_links(connection, home, records="known", out="linked")
    # What is gone takes no part.
    connection.execute(
        """
        create table predicted as
        select identifier_id as record_id, customer_id as customer
        from assignments
        inner join known using (identifier_id)
        where known.content_hash is not null
        """
    )
    _read_table(connection, truth or own_truth, id_column, person_column, "given", "person", PERSON_NAMES)
    connection.execute(
        f"create table truth as select {_key('crm', 'contact_id', 'record_id')} as record_id, person from given"
    )
    connection.execute("create table contacts as from predicted where record_id in (select record_id from truth)")
    found = _judge(connection, errors, predicted="contacts", links="linked")
    if not found.records:
        raise MailwrightError(f"no contact of {truth or own_truth} is among the home's records: do its ids fit?")
    _show_evaluation(console, found, "The home's CRM contacts against the truth")
    people = home.truth / "people.parquet"
    if truth is None and people.exists():
        _shop_customers(connection, console, people)


def _shop_customers(connection: duckdb.DuckDBPyConnection, console: Console, people: Path) -> None:
    """False merges across two customers of the shop: of two different persons, each with a number of their own."""
    path = str(people).replace("'", "''")
    [(numbers, merged, pairs)] = connection.execute(
        f"""
        with numbered as (
            select predicted.customer, people.person_id, people.customer_ref
            from read_parquet('{path}') as people
            inner join predicted on predicted.record_id = {_key("shop", "customer_ref", "people.customer_ref")}
            where people.customer_ref is not null
        ),

        customers as (
            select customer, count(distinct person_id) as persons from numbered group by customer
        )

        select
            coalesce(sum(persons), 0),
            coalesce(sum(persons) filter (where persons > 1), 0),
            coalesce(sum(persons * (persons - 1) // 2), 0)
        from customers
        """
    ).fetchall()
    share = pairs / numbers if numbers else 0.0
    console.print(
        f"False merges across two shop customers: {pairs:,} ({share:.3%} of {numbers:,} shop customers;"
        f" {merged:,} of them are in one with somebody else)",
        highlight=False,
        soft_wrap=True,
    )


def _key(source: str, kind: str, column: str) -> str:
    """SQL: the integer key that dbt's `hash_key` gives a record."""
    return f"cast('0x' || substr(md5('{source}|{kind}|' || {column}), 1, 15) as bigint)"


def _judge(
    connection: duckdb.DuckDBPyConnection, errors: int, *, predicted: str = "predicted", links: str | None = None
) -> Evaluation:
    from ml.identity.evaluation import evaluate as judge

    return judge(connection, predicted, "truth", links=links, errors=errors)


def _read_table(
    connection: duckdb.DuckDBPyConnection,
    file: Path,
    id_column: str | None,
    group_column: str | None,
    out: str,
    group: str,
    names: Sequence[str],
) -> None:
    """Make the table `out` (record_id, `group`) from a CSV or Parquet file.

    Raises:
        MailwrightError: the file can't be read, its columns can't be told, or an id occurs twice.
    """
    import duckdb

    if not file.is_file():
        raise MailwrightError(f"there is no file {file}" + (": it is a folder" if file.is_dir() else ""))
    path = str(file).replace("'", "''")
    with open(file, "rb") as opened:
        is_parquet = opened.read(4) == b"PAR1"
    reader = f"read_parquet('{path}')" if is_parquet else f"read_csv('{path}', header = true, all_varchar = true)"
    try:
        available = [row[0] for row in connection.execute(f"describe select * from {reader}").fetchall()]
        one, other = _columns(file, available, id_column, group_column, names)
        connection.execute(
            f"""
            create table {out} as
            select cast({_quoted(one)} as varchar) as record_id, cast({_quoted(other)} as varchar) as {group}
            from {reader}
            where {_quoted(one)} is not null and {_quoted(other)} is not null
            """
        )
    except duckdb.Error as error:
        raise MailwrightError(
            f"{file} can't be read as {'Parquet' if is_parquet else 'CSV'} ({type(error).__name__}): it needs a header"
            " and a row per record, in UTF-8"
        ) from None
    twice = connection.execute(
        f"select count(*) from (select 1 from {out} group by record_id having count(*) > 1)"
    ).fetchall()[0][0]
    if twice:
        raise MailwrightError(f"{file}: {twice:,} ids in column {one} occur more than once; each record needs one row")


def _columns(
    file: Path, available: Sequence[str], id_column: str | None, group_column: str | None, names: Sequence[str]
) -> tuple[str, str]:
    """The columns of ids and of groups: as given, else by a well-known name, else the other one of two."""
    for option, given in (("--id", id_column), ("--person", group_column)):
        if given is not None and given not in available:
            raise MailwrightError(f"{option} {given}: {file} has no such column; it has {', '.join(available)}")
    one = id_column or next((name for name in ID_NAMES if name in available and name != group_column), None)
    other = group_column or next((name for name in names if name in available and name != one), None)
    if len(available) == 2:
        # With two columns, one tells the other; with none told, the first is the id.
        one = one or next(name for name in available if name != other)
        other = other or next(name for name in available if name != one)
    if one is None or other is None or one == other:
        raise MailwrightError(
            f"{file} has the columns {', '.join(available)}: say which holds the ids and which the persons, with --id"
            " and --person"
        )
    return one, other


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _show_evaluation(console: Console, found: Evaluation, what: str) -> None:
    from orchestration.showing import table

    console.print(what, highlight=False, markup=False, soft_wrap=True)
    _pairs(
        console,
        {
            "records": f"{found.records:,}"
            + (f" ({found.missing:,} of the truth are not in the result)" if found.missing else "")
            + (f" ({found.unjudged:,} of the result are not in the truth)" if found.unjudged else ""),
            "persons": f"{found.persons:,}",
            "customers": f"{found.customers:,}",
            "pairs of one person": f"{found.true_pairs:,}, of which {found.right_pairs:,} found, {found.missed:,} missed",
            "pairs put together": f"{found.found_pairs:,}, of which {found.false_merges:,} false",
        },
    )
    table(
        console,
        ("", "precision", "recall", "F1"),
        [
            (name, f"{scores.precision:.4f}", f"{scores.recall:.4f}", f"{scores.f1:.4f}")
            for name, scores in (("pairwise", found.pairwise), ("B-cubed", found.b_cubed))
        ],
    )
    if found.wrong:
        rows = [
            (
                wrong.kind,
                wrong.left,
                wrong.right,
                "unknown" if wrong.weight is None else f"{wrong.weight:.1f}",
                ", ".join(wrong.agreed),
            )
            for wrong in found.wrong
        ]
        table(console, ("error", "record", "record", "weight", "agree in"), rows, "Errors with the highest weight")


def _show_explanation(console: Console, found: Explanation) -> None:
    from orchestration.showing import table

    console.print(f"Customer {found.customer_id}", highlight=False)
    if found.became:
        console.print(f"  went into customer {found.became}", highlight=False)
    if found.members:
        rows = [
            (
                str(member.identifier_id),
                member.source or "",
                (member.kind or "") + (" (gone)" if member.is_gone else ""),
                f"{member.since:%Y-%m-%d}",
            )
            for member in found.members
        ]
        table(console, ("record", "source", "kind", "this customer's as of"), rows, "Records")
    if found.links or found.certain:
        links = [(str(left), str(right), rule, "certain", "") for left, right, rule in found.certain]
        links += [
            (str(link.left), str(link.right), "score", f"{link.weight:.1f} bits", ", ".join(link.agreed))
            for link in found.links
        ]
        table(console, ("record", "record", "rule", "weight", "agree in"), links, "What holds them together")
    if found.entries:
        console.print("\n[bold]What happened[/bold]")
    for entry in found.entries:
        console.print("  " + _told(entry), highlight=False, markup=False, soft_wrap=True)


def _told(entry: Entry) -> str:
    records = f"{entry.records:,} {'record' if entry.records == 1 else 'records'}"
    said = {
        "created": f"created {entry.customer_id} with {records}",
        "merged": f"merged {entry.other_customer_id} into {entry.customer_id}: {records}",
        "split": f"split {records} off from {entry.other_customer_id}, now {entry.customer_id}",
        "restored": f"restored {entry.customer_id} out of {entry.other_customer_id}: {records}",
    }[entry.event]
    return f"{entry.as_of:%Y-%m-%d} (run {entry.run}) {said}{_because(entry.evidence)}"


def _because(evidence: Mapping[str, Any]) -> str:
    """The surest link, or what keeps records apart."""
    if links := evidence.get("surest"):
        surest = links[0]
        if surest["rule"] != "score":
            return f" [{surest['rule']}]"
        agreed = f", {', '.join(surest['agreed'])} agree" if surest["agreed"] else ""
        return f" [{surest['weight']:.1f} bits{agreed}]"
    if pairs := evidence.get("pairs"):
        return f" [{pairs[0]['reason']}]"
    return ""


def _reasons(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in refused.items()) or "none"


def _pairs(console: Console, said: Mapping[str, str]) -> None:
    from orchestration.showing import pairs

    pairs(console, said)
