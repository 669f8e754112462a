"""A delivery whose columns are others than before says so before it hurts."""

from __future__ import annotations

import pyarrow.parquet as parquet
import pytest

from ingestion import manifest
from ingestion.report import TableReport

NAMES = ["contact_id", "email", "birthday", "city", "updated_at"]


def contact(number: int) -> dict[str, str]:
    return {
        "contact_id": f"C{number}",
        "email": f"person.{number}@example.com",
        "birthday": f"19{50 + number % 50}-0{1 + number % 9}-1{number % 10}",
        "city": ["York", "Bath", "Leeds"][number % 3],
        "updated_at": f"2011-1{number % 2}-0{1 + number % 9} 10:00",
    }


class Source:
    """A CRM that delivers its contacts time and again."""

    def __init__(self, lake) -> None:
        self.lake = lake
        self.delivered = 0

    def deliver(self, change=lambda row: row, rows: int = 30, **options) -> TableReport:
        said = [change(contact(number)) for number in range(self.delivered * 100, self.delivered * 100 + rows)]
        self.delivered += 1
        lines = [",".join(said[0]), *(",".join(f'"{value}"' for value in row.values()) for row in said)]
        path = self.lake.write(f"contacts-{self.delivered}.csv", "\n".join(lines) + "\n")
        return self.lake.load_one("crm", "contacts", path, **options)


@pytest.fixture
def source(lake) -> Source:
    return Source(lake)


def renamed(old: str, new: str):
    return lambda row: {new if name == old else name: value for name, value in row.items()}


def seen(report: TableReport) -> list[tuple[str, str, str]]:
    return [(change.severity, change.kind, change.column) for change in report.changes]


def test_deliveries_that_are_alike_have_no_drift(source):
    for _ in range(3):
        report = source.deliver()
        assert (report.accepted, report.notices, report.changes) == (30, (), ())


def test_renamed_required_column_refuses_the_table_and_names_its_new_name(source):
    source.deliver()
    report = source.deliver(renamed("contact_id", "ContactNo"))
    assert report.error is not None
    assert "lacks the required column contact_id" in report.error
    report = source.deliver(renamed("contact_id", "contactid"))
    assert report.error == (
        "contacts-3.csv lacks the required column contact_id: 'contactid' looks like contact_id (by its name and its values):"
        " rename 'contactid' to contact_id and deliver it again, or load it with --rename contacts.contactid=contact_id."
        " Columns found: contactid, email, birthday, city, updated_at"
    )
    assert len(manifest.read(source.lake.home)) == 1


def test_renamed_required_column_is_known_by_its_values_where_the_name_says_nothing(source):
    source.deliver()
    report = source.deliver(renamed("contact_id", "Nr"))
    assert report.error is not None
    assert "'Nr' looks like contact_id (by its values)" in report.error


@pytest.mark.parametrize(
    ("name", "evidence"),
    [("E-Mail", "by its name and its values"), ("Adresse", "by its values")],
    ids=["name", "values"],
)
def test_renamed_optional_column_is_a_warning_and_can_be_read_all_the_same(source, name, evidence):
    source.deliver()

    report = source.deliver(renamed("email", name))

    assert report.accepted == 30
    assert seen(report) == [("warning", "renamed", "email")]
    option = f"--rename contacts.{name}=email"
    assert report.warnings == report.notices[:1]
    assert f"'{name}' looks like it, renamed ({evidence})" in report.warnings[0]
    assert option in report.warnings[0]
    assert source.lake.query("crm", "contacts", "select count(email) from rows") == [(30,)]

    again = source.deliver(renamed("email", name), renames={"contacts": {name.upper(): "email"}})

    assert (again.accepted, again.changes) == (30, ())
    assert source.lake.query("crm", "contacts", "select count(email) from rows") == [(60,)]


def test_missing_column_is_a_warning_only_if_earlier_deliveries_used_it(source):
    source.deliver(lambda row: row | {"phone": ""})
    report = source.deliver(lambda row: {name: value for name, value in row.items() if name != "city"})
    assert seen(report) == [("warning", "missing", "city")]
    assert report.warnings == (
        "contacts-2.csv: column city, which earlier deliveries had, is missing: it has no values now",
    )
    assert source.deliver(lambda row: {name: value for name, value in row.items() if name != "city"}).changes == ()


def test_new_column_is_noted_once_with_what_it_holds(source):
    source.deliver(lambda row: row | {"shoe_size": "42"})
    report = source.deliver(lambda row: row | {"shoe_size": "42", "blog": "https://example.com/x"})
    assert [(change.severity, change.said) for change in report.changes] == [
        ("note", "contacts-2.csv: column blog (web addresses) is new; it was left out")
    ]
    assert seen(source.deliver(lambda row: row | {"shoe_size": "42", "blog": "https://example.com/y"})) == []


def test_column_that_is_empty_now_is_a_warning(source):
    source.deliver()
    assert seen(source.deliver(lambda row: row | {"city": ""})) == [("warning", "emptied", "city")]


def test_another_date_format_that_can_be_read_is_a_note(source):
    source.deliver()
    report = source.deliver(lambda row: row | {"birthday": "/".join(reversed(row["birthday"].split("-")))})
    assert report.accepted == 30
    assert [(change.severity, change.said) for change in report.changes] == [
        (
            "note",
            "contacts-2.csv: column birthday holds dates with slashes (09/12/2011) now; in earlier deliveries it held dates"
            " (2011-12-09)",
        )
    ]


def test_text_column_that_holds_something_else_now_is_a_warning(source):
    source.deliver()
    assert seen(source.deliver(lambda row: row | {"email": row["contact_id"]})) == [("warning", "retyped", "email")]


def test_column_of_which_nothing_can_be_read_refuses_the_table_instead_of_rejecting_every_row(source):
    source.deliver()
    report = source.deliver(lambda row: row | {"birthday": "born " + row["birthday"]})
    assert report.error == (
        "contacts-2.csv: column birthday holds text, where earlier deliveries held dates (2011-12-09): of the first 30 values"
        " 30 can't be read as date, so (nearly) every row would be rejected. Correct the export and deliver it again"
    )
    assert len(manifest.read(source.lake.home)) == 1


def test_decimal_commas_are_named(lake):
    header = "order_id,product_id,quantity,unit_price\n"
    good = "".join(f'O{n},P,1,"{n}.50"\n' for n in range(30))
    lake.load_one("shop", "order_lines", lake.write("a.csv", header + good))
    report = lake.load_one("shop", "order_lines", lake.write("b.csv", header + good.replace(".", ",")))
    assert (
        "unit_price holds numbers with a decimal comma, where earlier deliveries held decimal numbers" in report.error
    )


def test_few_bad_rows_are_rejected_and_no_reason_to_refuse(source):
    report = source.deliver(lambda row: row | ({"birthday": "x"} if row["contact_id"] < "C2" else {}))
    assert (report.error, report.rejected > 1, report.accepted > 1) == (None, True, True)


def test_months_first_in_many_rows_refuse_the_table_though_some_could_be_read(source):
    report = source.deliver(
        lambda row: row | {"birthday": f"0{1 + int(row['contact_id'][1:]) % 9}/{row['contact_id'][1:].zfill(2)}/1980"},
        rows=29,
    )
    assert report.error is not None
    assert "column birthday is written month first" in report.error


@pytest.mark.parametrize(
    ("renames", "said"),
    [
        ({"e_mail": "phone"}, "has no column e_mail that could be read as phone"),
        ({"city": "town"}, "city can't be read as town: crm.contacts has no such column"),
        ({"city": "email"}, "has the column email twice (as 'email' and 'city')"),
    ],
    ids=["not in the file", "not in the contract", "there already"],
)
def test_rename_that_can_not_be_obeyed_is_refused(source, renames, said):
    report = source.deliver(renames={"contacts": renames})
    assert report.error is not None
    assert said in report.error


def test_manifest_keeps_what_columns_and_types_were_and_holds_no_values(source):
    source.deliver(lambda row: row | {"Extra": "4,5"})
    [row] = manifest.read(source.lake.home)
    kept = {column.name: (column.read_as, column.data_type, column.filled, column.form) for column in row.columns}
    assert kept["email"] == ("email", "VARCHAR", 30, "email addresses")
    assert kept["Extra"] == (None, "VARCHAR", 30, "numbers with a decimal comma")
    assert "example.com" not in repr(row)


def test_manifest_of_an_older_version_is_read_and_starts_a_history(source):
    source.deliver()
    home = source.lake.home
    [before] = manifest.read(home)
    table = parquet.read_table(home.deliveries)
    parquet.write_table(table.drop_columns(["columns", "changes"]), home.deliveries)
    [old] = manifest.read(home)
    assert (old.columns, old.changes, old.rows_read) == ((), (), before.rows_read)
    assert seen(source.deliver(renamed("city", "Ort"))) == []
    assert seen(source.deliver(renamed("birthday", "dob"))) == [("warning", "renamed", "birthday")]


def test_changes_stand_in_the_manifest_with_their_severity(source):
    source.deliver()
    report = source.deliver(renamed("email", "mail"))
    kept = manifest.read(source.lake.home)[-1]
    assert kept.changes == report.changes
    assert [change.severity for change in kept.changes] == ["warning"]
    assert set(report.warnings) <= set(kept.notices)


def test_rename_that_the_source_has_taken_back_is_no_error(source):
    report = source.deliver(renames={"contacts": {"e_mail": "email"}})
    assert (report.error, report.accepted) == (None, 30)


def test_each_file_of_a_delivery_is_compared_by_itself(lake):
    header = "order_id,product_id,quantity,unit_price,{}\n"
    a = lake.write("a.csv", header.format("currency") + "O1,P,1,2,GBP\n")
    lake.load_one("shop", "order_lines", a)
    b = lake.write("b.csv", header.format("currency") + "O2,P,1,2,GBP\n")
    c = lake.write("c.csv", header.format("Curency") + "O3,P,1,2,GBP\n")
    report = lake.load_one("shop", "order_lines", b, c)
    assert [change.said.partition(":")[0] for change in report.changes] == ["c.csv"]
    assert seen(report) == [("warning", "renamed", "currency")]


def test_parquet_types_count_as_forms(lake):
    query = "select i::varchar as order_id, timestamp '2011-12-01' as ordered_at, {} as discount from range(30) r(i)"
    lake.load_one("shop", "orders", lake.write_parquet("a.parquet", query.format("i / 8")))
    report = lake.load_one("shop", "orders", lake.write_parquet("b.parquet", query.format("i || ' EUR'")))
    assert (
        "discount holds text, where earlier deliveries held decimal numbers" in report.error or "codes" in report.error
    )
    same = query.format("(i / 4)::decimal(9,2)")
    assert lake.load_one("shop", "orders", lake.write_parquet("c.parquet", same)).changes == ()


def test_same_file_read_with_a_rename_is_no_repetition(source):
    assert source.deliver(renamed("email", "e_mail")).accepted == 30
    source.delivered = 0
    again = source.deliver(renamed("email", "e_mail"), renames={"contacts": {"e_mail": "email"}})
    assert (again.accepted, again.superseded_earlier, again.warnings) == (30, 30, ())
    source.delivered = 0
    assert source.deliver(renamed("email", "e_mail"), renames={"contacts": {"e_mail": "email"}}).duplicate_of
