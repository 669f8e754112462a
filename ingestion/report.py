"""What a load did, for people and for the code that called it."""

from __future__ import annotations

from dataclasses import dataclass

from ingestion.drift import Change


@dataclass(frozen=True)
class TableReport:
    """What became of one table of a hand-over.

    Attributes:
        rows_read: rows in the files. accepted + superseded + rejected.
        superseded: rows of this delivery that repeat an event already told.
        superseded_earlier: rows of earlier deliveries that this one replaced.
        notices: what a person may want to know, `changes` included; never holds a value from the data.
        changes: in what the columns differ from the contract and from earlier deliveries, with a severity.
        error: why nothing of this table was taken in, or None.
        duplicate_of: the delivery that already brought these files, whereupon they were skipped, or None.
    """

    source: str
    table: str
    rows_read: int = 0
    accepted: int = 0
    superseded: int = 0
    rejected: int = 0
    superseded_earlier: int = 0
    notices: tuple[str, ...] = ()
    error: str | None = None
    duplicate_of: str | None = None
    changes: tuple[Change, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notices of changes by which data may be lost."""
        return tuple(change.said for change in self.changes if change.severity == "warning")

    def describe(self) -> str:
        """One line for people."""
        name = f"{self.source}.{self.table}"
        if self.error is not None:
            return f"{name}: not loaded: {self.error}"
        if self.duplicate_of is not None:
            return f"{name}: nothing new"
        parts = [f"{self.accepted:,} accepted"]
        if self.superseded:
            parts.append(f"{self.superseded:,} repeated")
        if self.rejected:
            parts.append(f"{self.rejected:,} rejected into quarantine")
        line = f"{name}: {self.rows_read:,} rows read: {', '.join(parts)}"
        if self.superseded_earlier:
            line += f"; replaced {self.superseded_earlier:,} earlier rows"
        return line


@dataclass(frozen=True)
class LoadReport:
    """What became of a hand-over.

    Attributes:
        delivery_id: None when nothing was written.
        tables: one report per table, in the order given.
    """

    source: str
    delivery_id: str | None
    sequence: int | None
    tables: tuple[TableReport, ...]

    @property
    def changed(self) -> bool:
        """Whether the lake is another than before."""
        return self.delivery_id is not None

    @property
    def errors(self) -> tuple[str, ...]:
        """Why tables were not loaded."""
        return tuple(table.describe() for table in self.tables if table.error is not None)

    @property
    def rejected(self) -> int:
        """Rows put into quarantine."""
        return sum(table.rejected for table in self.tables)
