"""How right a resolution is, against known truth: pairs and B-cubed, and the errors that stand out.

Pairwise figures ask of each pair of records whether it was rightly put together or kept apart; large groups weigh more, as
they hold more pairs. B-cubed figures (Bagga and Baldwin 1998, "Algorithms for scoring coreference chains") ask of each
record how much of its customer is its person, and how much of its person is in its customer. Nothing in the pipeline
uses this: truth is for judging only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import duckdb

ERRORS = 10
"""Errors of each kind that are named; all are counted."""


@dataclass(frozen=True)
class Scores:
    """Shares from 0 to 1; f1 is the harmonic mean of precision and recall."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class WrongPair:
    """Two records that were put together though they are two persons, or kept apart though they are one.

    Attributes:
        weight: match weight in bits, or None where the pair was not scored.
        agreed: columns that agree, where that is known.
    """

    kind: Literal["false merge", "missed"]
    left: str
    right: str
    weight: float | None
    agreed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Figures over the records that are both in the result and in the truth.

    Attributes:
        unjudged: records of the result that the truth does not know.
        missing: records of the truth that the result does not have.
        true_pairs: pairs of records that are one person.
        found_pairs: pairs that were put together.
        right_pairs: pairs that are both.
        wrong: the errors with the highest match weight; those whose pair was never scored come last.
    """

    records: int
    unjudged: int
    missing: int
    persons: int
    customers: int
    true_pairs: int
    found_pairs: int
    right_pairs: int
    pairwise: Scores
    b_cubed: Scores
    wrong: tuple[WrongPair, ...] = ()

    @property
    def false_merges(self) -> int:
        return self.found_pairs - self.right_pairs

    @property
    def missed(self) -> int:
        return self.true_pairs - self.right_pairs


def evaluate(
    connection: duckdb.DuckDBPyConnection, predicted: str, truth: str, *, links: str | None = None, errors: int = ERRORS
) -> Evaluation:
    """Compare a resolution with the truth. Exact, by counting groups rather than pairs: a million records take seconds.

    Args:
        predicted: table (record_id, customer), one row per record. Ids are compared as text.
        truth: table (record_id, person), one row per record.
        links: table (record_l, record_r, match_weight, agreed) of scored pairs, to find the errors with the most weight.
        errors: how many errors of each kind to name.
    """
    _judge(connection, predicted, truth)
    try:
        figures = _count(connection)
        wrong = _wrong_pairs(connection, links, errors)
        [(predicted_records, true_records)] = connection.execute(
            f"select (select count(*) from {predicted}), (select count(*) from {truth})"
        ).fetchall()
    finally:
        for name in ("judged", "cells"):
            connection.execute(f"drop table if exists _evaluation_{name}")
    records, persons, customers, true, found, right, precision, recall = figures
    return Evaluation(
        records=records,
        unjudged=predicted_records - records,
        missing=true_records - records,
        persons=persons,
        customers=customers,
        true_pairs=true,
        found_pairs=found,
        right_pairs=right,
        pairwise=Scores(right / found if found else 1.0, right / true if true else 1.0),
        b_cubed=Scores(precision, recall),
        wrong=wrong,
    )


def _judge(connection: duckdb.DuckDBPyConnection, predicted: str, truth: str) -> None:
    """`judged`: records with customer and person. `cells`: how many records each customer and person share."""
    connection.execute(
        f"""
        create or replace temp table _evaluation_judged as
        select
            cast(predicted.record_id as varchar) as record_id,
            cast(predicted.customer as varchar) as customer,
            cast(truth.person as varchar) as person
        from {predicted} as predicted
        inner join {truth} as truth on cast(predicted.record_id as varchar) = cast(truth.record_id as varchar)
        """
    )
    connection.execute(
        """
        create or replace temp table _evaluation_cells as
        select
            customer,
            person,
            count(*) as records,
            sum(count(*)) over (partition by customer) as customer_records,
            sum(count(*)) over (partition by person) as person_records
        from _evaluation_judged
        group by customer, person
        """
    )


def _count(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, int, int, int, int, float, float]:
    [row] = connection.execute(
        """
        with customers as (
            select sum(records * (records - 1) // 2) as pairs, count(*) as customers
            from (select count(*) as records from _evaluation_judged group by customer)
        ),

        persons as (
            select sum(records * (records - 1) // 2) as pairs, count(*) as persons
            from (select count(*) as records from _evaluation_judged group by person)
        ),

        cells as (
            select
                sum(records) as records,
                sum(records * (records - 1) // 2) as pairs,
                -- Sorted first: sums of floats depend on their order.
                list_sum(list_sort(list(records * records / customer_records))) / sum(records) as precision,
                list_sum(list_sort(list(records * records / person_records))) / sum(records) as recall
            from _evaluation_cells
        )

        select
            coalesce(cells.records, 0),
            persons.persons,
            customers.customers,
            coalesce(persons.pairs, 0),
            coalesce(customers.pairs, 0),
            coalesce(cells.pairs, 0),
            coalesce(cells.precision, 1.0),
            coalesce(cells.recall, 1.0)
        from cells, persons, customers
        """
    ).fetchall()
    records, persons, customers, true, found, right, precision, recall = row
    return int(records), persons, customers, int(true), int(found), int(right), float(precision), float(recall)


def _wrong_pairs(connection: duckdb.DuckDBPyConnection, links: str | None, errors: int) -> tuple[WrongPair, ...]:
    """Errors among scored pairs, by weight; then pairs that were not scored, one for two groups that are wrong."""
    found = _wrong_links(connection, links, errors) if links else []
    for kind, together, apart in (("false merge", "customer", "person"), ("missed", "person", "customer")):
        known = {(wrong.left, wrong.right) for wrong in found if wrong.kind == kind}
        if len(known) < errors:
            others = _wrong_groups(connection, together, apart, errors)
            more = [pair for pair in others if pair not in known][: errors - len(known)]
            found += [
                WrongPair("false merge" if kind == "false merge" else "missed", left, right, None)
                for left, right in more
            ]
    return tuple(sorted(found, key=lambda wrong: wrong.kind))


def _wrong_links(connection: duckdb.DuckDBPyConnection, links: str, errors: int) -> list[WrongPair]:
    rows = connection.execute(
        f"""
        with scored as (
            select
                case when l.customer = r.customer then 'false merge' else 'missed' end as kind,
                least(l.record_id, r.record_id) as one,
                greatest(l.record_id, r.record_id) as other,
                max_by((links.match_weight, links.agreed), links.match_weight) as held
            from {links} as links
            inner join _evaluation_judged as l on cast(links.record_l as varchar) = l.record_id
            inner join _evaluation_judged as r on cast(links.record_r as varchar) = r.record_id
            where (l.customer = r.customer) <> (l.person = r.person)
            group by all
        )

        select kind, one, other, held[1] as weight, held[2] as agreed
        from scored
        qualify row_number() over (partition by kind order by weight desc, one, other) <= {errors}
        order by kind, weight desc, one, other
        """
    ).fetchall()
    return [WrongPair(kind, one, other, weight, tuple(agreed or ())) for kind, one, other, weight, agreed in rows]


def _wrong_groups(
    connection: duckdb.DuckDBPyConnection, together: str, apart: str, errors: int
) -> list[tuple[str, str]]:
    """A pair for each of the largest groups by `together` that falls into several by `apart`: of its two largest parts."""
    rows = connection.execute(
        f"""
        with parts as (
            select {together} as whole, count(*) as records, min(record_id) as record_id
            from _evaluation_judged
            group by {together}, {apart}
        ),

        ranked as (
            select
                *,
                row_number() over (partition by whole order by records desc, record_id) as place,
                sum(records) over (partition by whole) as size
            from parts
        )

        select first_part.record_id, second_part.record_id
        from ranked as first_part
        inner join ranked as second_part on first_part.whole = second_part.whole and second_part.place = 2
        where first_part.place = 1
        order by first_part.size desc, first_part.record_id
        limit {errors}
        """
    ).fetchall()
    return [(min(one, other), max(one, other)) for one, other in rows]
