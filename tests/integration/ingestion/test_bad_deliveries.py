"""What is wrong with a delivery is said clearly, and stops no more than it must."""

from __future__ import annotations

import gzip
import json

import pytest

LINES = "order_id,product_id,quantity,unit_price,occurred_at\n"


def test_truncated_parquet_file_stops_its_table_and_names_the_file(lake):
    whole = lake.write_parquet(
        "lines.parquet",
        "select 'O'||i as order_id, 'P' as product_id, 1 as quantity, 2 as unit_price from range(9) r(i)",
    )
    truncated = lake.write("truncated.parquet", whole.read_bytes()[:-40])
    orders = lake.write("orders.csv", "order_id,ordered_at\nO1,2011-12-01 10:00\n")

    report = lake.load("shop", {"order_lines": [truncated], "orders": [orders]})

    lines, taken = report.tables
    assert "truncated.parquet can't be read as Parquet: it is truncated or damaged" in lines.error
    assert "deliver it again" in lines.error
    assert (taken.error, taken.accepted) == (None, 1)
    assert lake.counts("shop", "order_lines") == []
    assert not list(lake.home.lake.rglob("truncated.parquet"))


def test_parquet_damaged_in_the_middle_stops_its_table(lake):
    whole = lake.write_parquet(
        "lines.parquet",
        "select md5(i::varchar) as order_id, md5((i+1)::varchar) as product_id, 1 as quantity, 2 as unit_price"
        " from range(20000) r(i)",
    )
    content = bytearray(whole.read_bytes())
    content[1000:60000] = b"\x00" * 59000
    damaged = lake.write("damaged.parquet", bytes(content))

    report = lake.load_one("shop", "order_lines", damaged)

    assert "damaged.parquet can't be read as Parquet" in report.error
    assert lake.files() == set()


def test_csv_with_a_missing_column_names_file_and_column_and_says_what_to_do(lake):
    path = lake.write("lines.csv", "order_id,product_id,quantity,occurred_at\nO1,P1,1,2011-12-01\n")

    report = lake.load_one("shop", "order_lines", path)

    assert report.error == (
        "lines.csv lacks the required column unit_price: add it and deliver it again."
        " Columns found: order_id, product_id, quantity, occurred_at"
    )
    assert lake.files() == set()


def test_date_31_02_2011_rejects_its_row_with_reason_file_and_row_number(lake):
    path = lake.write(
        "lines.csv", LINES + "O1,P1,1,2.50,28/02/2011\nO2,P1,1,2.50,31/02/2011\nO3,P1,1,2.50,01/03/2011\n"
    )

    report = lake.load_one("shop", "order_lines", path)

    assert (report.rows_read, report.accepted, report.rejected) == (3, 2, 1)
    [(row_number, file_name, reason, raw_row)] = lake.quarantined(
        "shop", "order_lines", "row_number, file_name, reason, raw_row"
    )
    assert (row_number, file_name) == (2, "lines.csv")
    assert reason.startswith("occurred_at is not a time that exists")
    assert "31/02" not in reason
    assert json.loads(raw_row)["occurred_at"] == "31/02/2011"
    assert lake.accepted("shop", "order_lines", "order_id, row_number") == [("O1", 1), ("O3", 3)]


def test_price_abc_rejects_its_row_with_reason_file_and_row_number(lake):
    path = lake.write("lines.csv", LINES + "O1,P1,1,abc,2011-12-01\nO2,P1,1,2.50,2011-12-01\n")

    report = lake.load_one("shop", "order_lines", path)

    assert (report.rows_read, report.accepted, report.rejected) == (2, 1, 1)
    [(row_number, file_name, reason)] = lake.quarantined("shop", "order_lines", "row_number, file_name, reason")
    assert (row_number, file_name) == (1, "lines.csv")
    assert reason.startswith("unit_price is not a plain number")
    assert "abc" not in reason
    assert report.notices == (f"1 row was rejected, most often: {reason} (1)",)


@pytest.mark.parametrize(
    ("header", "advice"),
    [
        ("Order ID,product_id,quantity,unit_price", "rename 'Order ID' to order_id"),
        ("order_id,product_id,quantity,UnitPrice", "rename 'UnitPrice' to unit_price"),
        ("order_id,product_id,qty,unit_price", "add it"),
        ("order_id,product_id,quantitiy,unit_price", "rename 'quantitiy' to quantity"),
    ],
    ids=["space", "camel case", "quite different", "typo"],
)
def test_near_match_of_a_missing_column_is_suggested(lake, header, advice):
    report = lake.load_one("shop", "order_lines", lake.write("lines.csv", header + "\n1,2,3,4\n"))
    assert advice in report.error


def test_names_of_columns_are_compared_trimmed_and_in_any_case(lake):
    path = lake.write("lines.csv", " Order_ID ,PRODUCT_ID,Quantity,unit_price\nO1,P1,1,2\n")
    assert lake.load_one("shop", "order_lines", path).accepted == 1


def test_file_without_a_header_shows_no_data_in_the_error(lake):
    report = lake.load_one("crm", "contacts", lake.write("contacts.csv", "17,ada@example.com,Ada\n"))
    assert "the first line must name the columns" in report.error
    assert "ada" not in report.error.lower().replace("contacts", "")


def test_column_that_occurs_twice_is_refused(lake):
    path = lake.write("lines.csv", "order_id,Order_Id,product_id,quantity,unit_price\nO1,O1,P1,1,2\n")
    assert "has the column order_id twice" in lake.load_one("shop", "order_lines", path).error


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "is empty (0 bytes)"),
        ("blank.csv", b"\n\n", "holds nothing but empty lines"),
        ("lines.xlsx", b"PK", "is of no known kind"),
        (
            "latin.csv",
            b"order_id,product_id,quantity,unit_price\nO1,P1,1,2\nO2,caf\xe9,1,2\n",
            "not UTF-8 text on line 3",
        ),
        (
            "open.csv",
            b'order_id,product_id,quantity,unit_price\nO1,P1,1,2\nO2,"P1,1,2\nO3,P1,1,2\n',
            "opened on line 3",
        ),
        ("array.json", b'[{"order_id": "O1"}]', "is a JSON array"),
        ("none.jsonl", b"[1]x\n", "is a JSON array"),
        ("words.jsonl", b"hello\n", "holds no JSON object"),
        ("latin.jsonl", b'{"order_id": "caf\xe9"}\n', "not UTF-8 text on line 1"),
        ("text.parquet", b"order_id\n", "can't be read as Parquet"),
    ],
    ids=lambda said: said if isinstance(said, str) and "." in said else "",
)
def test_unreadable_file_is_refused_with_its_name(lake, name, content, said):
    report = lake.load_one("shop", "order_lines", lake.write(name, content))
    assert report.error.startswith(name)
    assert said in report.error
    assert lake.files() == set()


def test_folder_and_missing_file_are_refused(lake):
    assert "is no file" in lake.load_one("shop", "orders", lake.inbox).error
    assert "there is no file" in lake.load_one("shop", "orders", lake.inbox / "nothing.csv").error


def test_unknown_table_is_refused_with_those_there_are(lake):
    report = lake.load_one("shop", "lines", lake.write("lines.csv", "a\n1\n"))
    assert "there is no table shop.lines" in report.error
    assert "shop.order_lines" in report.error


def test_ragged_and_misquoted_rows_are_rejected_and_the_rest_keeps_its_row_numbers(lake):
    path = lake.write(
        "lines.csv",
        "order_id,product_id,quantity,unit_price\n"
        "O1,P1,1,2\n"
        "O2,P1,1\n"
        "\n"
        'O3,"P ""1"", long\nand two lines",1,2\n'
        "O4,P1,1,2,3,4\n"
        'O5,"P"1,1,2\n'
        'O6,5" pipe,1,2\n',
    )

    report = lake.load_one("shop", "order_lines", path)

    assert (report.rows_read, report.accepted, report.rejected) == (6, 3, 3)
    assert lake.accepted("shop", "order_lines", "row_number, order_id, product_id") == [
        (1, "O1", "P1"),
        (3, "O3", 'P "1", long\nand two lines'),
        (6, "O6", '5" pipe'),
    ]
    rejected = lake.quarantined("shop", "order_lines", "row_number, reason, raw_row")
    assert [(number, reason) for number, reason, _ in rejected] == [
        (2, "has 3 cells where the header has 4"),
        (4, "has 6 cells where the header has 4"),
        (5, "its quotes are broken"),
    ]
    assert json.loads(rejected[0][2]) == {"cells": ["O2", "P1", "1"]}
    assert json.loads(rejected[2][2]) == {"line": 'O5,"P"1,1,2\n'}


def test_required_values_must_be_there_and_enumerated_ones_allowed(lake):
    path = lake.write(
        "consents.csv",
        "consent_id,channel,purpose,state,captured_at,suppression\n"
        "1,email,marketing,Granted,2011-12-01,\n"
        "2,fax,marketing,granted,2011-12-01,\n"
        "3,email,marketing,granted,  ,\n"
        "4,email,marketing,withdrawn,2011-12-01,other\n"
        "5,,other,granted,2011-12-01,\n",
    )

    report = lake.load_one("crm", "consents", path)

    assert lake.accepted("crm", "consents", "consent_id, state, suppression") == [
        ("1", "granted", None),
        ("4", "withdrawn", "other"),
    ]
    assert lake.quarantined("crm", "consents", "row_number, reason") == [
        (2, "channel is not one of email, sms, phone, post"),
        (3, "captured_at has no value"),
        (5, "channel has no value; purpose is not one of marketing, profiling, third_party_sharing"),
    ]
    assert (
        "suppression: 1 values are none of hard_bounce, complaint, unsubscribe, objection, erasure,"
        " legal; they were kept" in report.notices
    )


def test_contradictory_values_reject_all_rows_of_their_key(lake):
    path = lake.write(
        "lines.csv",
        "order_id,product_id,quantity,unit_price,customer_ref,currency\n"
        "O1,P1,1,2,17,GBP\n"
        "O2,P1,1,2,17,GBP\n"
        "O1,P2,1,2,18,GBP\n"
        "O1,P3,1,2,,GBP\n"
        "O3,P1,1,2,19,GBP\n"
        "O3,P1,1,abc,20,EUR\n"
        "O4,P1,1,2,,GBP\n",
    )

    report = lake.load_one("shop", "order_lines", path)

    assert lake.accepted("shop", "order_lines", "row_number, order_id") == [(2, "O2"), (7, "O4")]
    reasons = dict(lake.quarantined("shop", "order_lines", "row_number, reason"))
    assert reasons[1] == reasons[3] == reasons[4] == "customer_ref holds different values within one order_id"
    assert reasons[5] == (
        "currency holds different values within one order_id; customer_ref holds different values within one order_id"
    )
    assert reasons[6].startswith("unit_price is not")
    assert (report.rows_read, report.accepted, report.rejected) == (7, 2, 5)


def test_snapshot_without_one_good_row_does_not_empty_its_table(lake):
    lake.load_one("reference", "postal_codes", lake.write("a.csv", "country_code,postal_code\nGB,AB1\n"))
    for name, content in (("b.csv", "country_code,postal_code\n"), ("c.csv", "country_code,postal_code\nGB,\n")):
        report = lake.load_one("reference", "postal_codes", lake.write(name, content))
        assert "which would empty it" in report.error
    assert lake.counts("reference", "postal_codes") == [(1, 1, 0, 0)]
    assert lake.quarantined("reference", "postal_codes", "row_number") == []


def test_column_of_an_impossible_type_is_refused_unless_it_is_empty(lake):
    query = "select 'O1' as order_id, {} as ordered_at, {} as discount"
    refused = lake.load_one("shop", "orders", lake.write_parquet("a.parquet", query.format("true", "1")))
    assert refused.error.startswith("a.parquet: column ordered_at holds BOOLEAN, where a time that exists")
    empty = query.format("timestamp '2011-12-01'", "cast(null as timestamp)")
    assert lake.load_one("shop", "orders", lake.write_parquet("b.parquet", empty)).accepted == 1


def test_unknown_columns_are_noticed_and_missing_optional_ones_are_typed_nulls(lake):
    path = lake.write("orders.csv", "order_id,ordered_at,Gift Wrap\nO1,2011-12-01,yes\n")
    report = lake.load_one("shop", "orders", path)
    assert report.notices == ("orders.csv: columns that the contract does not have were left out: Gift Wrap",)
    assert lake.accepted("shop", "orders", "typeof(discount), typeof(is_cancellation), discount") == [
        ("DECIMAL(18,4)", "BOOLEAN", None)
    ]


def test_compressed_text_is_read(lake):
    path = lake.write("lines.csv.gz", gzip.compress((LINES + "O1,P1,1,2,2011-12-01\nO2,P1,x,2,\n").encode()))
    report = lake.load_one("shop", "order_lines", path)
    assert (report.rows_read, report.accepted, report.rejected) == (2, 1, 1)
