"""The zoo: malformed files as they really come, and what becomes of each.

An animal is a file of one table, and what the loader must say about it: so many rows accepted, so many rejected and for
which reasons, or an error for that table alone. CANARY stands in the rows that are wrong, where it is personal data of
somebody: no message may sing it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

CANARY = "Xanthippe"

Builder = Callable[[Path], None]

LINES = "order_id,product_id,quantity,unit_price,description\n"
ORDERS = "order_id,ordered_at,customer_ref,currency,discount,accepts_marketing\n"
CONTACTS = "contact_id,email,given_name,surname,birthday,country\n"
GOOD_LINE = "O1,P1,1,2.50,plain\n"
GOOD_ORDER = "O1,2011-12-01 10:00,17,GBP,0,yes\n"
GOOD_CONTACT = "1,ada@example.com,Ada,Byrd,1980-02-03,GB\n"
GOOD_EVENT = '{"event_id": "1", "event_type": "page", "occurred_at": "2011-12-01T10:00:00Z", "properties": "x"}\n'

NUMBER = "is not a plain number"
TIME = "is not a time that exists"
DATE = "is not a date that exists"


@dataclass(frozen=True)
class Animal:
    """One malformed file.

    Attributes:
        name: what is wrong with it.
        table: source and table that it is delivered as.
        file: name under which it is delivered.
        content: its text or bytes, or what puts it at a path.
        accepted, superseded, rejected: rows, if it is taken in.
        reasons: words of each rejected row's reason, in the order of the rows.
        error: words of the error, if it is not taken in.
        notices: words that some notice must hold.
        keeps: a query on the accepted rows, and its result: that they are what was meant.
    """

    name: str
    table: str
    file: str
    content: str | bytes | Builder
    accepted: int = 0
    rejected: int = 0
    superseded: int = 0
    reasons: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    keeps: tuple[str, list[tuple[object, ...]]] | None = field(default=None, compare=False)

    def put(self, folder: Path) -> Path:
        """Write it into a folder."""
        path = folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content.encode() if isinstance(self.content, str) else self.content)
        return path


def parquet(query: str) -> Builder:
    """The result of a query."""

    def build(path: Path) -> None:
        with duckdb.connect() as connection:
            connection.execute(f"copy ({query}) to '{path}' (format parquet)")

    return build


def cut_parquet(query: str, *, by: int) -> Builder:
    """The same, without its last bytes."""

    def build(path: Path) -> None:
        parquet(query)(path)
        path.write_bytes(path.read_bytes()[:-by])

    return build


def text(make: Callable[[], str]) -> Builder:
    """Text that is too long to be kept."""

    def build(path: Path) -> None:
        path.write_text(make())

    return build


def zipped(inside: str) -> bytes:
    """A zip archive that holds one file; with the right names in it, a spreadsheet."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr(inside, LINES + f"O1,P1,1,2.50,{CANARY}\n")
    return archive.getvalue()


def lines(*rows: str) -> str:
    """Order lines of which the first is good."""
    return LINES + GOOD_LINE + "".join(f"{row}\n" for row in rows)


def orders(*rows: str) -> str:
    """Orders of which the first is good."""
    return ORDERS + GOOD_ORDER + "".join(f"{row}\n" for row in rows)


def contacts(*rows: str) -> str:
    """Contacts of which the first is good."""
    return CONTACTS + GOOD_CONTACT + "".join(f"{row}\n" for row in rows)


def events(*rows: str) -> str:
    """Web events of which the first is good."""
    return GOOD_EVENT + "".join(f"{row}\n" for row in rows)


def event(number: int, **said: object) -> str:
    """One web event as a line of JSON."""
    return json.dumps({"event_id": str(number), "event_type": "page", "occurred_at": "2011-12-01T10:00:00Z"} | said)


def wide(columns: int) -> str:
    """Order lines with many columns that nobody asked for."""
    names = [f"extra_{number}" for number in range(columns - 4)]
    header = ",".join(["order_id", "product_id", "quantity", "unit_price", *names])
    return "\n".join([header, ",".join(["O1", "P1", "1", "2", *["x"] * len(names)]), "O2,P1,x,2" + ",y" * len(names)])


DAMAGED_GZIP = gzip.compress(lines("O2,P1,1,2.50,x" + "y" * 5000).encode())[:-30]

ENCODINGS = [
    Animal(
        "UTF-8 with a byte order mark", "crm.contacts", "bom.csv", b"\xef\xbb\xbf" + contacts().encode(), accepted=1
    ),
    Animal(
        "UTF-16 little endian with a mark",
        "crm.contacts",
        "utf16le.csv",
        b"\xff\xfe" + contacts(f"2,x@example.com,{CANARY},Ö,no,GB").encode("utf-16-le"),
        accepted=1,
        rejected=1,
        reasons=(f"birthday {DATE}",),
    ),
    Animal(
        "UTF-16 big endian with a mark",
        "crm.contacts",
        "utf16be.csv",
        b"\xfe\xff" + contacts("2,x@example.com,Żółć,Ö,1980-01-01,GB").encode("utf-16-be"),
        accepted=2,
        keeps=("select given_name from rows where contact_id = '2'", [("Żółć",)]),
    ),
    Animal(
        "UTF-16 without a mark",
        "crm.contacts",
        "utf16.csv",
        contacts(f"2,,{CANARY},,,").encode("utf-16-le"),
        error=("utf16.csv", "UTF-16 without a byte order mark", "export it as CSV in UTF-8"),
    ),
    Animal(
        "Latin-1 in a UTF-8 file",
        "crm.contacts",
        "latin1.csv",
        contacts("2,x@example.com,Zoë,Ö,1980-01-01,GB").encode() + f"3,,{CANARY},caf\xe9,,\n".encode("latin-1"),
        error=("latin1.csv is not UTF-8 text on line 4", "in UTF-8"),
    ),
    Animal(
        "null bytes in text",
        "shop.order_lines",
        "null.csv",
        lines(f"O2,P1,1,2.50,{CANARY}\0", "O\x003,P1,1,2.50,x", "O4,P1,1,2.50,x"),
        accepted=2,
        rejected=2,
        reasons=("description holds a null byte", "order_id holds a null byte"),
    ),
    Animal(
        "null bytes in JSON",
        "web.events",
        "null.jsonl",
        events(event(2, properties="x\0y"), event(3)),
        accepted=2,
        rejected=1,
        reasons=("properties holds a null byte",),
    ),
    Animal(
        "null bytes in Parquet",
        "shop.order_lines",
        "null.parquet",
        parquet("select unnest(['O1', 'O' || chr(0)]) as order_id, 'P' as product_id, 1 as quantity, 2 as unit_price"),
        accepted=1,
        rejected=1,
        reasons=("order_id holds a null byte",),
    ),
]

SHAPES = [
    Animal(
        "semicolons and decimal points",
        "shop.order_lines",
        "semicolon.csv",
        lines("O2,P1,1,2.50,x").replace(",", ";"),
        accepted=2,
    ),
    Animal(
        "a delimiter nobody uses",
        "shop.order_lines",
        "caret.csv",
        lines(f"O2,P1,1,2.50,{CANARY}").replace(",", "^"),
        error=("caret.csv lacks the required columns order_id, product_id, quantity, unit_price", "first line"),
    ),
    Animal(
        "two delimiters in one file",
        "shop.order_lines",
        "mixed.csv",
        lines(f"O2;P1;1;2.50;{CANARY}", "O3,P1,1,2.50,x"),
        accepted=2,
        rejected=1,
        reasons=("has 1 cells where the header has 5",),
    ),
    Animal(
        "ragged rows",
        "shop.order_lines",
        "ragged.csv",
        lines("O2,P1,1", f"O3,P1,1,2.50,x,{CANARY}", "O4,P1,1,2.50,x"),
        accepted=2,
        rejected=2,
        reasons=("has 3 cells where the header has 5", "has 6 cells where the header has 5"),
    ),
    Animal(
        "a comma at the end of each row",
        "shop.order_lines",
        "trailing.csv",
        lines("O2,P1,1,2.50,x").replace("\n", ",\n"),
        accepted=2,
        notices=("(column 6 has no name)",),
    ),
    Animal(
        "a comma at the end of each row but not of the header",
        "shop.order_lines",
        "trailing-rows.csv",
        LINES + "O1,P1,1,2.50,x,\nO2,P1,1,2.50,x,\n",
        accepted=2,
    ),
    Animal(
        "a comma at the end of some rows",
        "shop.order_lines",
        "trailing-some.csv",
        LINES + f"O1,P1,1,2.50,x,\nO2,P1,1,2.50,x\nO3,P1,1,2.50,x,,\nO4,P1,1,2.50,x,,{CANARY}\n",
        accepted=3,
        rejected=1,
        reasons=("has 7 cells where the header has 5",),
    ),
    Animal(
        "a quote that is never closed",
        "shop.order_lines",
        "open.csv",
        lines(f'O2,P1,1,2.50,"{CANARY}', "O3,P1,1,2.50,x"),
        error=("open.csv: a quote opened on line 3 or after is never closed",),
    ),
    Animal(
        "stray quotes",
        "shop.order_lines",
        "stray.csv",
        lines(f'O2,P1,1,2.50,"{CANARY}" and more', 'O3,P1,1,2.50,5" pipe', 'O4,P1,1,2.50,"5"" pipe"'),
        accepted=3,
        rejected=1,
        reasons=("its quotes are broken",),
        keeps=("select description from rows where order_id = 'O3'", [('5" pipe',)]),
    ),
    Animal(
        "line breaks within quotes",
        "shop.order_lines",
        "breaks.csv",
        lines('O2,P1,1,2.50,"two\nlines"', "O3,P1,x,2.50,x"),
        accepted=2,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
    ),
    Animal(
        "a header that is repeated inside",
        "crm.contacts",
        "again.csv",
        contacts() + CONTACTS + "2,x@example.com,Bo,Li,1980-01-01,GB\n",
        accepted=2,
        rejected=1,
        reasons=("repeats the header",),
    ),
    Animal(
        "a byte order mark in the middle, as concatenating leaves it",
        "crm.contacts",
        "concatenated.csv",
        b"\xef\xbb\xbf" + contacts().encode() + b"\xef\xbb\xbf" + CONTACTS.encode() + b"2,,Bo,Li,1980-01-01,GB\n",
        accepted=2,
        rejected=1,
        reasons=("repeats the header",),
    ),
    Animal(
        "line ends of an old Mac",
        "shop.order_lines",
        "mac.csv",
        lines("O2,P1,x,2.50,x").replace("\n", "\r"),
        accepted=1,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
    ),
    Animal(
        "mixed line ends",
        "shop.order_lines",
        "ends.csv",
        LINES + "O1,P1,1,2.50,x\r\nO2,P1,1,2.50,x\nO3,P1,x,2.50,x\r\nO4,P1,1,2.50,x",
        accepted=3,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
    ),
    Animal("no line end at the end", "shop.order_lines", "cut.csv", lines("O2,P1,1,2.50,x").rstrip("\n"), accepted=2),
    Animal(
        "blank lines between the rows",
        "shop.order_lines",
        "blanks.csv",
        lines("", "   ", "O2,P1,x,2.50,x", "", ",,,,"),
        accepted=1,
        rejected=3,
        reasons=("has 1 cells where the header has 5", f"quantity {NUMBER}", "order_id has no value"),
    ),
    Animal("0 bytes", "shop.order_lines", "empty.csv", b"", error=("empty.csv is empty (0 bytes)",)),
    Animal("only blank lines", "shop.order_lines", "blank.csv", "\n\r\n  \n", error=("nothing but empty lines",)),
    Animal("a header and no rows", "shop.order_lines", "header.csv", LINES, notices=("header.csv holds no rows",)),
    Animal(
        "rows and no header",
        "crm.contacts",
        "headless.csv",
        f"1,ada@example.com,{CANARY},Byrd,1980-02-03,GB\n",
        error=("the first line must name the columns",),
    ),
    Animal(
        "a column twice in the header",
        "shop.order_lines",
        "twice.csv",
        LINES.replace("description", "Quantity") + f"O1,P1,1,2.50,{CANARY}\n",
        error=("twice.csv has the column quantity twice",),
    ),
    Animal(
        "an unknown column twice in the header",
        "shop.order_lines",
        "notes.csv",
        f"order_id,note,product_id,quantity,unit_price,note\nO1,a,P1,1,2,b\nO2,{CANARY},P1,x,2,b\n",
        accepted=1,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
        notices=("left out: note, note",),
    ),
    Animal("a header in capitals", "shop.order_lines", "capitals.csv", LINES.upper() + GOOD_LINE, accepted=1),
    Animal(
        "a header with blanks around the names",
        "shop.order_lines",
        "spaces.csv",
        LINES.replace(",", "\u00a0, ") + GOOD_LINE,
        accepted=1,
    ),
    Animal(
        "an empty cell in the header",
        "shop.order_lines",
        "nameless.csv",
        LINES.replace("description", "") + GOOD_LINE,
        accepted=1,
        notices=("(column 5 has no name)",),
    ),
    Animal(
        "blanks within the names of columns",
        "shop.order_lines",
        "blanks-in-names.csv",
        f"Order ID,Product ID,Quantity,Unit Price\nO1,P1,1,{CANARY}\n",
        error=("lacks the required columns order_id, product_id, unit_price", "rename 'Order ID' to order_id"),
    ),
    Animal(
        "5,000 columns",
        "shop.order_lines",
        "wide.csv",
        wide(5000),
        accepted=1,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
        notices=("and 4956 more",),
    ),
    Animal(
        "a line that tells the delimiter",
        "shop.order_lines",
        "excel.csv",
        "sep=;\n" + lines("O2,P1,x,2.50,x").replace(",", ";"),
        accepted=1,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
    ),
]

VALUES = [
    Animal(
        "a field of 10 MB",
        "shop.order_lines",
        "long-field.csv",
        text(lambda: lines("O2,P1,1,2.50," + "x" * 10_000_000, "O3,P1,1,2.50,x")),
        accepted=2,
        rejected=1,
        reasons=("description is longer than 1,000,000 bytes",),
    ),
    Animal(
        "a line of 20 MB",
        "shop.order_lines",
        "long-line.csv",
        text(lambda: lines("O2,P1,1,2.50," + "x" * 20_000_000, "O3,P1,1,2.50,x")),
        accepted=2,
        rejected=1,
        reasons=("holds a cell of more than 16 MB",),
    ),
    Animal(
        "a JSON line of 20 MB",
        "web.events",
        "long.jsonl",
        text(lambda: events(event(2, properties="x" * 20_000_000), event(3))),
        accepted=2,
        rejected=1,
        reasons=("properties is longer than 1,000,000 bytes",),
    ),
    Animal(
        "five date formats in one column",
        "crm.contacts",
        "dates.csv",
        CONTACTS
        + "".join(
            f"{number},,{CANARY},,{birthday},\n"
            for number, birthday in enumerate(
                ["1980-12-31", "31/12/1980", "31.12.1980", "12/31/1980", '"Dec 31, 1980"', "19801231", "31-DEC-80"], 1
            )
        ),
        accepted=3,
        rejected=4,
        reasons=(f"birthday {DATE}",) * 4,
        keeps=("select distinct cast(birthday as varchar) from rows", [("1980-12-31",)]),
    ),
    Animal(
        "dates that are month first",
        "shop.orders",
        "american.csv",
        ORDERS + "O1,03/04/2011,17,GBP,0,yes\nO2,12/31/2011,17,GBP,0,yes\nO3,04/03/2011,17,GBP,0,yes\n",
        error=("american.csv: column ordered_at", "month first", "2011-12-09"),
    ),
    Animal(
        "31 February, and 29 February where there is none",
        "shop.orders",
        "february.csv",
        orders(
            "O2,31/02/2011 10:00,17,GBP,0,yes", "O3,2011-02-29 10:00,17,GBP,0,yes", "O4,2012-02-29 10:00,17,GBP,0,yes"
        ),
        accepted=2,
        rejected=2,
        reasons=(f"ordered_at {TIME}",) * 2,
    ),
    Animal(
        "epoch in seconds, milliseconds and microseconds",
        "shop.orders",
        "epoch.csv",
        orders("O2,1322733600,,,,", "O3,1322733600000,,,,", "O4,1322733600000000,,,,"),
        accepted=1,
        rejected=3,
        reasons=(f"ordered_at {TIME}",) * 3,
    ),
    Animal(
        "epoch in a column of numbers",
        "shop.orders",
        "epoch.parquet",
        parquet("select 'O1' as order_id, 1322733600000 as ordered_at"),
        error=("epoch.parquet: column ordered_at holds BIGINT", "a time that exists"),
    ),
    Animal(
        "the future, 1900 and year 0",
        "shop.orders",
        "far.csv",
        orders(
            "O2,2999-01-01,17,GBP,0,yes",
            "O3,1900-01-01,17,GBP,0,yes",
            "O4,0000-01-01,17,GBP,0,yes",
            "O5,9999-12-31T23:59:59-11:00,17,GBP,0,yes",
        ),
        accepted=3,
        rejected=2,
        reasons=(f"ordered_at {TIME}",) * 2,
        notices=("ordered_at: 1 row is of a time after", "ordered_at: 1 row is of a time before 1970"),
    ),
    Animal(
        "an offset that no clock has",
        "shop.orders",
        "offset.csv",
        orders("O2,2011-07-09T08:26:00+99:00,,,,", "O3,2011-07-09T08:26:00+14:00,,,,"),
        accepted=2,
        rejected=1,
        reasons=(f"ordered_at {TIME}",),
    ),
    Animal(
        "a birthday in the future",
        "crm.contacts",
        "unborn.csv",
        contacts(f"2,,{CANARY},,2999-01-01,GB"),
        accepted=2,
    ),
    Animal(
        "a negative age",
        "third_party.demographics",
        "ages.csv",
        "contact_point,contact_point_type,age,age_band\nada@example.com,email,-5,-5\n",
        accepted=1,
        notices=("left out: age",),
        keeps=("select age_band from rows", [("-5",)]),
    ),
    Animal(
        "decimal commas",
        "shop.order_lines",
        "commas.csv",
        lines('O2,P1,1,"2,50",x', 'O3,P1,"1,0",2.50,x'),
        accepted=1,
        rejected=2,
        reasons=(f"unit_price {NUMBER}", f"quantity {NUMBER}"),
    ),
    Animal(
        "thousands separators and currency signs",
        "shop.order_lines",
        "signs.csv",
        lines('O2,P1,1,"1,234.50",x', "O3,P1,1,£2.50,x", "O4,P1,1,2.50 EUR,x", "O5,P1,1,1 234.50,x"),
        accepted=1,
        rejected=4,
        reasons=(f"unit_price {NUMBER}",) * 4,
    ),
    Animal(
        "1e999, NaN, infinity and numbers too large",
        "shop.order_lines",
        "numbers.csv",
        lines("O2,P1,1e999,2.50,x", "O3,P1,NaN,2.50,x", "O4,P1,inf,2.50,x", f"O5,P1,{'9' * 40},2.50,x"),
        accepted=1,
        rejected=4,
        reasons=(f"quantity {NUMBER}",) * 4,
    ),
    Animal(
        "an integer that overflows",
        "pos.sales",
        "overflow.csv",
        "sale_id,line_number,sold_at,product_id,quantity,unit_price\n"
        "S1,1,2011-12-01,P1,1,2\nS2,2147483648,2011-12-01,P1,1,2\nS3,0x10,2011-12-01,P1,1,2\n",
        accepted=1,
        rejected=2,
        reasons=("line_number is not a whole number within 32 bits",) * 2,
    ),
    Animal(
        "two currencies on the lines of one order",
        "shop.order_lines",
        "currencies.csv",
        "order_id,product_id,quantity,unit_price,currency\nO1,P1,1,2,GBP\nO2,P1,1,2,GBP\nO1,P2,1,2,EUR\nO1,P3,1,x,GBP\n",
        accepted=1,
        rejected=3,
        reasons=("currency holds different values within one order_id",) * 2 + (f"unit_price {NUMBER}",),
    ),
    Animal(
        "booleans in another language",
        "shop.orders",
        "ja.csv",
        orders("O2,2011-12-01,17,GBP,0,J", "O3,2011-12-01,17,GBP,0,ja", "O4,2011-12-01,17,GBP,0,N"),
        accepted=2,
        rejected=2,
        reasons=("accepts_marketing is not one of true",) * 2,
    ),
    Animal(
        "keys of nothing but white space",
        "shop.order_lines",
        "white.csv",
        lines("   ,P1,1,2.50,x", "\u00a0\u2003,P1,1,2.50,x", "\u200b\ufeff,P1,1,2.50,x", "\u200bO5\u2060,P1,1,2.50,x"),
        accepted=2,
        rejected=3,
        reasons=("order_id has no value",) * 3,
        keeps=("select order_id from rows order by 1", [("O1",), ("O5",)]),
    ),
    Animal(
        "emoji, right-to-left and zero-width names",
        "crm.contacts",
        "names.csv",
        contacts("2,,👩‍👩‍👧,😀,1980-01-01,GB", "3,,مريم,بنت,1980-01-01,EG", "4,,An\u200bna,\u202eevil,1980-01-01,GB"),
        accepted=4,
        keeps=(
            "select given_name from rows where contact_id in ('2', '3', '4') order by contact_id",
            [("👩‍👩‍👧",), ("مريم",), ("An\u200bna",)],
        ),
    ),
    Animal(
        "cells that a spreadsheet would run",
        "crm.contacts",
        "formula.csv",
        contacts("2,,=cmd|' /C calc'!A0,@SUM(1+1),1980-01-01,GB", '3,,"=HYPERLINK(""http://example.com"")",-1+1,,GB'),
        accepted=3,
        keeps=("select given_name from rows where contact_id = '2'", [("=cmd|' /C calc'!A0",)]),
    ),
    Animal(
        "SQL in a name",
        "crm.contacts",
        "bobby.csv",
        contacts("2,,Robert'); drop table contacts;--,O'Hara,1980-01-01,GB", "3,,Robert'); drop,O'Hara,no,GB"),
        accepted=2,
        rejected=1,
        reasons=(f"birthday {DATE}",),
        keeps=("select given_name from rows where contact_id = '2'", [("Robert'); drop table contacts;--",)]),
    ),
    Animal(
        "SQL in the name of a column",
        "crm.contacts",
        "bobby-column.csv",
        'contact_id,"a\'"" from x; drop table y;--",birthday\n1,x,1980-01-01\n2,x,no\n',
        accepted=1,
        rejected=1,
        reasons=(f"birthday {DATE}",),
        notices=("drop table y",),
    ),
    Animal(
        "ids that occur twice",
        "crm.contacts",
        "doubles.csv",
        contacts("1,second@example.com,Ada,Byrd,1980-02-03,GB", "1,third@example.com,Ada,Byrd,no,GB"),
        accepted=2,
        rejected=1,
        reasons=(f"birthday {DATE}",),
    ),
    Animal(
        "events that occur twice",
        "web.events",
        "doubles.jsonl",
        events(event(1), event(2), event(2, event_type="other")),
        accepted=2,
        superseded=1,
        rejected=1,
        reasons=("event_type is not one of",),
    ),
]

JSON = [
    Animal(
        "a broken line in JSON lines",
        "web.events",
        "broken.jsonl",
        events('{"event_id": "2", "email": "' + CANARY, '"words"', "[1, 2]", "null", "{}", event(3)),
        accepted=2,
        rejected=5,
        reasons=(*["is no JSON object"] * 4, "event_id has no value"),
    ),
    Animal(
        "a JSON file that ends within a line",
        "web.events",
        "cut.jsonl",
        (events(event(2)) + event(3))[:-20],
        accepted=2,
        rejected=1,
        reasons=("is no JSON object",),
    ),
    Animal(
        "one JSON array",
        "web.events",
        "array.json",
        f"  [{event(1)},\n{event(2, email=CANARY)}]\n",
        error=("array.json is a JSON array", "one object on each line"),
    ),
    Animal(
        "one JSON object over many lines",
        "web.events",
        "pretty.json",
        json.dumps({"event_id": "1", "email": CANARY}, indent=2),
        error=("pretty.json holds no JSON object",),
    ),
    Animal(
        "nested JSON",
        "web.events",
        "nested.jsonl",
        events(event(2, properties={"a": [1, {"b": None}]}), event(3, occurred_at={"at": "2011"})),
        accepted=2,
        rejected=1,
        reasons=(f"occurred_at {TIME}",),
        keeps=("select properties from rows where event_id = '2'", [('{"a":[1,{"b":null}]}',)]),
    ),
    Animal(
        "JSON nested 10,000 deep",
        "web.events",
        "deep.jsonl",
        events(event(2)[:-1] + ', "properties": ' + "[" * 10_000 + "]" * 10_000 + "}", event(3)),
        accepted=3,
    ),
    Animal(
        "a JSON key twice in one object",
        "web.events",
        "keys.jsonl",
        events(event(2)[:-1] + f', "event_id": "{CANARY}"}}', event(3)),
        accepted=2,
        rejected=1,
        reasons=("has a key twice",),
    ),
    Animal(
        "a JSON key in two cases",
        "web.events",
        "cases.jsonl",
        events(event(2, Event_ID=CANARY)),
        error=("cases.jsonl has the column event_id twice",),
    ),
    Animal(
        "JSON keys that no path can name",
        "web.events",
        "paths.jsonl",
        events(event(2, **{"": 1, "*": 2, 'a"b': 3, "a\\b": 4, "a.b": 5, "$": 6, "a b": 7, "ключ": 8}), event(3)),
        accepted=3,
        notices=("a.b, $, a b, ключ",),
    ),
    Animal(
        "NaN and numbers beyond all bounds in JSON",
        "web.events",
        "numbers.jsonl",
        events(
            event(2, price=1.5),
            event(3)[:-1] + ', "price": NaN}',
            event(4)[:-1] + ', "price": 1e999}',
            event(5, price=10**40),
            event(6)[:-1] + ', "price": -Infinity}',
        ),
        accepted=2,
        rejected=4,
        reasons=(f"price {NUMBER}",) * 4,
    ),
    Animal(
        "a half of a surrogate pair in JSON",
        "web.events",
        "surrogate.jsonl",
        events(event(2, query="\ud800"), event(3)),
        accepted=2,
        rejected=1,
        reasons=("is no JSON object",),
    ),
    Animal(
        "JSON lines that are Latin-1",
        "web.events",
        "latin1.jsonl",
        events(f'{{"event_id": "{CANARY}"}}').encode() + '{"query": "caf\xe9"}\n'.encode("latin-1"),
        error=("latin1.jsonl is not UTF-8 text on line 3",),
    ),
]

KINDS = [
    Animal(
        "gzip named csv",
        "shop.order_lines",
        "packed.csv",
        gzip.compress(lines(f"O2,P1,1,2.50,{CANARY}").encode()),
        error=("packed.csv is compressed with gzip", "packed.csv.gz"),
    ),
    Animal(
        "csv named gzip",
        "shop.order_lines",
        "plain.csv.gz",
        lines(),
        error=("plain.csv.gz is not compressed with gzip",),
    ),
    Animal(
        "a truncated gzip file",
        "shop.order_lines",
        "cut.csv.gz",
        DAMAGED_GZIP,
        error=("cut.csv.gz can't be unpacked", "truncated or damaged"),
    ),
    Animal(
        "a truncated gzip file of JSON lines",
        "web.events",
        "cut.jsonl.gz",
        gzip.compress(events(event(2)).encode())[:-12],
        error=("cut.jsonl.gz can't be unpacked",),
    ),
    Animal(
        "zip named csv",
        "shop.order_lines",
        "zipped.csv",
        zipped("lines.csv"),
        error=("zipped.csv is a zip archive",),
    ),
    Animal(
        "a spreadsheet named csv",
        "shop.order_lines",
        "sheet.csv",
        zipped("xl/workbook.xml"),
        error=("sheet.csv is a spreadsheet (xlsx)", "CSV"),
    ),
    Animal(
        "an old spreadsheet named csv",
        "shop.order_lines",
        "old-sheet.csv",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
        error=("old-sheet.csv is a spreadsheet (xls)",),
    ),
    Animal(
        "HTML named csv",
        "shop.order_lines",
        "page.csv",
        f"\n<!DOCTYPE html>\n<html><body>Sign in, {CANARY}</body></html>",
        error=("page.csv is a web page (HTML)",),
    ),
    Animal(
        "JSON named csv",
        "shop.order_lines",
        "objects.csv",
        events(),
        error=("objects.csv is JSON",),
    ),
    Animal("PDF named csv", "shop.order_lines", "paper.csv", b"%PDF-1.7\n\xe2\xe3", error=("paper.csv is a PDF",)),
    Animal(
        "Parquet named csv",
        "shop.order_lines",
        "columns.csv",
        parquet("select 1 as order_id"),
        error=("columns.csv is Parquet", ".parquet"),
    ),
    Animal(
        "csv named Parquet",
        "shop.order_lines",
        "lines.parquet",
        lines(),
        error=("lines.parquet can't be read as Parquet",),
    ),
    Animal(
        "csv named JSON lines", "shop.order_lines", "lines.jsonl", lines(), error=("lines.jsonl holds no JSON object",)
    ),
    Animal("a kind nobody knows", "shop.order_lines", "lines.xml", "<a/>", error=("lines.xml is of no known kind",)),
]

PARQUET = [
    Animal(
        "truncated Parquet",
        "shop.order_lines",
        "cut.parquet",
        cut_parquet(f"select '{CANARY}' as order_id, 'P' as product_id, 1 as quantity, 2 as unit_price", by=10),
        error=("cut.parquet can't be read as Parquet: it is truncated or damaged",),
    ),
    Animal(
        "Parquet with types of its own",
        "shop.order_lines",
        "types.parquet",
        parquet(
            "select unnest([1, 2]) as order_id, 17.0::double as product_id, unnest(['1.50', 'x']) as quantity,"
            " 2.5::float as unit_price"
        ),
        accepted=1,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
        keeps=("select order_id, product_id, cast(quantity as varchar) from rows", [("1", "17", "1.5000")]),
    ),
    Animal(
        "Parquet with nested types",
        "web.events",
        "nested.parquet",
        parquet(
            "select '1' as event_id, 'page' as event_type, timestamptz '2011-12-01 10:00+00' as occurred_at,"
            " {'a': [1, 2]} as properties, map {'b': 1} as query"
        ),
        accepted=1,
        keeps=("select properties, query from rows", [('{"a":[1,2]}', '{"b":1}')]),
    ),
    Animal(
        "Parquet with a nested column where a number is due",
        "shop.order_lines",
        "nested-number.parquet",
        parquet("select 'O1' as order_id, 'P' as product_id, [1] as quantity, 2 as unit_price"),
        error=("nested-number.parquet: column quantity holds INTEGER[]",),
    ),
    Animal(
        "Parquet without rows",
        "shop.order_lines",
        "none.parquet",
        parquet("select 'O1' as order_id, 'P' as product_id, 1 as quantity, 2 as unit_price where false"),
        notices=("none.parquet holds no rows",),
    ),
    Animal(
        "Parquet with infinite and missing numbers",
        "shop.order_lines",
        "floats.parquet",
        parquet(
            "select 'O' || row_number() over () as order_id, 'P' as product_id, q::double as quantity, 1 as unit_price"
            " from (values ('1'), ('inf'), ('-inf'), ('nan'), ('1e300')) v (q)"
        ),
        accepted=1,
        rejected=4,
        reasons=(f"quantity {NUMBER}", f"quantity {NUMBER}", "quantity has no value", f"quantity {NUMBER}"),
    ),
    Animal(
        "Parquet with times beyond all calendars",
        "shop.orders",
        "times.parquet",
        parquet(
            "select 'O' || row_number() over () as order_id, t::timestamp as ordered_at from"
            " (values ('2011-12-01'), ('infinity'), ('-infinity'), ('290000-01-01'), ('0044-03-15 (BC)')) v (t)"
        ),
        accepted=1,
        rejected=4,
        reasons=(f"ordered_at {TIME}",) * 4,
    ),
    Animal(
        "Parquet with zoned times",
        "shop.orders",
        "zones.parquet",
        parquet("select 'O1' as order_id, timestamptz '2011-07-01 10:00+02' as ordered_at"),
        accepted=1,
        keeps=("select cast(ordered_at as varchar) from rows", [("2011-07-01 08:00:00",)]),
    ),
    Animal(
        "Parquet with bytes that are no text",
        "crm.contacts",
        "bytes.parquet",
        parquet("select unnest(['1', '2']) as contact_id, unnest(['\\x41'::blob, '\\xFF'::blob]) as given_name"),
        accepted=1,
        rejected=1,
        reasons=("given_name is not readable text",),
    ),
    Animal(
        "Parquet with a column named like the reader's own",
        "shop.orders",
        "reserved.parquet",
        parquet("select 'O1' as order_id, date '2011-12-01' as ordered_at, 1 as file_row_number"),
        error=("reserved.parquet has a column file_row_number, which is a reserved name",),
    ),
]

FILES = [
    Animal(
        "a folder where a file should be",
        "shop.order_lines",
        "folder.csv",
        lambda path: path.mkdir(),
        error=("folder.csv is no file",),
    ),
    Animal(
        "a link to nowhere",
        "shop.order_lines",
        "dangling.csv",
        lambda path: path.symlink_to(path.parent / "gone.csv"),
        error=("there is no file", "dangling.csv"),
    ),
    Animal(
        "a link that goes in a circle",
        "shop.order_lines",
        "circle.csv",
        lambda path: path.symlink_to(path),
        error=("there is no file", "circle.csv"),
    ),
    Animal(
        "a pipe that nobody writes to",
        "shop.order_lines",
        "pipe.csv",
        lambda path: os.mkfifo(path),
        error=("pipe.csv is no file",),
    ),
    Animal(
        "a name with quotes and a line break",
        "shop.order_lines",
        'it\'s "a\nname".csv',
        lines("O2,P1,x,2.50,x"),
        accepted=1,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
    ),
    Animal(
        "a name that looks like a pattern",
        "shop.order_lines",
        "[a-z]*?{x,y}.csv",
        lines("O2,P1,x,2.50,x"),
        accepted=1,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
    ),
    Animal(
        "a Parquet file whose name looks like a pattern",
        "shop.order_lines",
        "lines[0-9]*.parquet",
        parquet("select 'O1' as order_id, 'P' as product_id, unnest(['1', 'x']) as quantity, 2 as unit_price"),
        accepted=1,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
    ),
    Animal(
        "a name of 250 characters",
        "shop.order_lines",
        "n" * 246 + ".csv",
        lines("O2,P1,x,2.50,x"),
        accepted=1,
        rejected=1,
        reasons=(f"quantity {NUMBER}",),
    ),
]

ANIMALS = [*ENCODINGS, *SHAPES, *VALUES, *JSON, *KINDS, *PARQUET, *FILES]
