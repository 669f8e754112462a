from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.identity.resolution import Limits, Resolution, resolve

THRESHOLD = 5.0


class World:
    """Hand-made tables in an in-memory DuckDB, and what `resolve` makes of them."""

    def __init__(
        self,
        records: Iterable[str],
        links: Iterable[tuple[str, str, float]] = (),
        *,
        certain: Iterable[tuple[str, str, int]] = (),
        barred: Iterable[tuple[str, str]] = (),
        conflicts: Iterable[tuple[str, str]] = (),
        carried: Iterable[tuple[str, str, str]] = (),
        limits: Limits | None = None,
    ) -> None:
        self.records = list(records)
        self.links, self.certain, self.barred = list(links), list(certain), list(barred)
        self.conflicts, self.carried, self.limits = list(conflicts), list(carried), limits

    def resolve(
        self, shuffled: random.Random | None = None
    ) -> tuple[Resolution, dict[str, tuple[int, float]], dict[frozenset[str], str]]:
        def rows(given: Iterable[Any]) -> list[Any]:
            given = list(given)
            if shuffled:
                shuffled.shuffle(given)
                given = [
                    (row[1], row[0], *row[2:]) if len(row) > 1 and shuffled.random() < 0.5 else row for row in given
                ]
            return given

        with duckdb.connect() as connection:
            connection.execute("set threads = 1")
            connection.execute("create table records (record_id varchar)")
            connection.execute(
                "create table links (record_l varchar, record_r varchar, match_weight double, match_probability double)"
            )
            connection.execute(
                "create table certain (record_l varchar, record_r varchar, rule varchar, priority integer)"
            )
            connection.execute("create table barred (record_l varchar, record_r varchar)")
            connection.execute("create table apart (record_l varchar, record_r varchar)")
            connection.execute("create table carried (record_id varchar, kind varchar, value varchar)")
            linked = [(*link, 1 - 2.0 ** -link[2]) for link in self.links]
            sure = [(left, right, "rule", priority) for left, right, priority in self.certain]
            order = [(record,) for record in self.records]
            carried = list(self.carried)
            if shuffled:
                shuffled.shuffle(order)
                shuffled.shuffle(carried)
            for table, given in (
                ("records", order),
                ("links", rows(linked)),
                ("certain", rows(sure)),
                ("barred", rows(self.barred)),
                ("apart", rows(self.conflicts)),
                ("carried", carried),
            ):
                if given:
                    columns = {f"c{number}": list(values) for number, values in enumerate(zip(*given, strict=True))}
                    connection.register("given", pa.table(columns))
                    connection.execute(f"insert into {table} from given")

            def conflicts(pairs: str, out: str) -> None:
                connection.execute(
                    f"""
                    create or replace temp table {out} as
                    select pairs.record_l, pairs.record_r, 'names' as reason
                    from {pairs} as pairs
                    semi join (
                        select record_l, record_r from apart union all select record_r, record_l from apart
                    ) as apart
                        on (apart.record_l, apart.record_r) = (pairs.record_l, pairs.record_r)
                    """
                )

            said = resolve(
                connection,
                records="records",
                links="links",
                threshold=THRESHOLD,
                certain="certain",
                barred="barred",
                conflicts=conflicts,
                carried="carried",
                limits=self.limits,
                out="clusters",
            )
            found = {}
            for record, cluster, probability in connection.execute("from clusters").fetchall():
                found[record] = (cluster, probability)
            refused = {
                frozenset((left, right)): reason
                for left, right, reason in connection.execute("from clusters_refused").fetchall()
            }
            leftover = connection.execute("select count(*) from duckdb_tables() where table_name like '_resolution_%'")
            assert leftover.fetchall() == [(0,)]
        return said, found, refused


def groups(found: dict[str, tuple[int, float]]) -> set[frozenset[str]]:
    by_cluster: dict[int, set[str]] = {}
    for record, (cluster, _) in found.items():
        by_cluster.setdefault(cluster, set()).add(record)
    return {frozenset(members) for members in by_cluster.values()}


def clique(members: list[str], weight: float) -> list[tuple[str, str, float]]:
    return [(left, right, weight) for left, right in itertools.combinations(members, 2)]


def named(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:03d}" for number in range(count)]


def test_linked_records_are_one_person_and_others_are_not():
    said, found, refused = World("abcd", [("a", "b", 9.0), ("b", "c", 5.0), ("c", "d", 4.9)]).resolve()

    assert groups(found) == {frozenset("abc"), frozenset("d")}
    assert (said.records, said.clusters, said.links, said.resolved_singly) == (4, 2, 2, 0)
    assert said.refused == {}
    assert refused == {}
    assert found["a"][1] == pytest.approx(1 - 2**-9)
    assert found["c"][1] == pytest.approx(1 - 2**-5)
    assert found["d"][1] == 1.0


def test_no_records_are_no_clusters():
    said, found, _ = World([]).resolve()

    assert (said.records, said.clusters, found) == (0, 0, {})


def test_links_to_records_that_are_not_there_are_passed_over():
    said, found, _ = World("ab", [("a", "x", 20.0), ("a", "a", 20.0)], certain=[("b", "y", 1)]).resolve()

    assert groups(found) == {frozenset("a"), frozenset("b")}
    assert said.links == 0


def test_a_barred_pair_parts_at_its_weakest_link():
    said, found, refused = World("abc", [("a", "b", 20.0), ("b", "c", 10.0)], barred=[("a", "c")]).resolve()

    assert groups(found) == {frozenset("ab"), frozenset("c")}
    assert said.refused == {"barred": 1}
    assert refused == {frozenset("bc"): "barred"}
    assert said.resolved_singly == 3


def test_family_members_who_share_everything_but_the_name_stay_apart():
    john, jane = named("john", 3), named("jane", 3)
    shared = [(left, right, 30.0) for left, right in itertools.product(john, jane)]
    family = World(
        [*john, *jane, "j"],
        [*clique(john, 20.0), *clique(jane, 18.0), *shared, ("j", "john000", 8.0), ("j", "jane000", 7.0)],
        conflicts=itertools.product(john, jane),
    )

    said, found, _ = family.resolve()

    assert groups(found) == {frozenset([*john, "j"]), frozenset(jane)}
    assert said.refused == {"conflict": 10}


def test_what_is_certain_comes_before_what_is_likely():
    _, found, _ = World("abc", [("a", "b", 40.0)], certain=[("b", "c", 1)], barred=[("a", "c")]).resolve()

    assert groups(found) == {frozenset("bc"), frozenset("a")}


def test_a_forced_link_holds_against_conflict_and_caps_and_size():
    carried = [("a", "email", "1"), ("b", "email", "2")]
    _, found, _ = World(
        "ab", certain=[("a", "b", 0)], conflicts=[("a", "b")], carried=carried, limits=Limits(1, {"email": 1})
    ).resolve()

    assert groups(found) == {frozenset("ab")}
    assert found["a"][1] == 1.0


def test_a_forced_link_gives_way_to_a_bar():
    said, found, refused = World(
        "abc", certain=[("a", "b", 0), ("b", "c", 0)], barred=[("a", "c")], links=[("a", "c", 50.0)]
    ).resolve()

    assert groups(found) == {frozenset("ab"), frozenset("c")}
    assert said.refused == {"barred": 2}
    assert refused[frozenset("bc")] == "barred"


def test_who_has_two_names_by_a_stewards_word_conflicts_with_neither():
    margaret_and_peggy = World(
        ["margaret", "peggy", "margaret2", "joan"],
        [("margaret", "margaret2", 20.0), ("peggy", "joan", 20.0)],
        certain=[("margaret", "peggy", 0)],
        conflicts=[("margaret", "peggy"), ("margaret2", "peggy"), ("joan", "peggy"), ("joan", "margaret")],
    )

    _, found, _ = margaret_and_peggy.resolve()

    assert groups(found) == {frozenset(["margaret", "peggy", "margaret2"]), frozenset(["joan"])}


def test_more_identifiers_than_one_person_has_are_several_persons():
    records = named("r", 6)
    chain = [(left, right, 20.0 - at) for at, (left, right) in enumerate(itertools.pairwise(records))]
    carried = [(record, "customer_ref", record) for record in records] + [("r000", "customer_ref", "r001")]

    said, found, _ = World(records, chain, carried=carried).resolve()

    assert groups(found) == {frozenset(records[:3]), frozenset(records[3:])}
    assert said.refused == {"too many customer_ref": 1}


def test_one_low_link_does_not_melt_two_groups():
    one, other = named("a", 4), named("b", 4)

    said, found, refused = World(
        [*one, *other], [*clique(one, 20.0), *clique(other, 15.0), ("a000", "b000", 14.9)]
    ).resolve()

    assert groups(found) == {frozenset(one), frozenset(other)}
    assert said.refused == {"weak bridge": 1}
    assert refused == {frozenset(["a000", "b000"]): "weak bridge"}


def test_a_low_link_is_a_weak_bridge_also_where_higher_ones_come_later():
    """Taken edge by edge from the top, the bridge would join two records before their groups are there."""
    one, other = named("a", 4), named("b", 4)
    uneven = [
        (left, right, 6.0 + 10 * (at % 2)) for at, (left, right, _) in enumerate(clique(one, 0) + clique(other, 0))
    ]

    _, found, _ = World([*one, *other], [*uneven, ("a000", "b000", 5.5)]).resolve()

    assert groups(found) == {frozenset(one), frozenset(other)}


@pytest.mark.parametrize(
    "bridge",
    [
        pytest.param([("a000", "b000", 16.0)], id="as high as theirs"),
        pytest.param([("a000", "b000", 6.0), ("a001", "b001", 6.0)], id="two links"),
    ],
)
def test_what_is_no_single_low_link_joins(bridge):
    one, other = named("a", 4), named("b", 4)

    _, found, _ = World([*one, *other], [*clique(one, 20.0), *clique(other, 15.0), *bridge]).resolve()

    assert groups(found) == {frozenset([*one, *other])}


def test_a_certain_link_is_no_weak_bridge():
    one, other = named("a", 4), named("b", 4)

    _, found, _ = World(
        [*one, *other], [*clique(one, 20.0), *clique(other, 15.0)], certain=[("a000", "b000", 1)]
    ).resolve()

    assert groups(found) == {frozenset([*one, *other])}


def test_many_noisy_records_of_one_person_stay_together():
    """Sixty records, each linked to a few others by chance, at any weight from the threshold up."""
    generator = random.Random(4)
    records = named("r", 60)
    links = {}
    for at in range(1, 60):
        for other in generator.sample(range(at), min(at, 3)):
            links[other, at] = generator.uniform(THRESHOLD, 25)
    noisy = [(records[left], records[right], weight) for (left, right), weight in links.items()]

    said, found, _ = World(records, noisy).resolve()

    assert groups(found) == {frozenset(records)}
    assert said.refused == {}


def test_a_chain_of_single_records_is_no_bridge():
    records = named("r", 30)
    chain = [(left, right, 6.0) for left, right in itertools.pairwise(records)]

    _, found, _ = World(records, chain).resolve()

    assert groups(found) == {frozenset(records)}


def test_what_low_links_have_melted_falls_apart_into_its_persons():
    """Two hundred persons of three records, melted by three hundred low links between anyone and anyone."""
    generator = random.Random(9)
    persons = [named(f"p{number:03d}-", 3) for number in range(200)]
    links = [link for members in persons for link in clique(members, generator.uniform(12, 25))]
    for _ in range(300):
        left, right = generator.sample(persons, 2)
        links.append((generator.choice(left), generator.choice(right), generator.uniform(THRESHOLD, 9)))

    said, found, _ = World([record for members in persons for record in members], links).resolve()

    kept = groups(found)
    assert all(any(frozenset(members) <= group for group in kept) for members in persons)
    assert max(map(len, kept)) <= 40
    assert sum(group in map(frozenset, persons) for group in kept) >= 150
    assert set(said.refused) == {"too many records", "weak bridge"}


def test_certain_links_fill_a_customer_up_to_its_limit():
    records = named("r", 250)
    star = [("r000", record, 1) for record in records[1:]]

    said, found, _ = World(records, certain=star).resolve()

    assert max(map(len, groups(found))) == 100
    assert said.refused == {"too many records": 150}


def test_conflicting_links_do_not_melt_a_street():
    """A shared address links everyone; names tell them apart before any bar is raised."""
    persons = [named(f"p{number:02d}-", 2) for number in range(80)]
    everyone = [record for members in persons for record in members]
    links = [(left, right, 12.0) for left, right in itertools.combinations(everyone, 2)]
    apart = [(left, right) for left, right, _ in links if left[:3] != right[:3]]

    _, found, _ = World(everyone, links, conflicts=apart).resolve()

    assert groups(found) == set(map(frozenset, persons))


records_of = st.integers(min_value=2, max_value=14)


@st.composite
def worlds(draw):
    count = draw(records_of)
    records = named("r", count)
    pair = st.tuples(st.sampled_from(records), st.sampled_from(records)).filter(lambda two: two[0] != two[1])
    links = draw(st.lists(st.tuples(pair, st.integers(3, 20)), max_size=40))
    certain = draw(st.lists(st.tuples(pair, st.integers(0, 2)), max_size=8))
    carried = draw(
        st.lists(st.tuples(st.sampled_from(records), st.just("email"), st.sampled_from("12345678")), max_size=20)
    )
    return World(
        records,
        [(left, right, float(weight)) for (left, right), weight in links],
        certain=[(left, right, priority) for (left, right), priority in certain],
        barred=draw(st.lists(pair, max_size=4)),
        conflicts=draw(st.lists(pair, max_size=8)),
        carried=carried,
        limits=Limits(draw(st.integers(3, 8)), {"email": draw(st.integers(1, 4))}),
    )


@settings(max_examples=25, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_guards_hold_in_every_world(world, generator):
    said, found, refused = world.resolve()
    cluster = {record: number for record, (number, _) in found.items()}
    by_value: dict[str, set[str]] = {}
    for record, _, value in world.carried:
        by_value.setdefault(record, set()).add(value)

    assert set(cluster) == set(world.records)
    assert not [pair for pair in world.barred if cluster[pair[0]] == cluster[pair[1]]]
    forced = groups(World(world.records, certain=[c for c in world.certain if c[2] == 0]).resolve()[1])
    if not world.barred:
        assert all(len({cluster[record] for record in group}) == 1 for group in forced)
    singles = {record for group in forced if len(group) == 1 for record in group}
    for one, other in world.conflicts:
        if {one, other} <= singles:
            assert cluster[one] != cluster[other]
    for group in groups(found):
        if group <= singles:
            assert len(group) <= world.limits.max_records
            carried = [by_value.get(record, set()) for record in group]
            if len(group) > 1:
                assert len(set().union(*carried)) <= max(world.limits.caps["email"], *map(len, carried))
    # Whoever is together is held together by links, and each link that was not followed has its reason.
    usable = [(left, right) for left, right, weight in world.links if weight >= THRESHOLD]
    usable += [(left, right) for left, right, _ in world.certain]
    apart = {frozenset(pair) for pair in usable if cluster[pair[0]] != cluster[pair[1]]}
    assert set(refused) == apart
    assert all(refused.values())
    assert sum(said.refused.values()) == len(apart)
    reached = groups(
        World(
            world.records,
            certain=[(left, right, 0) for left, right in usable if cluster[left] == cluster[right]],
        ).resolve()[1]
    )
    assert reached == groups(found)

    again, same, _ = world.resolve(shuffled=generator)
    assert (again, same) == (said, found)
