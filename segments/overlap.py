"""Which segments hold the same people: how much of each lies in each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    from rich.table import Table

# Two segments with so much of their union in common are one, under two names.
NEARLY_THE_SAME = 0.8


@dataclass(frozen=True)
class Overlap:
    """Sizes of segments and of what two of them share.

    Attributes:
        sizes: customers by segment, the largest first.
        shared: customers in both, by pair of segments in alphabetical order; pairs without any are left out.
    """

    sizes: Mapping[str, int]
    shared: Mapping[tuple[str, str], int]

    def both(self, one: str, other: str) -> int:
        """Customers in both segments."""
        return self.sizes[one] if one == other else self.shared.get((min(one, other), max(one, other)), 0)

    def share(self, of: str, within: str) -> float:
        """Share of the members of one segment that are in another as well."""
        return self.both(of, within) / self.sizes[of] if self.sizes[of] else 0.0

    def jaccard(self, one: str, other: str) -> float:
        """Share of those in either that are in both."""
        either = self.sizes[one] + self.sizes[other] - self.both(one, other)
        return self.both(one, other) / either if either else 0.0

    def twins(self) -> list[tuple[str, str, float]]:
        """Pairs that are nearly the same, with the share that they have in common, the closest first."""
        found = [(one, other, self.jaccard(one, other)) for one, other in self.shared]
        return sorted((pair for pair in found if pair[2] >= NEARLY_THE_SAME), key=lambda pair: (-pair[2], pair[:2]))

    def markdown(self) -> str:
        """The matrix as Markdown: per cent of the row's members that are in the column's segment as well."""
        names = list(self.sizes)
        header = ["", "segment", "customers", *(str(number) for number in range(1, len(names) + 1))]
        lines = ["| " + " | ".join(header) + " |", "| ---: | --- | ---: |" + " ---: |" * len(names)]
        for number, name in enumerate(names, 1):
            cells = [str(number), name, f"{self.sizes[name]:,}", *(self._cell(name, other) for other in names)]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join([*lines, "", self._legend()])

    def table(self) -> Table:
        """The matrix for a terminal: 15 segments fit into 120 columns."""
        from rich.table import Table

        names = list(self.sizes)
        grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", caption=self._legend())
        grid.caption_justify = "left"
        grid.add_column("", justify="right", style="dim", no_wrap=True)
        grid.add_column("segment", no_wrap=True)
        grid.add_column("customers", justify="right", no_wrap=True)
        for number in range(1, len(names) + 1):
            grid.add_column(str(number), justify="right", no_wrap=True, min_width=3)
        for number, name in enumerate(names, 1):
            grid.add_row(str(number), name, f"{self.sizes[name]:,}", *(self._cell(name, other) for other in names))
        return grid

    def _cell(self, row: str, column: str) -> str:
        """Per cent in whole numbers; 0 and 100 are said only where they are so."""
        if row == column:
            return "-"
        if not self.both(row, column):
            return "·"
        return str(min(99, max(1, round(100 * self.share(row, column)))) if self.share(row, column) < 1 else 100)

    def _legend(self) -> str:
        said = "per cent of the row's customers that are in the column's segment as well"
        twins = [f"{one} and {other} share {share:.0%} of their customers" for one, other, share in self.twins()]
        return "; ".join([said, *twins])


def overlap(connection: duckdb.DuckDBPyConnection, memberships: str) -> Overlap:
    """How segments overlap.

    Args:
        connection: any database.
        memberships: what holds customer_id and segment: a table, or a query in brackets.
    """
    rows = connection.execute(
        f"""
        select segments, count(*)
        from (
            select list(distinct segment order by segment) as segments
            from {memberships} as memberships
            group by customer_id
        )
        group by segments
        """
    ).fetchall()
    sizes: dict[str, int] = {}
    shared: dict[tuple[str, str], int] = {}
    for names, customers in rows:
        for place, name in enumerate(names):
            sizes[name] = sizes.get(name, 0) + customers
            for other in names[place + 1 :]:
                shared[name, other] = shared.get((name, other), 0) + customers
    ranked = dict(sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0])))
    return Overlap(ranked, dict(sorted(shared.items())))
