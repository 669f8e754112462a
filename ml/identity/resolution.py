"""From links to clusters: which records are one person.

Most groups of linked records have nothing against them and are taken as they are, in bulk. The others are put together
edge by edge, the surest first, and an edge that would put together what must stay apart is left out:

- two records that a steward has barred, or that conflict (see `ml.identity.conflicts`);
- more identifiers of a kind than one person has, where one of the two does not have them by itself, or more records;
- two groups that hold together well and are joined by one single low link (a weak bridge).

A steward's own links come first, and give way to bars only: what they join counts as one record from then on, which
conflicts with another where each of its parts does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    Integers: TypeAlias = NDArray[np.int64]
    Floats: TypeAlias = NDArray[np.float64]
    Flags: TypeAlias = NDArray[np.bool_]

FORCED = 0
"""Priority of a steward's links. Higher numbers come later; links that were scored come last."""

BARRED = "barred"
CONFLICT = "conflict"
WEAK_BRIDGE = "weak bridge"
TOO_MANY_RECORDS = "too many records"

_SCORED = 1_000_000
_BRIDGED_MIN = 3  # records on either side: fewer are no group of their own
_EXPECTED_MIN = 4.0  # links that the groups' own density lets one expect between them, where there is one
_BAR_STEP = 1.0  # match weight, in bits


@dataclass(frozen=True)
class Limits:
    """What one person can have.

    Attributes:
        max_records: records, from all sources.
        caps: different identifiers by kind; a kind that is not named has no cap.
    """

    max_records: int = 100
    caps: Mapping[str, int] = field(default_factory=lambda: {"customer_ref": 3, "email": 12, "phone": 8})


@dataclass(frozen=True)
class Resolution:
    """What became of the links.

    Attributes:
        links: links taken into account, of all kinds: those that are certain, and scored ones from the threshold up.
        refused: links whose records were kept apart, by reason: barred, conflict, weak bridge, too many records, too
            many customer_ref, ...
        resolved_singly: records in groups that had something against them.
    """

    records: int
    clusters: int
    links: int
    refused: Mapping[str, int]
    resolved_singly: int


@dataclass
class _Edges:
    """Linked pairs in the order in which they are tried. `reason` says why one was left out ('' where it was not)."""

    left: Integers
    right: Integers
    priority: Integers
    weight: Floats
    reason: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.left)

    @property
    def is_open(self) -> Flags:
        flags: Flags = self.reason == ""
        return flags

    @property
    def is_scored(self) -> Flags:
        flags: Flags = self.priority == _SCORED
        return flags


def resolve(
    connection: duckdb.DuckDBPyConnection,
    *,
    records: str,
    links: str,
    threshold: float,
    certain: str | None = None,
    barred: str | None = None,
    conflicts: Callable[[str, str], None] | None = None,
    carried: str | None = None,
    limits: Limits | None = None,
    out: str,
) -> Resolution:
    """Decide which records are one person.

    The result does not depend on the order of rows. Tables are named as SQL knows them.

    Args:
        records: table (record_id), of any type that can be ordered.
        links: table (record_l, record_r, match_weight, match_probability) of scored pairs.
        threshold: match weight from which a pair counts as a link.
        certain: table (record_l, record_r, rule, priority) of links that need no score; priority 0 is a steward's.
        barred: table (record_l, record_r) of pairs that a steward has barred.
        conflicts: called with the names of a table of pairs (record_l, record_r) and of the table to make: those of the
            pairs that can't be one person.
        carried: table (record_id, kind, value) of identifiers, for the caps.
        limits: what one person can have.
        out: temporary table to make: (record_id, cluster bigint, probability double), where probability is that of the
            strongest link that ties the record to another of its cluster, and 1 for a record by itself. Beside it,
            `<out>_refused`: (record_l, record_r, reason) of the links that were not followed.
    """
    resolver = _Resolver(connection, threshold, conflicts, limits or Limits())
    try:
        return resolver.run(records, links, certain, barred, carried, out)
    finally:
        resolver.tidy()


class _Resolver:
    """One run of `resolve`. Records are numbered in their order (`node`); what a steward has joined is one `unit`."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        threshold: float,
        conflicts: Callable[[str, str], None] | None,
        limits: Limits,
    ) -> None:
        self.connection = connection
        self.threshold = threshold
        self.conflicts = conflicts
        self.limits = limits

    def run(
        self, records: str, links: str, certain: str | None, barred: str | None, carried: str | None, out: str
    ) -> Resolution:
        import numpy as np

        count = self._number(records)
        given, probability = self._linked(links, certain)
        bars = self._node_pairs(barred) if barred else (np.empty(0, np.int64), np.empty(0, np.int64))
        unit = _forced(given, bars, count)
        size = np.bincount(unit)
        edges, parent = _between_units(given, unit)

        piece = self._pieces(edges, unit, size)
        self._keep_members(unit, piece)
        within = (piece[unit[bars[0]]] == piece[unit[bars[1]]]) & (unit[bars[0]] != unit[bars[1]])
        barred_units = _adjacent(unit[bars[0]][within], unit[bars[1]][within])
        conflicting = _adjacent(*self._conflicts_within_pieces(unit, size))
        held = self._held(carried)

        groups = _Groups(barred_units, conflicting, held, dict(enumerate(size.tolist())), self.limits)
        suspect = np.zeros(len(size), bool)
        suspect[np.array([*barred_units, *conflicting, *held], dtype=np.int64)] = True
        singly = np.isin(piece, piece[suspect])
        cluster = piece.copy()
        for position in np.flatnonzero(edges.is_open & singly[edges.left]):
            edges.reason[position] = groups.join(int(edges.left[position]), int(edges.right[position]))
        for one in np.flatnonzero(singly):
            cluster[one] = len(size) + groups.find(int(one))

        of_node = _first_of_each(cluster[unit])
        reason = np.where(parent >= 0, edges.reason[parent], "") if len(edges) else np.full(len(given), "", object)
        apart = of_node[given.left] != of_node[given.right]
        self._write(given, probability, of_node, np.where(apart, reason, ""), out)
        return Resolution(
            records=count,
            clusters=len(np.unique(of_node)),
            links=len(given),
            refused=dict(sorted(Counter(reason[apart].tolist()).items())),
            resolved_singly=int(size[singly].sum()),
        )

    def tidy(self) -> None:
        """Drop what only this run needed."""
        for name in ("nodes", "members", "unit_pairs", "pairs", "conflicts", "links", "clusters"):
            self.connection.execute(f"drop table if exists _resolution_{name}")

    def _number(self, records: str) -> int:
        self.connection.execute(
            f"""
            create or replace temp table _resolution_nodes as
            select record_id, row_number() over (order by record_id) - 1 as node
            from (select distinct record_id from {records})
            """
        )
        return int(self.connection.execute("select count(*) from _resolution_nodes").fetchall()[0][0])

    def _linked(self, links: str, certain: str | None) -> tuple[_Edges, Floats]:
        """Every linked pair once, in the order in which they are tried, and the pairs' probabilities."""
        import numpy as np

        sure = f"""
            union all
            select record_l, record_r, cast(priority as bigint), cast('infinity' as double), 1.0 from {certain}
        """
        found = self.connection.execute(
            f"""
            with given as (
                select record_l, record_r, {_SCORED} as priority, match_weight as weight, match_probability as probability
                from {links}
                where match_weight >= $1
                {sure if certain else ""}
            )
            select
                least(l.node, r.node) as one,
                greatest(l.node, r.node) as other,
                min(priority) as priority,
                max(weight) as weight,
                max(probability) as probability
            from given
            inner join _resolution_nodes as l on record_l = l.record_id
            inner join _resolution_nodes as r on record_r = r.record_id
            where l.node <> r.node
            group by one, other
            """,
            [self.threshold],
        ).fetchnumpy()
        one, other, priority = (np.asarray(found[name], dtype=np.int64) for name in ("one", "other", "priority"))
        weight = np.asarray(found["weight"], dtype=np.float64)
        order = np.lexsort((other, one, -weight, priority))
        edges = _Edges(one[order], other[order], priority[order], weight[order], np.full(len(order), "", dtype=object))
        return edges, np.asarray(found["probability"], dtype=np.float64)[order]

    def _node_pairs(self, pairs: str) -> tuple[Integers, Integers]:
        """The pairs of a table, each once, by the records' numbers, in order."""
        import numpy as np

        found = self.connection.execute(
            f"""
            select distinct least(l.node, r.node) as one, greatest(l.node, r.node) as other
            from {pairs}
            inner join _resolution_nodes as l on record_l = l.record_id
            inner join _resolution_nodes as r on record_r = r.record_id
            where l.node <> r.node
            order by one, other
            """
        ).fetchnumpy()
        return np.asarray(found["one"], dtype=np.int64), np.asarray(found["other"], dtype=np.int64)

    def _pieces(self, edges: _Edges, unit: Integers, size: Integers) -> Integers:
        """The piece of each unit: its connected component, after weak bridges are cut and what is too large is split."""
        import numpy as np

        piece = _components(edges, len(size))
        if np.any(self._too_large(piece, size)):
            self._leave_out_conflicting(edges, piece, unit, size)
            piece = _components(edges, len(size))
        piece = _without_weak_bridges(edges, piece)
        while np.any(large := self._too_large(piece, size)):
            scored = edges.is_open & large[edges.left] & edges.is_scored
            if not np.any(scored):
                self._fill_up(edges, large)
                return _components(edges, len(size))
            bar = float(np.min(edges.weight[scored])) + _BAR_STEP
            raised = scored & (edges.weight < bar)
            edges.reason[raised] = TOO_MANY_RECORDS
            # What held together by several low links may now hang by one.
            piece = _without_weak_bridges(edges, _components(edges, len(size)))
            # Inside what is small enough now, low links stand: only those that led out of it were too much.
            stands = raised & (piece[edges.left] == piece[edges.right]) & ~self._too_large(piece, size)[edges.left]
            edges.reason[stands] = ""
        return piece

    def _too_large(self, piece: Integers, size: Integers) -> Flags:
        """Of each unit, whether it is one of several in a piece with more records than one person has."""
        import numpy as np

        large = (np.bincount(piece, weights=size) > self.limits.max_records) & (np.bincount(piece) > 1)
        flags: Flags = large[piece]
        return flags

    def _fill_up(self, edges: _Edges, large: Flags) -> None:
        """Follow the certain links of what is too large in their order, as far as the limit allows."""
        import numpy as np

        groups = _Groups({}, {}, {}, {}, self.limits)
        for position in np.flatnonzero(edges.is_open & large[edges.left]):
            edges.reason[position] = groups.join(int(edges.left[position]), int(edges.right[position]))

    def _leave_out_conflicting(self, edges: _Edges, piece: Integers, unit: Integers, size: Integers) -> None:
        """Leave out the links of too large pieces whose own two units conflict."""
        import numpy as np

        if self.conflicts is None:
            return
        self._keep_members(unit, piece)
        at = np.flatnonzero(self._too_large(piece, size)[edges.left])
        self._load("unit_pairs", {"one": edges.left[at], "other": edges.right[at]})
        self.connection.execute(
            """
            create or replace temp table _resolution_pairs as
            select l.record_id as record_l, r.record_id as record_r
            from _resolution_unit_pairs as pairs
            inner join _resolution_members as l on pairs.one = l.unit
            inner join _resolution_members as r on pairs.other = r.unit
            """
        )
        one, other = self._conflicting(unit, size)
        conflict = np.isin(edges.left[at] * len(size) + edges.right[at], one * len(size) + other)
        edges.reason[at[conflict]] = CONFLICT

    def _conflicts_within_pieces(self, unit: Integers, size: Integers) -> tuple[Integers, Integers]:
        self.connection.execute(
            """
            create or replace temp table _resolution_pairs as
            select l.record_id as record_l, r.record_id as record_r
            from _resolution_members as l
            inner join _resolution_members as r on l.piece = r.piece and l.node < r.node and l.unit <> r.unit
            """
        )
        return self._conflicting(unit, size)

    def _conflicting(self, unit: Integers, size: Integers) -> tuple[Integers, Integers]:
        """Units that conflict, each record of the one with each of the other, among the pairs in `_resolution_pairs`."""
        import numpy as np

        if self.conflicts is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        self.conflicts("_resolution_pairs", "_resolution_conflicts")
        nodes = self._node_pairs("_resolution_conflicts")
        one = np.minimum(unit[nodes[0]], unit[nodes[1]])
        other = np.maximum(unit[nodes[0]], unit[nodes[1]])
        keys, times = np.unique(one * len(size) + other, return_counts=True)
        one, other = np.divmod(keys, max(1, len(size)))
        wholly = (one != other) & (times == size[one] * size[other])
        return one[wholly], other[wholly]

    def _keep_members(self, unit: Integers, piece: Integers) -> None:
        """Make `_resolution_members`: the records of pieces of several records, with their unit and piece."""
        import numpy as np

        of_node = piece[unit]
        several = np.flatnonzero(np.bincount(of_node)[of_node] > 1) if len(of_node) else of_node
        self._load("members", {"node": several, "unit": unit[several], "piece": of_node[several]})
        self.connection.execute(
            """
            create or replace temp table _resolution_members as
            select nodes.record_id, members.*
            from _resolution_members as members
            inner join _resolution_nodes as nodes on members.node = nodes.node
            """
        )

    def _held(self, carried: str | None) -> dict[int, dict[str, set[str]]]:
        """Identifiers by unit and kind, in the pieces that hold more of a kind than one person has."""
        caps = self.limits.caps
        if not carried or not caps:
            return {}
        found: dict[int, dict[str, set[str]]] = {}
        for one, kind, values in self.connection.execute(
            f"""
            with carried as (
                select distinct members.unit, members.piece, carried.kind, cast(carried.value as varchar) as value
                from {carried} as carried
                inner join _resolution_members as members on carried.record_id = members.record_id
                where carried.value is not null
            ),

            caps as (
                select unnest($1) as kind, unnest($2) as cap
            ),

            too_many as (
                select piece, kind
                from carried
                inner join caps using (kind)
                group by piece, kind, cap
                having count(distinct value) > cap
            )

            select unit, kind, list(value) from carried inner join too_many using (piece, kind) group by unit, kind
            """,
            [list(caps), list(caps.values())],
        ).fetchall():
            found.setdefault(one, {})[kind] = set(values)
        return found

    def _write(
        self, given: _Edges, probability: Floats, of_node: Integers, reason: NDArray[np.object_], out: str
    ) -> None:
        import numpy as np

        together = of_node[given.left] == of_node[given.right]
        strongest = np.zeros(len(of_node))
        for end in (given.left, given.right):
            np.maximum.at(strongest, end[together], probability[together])
        alone = np.bincount(of_node, minlength=len(of_node))[of_node] == 1
        strongest[alone] = 1.0
        self._load("clusters", {"node": np.arange(len(of_node)), "cluster": of_node, "probability": strongest})
        self.connection.execute(
            f"""
            create or replace temp table {out} as
            select nodes.record_id, clusters.cluster, clusters.probability
            from _resolution_clusters as clusters
            inner join _resolution_nodes as nodes on clusters.node = nodes.node
            """
        )
        refused = np.flatnonzero(~together)
        reasons = np.asarray(reason[refused], dtype=str)
        self._load("links", {"one": given.left[refused], "other": given.right[refused], "reason": reasons})
        self.connection.execute(
            f"""
            create or replace temp table {out}_refused as
            select l.record_id as record_l, r.record_id as record_r, links.reason
            from _resolution_links as links
            inner join _resolution_nodes as l on links.one = l.node
            inner join _resolution_nodes as r on links.other = r.node
            """
        )

    def _load(self, name: str, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa

        table = pa.table({column: pa.array(values) for column, values in columns.items()})
        self.connection.register("_resolution_given", table)
        self.connection.execute(f"create or replace temp table _resolution_{name} as select * from _resolution_given")
        self.connection.unregister("_resolution_given")


class _Groups:
    """Groups of units that grow by joining, as far as nothing stands against it."""

    def __init__(
        self,
        barred: dict[int, set[int]],
        conflicting: dict[int, set[int]],
        held: dict[int, dict[str, set[str]]],
        size: dict[int, int],
        limits: Limits | None,
    ) -> None:
        self._parent: dict[int, int] = {}
        self._members: dict[int, set[int]] = {}
        self._enemies = ((BARRED, barred), (CONFLICT, conflicting))
        self._held = held
        self._size = size
        self._limits = limits

    def find(self, unit: int) -> int:
        """The unit that stands for the group."""
        root = unit
        while (above := self._parent.get(root, root)) != root:
            root = above
        while unit != root:
            self._parent[unit], unit = root, self._parent.get(unit, unit)
        return root

    def join(self, one: int, other: int) -> str:
        """Join the groups of two units; returns why they can't be, or an empty text."""
        one, other = self.find(one), self.find(other)
        if one == other:
            return ""
        if reason := self._objection(one, other):
            return reason
        mine, theirs = self._members.pop(one, {one}), self._members.pop(other, {other})
        if len(mine) < len(theirs):
            one, other, mine, theirs = other, one, theirs, mine
        self._parent[other] = one
        mine.update(theirs)
        self._members[one] = mine
        for _, enemies in self._enemies:
            if more := enemies.pop(other, None):
                enemies[one] = enemies.get(one, set()) | more
        for kind, values in self._held.pop(other, {}).items():
            held = self._held.setdefault(one, {})
            held[kind] = held.get(kind, set()) | values
        self._size[one] = self._size.get(one, 1) + self._size.pop(other, 1)
        return ""

    def _objection(self, one: int, other: int) -> str:
        members = self._members.get(other, {other})
        for reason, enemies in self._enemies:
            if not enemies.get(one, _NOBODY).isdisjoint(members):
                return reason
        if self._limits is None:
            return ""
        if self._size.get(one, 1) + self._size.get(other, 1) > self._limits.max_records:
            return TOO_MANY_RECORDS
        mine, theirs = self._held.get(one, {}), self._held.get(other, {})
        for kind in sorted(mine.keys() & theirs.keys()):
            more = len(mine[kind] | theirs[kind])
            if more > self._limits.caps[kind] and more > max(len(mine[kind]), len(theirs[kind])):
                return f"too many {kind}"
        return ""


_NOBODY: frozenset[int] = frozenset()


def _forced(given: _Edges, bars: tuple[Integers, Integers], count: int) -> Integers:
    """The unit of each node: what a steward's links join, unless a bar stands against it."""
    import numpy as np

    forced = np.flatnonzero(given.priority == FORCED)
    if not len(forced):
        return np.arange(count)
    groups = _Groups(_adjacent(*bars), {}, {}, {}, None)
    for position in forced:
        groups.join(int(given.left[position]), int(given.right[position]))
    root = np.arange(count)
    for node in np.unique(np.concatenate((given.left[forced], given.right[forced]))):
        root[node] = groups.find(int(node))
    numbered: Integers = np.unique(_first_of_each(root), return_inverse=True)[1]
    return numbered


def _between_units(given: _Edges, unit: Integers) -> tuple[_Edges, Integers]:
    """The edges between units, of parallel ones the first; and of each given edge, which of them it became, or -1."""
    import numpy as np

    one = np.minimum(unit[given.left], unit[given.right])
    other = np.maximum(unit[given.left], unit[given.right])
    keys = one * (len(unit) + 1) + other
    _, where, group = np.unique(keys, return_index=True, return_inverse=True)
    first = np.sort(where)
    kept = first[one[first] != other[first]]
    number = np.full(len(given), -1)
    number[kept] = np.arange(len(kept))
    parent: Integers = number[where[group]]
    return (
        _Edges(one[kept], other[kept], given.priority[kept], given.weight[kept], np.full(len(kept), "", dtype=object)),
        parent,
    )


def _components(edges: _Edges, count: int) -> Integers:
    """The connected component of each unit over the edges that are open."""
    return _connected(edges.left[edges.is_open], edges.right[edges.is_open], count)


def _connected(left: Integers, right: Integers, count: int) -> Integers:
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not count:
        return np.empty(0, np.int64)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    labels: Integers = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels


def _without_weak_bridges(edges: _Edges, piece: Integers) -> Integers:
    """Leave out weak bridges; returns the pieces that remain.

    A weak bridge is a scored edge that alone joins two groups, where more would be expected, and is lower than theirs.

    A group is what stays connected whichever of its edges is taken away. If a share d of the pairs in the sparser of two
    groups is linked, d * m * n links are expected between their m and n records, were they one person. A loose chain of
    noisy records has no such groups, and is left alone.
    """
    import numpy as np

    if not len(piece):
        return piece
    at = np.flatnonzero(edges.is_open & (np.bincount(piece)[piece] >= 2 * _BRIDGED_MIN)[edges.left])
    if not len(at):
        return piece
    nodes, compact = np.unique(np.concatenate((edges.left[at], edges.right[at])), return_inverse=True)
    left, right = compact[: len(at)], compact[len(at) :]
    bridge = _bridges(left, right, len(nodes))
    group = _connected(left[~bridge], right[~bridge], len(nodes))
    members = np.bincount(group)
    inner = group[left[~bridge]]
    density = np.bincount(inner, minlength=len(members)) / np.maximum(1, members * (members - 1) / 2)
    median = _medians(inner, edges.weight[at][~bridge], len(members))
    one, other = group[left], group[right]
    weak = (
        bridge
        & edges.is_scored[at]
        & (np.minimum(members[one], members[other]) >= _BRIDGED_MIN)
        & (np.minimum(density[one], density[other]) * members[one] * members[other] >= _EXPECTED_MIN)
        & (edges.weight[at] < np.minimum(median[one], median[other]))
    )
    edges.reason[at[weak]] = WEAK_BRIDGE
    return _components(edges, len(piece)) if np.any(weak) else piece


def _bridges(left: Integers, right: Integers, count: int) -> Flags:
    """Of each edge, whether its ends fall apart without it. No edge may occur twice.

    Every edge outside a spanning forest gets a random 64-bit number; an edge of the forest is a bridge if the numbers of
    the edges that leave the subtree beneath it cancel out, which they do by chance once in 2^64.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order

    component = _connected(left, right, count)
    first = np.unique(component, return_index=True)[1]
    top = np.full(len(first), count)  # one root above all components: one search reaches them all
    ends = np.concatenate((left, top)), np.concatenate((right, first))
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(count + 1, count + 1)).tocsr()
    order, above = breadth_first_order(graph, count, directed=False)
    above[count] = count
    in_tree = (above[left] == right) | (above[right] == left)
    numbers = np.random.default_rng(1).integers(0, 2**63, len(left), dtype=np.int64)
    numbers[in_tree] = 0
    crossing = np.zeros(count + 1, np.int64)
    for end in (left, right):
        np.bitwise_xor.at(crossing, end, numbers)
    depth, step = np.ones(count + 1, np.int64), above
    depth[count] = 0
    while np.any(step != count):  # twice as far up each time
        depth, step = depth + depth[step], step[step]
    levels = np.split(order, np.flatnonzero(np.diff(depth[order])) + 1)
    for level in reversed(levels[1:]):
        np.bitwise_xor.at(crossing, above[level], crossing[level])
    lower = np.where(above[left] == right, left, right)
    bridges: Flags = in_tree & (crossing[lower] == 0)
    return bridges


def _medians(group: Integers, values: Floats, count: int) -> Floats:
    """The (lower) median of the values of each group; infinity for one without any."""
    import numpy as np

    order = np.lexsort((values, group))
    sizes = np.bincount(group, minlength=count)
    medians = np.full(count, np.inf)
    some = sizes > 0
    starts = np.cumsum(sizes) - sizes
    medians[some] = values[order][(starts + (sizes - 1) // 2)[some]]
    return medians


def _first_of_each(label: Integers) -> Integers:
    """Labels by the first position that bears each."""
    import numpy as np

    _, first, group = np.unique(label, return_index=True, return_inverse=True)
    named: Integers = first[group]
    return named


def _adjacent(one: Integers, other: Integers) -> dict[int, set[int]]:
    """Neighbours by unit."""
    neighbours: dict[int, set[int]] = {}
    for left, right in zip(one.tolist(), other.tolist(), strict=True):
        neighbours.setdefault(left, set()).add(right)
        neighbours.setdefault(right, set()).add(left)
    return neighbours
