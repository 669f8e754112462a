"""What a sample hands over: files from one source at one moment, and what a home must know about the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Handover:
    """Files that one source hands over at once; they become one delivery.

    Attributes:
        source: source in the lake's contract.
        files: table name to raw files, in the contract's shape.
        received_at: aware, in UTC.
        historical: True when the rows count as known when they happened, whatever `received_at` says.
    """

    source: str
    files: Mapping[str, Sequence[Path]]
    received_at: datetime
    historical: bool


@dataclass(frozen=True)
class SampleProfile:
    """What a home is made with before a sample is loaded into it.

    Attributes:
        name: as on the command line.
        title: for people.
        timezone: business timezone (IANA).
        currency: reporting currency (ISO 4217).
        as_of: the sample's natural as_of, aware, in UTC.
    """

    name: str
    title: str
    timezone: str
    currency: str
    as_of: datetime
