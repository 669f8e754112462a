"""Suites of identity: what goes into resolution, what comes out of it, and what customers are made of.

Keys are hashes of identifiers and say nothing about a person.
"""

from __future__ import annotations

from expectations.rules import Suite, between, form_rules, matches, never, none_from, none_where, one_of

MAX_RECORDS = 100
MAX_CUSTOMER_REFS = 3
EVENTS = ("created", "merged", "split", "restored")

_CUSTOMER_FORM = "^[0-9a-f]{16}$"
_RECORDS = "(select identifier_id from intermediate.int_person_records)"
# A steward may put more together than resolution would.
_STEWARDED = (
    "(select records.customer_id from intermediate.int_identity_links as links"
    " inner join intermediate.int_identifiers as records on links.left_id = records.identifier_id"
    " where links.rule = 'steward')"
)


def suites() -> list[Suite]:
    """In the order in which they are built."""
    return [
        _person_records(),
        _links(),
        _barred(),
        _assignments(),
        _spans(),
        _journal(),
        _scored_links(),
        _identifiers(),
        _customer_identifiers(),
        _published_journal(),
    ]


def _person_records() -> Suite:
    return Suite(
        group="identity",
        table="intermediate.int_person_records",
        keys=("identifier_id",),
        rules=(
            one_of("identifier_type", ("customer_ref", "contact_id", "email", "phone")),
            matches(
                "own_customer_id_has_its_form", "own_customer_id", _CUSTOMER_FORM, "own_customer_id is 16 hex digits"
            ),
            *form_rules(("email", "phone"), raw=False),
            matches("country_is_iso", "country", "^[A-Z]{2}$", "country is two capital letters"),
            one_of("gender", ("female", "male", "other")),
            between("date_of_birth", "1890-01-01", None),
            none_where(
                "known_before_as_of",
                "first_known_at >= (select as_of from staging.stg_lake__clock)",
                "Every record is known before the as_of, else the past is resolved with the future",
            ),
            none_where(
                "guest_is_its_contact_point",
                "source = 'any' and identifier_type not in ('email', 'phone')",
                "A guest is known by an email or a phone alone",
            ),
        ),
        optional=True,
    )


def _links() -> Suite:
    return Suite(
        group="identity",
        table="intermediate.int_identity_links",
        keys=("left_id", "right_id"),
        rules=(
            none_where("links_two_records", "left_id = right_id", "A link is between two records"),
            never(
                "no_record_is_linked_to_crowds",
                "(select max(links) from (select right_id, count(*) as links from {table} group by right_id)) > 100",
                "One record is certainly linked to more than a hundred others",
                reason="The cap on a customer's records holds them apart; the source's key or a blocked value needs a look.",
            ),
        ),
        optional=True,
    )


def _barred() -> Suite:
    return Suite(
        group="identity",
        table="intermediate.int_identity_barred",
        keys=("left_id", "right_id"),
        rules=(
            none_where("bars_two_records", "left_id = right_id", "A bar is between two records"),
            none_where(
                "barred_records_are_known",
                f"left_id not in {_RECORDS} or right_id not in {_RECORDS}",
                "Both records of a bar are known",
            ),
        ),
        optional=True,
    )


def _assignments() -> Suite:
    return Suite(
        group="identity",
        table="staging.stg_identity__assignments",
        keys=("identifier_id",),
        rules=(
            matches("customer_id_has_its_form", "customer_id", _CUSTOMER_FORM, "customer_id is 16 hex digits"),
            none_where(
                "assigned_record_is_known",
                f"identifier_id not in {_RECORDS}",
                "The record that a customer was assigned to is known",
                reason="An order delivered anew without its customer takes the record away; its assignment stays as history.",
            ),
            never(
                "most_assigned_records_are_known",
                f"count(*) filter (where identifier_id not in {_RECORDS}) > 0.5 * count(*) and count(*) >= 100"
                " and max(as_of) <= (select as_of from staging.stg_lake__clock)",
                "More than half of the records that customers were assigned to are gone: the state belongs to other data,"
                " or the way that keys are made has changed",
            ),
        ),
        optional=True,
    )


def _spans() -> Suite:
    share_at = (
        "select count(*) as records, 1 - count(distinct customer_id) / count(*) as merged from {table}"
        " where from_run <= newest.run - {back} and (to_run is null or to_run > newest.run - {back})"
    )
    return Suite(
        group="identity",
        table="staging.stg_identity__assignment_spans",
        keys=("identifier_id", "from_run"),
        rules=(
            none_where("span_ends_after_it_began", "to_run <= from_run", "A span ends in a later run than it began in"),
            none_from(
                "one_customer_at_a_time",
                "select identifier_id from {table} where to_run is null group by identifier_id having count(*) > 1",
                "A record has one current customer",
            ),
            none_from(
                "as_many_merged_as_before",
                "select 'merged: ' || round(100 * now.merged, 1) || ' % of records; in the run before '"
                " || round(100 * before.merged, 1) || ' %' as said"
                " from (select max(from_run) as run from {table}) as newest,"
                f" lateral ({share_at.replace('{back}', '0')}) as now,"
                f" lateral ({share_at.replace('{back}', '1')}) as before"
                " where before.records >= 1000 and abs(now.merged - before.merged) > 0.05",
                "The share of records that are merged into another's customer is within five points of the run before",
                reason="A new source or a retrained model may rightly do this; every merge is in the journal to be undone.",
            ),
        ),
        optional=True,
    )


def _journal() -> Suite:
    return Suite(
        group="identity",
        table="staging.stg_identity__journal",
        keys=("run", "entry"),
        rules=(
            one_of("event", EVENTS),
            none_where(
                "other_customer_is_told",
                "event in ('merged', 'split') and other_customer_id is null",
                "A merge says who went, a split from whom: without it neither can be undone",
            ),
            none_where(
                "nobody_merges_with_themselves",
                "customer_id = other_customer_id",
                "The other customer is another one",
            ),
            none_where(
                "evidence_is_json",
                "not json_valid(evidence)",
                "evidence is a JSON object of keys, rules and weights",
            ),
        ),
        optional=True,
    )


def _scored_links() -> Suite:
    return Suite(
        group="identity",
        table="staging.stg_identity__links",
        keys=("run", "record_l", "record_r"),
        rules=(
            between("match_probability", 0, 1),
            none_where("links_two_records", "record_l = record_r", "A link is between two records"),
        ),
        optional=True,
    )


def _identifiers() -> Suite:
    return Suite(
        group="identity",
        table="intermediate.int_identifiers",
        keys=("identifier_id",),
        rules=(
            matches("customer_id_has_its_form", "customer_id", _CUSTOMER_FORM, "customer_id is 16 hex digits"),
            none_where("record_is_known", f"record_id not in {_RECORDS}", "Every identifier follows a known record"),
            none_from(
                "barred_records_are_apart",
                "select barred.left_id, barred.right_id from intermediate.int_identity_barred as barred"
                " inner join {table} as l on barred.left_id = l.identifier_id"
                " inner join {table} as r on barred.right_id = r.identifier_id and l.customer_id = r.customer_id",
                "No customer has two records that a steward says are two persons",
            ),
            none_from(
                "customers_are_no_crowds",
                f"select customer_id from {{table}} where customer_id not in {_STEWARDED} group by customer_id"
                f" having count(distinct record_id) > {MAX_RECORDS}"
                f" or count(*) filter (where identifier_type = 'customer_ref') > {MAX_CUSTOMER_REFS}",
                f"No customer has more than {MAX_RECORDS} records or {MAX_CUSTOMER_REFS} shop numbers, unless by a steward's"
                " word: one bad link melts crowds together",
            ),
        ),
        optional=True,
    )


def _customer_identifiers() -> Suite:
    return Suite(
        group="identity",
        table="marts.customer_identifiers",
        keys=("identifier_id",),
        rules=(
            none_where(
                "customer_as_resolved",
                "(identifier_id, customer_id) not in (select (identifier_id, customer_id)"
                " from intermediate.int_identifiers)",
                "Every identifier has the customer that resolution gave it",
            ),
        ),
        optional=True,
    )


def _published_journal() -> Suite:
    return Suite(
        group="identity",
        table="marts.identity_journal",
        keys=("run", "entry"),
        rules=(
            none_where(
                "evidence_names_nobody",
                "contains(evidence, '@')",
                "evidence holds keys, rules and weights: an address in it would be published",
            ),
            none_from(
                "merged_customers_are_gone",
                "with said as (select customer_id, run, entry, false as went from {table} union all"
                " select other_customer_id, run, entry, true from {table} where event = 'merged'),"
                " newest as (select * from said"
                " qualify row_number() over (partition by customer_id order by run desc, entry desc) = 1)"
                " select customer_id from newest where went and customer_id in (select customer_id from marts.dim_customers)",
                "A customer that went in a merge is no customer, unless a later split brought it back: else two hold what"
                " is one's",
            ),
        ),
        optional=True,
    )
