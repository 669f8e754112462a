"""Email addresses and phone numbers of the lake, each parsed once by the field's libraries and kept for dbt to join.

What belongs here is what SQL can't do well: an address's syntax with international domains (email-validator, without
DNS), a number by its country's plan (phonenumbers), throw-away domains (disposable-email-domains). Which columns hold
contact points, and whose country a national number belongs to, is in the contract. Roles, providers' rules and
everything else that a table can say are seeds, applied in dbt.

Two files, `emails.parquet` and `phones.parquet`, each replaced whole by an atomic rename. They follow from the lake, so
either may be deleted or lost: the next run parses anew. They hold personal data as given: nothing of them is logged,
and who erases a person must delete the rows of that person's values here as well (by `given`, `email` and `phone`),
holding the same lock as `parse_new`; a value that is no longer in the lake does not come back.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from core import lock
from core.contract import Column, Table, load_contract
from core.files import replacing
from core.home import Home
from core.settings import PROJECT_ROOT, Settings
from core.warehouse import in_memory
from ingestion.sql import identifier, literal

if TYPE_CHECKING:
    import duckdb
    import phonenumbers

Progress = Callable[[str], None]

RULES = 1  # of this module; a change of what it makes of a value is a new number, and everything is parsed anew
SEEDS = PROJECT_ROOT / "dbt_project" / "seeds"
LOCK_WAIT_SECONDS = 600.0
CHUNK = 20_000  # values that a process parses at a time: about a second
POOL_FROM = 100_000  # values from which starting further processes pays
UNPREFIXED_FROM = 11  # digits from which a number may be one that lost its +; few national ones are as long

# What most addresses look like, and email-validator only ever writes in small letters, 40 microseconds later. Its other
# rules are about what this leaves out: other signs, other alphabets, hyphens at the edges of a label or in the place
# where an encoded one has them.
_PLAIN_EMAIL = re.compile(
    r"(?=.{1,64}@.{1,189}\Z)[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:[a-z0-9](?:-?[a-z0-9]){0,30}\.)+[a-z]{2,32}",
    re.IGNORECASE | re.ASCII,
)

EMAIL_PROBLEMS = ("no_at_sign", "bad_local_part", "bad_domain", "reserved_domain", "too_long")
PHONE_PROBLEMS = (
    "not_a_number",
    "no_country",
    "unknown_calling_code",
    "no_area_code",
    "too_short",
    "too_long",
    "wrong_length",
    "placeholder",
    "not_assigned",
)


class ParsedEmail(NamedTuple):
    """An address in the one way that it is written, or why there is none (one of `EMAIL_PROBLEMS`)."""

    email: str | None
    problem: str | None


class ParsedPhone(NamedTuple):
    """A number in E.164, or why there is none (one of `PHONE_PROBLEMS`).

    Attributes:
        number_type: mobile, fixed_line, ... as far as the country's plan tells.
        is_valid: lies in a range that the plan has assigned. A number of a possible length that does not has the
            problem `not_assigned` and is kept for use: plans change before libraries do, and the numbers that
            regulators reserve for fiction, which samples and tests are made of, are among them.
    """

    phone: str | None
    number_type: str | None
    is_valid: bool
    problem: str | None


@dataclass(frozen=True)
class ParsedCount:
    """How many values of a kind were parsed in a run.

    Attributes:
        parsed: values that were new, or parsed by an earlier version.
        unusable: those of them that are no contact point.
        known: values in the list afterwards.
    """

    parsed: int
    unusable: int
    known: int


@dataclass(frozen=True)
class ParseReport:
    """What `parse_new` did, in counts."""

    emails: ParsedCount
    phones: ParsedCount

    def describe(self) -> str:
        """One line, without any contents."""
        return "; ".join(
            f"{count.parsed:,} new {name}" + (f", {count.unusable:,} unusable" if count.unusable else "")
            for name, count in (("emails", self.emails), ("phones", self.phones))
        )


def parse_new(settings: Settings, home: Home, *, progress: Progress | None = None) -> ParseReport:
    """Parse the emails and phones of the lake that were not parsed before, and keep the results for dbt.

    A value as given, trimmed, is parsed once; a phone once for each country it was given with. A new major version of a
    library, or of the rules here, parses everything anew; a new list of throw-away domains only flags anew.

    Args:
        progress: told what is being done, one line at a time.

    Raises:
        WarehouseBusyError: another process is still at it after ten minutes.
    """
    say = progress or (lambda said: None)
    with (
        lock.held(
            home.contact_points / "emails", wait_seconds=LOCK_WAIT_SECONDS, notify=say, what="the contact points"
        ),
        in_memory(settings) as connection,
    ):
        return ParseReport(
            _update_emails(connection, settings, home, say), _update_phones(connection, settings, home, say)
        )


def parse_email(given: str) -> ParsedEmail:
    """Read one address, as people and systems write it: `mailto:` or `Name <address>` around it is left out.

    Small letters, Unicode in form NFC, an international domain in Unicode; tags and dots stay. Domains kept for examples
    and tests are accepted, as samples use them; domains that no mail can reach are not.
    """
    from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailSyntaxError, validate_email

    if _PLAIN_EMAIL.fullmatch(given) and given.rpartition(".")[2].lower() not in SPECIAL_USE_DOMAIN_NAMES:
        return ParsedEmail(given.lower(), None)
    text = given.strip().removeprefix("mailto:").strip(" \t\r\n,;")
    if "@" not in text:
        return ParsedEmail(None, "no_at_sign")
    try:
        validated = validate_email(
            text, check_deliverability=False, test_environment=True, allow_display_name=True, strict=True
        )
    except EmailSyntaxError as error:
        return ParsedEmail(None, _email_problem(text, str(error)))
    return ParsedEmail(unicodedata.normalize("NFC", validated.normalized.lower()), None)


def parse_phone(given: str, country_code: str | None) -> ParsedPhone:
    """Read one number by its country's plan.

    A number that begins with + or 00 is international; any other is national, unless it only makes sense with a + put
    before it. Extensions are left out.

    Args:
        country_code: ISO 3166-1 alpha-2 of the country that a national number belongs to.
    """
    kept: ParsedPhone | None = None
    for text, region, is_guess in _phone_forms(given, country_code):
        reading = _read_phone(text, region)
        if reading.is_valid:
            return reading
        if kept is None or not (kept.phone or is_guess):
            kept = reading
    return kept or _no_phone("not_a_number")


def _phone_forms(given: str, country_code: str | None) -> Iterator[tuple[str, str | None, bool]]:
    """Ways to read a number, likeliest first, and whether it is a guess that only an assigned number confirms."""
    text = given.strip()
    if text.startswith("00"):
        yield "+" + text[2:], None, False
    yield text, country_code or None, False
    if not text.startswith(("+", "0")) and sum(map(str.isdigit, text)) >= UNPREFIXED_FROM:
        yield "+" + text, None, True


def _read_phone(text: str, region: str | None) -> ParsedPhone:
    import phonenumbers
    from phonenumbers import NumberParseException, PhoneNumberType, ValidationResult

    try:
        number = phonenumbers.parse(text, region)
    except NumberParseException as error:
        if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
            return _no_phone("unknown_calling_code" if text.startswith("+") or region else "no_country")
        return _no_phone(
            {
                NumberParseException.TOO_LONG: "too_long",
                NumberParseException.TOO_SHORT_NSN: "too_short",
                NumberParseException.TOO_SHORT_AFTER_IDD: "too_short",
            }.get(error.error_type, "not_a_number")
        )
    length = phonenumbers.is_possible_number_with_reason(number)
    if length != ValidationResult.IS_POSSIBLE:
        return _no_phone(
            {
                ValidationResult.INVALID_COUNTRY_CODE: "unknown_calling_code",
                ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "no_area_code",
                ValidationResult.TOO_SHORT: "too_short",
                ValidationResult.TOO_LONG: "too_long",
            }.get(length, "wrong_length")
        )
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    number_type = phonenumbers.number_type(number)
    if number_type != PhoneNumberType.UNKNOWN:
        return ParsedPhone(written, PhoneNumberType.to_string(number_type).lower(), True, None)
    if _is_placeholder(phonenumbers.national_significant_number(number)):
        return _no_phone("placeholder")
    return ParsedPhone(_with_leading_zeros(text, number) or written, None, False, "not_assigned")


def _with_leading_zeros(text: str, number: phonenumbers.PhoneNumber) -> str | None:
    """An international number whose national part begins with several zeros, none of them left out.

    The library takes one for a trunk prefix, each time that it reads what it wrote; none has more than one.
    """
    from phonenumbers import normalize_digits_only

    digits, calling_code = normalize_digits_only(text), str(number.country_code)
    if text.startswith("+") and not number.extension and digits.startswith(calling_code + "00") and len(digits) <= 15:
        return "+" + digits
    return None


def _is_placeholder(digits: str) -> bool:
    """Whether someone who had to fill a field in made the digits up: 1111111111, 0123456789, 987654321."""
    return len(set(digits)) == 1 or digits in "01234567890" or digits in "09876543210"


def _no_phone(problem: str) -> ParsedPhone:
    return ParsedPhone(None, None, False, problem)


def _email_problem(text: str, said: str) -> str:
    """The kind of problem; what the library says about it quotes the address."""
    if "too long" in said:
        return "too_long"
    if "special-use or reserved" in said:
        return "reserved_domain"
    local_part = text.rpartition("@")[0]
    about_local_part = any(words in said for words in ("before the @-sign", "Quoting", "display name"))
    if about_local_part or ".." in local_part or local_part.startswith(".") or local_part.endswith("."):
        return "bad_local_part"
    return "bad_domain"


# Work of a pool's process: plain functions of plain values, a column of results for each field.


def _parse_emails(rows: Sequence[tuple[str]]) -> list[tuple[str, str | None, str | None]]:
    return [(given, *parse_email(given)) for (given,) in rows]


def _parse_phones(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str, str | None, str | None, bool, str | None]]:
    return [(given, country_code, *parse_phone(given, country_code)) for given, country_code in rows]


# The lists that are kept.

_EMAIL_COLUMNS = {
    "given": "varchar",
    "email": "varchar",
    "problem": "varchar",
    "is_disposable": "boolean",
    "parsed_with": "varchar",
    "flagged_with": "varchar",
}
_PHONE_COLUMNS = {
    "given": "varchar",
    "country_code": "varchar",
    "phone": "varchar",
    "number_type": "varchar",
    "is_valid": "boolean",
    "problem": "varchar",
    "parsed_with": "varchar",
}


def _update_emails(connection: duckdb.DuckDBPyConnection, settings: Settings, home: Home, say: Progress) -> ParsedCount:
    file = home.contact_points / "emails.parquet"
    parsed_with = f"email-validator {_major('email-validator')}, rules {RULES}"
    flagged_with = f"disposable-email-domains {_version('disposable-email-domains')}"
    _open_list(connection, "emails", file, _EMAIL_COLUMNS)
    _find(connection, home, "email")
    connection.execute(
        f"""
        create temp table new_emails as
        select given from given_email
        anti join (select given from emails where parsed_with = {literal(parsed_with)}) using (given)
        union
        select given from emails where parsed_with <> {literal(parsed_with)}
        """
    )
    parsed = _parse_table(connection, settings, "new_emails", ("given", "email", "problem"), _parse_emails, say)
    stale_flags = connection.execute(
        f"select count(*) from emails where flagged_with <> {literal(flagged_with)}"
    ).fetchone()
    if parsed or (stale_flags and stale_flags[0]):
        connection.execute(
            """
            create temp table all_emails as
            select given, email, problem, split_part(email, '@', -1) as domain from parsed_new_emails
            union all
            select given, email, problem, split_part(email, '@', -1) from emails anti join new_emails using (given)
            """
        )
        _find_disposable_domains(connection)
        _write(
            connection,
            f"""
            select
                given,
                email,
                problem,
                email is not null and domain in (select domain from disposable_domains) as is_disposable,
                {literal(parsed_with)} as parsed_with,
                {literal(flagged_with)} as flagged_with
            from all_emails
            order by given
            """,
            file,
        )
    return _count(connection, "emails", file, parsed, "email")


def _update_phones(connection: duckdb.DuckDBPyConnection, settings: Settings, home: Home, say: Progress) -> ParsedCount:
    file = home.contact_points / "phones.parquet"
    parsed_with = f"phonenumbers {_major('phonenumbers')}, rules {RULES}"
    _open_list(connection, "phones", file, _PHONE_COLUMNS)
    _find(connection, home, "phone")
    connection.execute(
        f"""
        create temp table new_phones as
        select given, country_code from given_phone
        anti join (select given, country_code from phones where parsed_with = {literal(parsed_with)})
            using (given, country_code)
        union
        select given, country_code from phones where parsed_with <> {literal(parsed_with)}
        """
    )
    columns = ("given", "country_code", "phone", "number_type", "is_valid", "problem")
    parsed = _parse_table(connection, settings, "new_phones", columns, _parse_phones, say)
    if parsed:
        names = ", ".join(columns)
        _write(
            connection,
            f"""
            select {names}, {literal(parsed_with)} as parsed_with from parsed_new_phones
            union all
            select {names}, parsed_with from phones anti join new_phones using (given, country_code)
            order by given, country_code
            """,
            file,
        )
    return _count(connection, "phones", file, parsed, "phone")


def _open_list(connection: duckdb.DuckDBPyConnection, name: str, file: Path, columns: dict[str, str]) -> None:
    """Make a view of the list that is kept, or an empty one: a list that is missing or damaged is made anew."""
    import duckdb

    if file.exists():
        try:
            connection.execute(
                f"create temp view {name} as select {', '.join(columns)} from read_parquet({literal(file)})"
            )
            connection.execute(f"select count(parsed_with) from {name}")
            return
        except duckdb.Error:
            connection.execute(f"drop view if exists {name}")
    empty = ", ".join(f"cast(null as {data_type}) as {column}" for column, data_type in columns.items())
    connection.execute(f"create temp view {name} as select {empty} where false")


def _find(connection: duckdb.DuckDBPyConnection, home: Home, kind: Literal["email", "phone"]) -> None:
    """Make the table `given_<kind>`: what the lake holds in the columns that the contract marks, each value once."""
    selects = [
        select
        for table in load_contract().tables.values()
        for column in table.columns
        if column.contact_point and column.contact_point.kind in (kind, "either")
        for select in _selects(home, table, column, kind)
    ]
    given = " union all ".join(selects) or "select cast(null as varchar) as given, cast(null as varchar) as country"
    if kind == "email":
        connection.execute(f"create temp table given_email as select distinct given from ({given}) where given <> ''")
        return
    connection.execute(
        f"""
        create temp table given_phone as
        with as_given as (select distinct given, country from ({given}) where given <> ''),
        country_names as (
            select name_key, country_code
            from read_csv({literal(SEEDS / "country_names.csv")}, header = true, all_varchar = true)
        )
        select distinct as_given.given, coalesce(country_names.country_code, '') as country_code
        from as_given
        left join country_names
            on regexp_replace(upper(strip_accents(as_given.country)), '[^A-Z]', '', 'g') = country_names.name_key
        """
    )


def _selects(home: Home, table: Table, column: Column, kind: Literal["email", "phone"]) -> Iterator[str]:
    """Queries of (given, country) for one column, over the files of its table."""
    point = column.contact_point
    rows = _accepted(home, table)
    if point is None or rows is None:
        return
    of_kind = {
        "email": f"contains(rows.{column.name}, '@')",
        "phone": f"not contains(rows.{column.name}, '@')",
    }[kind]
    where = f" where {of_kind}" if point.kind == "either" else ""
    given = f"select trim(rows.{column.name}) as given"
    if kind == "email" or point.country is None:
        yield f"{given}, cast(null as varchar) as country from ({rows}) as rows{where}"
    elif point.by is None:
        yield f"{given}, rows.{point.country} as country from ({rows}) as rows{where}"
    else:
        other_name, _, other_column = point.country.partition(".")
        other = _accepted(home, load_contract().table(table.source, other_name))
        yield f"{given}, cast(null as varchar) as country from ({rows}) as rows{where}"
        if other is not None:
            yield (
                f"{given}, other.{other_column} as country from ({rows}) as rows"
                f" inner join ({other}) as other on rows.{point.by} = other.{point.by}{where}"
            )


def _accepted(home: Home, table: Table) -> str | None:
    """A query of all accepted rows of a table, with every column of the contract, or None if there are no files."""
    folder = home.accepted(table.source, table.name)
    if not any(folder.glob("*.parquet")):
        return None
    typed = ", ".join(f"cast(null as {column.data_type}) as {identifier(column.name)}" for column in table.columns)
    files = f"read_parquet({literal(folder / '*.parquet')}, union_by_name = true)"
    return f"select {typed} where false union all by name select * from {files}"


def _parse_table(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    table: str,
    columns: Sequence[str],
    parse: Callable[[Sequence[Any]], Sequence[tuple[Any, ...]]],
    say: Progress,
) -> int:
    """Make the table `parsed_<table>` of the values of `table`; returns how many there are."""
    import pyarrow as pa

    rows: list[tuple[str, ...]] = connection.execute(f"from {table}").fetchall()
    types = {name: pa.bool_() if name == "is_valid" else pa.string() for name in columns}
    if rows:
        say(f"parsing {len(rows):,} {table.replace('_', ' ')}")
    batches = [
        pa.RecordBatch.from_arrays(
            [pa.array(values, types[name]) for name, values in zip(columns, zip(*parsed, strict=True), strict=True)],
            names=list(columns),
        )
        for parsed in _parsed(rows, parse, settings.threads)
    ]
    schema = pa.schema(list(types.items()))
    connection.register(f"parsed_{table}", pa.Table.from_batches(batches, schema))
    return len(rows)


def _parsed(
    rows: Sequence[tuple[str, ...]],
    parse: Callable[[Sequence[Any]], Sequence[tuple[Any, ...]]],
    processes: int,
) -> Iterator[Sequence[tuple[Any, ...]]]:
    remaining = iter(rows)
    chunks = iter(lambda: list(islice(remaining, CHUNK)), [])
    if len(rows) < POOL_FROM or processes < 2:
        yield from map(parse, chunks)
        return
    # Spawned, not forked: DuckDB's threads are running, and a fork would inherit their locks.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(parse, chunks)


def _find_disposable_domains(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table `disposable_domains`: the domains of `all_emails` that give out throw-away addresses."""
    import pyarrow as pa
    from disposable_email_domains import blocklist

    domains = connection.execute("select distinct domain from all_emails where domain is not null").fetchall()
    found = [domain for (domain,) in domains if any(parent in blocklist for parent in _with_parents(domain))]
    connection.register("disposable_domains", pa.table({"domain": pa.array(found, pa.string())}))


def _with_parents(domain: str) -> Iterator[str]:
    """A domain and those that it lies in, the top level left out."""
    labels = domain.split(".")
    return (".".join(labels[start:]) for start in range(len(labels) - 1))


def _write(connection: duckdb.DuckDBPyConnection, query: str, file: Path) -> None:
    with replacing(file) as beside:
        connection.execute(f"copy ({query}) to {literal(beside)} (format parquet, compression zstd)")


def _count(connection: duckdb.DuckDBPyConnection, name: str, file: Path, parsed: int, value: str) -> ParsedCount:
    unusable, known = 0, 0
    if file.exists():
        [(known,)] = connection.execute(f"select count(*) from read_parquet({literal(file)})").fetchall()
    if parsed:
        [(unusable,)] = connection.execute(f"select count(*) from parsed_new_{name} where {value} is null").fetchall()
    return ParsedCount(parsed, unusable, known)


@cache
def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _major(package: str) -> str:
    found = re.match(r"\d+", _version(package))
    return found[0] if found else _version(package)
