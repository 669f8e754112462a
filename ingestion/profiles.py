"""What the columns of a file look like: enough to notice that one was renamed or retyped, and no contents.

A profile counts the forms of the values (email addresses, numbers with a decimal comma, ...) in a sample: the first
SAMPLE_ROWS rows, always the same ones. It is kept in the manifest, so that a delivery is compared with those before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ingestion.conversion import FALSE_WORDS, TRUE_WORDS, kind_of
from ingestion.reading import RawFile
from ingestion.sql import literal, literals

if TYPE_CHECKING:
    import duckdb

SAMPLE_ROWS = 2000
MOST_UNKNOWN_COLUMNS = 60
DOMINANT = 0.8

WHOLE, POINT, COMMA, GROUPED = "whole numbers", "decimal numbers", "numbers with a decimal comma", "grouped numbers"
DATE, TIME = "dates (2011-12-09)", "times (2011-12-09 08:26)"
SLASHES, POINTS = "dates with slashes (09/12/2011)", "dates with points (09.12.2011)"
EMAIL, URL, PHONE, WORDS = "email addresses", "web addresses", "phone numbers", "yes and no"
NESTED, CODE, TEXT = "JSON", "codes", "text"

# The first that fits is the form of a value.
_PATTERNS = {
    WHOLE: r"[+-]?\d+",
    POINT: r"[+-]?(\d+\.\d*|\.\d+)",
    GROUPED: r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?",
    COMMA: r"[+-]?\d{1,3}([. ]?\d{3})*,\d+",
    DATE: r"\d{4}-\d\d-\d\d",
    TIME: r"\d{4}-\d\d-\d\d[T ]\d\d:.*",
    SLASHES: r"\d{1,2}/\d{1,2}/\d{2,4}( .*)?",
    POINTS: r"\d{1,2}\.\d{1,2}\.\d{2,4}( .*)?",
    EMAIL: r"[^@\s]+@[^@\s]+\.[^@\s]+",
    URL: r"https?://.*",
    PHONE: r"\+?[\d\s()./-]{7,}",
    NESTED: r"[\[{].*",
    CODE: r"[\w.:/-]*\d[\w.:/-]*",
}
_FORMS_OF_KINDS = {
    "whole": WHOLE,
    "float": POINT,
    "decimal": POINT,
    "boolean": WORDS,
    "date": DATE,
    "local": TIME,
    "instant": TIME,
    "nested": NESTED,
}
# What says something about what a column is; codes and text may be anything.
TELLING = frozenset([POINT, COMMA, GROUPED, DATE, TIME, SLASHES, POINTS, EMAIL, URL, PHONE, WORDS, NESTED])


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a delivery.

    Attributes:
        name: in the file.
        read_as: the contract's column that it was read as, or None.
        data_type: its DuckDB type; VARCHAR in text files.
        rows, filled, distinct: rows in the sample, those with a value, and about how many different values.
        length: mean length of the values as text.
        forms: how many values have which form.
    """

    name: str
    read_as: str | None
    data_type: str
    rows: int
    filled: int
    distinct: int
    length: float
    forms: tuple[tuple[str, int], ...]

    @property
    def form(self) -> str | None:
        """The form of nearly all values, if they have one."""
        if not self.filled:
            return None
        form, count = max(self.forms, key=lambda said: said[1])
        return form if count >= DOMINANT * self.filled else None

    def likeness(self, other: ColumnProfile) -> float:
        """From 0 to 1: how much the values look like another column's."""
        if not (self.filled and other.filled):
            return 0.0
        mine, theirs = dict(self.forms), dict(other.forms)
        forms = sum(min(mine.get(f, 0) / self.filled, theirs.get(f, 0) / other.filled) for f in mine)
        return forms * (0.6 + 0.2 * _ratio(self.length, other.length) + 0.2 * _ratio(self._variety, other._variety))

    @property
    def _variety(self) -> float:
        return min(1.0, self.distinct / self.filled)


def profile(connection: duckdb.DuckDBPyConnection, file: RawFile, names: Mapping[str, str]) -> list[ColumnProfile]:
    """Profile the columns of a file, in its order; of those that the contract does not have only the first ones.

    Args:
        names: name in the file, by column of the contract.
    """
    read_as = {name: column for column, name in names.items()}
    unknown = [name for name in dict.fromkeys(file.names) if name not in read_as][:MOST_UNKNOWN_COLUMNS]
    wanted = [name for name in dict.fromkeys(file.names) if name in read_as or name in unknown]
    if not wanted:
        return []
    cells = ", ".join(f"{_cell(file, name)} as p{position}" for position, name in enumerate(wanted))
    measures = ", ".join(
        f"count(p{n}), approx_count_distinct(p{n}), coalesce(avg(length(p{n})), 0),"
        f" histogram({_form(file, name, f'p{n}')}) filter (p{n} is not null)"
        for n, name in enumerate(wanted)
    )
    said = connection.execute(
        f"select count(*), {measures} from (select {cells} from {file.relation} where file_row_number < {SAMPLE_ROWS})"
    ).fetchone()
    assert said is not None
    return [
        ColumnProfile(
            name,
            read_as.get(name),
            file.types[name],
            int(said[0]),
            *_measured(said[1 + 4 * position : 5 + 4 * position]),
        )
        for position, name in enumerate(wanted)
    ]


def merged(files: Iterable[Sequence[ColumnProfile]]) -> tuple[ColumnProfile, ...]:
    """The columns of a delivery of several files: those of one name together."""
    found: dict[str, ColumnProfile] = {}
    for column in (column for columns in files for column in columns):
        before = found.get(column.name)
        if before is None:
            found[column.name] = column
            continue
        forms = dict(before.forms)
        for form, count in column.forms:
            forms[form] = forms.get(form, 0) + count
        filled = before.filled + column.filled
        found[column.name] = replace(
            before,
            read_as=before.read_as or column.read_as,
            rows=before.rows + column.rows,
            filled=filled,
            distinct=max(before.distinct, column.distinct),
            length=(before.length * before.filled + column.length * column.filled) / filled if filled else 0.0,
            forms=tuple(sorted(forms.items())),
        )
    return tuple(found.values())


def _cell(file: RawFile, name: str) -> str:
    expression, kind = file.expressions[name], kind_of(file.types[name])
    if kind == "nested":
        return f"cast(to_json({expression}) as varchar)"
    if kind == "blob":
        return f"try(decode({expression}))"
    # A form shows in the first characters; a cell of 10 MB would cost as much as all others together.
    return f"nullif(trim(left(cast({expression} as varchar), 200)), '')"


def _form(file: RawFile, name: str, cell: str) -> str:
    if form := _FORMS_OF_KINDS.get(kind_of(file.types[name])):
        return literal(form)
    whens = " ".join(
        f"when regexp_full_match({cell}, {literal(pattern)}, 's') then {literal(form)}"
        for form, pattern in _PATTERNS.items()
    )
    words = [word for word in TRUE_WORDS + FALSE_WORDS if not word.isdigit()]
    return f"case when lower({cell}) in ({literals(words)}) then {literal(WORDS)} {whens} else {literal(TEXT)} end"


def _measured(said: Sequence[object]) -> tuple[int, int, float, tuple[tuple[str, int], ...]]:
    filled, distinct, length, forms = said
    assert isinstance(filled, int)
    assert isinstance(distinct, int)
    assert isinstance(length, float)
    counted = forms if isinstance(forms, dict) else {}
    return filled, distinct, round(length, 2), tuple(sorted((str(form), int(n)) for form, n in counted.items()))


def _ratio(one: float, other: float) -> float:
    return min(one, other) / max(one, other) if max(one, other) else 1.0
