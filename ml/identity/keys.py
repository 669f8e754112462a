"""Comparison keys: what records are compared by, whatever state their values are in. All in SQL, so that it scales.

Values are read as text. What stands for nothing ('unknown', 'N/A', a lone dash) becomes null; case, accents, titles and
punctuation go; the commonest non-Latin letters are transliterated; dates in any usual notation become yyyymmdd; phones
become their last nine digits, which are the same with and without a calling code; emails are compared by their
provider's rules. Nothing here is shown to anyone: golden records are made of the values themselves.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import MailwrightError
from ml.identity.columns import check_available, check_columns, identifier_key, is_identifier

if TYPE_CHECKING:
    import duckdb

NOTHING = (
    *("", "unknown", "unk", "n a", "na", "none", "null", "nan", "nil", "not known", "not given", "not available"),
    *("not provided", "not applicable", "no name", "anonymous", "undefined", "missing", "tbc", "tba", "xx", "xxx"),
    *("xxxx", "unbekannt", "inconnu", "desconocido", "sconosciuto", "not stated", "no data", "blank", "empty"),
)
NO_DATES = ("00000000", "00010101", "99991231", "19000101", "11111111", "99999999")
TITLES = (
    *("mr", "mrs", "ms", "miss", "mx", "dr", "prof", "professor", "sir", "dame", "lord", "lady", "rev", "reverend"),
    *("herr", "frau", "mme", "mlle", "monsieur", "madame", "senor", "senora", "sr", "sra", "signor", "signora", "dott"),
    *("hon", "capt", "captain", "col", "colonel", "major", "sgt", "lt", "dipl", "ing", "mag", "dhr", "mevr", "pan"),
)
SUFFIXES = ("jr", "junior", "senior", "ii", "iii", "iv", "phd", "md", "esq", "mbe", "obe", "cbe", "bt", "baronet")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_LETTERS = {
    "ß": "ss",
    "æ": "ae",
    "œ": "oe",
    "þ": "th",
    "щ": "sch",
    "ш": "sh",
    "ч": "ch",
    "ж": "zh",
    "х": "kh",
    "ц": "ts",
    "ю": "yu",
    "я": "ya",
    "ё": "e",
    "θ": "th",
    "χ": "ch",
    "ψ": "ps",
    "ου": "ou",
}
_DOUBLES = "bdfgklmnprstvz"


@dataclass(frozen=True)
class Prepared:
    """A table of comparison keys, one row per record.

    Attributes:
        table: its name; `record_id` as given, `source`, and the keys of each person column.
        columns: the person columns that hold anything.
        has_source: whether records come from several sources.
        records: number of rows.
    """

    table: str
    columns: tuple[str, ...]
    has_source: bool
    records: int


def prepare(
    connection: duckdb.DuckDBPyConnection,
    records: str,
    *,
    id_column: str,
    columns: Mapping[str, Sequence[str]],
    source_column: str | None = None,
    out: str,
) -> Prepared:
    """Make the table `out` of comparison keys from raw records.

    Args:
        connection: where `records` is, and where `out` is made.
        records: table or view of raw values, in any state and of any type.
        id_column: its column that names a record.
        columns: person column -> columns of `records`; several are joined (emails and the like: the first that is there).
        source_column: its column that says where a record comes from.
        out: name of the table to make.

    Raises:
        ColumnsError: a column is unknown or missing.
        MailwrightError: ids are missing or repeated.
    """
    available = [row[0] for row in connection.execute(f"describe select * from {records}").fetchall()]
    check_columns(columns)
    own = [(column,) for column in (id_column, source_column) if column is not None]
    check_available([*own, *columns.values()], available)
    _check_ids(connection, records, id_column)
    raw = ",\n".join(f"{_joined(name, sources)} as {_raw(name)}" for name, sources in columns.items())
    source = f"{quoted(source_column)}::varchar" if source_column else "null::varchar"
    connection.execute(
        f"create or replace temp table _identity_raw as"
        f" select {quoted(id_column)} as record_id, {source} as source, {raw} from {records}"
    )
    try:
        stages = _stages(columns, day_first=_is_day_first(connection, columns))
        tables = ["_identity_raw", *(f"stage_{number}" for number in range(len(stages)))]
        ctes = ",\n".join(
            f"{tables[number + 1]} as (select *, {', '.join(f'{sql} as {name}' for name, sql in stage.items())} from {tables[number]})"
            for number, stage in enumerate(stages)
        )
        keys = [*_keys_of(columns)]
        if "given" in keys:
            connection.register("_identity_nicknames", nickname_table())
            joined = (
                f"select {tables[-1]}.* exclude (given_roots), coalesce(_identity_nicknames.roots, given_roots) as given_roots"
                f" from {tables[-1]} left join _identity_nicknames on _identity_nicknames.name = given_first"
            )
        else:
            joined = f"select * from {tables[-1]}"
        connection.execute(
            f"create or replace table {out} as with {ctes}, joined as ({joined})"
            f" select record_id, source, {', '.join(keys)} from joined"
        )
    finally:
        connection.execute("drop table if exists _identity_raw")
        connection.execute("drop view if exists _identity_nicknames")
    held = [(name, KEYS[name][0] if name in KEYS else identifier_key(name)) for name in columns]
    if "full_name" in columns:
        held = [pair for pair in held if pair[0] not in ("given_name", "surname", "full_name")]
        held += [("given_name", "given"), ("surname", "surname")]
    counts = "".join(f", count({key})" for _, key in held)
    [row] = connection.execute(f"select count(*), count(distinct source){counts} from {out}").fetchall()
    present = tuple(name for (name, _), count in zip(held, row[2:], strict=True) if count)
    return Prepared(out, present, has_source=row[1] > 1, records=row[0])


KEYS: Mapping[str, tuple[str, ...]] = {
    "given_name": ("given", "given_first", "given_roots", "given_sound"),
    "surname": ("surname", "surname_sound"),
    "full_name": ("given", "given_first", "given_roots", "given_sound", "surname", "surname_sound"),
    "date_of_birth": ("dob_year", "dob"),
    "gender": ("gender",),
    "email": ("email", "email_local", "email_domain", "email_key", "email_digits"),
    "phone": ("phone",),
    "address": ("address", "street", "house"),
    "city": ("city",),
    "region": ("region",),
    "postal_code": ("postal",),
    "country": ("country",),
    "occupation": ("occupation",),
}
"""Keys of each person column; the first says whether a record has it."""


def _keys_of(columns: Mapping[str, Sequence[str]]) -> list[str]:
    keys: dict[str, None] = {}
    for name in columns:
        keys.update(dict.fromkeys((identifier_key(name),) if is_identifier(name) else KEYS[name]))
    return list(keys)


def quoted(name: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _raw(name: str) -> str:
    return f"raw_{identifier_key(name) if is_identifier(name) else name}"


def _joined(name: str, sources: Sequence[str]) -> str:
    parts = ", ".join(f"nullif(trim({quoted(source)}::varchar), '')" for source in sources)
    if len(sources) == 1:
        return parts
    if name in ("email", "phone", "gender", "country"):
        return f"coalesce({parts})"
    separator = "-" if name == "date_of_birth" else " "
    return f"nullif(concat_ws('{separator}', {parts}), '')"


def _check_ids(connection: duckdb.DuckDBPyConnection, records: str, id_column: str) -> None:
    column = quoted(id_column)
    [(total, given, distinct)] = connection.execute(
        f"select count(*), count({column}), count(distinct {column}) from {records}"
    ).fetchall()
    if given < total:
        raise MailwrightError(f"{total - given:,} of {total:,} records have no {id_column}: every record needs an id")
    if distinct < total:
        raise MailwrightError(
            f"{total - distinct:,} of {total:,} values of {id_column} are repeated: ids must be unique, also between"
            " sources. Make them so, for example by putting the source's name before them"
        )


def _is_day_first(connection: duckdb.DuckDBPyConnection, columns: Mapping[str, Sequence[str]]) -> bool:
    """Whether 03/04/1980 is in April: by the numbers above twelve of the whole column, else as most of the world writes."""
    if "date_of_birth" not in columns:
        return True
    [(first, second)] = connection.execute(
        r"""
        with parts as (
            select regexp_extract(raw_date_of_birth, '^\s*(\d{1,2})[-/. ](\d{1,2})[-/. ]\d{2,4}\b', ['a', 'b']) as part
            from _identity_raw where raw_date_of_birth is not null
        )
        select
            count(*) filter (try_cast(part.a as integer) between 13 and 31),
            count(*) filter (try_cast(part.b as integer) between 13 and 31)
        from parts
        """
    ).fetchall()
    return bool(first >= second)


def _stages(columns: Mapping[str, Sequence[str]], *, day_first: bool) -> list[dict[str, str]]:
    """Expressions by name, stage by stage: a stage may use what an earlier one made."""
    first: dict[str, str] = {}
    second: dict[str, str] = {}
    third: dict[str, str] = {}
    fourth: dict[str, str] = {}
    fifth: dict[str, str] = {}
    given = _null_if_nothing(_untitled("given_text")) if "given_name" in columns else "null::varchar"
    surname = _null_if_nothing(_unsuffixed("surname_text")) if "surname" in columns else "null::varchar"
    if "given_name" in columns:
        first["given_text"] = plain("raw_given_name")
    if "surname" in columns:
        first["surname_text"] = plain("raw_surname")
    if "full_name" in columns:
        # 'Miller, Anne' is turned round; what follows a comma and is no name ('1st baron ...', 'MD') is left out.
        suffixes = ", ".join(f"'{suffix}'" for suffix in SUFFIXES)
        after = _unsuffixed(plain("split_part(raw_full_name, ',', 2)"))
        first["full_after"] = after
        first["full_before"] = plain("split_part(raw_full_name, ',', 1)")
        second["full_given"] = (
            rf"case when full_after not in ('', {suffixes}) and regexp_full_match(full_after, '\p{{L}}+( \p{{L}}+){{0,2}}') then full_after end"
        )
        second["full_text"] = _null_if_nothing(_unsuffixed(_untitled("full_before")))
        particles = "van|von|vom|zu|de|der|den|del|della|di|da|la|le|du|dos|el|bin|ibn|al|ter|ten"
        third["full_surname"] = (
            "case when full_given is not null then full_text"
            rf" else regexp_extract(full_text, '((?:(?:{particles}) )*\S+)$', 1) end"
        )
        fourth["given_found"] = (
            f"coalesce({given}, full_given,"
            " nullif(trim(left(full_text, greatest(length(full_text) - length(full_surname), 0))), ''))"
        )
        fourth["surname_found"] = f"coalesce({surname}, nullif(full_surname, ''))"
        fifth["given"], fifth["surname"] = "given_found", "surname_found"
    else:
        if "given_name" in columns:
            fifth["given"] = given
        if "surname" in columns:
            fifth["surname"] = surname
    last: dict[str, str] = {}
    if "given" in fifth:
        last["given_first"] = "split_part(given, ' ', 1)"
        last["given_roots"] = "case when given is not null then [split_part(given, ' ', 1)] end"
        last["given_sound"] = sound("split_part(given, ' ', 1)")
    if "surname" in fifth:
        last["surname_sound"] = sound("surname")
    if "date_of_birth" in columns:
        _add_date(first, second, third, last, day_first=day_first)
    if "email" in columns:
        first["email_text"] = r"regexp_replace(lower(strip_accents(raw_email)), '^mailto:|\s', '', 'g')"
        second["email_ok"] = r"case when regexp_full_match(email_text, '[^@]+@[^@]+\.[^@.]+') then email_text end"
        third["email_domain"] = (
            "case split_part(email_ok, '@', 2) when 'googlemail.com' then 'gmail.com' else split_part(email_ok, '@', 2) end"
        )
        third["email_name"] = "split_part(split_part(email_ok, '@', 1), '+', 1)"
        fourth["email_local"] = (
            "nullif(case email_domain when 'gmail.com' then replace(email_name, '.', '') else email_name end, '')"
        )
        fifth["email"] = "email_local || '@' || email_domain"
        fifth["email_key"] = (
            r"nullif(array_to_string(list_sort(regexp_extract_all(email_local, '\p{L}+|[0-9]+')), ' '), '')"
        )
        fifth["email_digits"] = r"nullif(regexp_replace(email_local, '[^0-9]', '', 'g'), '')"
    if "phone" in columns:
        first["phone_digits"] = (
            r"ltrim(regexp_replace(regexp_replace(lower(raw_phone), '\(0\)|(ext|x)\.? ?\d+$', ''), '[^0-9]', '', 'g'), '0')"
        )
        second["phone"] = (
            "case when length(phone_digits) >= 6 and"
            " right(phone_digits, 9) not in ('111111111', '123456789', '999999999', '23456789')"
            " then right(phone_digits, 9) end"
        )
    if "address" in columns:
        first["address_text"] = _null_if_nothing(plain("raw_address"))
        second["address"] = _abbreviated("address_text")
        third["house"] = r"nullif(array_to_string(list_sort(regexp_extract_all(address, '\d+')), ' '), '')"
        third["street"] = (
            r"nullif(trim(regexp_replace(regexp_replace(address, '\d+[a-z]?\b', '', 'g'), ' +', ' ', 'g')), '')"
        )
    for name in ("city", "region", "occupation"):
        if name in columns:
            first[f"{name}_text"] = plain(f"raw_{name}")
            second[name] = _null_if_nothing(f"{name}_text")
    if "postal_code" in columns:
        first["postal_text"] = plain("raw_postal_code")
        second["postal"] = f"replace({_null_if_nothing('postal_text')}, ' ', '')"
    if "country" in columns:
        first["country_text"] = plain("raw_country")
        second["country"] = _country("country_text")
    if "gender" in columns:
        first["gender_text"] = plain("raw_gender")
        second["gender"] = (
            "case when gender_text in ('f', 'female', 'w', 'woman', 'weiblich', 'femme', 'femminile', 'mujer', 'frau') then 'f'"
            " when gender_text in ('m', 'male', 'man', 'mannlich', 'maennlich', 'homme', 'maschile', 'hombre', 'herr') then 'm' end"
        )
    for name in columns:
        if is_identifier(name):
            key = identifier_key(name)
            first[f"{key}_text"] = _null_if_nothing(plain(f"raw_{key}"))
            second[key] = f"nullif(replace({key}_text, ' ', ''), '')"
    return [stage for stage in (first, second, third, fourth, fifth, last) if stage]


def _add_date(
    first: dict[str, str], second: dict[str, str], third: dict[str, str], last: dict[str, str], *, day_first: bool
) -> None:
    """Year, and the date as yyyymmdd where day and month are known. A damaged date stays comparable as it stands."""
    day, month = ("a", "b") if day_first else ("b", "a")
    names = "|".join(MONTHS)
    first["dob_text"] = (
        r"regexp_replace(regexp_replace(lower(strip_accents(raw_date_of_birth)), '[t ]\d{1,2}:\d{2}.*$', ''),"
        r" '^(c|ca|circa|about|abt|approx)\.? *', '')"
    )
    second["dob_iso"] = r"regexp_extract(dob_text, '^(\d{4})[-/. ](\d{1,2})[-/. ](\d{1,2})$', ['y', 'm', 'd'])"
    second["dob_dmy"] = r"regexp_extract(dob_text, '^(\d{1,2})[-/. ](\d{1,2})[-/. ](\d{4}|\d{2})$', ['a', 'b', 'y'])"
    second["dob_word"] = (
        rf"regexp_extract(dob_text, '^(\d{{1,2}})(?:st|nd|rd|th|\.)?[- ](?:of )?({names})[a-z]*\.?,?[- ](\d{{4}})$', ['d', 'm', 'y'])"
    )
    second["dob_word_us"] = (
        rf"regexp_extract(dob_text, '^({names})[a-z]*\.? (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})$', ['m', 'd', 'y'])"
    )
    second["dob_digits"] = "regexp_replace(dob_text, '[^0-9]', '', 'g')"
    year = "case when length(dob_dmy.y) = 4 then dob_dmy.y when try_cast(dob_dmy.y as integer) > 30 then '19' || dob_dmy.y else '20' || dob_dmy.y end"
    number = f"lpad((list_position({list(MONTHS)!r}, {{0}}))::varchar, 2, '0')"
    swapped = f"try_cast(dob_dmy.{month} as integer) > 12 and try_cast(dob_dmy.{day} as integer) <= 12"
    third["dob_found"] = f"""
        case
            when dob_iso.y <> '' then dob_iso.y || lpad(dob_iso.m, 2, '0') || lpad(dob_iso.d, 2, '0')
            when dob_dmy.y <> '' and {swapped} then ({year}) || lpad(dob_dmy.{day}, 2, '0') || lpad(dob_dmy.{month}, 2, '0')
            when dob_dmy.y <> '' then ({year}) || lpad(dob_dmy.{month}, 2, '0') || lpad(dob_dmy.{day}, 2, '0')
            when dob_word.y <> '' then dob_word.y || {number.format("dob_word.m")} || lpad(dob_word.d, 2, '0')
            when dob_word_us.y <> '' then dob_word_us.y || {number.format("dob_word_us.m")} || lpad(dob_word_us.d, 2, '0')
            when length(dob_digits) = 8 and dob_digits = dob_text and left(dob_digits, 2) not in ('17', '18', '19', '20')
                and substr(dob_digits, 5, 2) in ('17', '18', '19', '20')
                then right(dob_digits, 4) || {"substr(dob_digits, 3, 2) || left(dob_digits, 2)" if day_first else "left(dob_digits, 4)"}
            when length(dob_digits) between 7 and 9 then dob_digits
            when length(dob_digits) = 4 then dob_digits
            when length(dob_digits) = 6 and left(dob_digits, 2) in ('15', '16', '17', '18', '19', '20') then left(dob_digits, 4)
            else nullif(regexp_extract(dob_text, '(1[5-9]\\d\\d|20\\d\\d)', 1), '')
        end
    """
    nothing = ", ".join(f"'{value}'" for value in NO_DATES)
    last["dob"] = f"case when length(dob_found) > 4 and dob_found not in ({nothing}) then dob_found end"
    last["dob_year"] = f"case when dob_found not in ({nothing}) then left(dob_found, 4) end"


def plain(expression: str) -> str:
    """SQL: lower-case words without accents and punctuation, the commonest other scripts in Latin letters."""
    text = f"strip_accents(lower({expression}))"
    for letter, latin in _LETTERS.items():
        text = f"replace({text}, '{letter}', '{latin}')"
    text = f"translate({text}, '{_SINGLE[0]}', '{_SINGLE[1]}')"
    text = rf"regexp_replace({text}, '[''’`´ʼ]', '', 'g')"
    return rf"trim(regexp_replace({text}, '[^\p{{L}}\p{{N}}]+', ' ', 'g'))"


def sound(expression: str) -> str:
    """SQL: how a name sounds, roughly and in no one language: consonants without doubles, look-alikes made equal.

    >>> # schmidt, schmitt and smith; catherine and kathryn; meyer, maier and mayr give equal keys
    """
    text = f"replace({expression}, ' ', '')"
    for spelling, heard in (("sch", "s"), ("sh", "s"), ("ch", "c"), ("ph", "f"), ("th", "t"), ("ck", "c"), ("dt", "t")):
        text = f"replace({text}, '{spelling}', '{heard}')"
    text = f"translate({text}, 'qkzvxwyjh', 'ccsfsuii')"
    text = f"case when left({text}, 1) in ('a', 'e', 'i', 'o', 'u') then 'a' else left({text}, 1) end || translate(substr({text}, 2), 'aeiou', '')"
    for letter in _DOUBLES + "cs":
        text = f"replace({text}, '{letter}{letter}', '{letter}')"
    return f"nullif({text}, '')"


def _pair_letters() -> tuple[str, str]:
    pairs = {
        **dict(zip("øłđðı", "olddi", strict=True)),
        **dict(zip("абвгдезийклмнопрстуфыэіїєґ", "abvgdeziiklmnoprstufyeiieg", strict=True)),
        **dict(zip("αβγδεζηικλμνξοπρσςτυφω", "avgdeziiklmnxoprsstyfo", strict=True)),
    }
    # translate() drops the letters that have no counterpart at the end: the Cyrillic signs.
    return "".join(pairs) + "ьъ", "".join(pairs.values())


_SINGLE = _pair_letters()


def _null_if_nothing(expression: str) -> str:
    nothing = ", ".join(f"'{value}'" for value in NOTHING)
    return f"case when {expression} not in ({nothing}) then {expression} end"


def _untitled(expression: str) -> str:
    return rf"regexp_replace({expression}, '^((?:{'|'.join(TITLES)}) )+', '')"


def _unsuffixed(expression: str) -> str:
    return rf"regexp_replace({expression}, '( (?:{'|'.join(SUFFIXES)}))+$', '')"


def _abbreviated(expression: str) -> str:
    text = expression
    for word, short in (("street", "st"), ("road", "rd"), ("avenue", "ave"), ("strasse", "str"), ("saint", "st")):
        text = f"replace({text}, '{word}', '{short}')"
    return text


_COUNTRIES = {
    "gb": ("uk", "united kingdom", "great britain", "england", "scotland", "wales", "northern ireland", "gbr"),
    "us": ("usa", "united states", "united states of america", "america"),
    "de": ("germany", "deutschland", "deu"),
    "fr": ("france", "frankreich", "fra"),
    "es": ("spain", "espana", "esp"),
    "it": ("italy", "italia", "ita"),
    "nl": ("netherlands", "the netherlands", "nederland", "holland", "nld"),
    "ie": ("ireland", "eire", "irl", "republic of ireland"),
    "at": ("austria", "osterreich", "oesterreich", "aut"),
    "ch": ("switzerland", "schweiz", "suisse", "svizzera", "che"),
    "be": ("belgium", "belgie", "belgique", "bel"),
    "au": ("australia", "aus"),
    "ca": ("canada", "can"),
}


def _country(expression: str) -> str:
    whens = " ".join(
        f"when {expression} in ({', '.join(repr(name) for name in names)}) then '{code}'"
        for code, names in _COUNTRIES.items()
    )
    return f"case {whens} else {_null_if_nothing(expression)} end"


@functools.cache
def nicknames() -> dict[str, list[str]]:
    """Given name -> the forms it may stand for: two names that share one may be one person's."""
    roots: defaultdict[str, set[str]] = defaultdict(set)
    text = importlib.resources.files("ml.identity").joinpath("nicknames.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        for form in (row["name"], *row["forms"].split()):
            roots[form] |= {form, row["name"]}
    return {name: sorted(forms) for name, forms in sorted(roots.items())}


def nickname_table() -> object:
    """`nicknames()` as an Arrow table (name, roots)."""
    import pyarrow as pa

    names = nicknames()
    return pa.table({"name": list(names), "roots": list(names.values())})
