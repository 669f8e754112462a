"""Addresses and numbers, one at a time: what is read as what, and that reading it again changes nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.contract import ContactPoint, load_contract
from core.errors import ContractError
from ingestion import contact_points
from ingestion.contact_points import EMAIL_PROBLEMS, PHONE_PROBLEMS, parse_email, parse_phone

COUNTRIES = ("GB", "US", "DE", "FR", "IT", "AU", "HU", "JP", "AT", "RU", "SM", "AR", "MX", "BR", "JE", "XX", "")


@pytest.mark.parametrize(
    ("written", "email"),
    [
        ("Jane.Doe+Shop@Example.COM", "jane.doe+shop@example.com"),
        ("  jane@example.com \n", "jane@example.com"),
        ("mailto:jane@example.com", "jane@example.com"),
        ("Jane Doe <jane@example.com>;", "jane@example.com"),
        ("<jane@example.com>", "jane@example.com"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("jane@shop.test", "jane@shop.test"),
        ("jane@MÜNCHEN.example", "jane@münchen.example"),
        ("jane@xn--mnchen-3ya.example", "jane@münchen.example"),
        ("JÖRG@example.com", "jörg@example.com"),
        ("jo\u0308rg@example.com", "jörg@example.com"),
        ("אבא@example.com", "אבא@example.com"),
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
    ],
)
def test_an_address_is_written_one_way(written: str, email: str):
    assert parse_email(written) == (email, None)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "no_at_sign"),
        ("n/a", "no_at_sign"),
        ("jane.example.com", "no_at_sign"),
        ("@example.com", "bad_local_part"),
        ("jane doe@example.com", "bad_local_part"),
        ("jane..doe@example.com", "bad_local_part"),
        (".jane@example.com", "bad_local_part"),
        ('"jane doe"@example.com', "bad_local_part"),
        ("jane\x00@example.com", "bad_local_part"),
        ("jane@", "bad_domain"),
        ("jane@example", "bad_domain"),
        ("jane@example..com", "bad_domain"),
        ("jane@-example.com", "bad_domain"),
        ("jane@exa_mple.com", "bad_domain"),
        ("jane@joe@example.com", "bad_domain"),
        ("jane@[127.0.0.1]", "bad_domain"),
        ("jane@example.com, joe@example.com", "bad_domain"),
        ("jane@shop.invalid", "reserved_domain"),
        ("jane@shop.local", "reserved_domain"),
        ("x" * 65 + "@example.com", "too_long"),
        ("jane@" + "x" * 250 + ".com", "too_long"),
    ],
)
def test_what_is_no_address_says_why(written: str, problem: str):
    assert parse_email(written) == (None, problem)
    assert problem in EMAIL_PROBLEMS


@given(
    st.one_of(
        st.text(max_size=40),
        st.tuples(
            st.text(min_size=1, max_size=12),
            st.text(alphabet=st.characters(categories=["L", "N", "M"]), min_size=1, max_size=8),
        ).map(lambda parts: f"{parts[0]}@{parts[1]}.example.com"),
    )
)
@example("İ@example.com")
@example("ẞ@STRASSE.example")
@example("a@ﬃ.example")
@settings(max_examples=300, deadline=None)
def test_reading_an_address_again_changes_nothing(written: str):
    read = parse_email(written)
    assert (read.email is None) == (read.problem is not None)
    if read.email is not None:
        assert parse_email(read.email) == read
        if read.email.isascii():
            assert parse_email(f"  {read.email.upper()} ") == read


@pytest.mark.parametrize(
    ("written", "country_code", "phone", "number_type"),
    [
        ("020 7946 0018", "GB", "+442079460018", "fixed_line"),
        ("+44 (0)20 7946 0018", "", "+442079460018", "fixed_line"),
        ("0044 20 7946 0018", "FR", "+442079460018", "fixed_line"),
        ("0044 20 7946 0018", "AU", "+442079460018", "fixed_line"),
        ("0011 44 20 7946 0018", "AU", "+442079460018", "fixed_line"),
        ("011 44 20 7946 0018", "US", "+442079460018", "fixed_line"),
        ("001 617 555 0140", "US", "+16175550140", "fixed_line_or_mobile"),
        ("442079460018", "FR", "+442079460018", "fixed_line"),
        ("442079460018", "", "+442079460018", "fixed_line"),
        ("tel:+442079460018", "", "+442079460018", "fixed_line"),
        ("020 7946 0018 ext. 4", "GB", "+442079460018", "fixed_line"),
        ("٠٢٠ ٧٩٤٦ ٠٠١٨", "GB", "+442079460018", "fixed_line"),
        ("06 1234 5678", "IT", "+390612345678", "fixed_line"),
        ("06 1 234 5678", "HU", "+3612345678", "fixed_line"),
        ("+41 79 555 01 02", "", "+41795550102", "mobile"),
        ("(617) 555-0157", "US", "+16175550157", "fixed_line_or_mobile"),
    ],
)
def test_a_number_is_read_by_its_countrys_plan(written: str, country_code: str, phone: str, number_type: str):
    assert parse_phone(written, country_code) == (phone, number_type, True, None)


@pytest.mark.parametrize(
    ("written", "country_code", "phone"),
    [
        ("01632 960001", "GB", "+441632960001"),
        ("+44 7700 900123", "", "+447700900123"),
        ("0044 0000 0003974", "", "+4400000003974"),
        ("+49 0000 0006208", "DE", "+4900000006208"),
    ],
)
def test_a_possible_number_outside_the_plan_is_kept_and_marked(written: str, country_code: str, phone: str):
    assert parse_phone(written, country_code) == (phone, None, False, "not_assigned")


@pytest.mark.parametrize(
    ("written", "country_code", "problem"),
    [
        ("", "GB", "not_a_number"),
        ("n/a", "GB", "not_a_number"),
        ("2.07946E+10", "GB", "not_a_number"),
        ("+44 20 7946 0018 / +44 20 7946 0019", "GB", "not_a_number"),
        ("020 7946 0018", "", "no_country"),
        ("6562123456", "", "no_country"),  # too few digits to guess that it is Singapore's +65 6212 3456
        ("020 7946 0018", "XX", "unknown_calling_code"),
        ("+999 1234 5678", "", "unknown_calling_code"),
        ("7946 0018", "GB", "no_area_code"),
        ("+44 20", "", "too_short"),
        ("+32 0000 0000048", "", "too_long"),
        ("0" * 30, "GB", "too_long"),
        ("+41 0000 0000072", "", "wrong_length"),
        ("0000000000", "GB", "placeholder"),
        ("111-111-1111", "US", "placeholder"),
        ("0123456789", "GB", "placeholder"),
    ],
)
def test_what_is_no_number_says_why(written: str, country_code: str, problem: str):
    assert parse_phone(written, country_code) == (None, None, False, problem)
    assert problem in PHONE_PROBLEMS


@given(
    st.one_of(
        st.text(max_size=20),
        st.text(alphabet="0123456789+ -()", min_size=5, max_size=18),
        st.integers(10**6, 10**14).map(lambda number: f"+{number}"),
    ),
    st.sampled_from(COUNTRIES),
    st.sampled_from(COUNTRIES),
)
@example("+49 0000 0006208", "DE", "GB")
@example("+39 0000 0000240", "IT", "")
@settings(max_examples=600, deadline=None)
def test_reading_a_number_again_changes_nothing(written: str, country_code: str, other: str):
    """Whatever country the E.164 number is read with the second time."""
    read = parse_phone(written, country_code)
    assert (read.phone is None) == (read.problem not in (None, "not_assigned"))
    if read.phone is not None:
        assert parse_phone(read.phone, other) == read


def test_the_contract_marks_every_column_of_addresses_and_numbers():
    marked = {
        (table.full_name, column.name): column.contact_point
        for table in load_contract().tables.values()
        for column in table.columns
        if column.contact_point
    }
    named = {
        (table.full_name, column.name)
        for table in load_contract().tables.values()
        for column in table.columns
        if column.name in ("email", "phone", "contact_point")
    }
    assert set(marked) == named
    assert marked["shop.orders", "phone"] == ContactPoint("phone", "country")
    assert marked["crm.consents", "contact_point"] == ContactPoint("either", "contacts.country", "contact_id")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("{kind: fax}", "unknown kind of contact point 'fax'"),
        ("{kind: phone, country: land}", r"unknown columns \['land'\]"),
        ("{kind: phone, country: people.land}", "needs the key `by`"),
        ("{kind: phone, country: people.land, by: person_id}", r"unknown columns \['person_id'\]"),
    ],
)
def test_a_contract_that_marks_wrongly_is_refused(tmp_path, said: str, complaint: str):
    folder = tmp_path / "crm"
    folder.mkdir()
    (folder / "_crm__sources.yml").write_text(
        f"""
sources:
  - name: crm
    schema: lake_crm
    tables:
      - name: contacts
        description: One row per contact.
        config: {{meta: {{delivery_mode: append}}}}
        columns:
          - name: phone
            data_type: varchar
            description: Phone
            config: {{meta: {{contact_point: {said}}}}}
"""
    )
    with pytest.raises(ContractError, match=complaint):
        load_contract(tmp_path)


@given(
    st.from_regex(r"[a-zA-Z0-9_+.'-]{1,70}@([a-zA-Z0-9-]{1,64}\.){1,4}[a-z0-9-]{1,34}", fullmatch=True),
    st.booleans(),
)
@example("jane@ab--cd.example.com", False)
@example("jane@xn--mnchen-3ya.example", False)
@example("jane@" + "a" * 60 + "." + "b" * 60 + "." + "c" * 60 + ".com", False)
@example("jane@shop.local", False)
@example("jane@shop.ONION", False)
@example("jane@shop.test", False)
@example("jane@1.com", False)
@example("x" * 65 + "@example.com", False)
@settings(max_examples=600, deadline=None)
def test_the_short_way_for_plain_addresses_ends_where_the_library_does(written: str, in_capitals: bool):
    written = written.upper() if in_capitals else written
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contact_points, "_PLAIN_EMAIL", re.compile("(?!)"))
        by_library = parse_email(written)
    assert parse_email(written) == by_library
