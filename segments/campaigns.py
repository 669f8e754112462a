"""Campaigns: which segments are written to together, and as a member of which one a customer in several is addressed.

`dbt_project/campaigns.yml` is the one list; `activation/campaign_audiences` reads the same file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import duckdb

FILE = "campaigns.yml"
FEWEST, MOST = 5, 10


@dataclass(frozen=True)
class Campaign:
    """A campaign.

    Attributes:
        segments: names of its segments, the first that a customer is in counts.
    """

    name: str
    description: str
    segments: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One segment of a campaign after the waterfall.

    Attributes:
        priority: its place, 1 for the first.
        members: customers in the segment.
        addressed: those of them that no segment before it has.
    """

    campaign: str
    segment: str
    priority: int
    members: int
    addressed: int


def read_campaigns(project_dir: Path) -> tuple[list[Campaign], list[str]]:
    """The campaigns, and what is wrong with the file, in sentences. A project without the file has no campaigns."""
    path = project_dir / FILE
    if not path.exists():
        return [], []
    try:
        said: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        entries = said["campaigns"] or []
        if not isinstance(entries, list):
            raise TypeError("`campaigns` is no list")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        what = "it has no `campaigns:`" if isinstance(error, KeyError) else " ".join(str(error).split())
        return [], [f"dbt_project/{FILE} can't be read: {what}"]
    campaigns: list[Campaign] = []
    problems: list[str] = []
    for place, entry in enumerate(entries, 1):
        campaign = _campaign(entry)
        if campaign is None:
            problems.append(f"dbt_project/{FILE}: campaign {place} needs a name and a list of segments")
        elif campaign.name in {known.name for known in campaigns}:
            problems.append(f"dbt_project/{FILE}: there are two campaigns {campaign.name}")
        else:
            campaigns.append(campaign)
    return campaigns, problems


def check_campaigns(campaigns: Sequence[Campaign], segments: Collection[str]) -> list[str]:
    """What is wrong with campaigns, in sentences: unknown or repeated segments, too few or too many of them."""
    problems = []
    for campaign in campaigns:
        where = f"campaign {campaign.name} (dbt_project/{FILE})"
        if unknown := [name for name in campaign.segments if name not in segments]:
            problems.append(f"{where}: there is no segment {', '.join(unknown)}")
        if twice := sorted({name for name in campaign.segments if campaign.segments.count(name) > 1}):
            problems.append(f"{where}: names {', '.join(twice)} more than once")
        if not FEWEST <= len(campaign.segments) <= MOST:
            problems.append(f"{where}: has {len(campaign.segments)} segments; a campaign uses {FEWEST} to {MOST}")
    return problems


def waterfall(connection: duckdb.DuckDBPyConnection, memberships: str, campaigns: Sequence[Campaign]) -> list[Step]:
    """What each segment of each campaign is left with when every customer is addressed once per campaign.

    Args:
        connection: any database.
        memberships: what holds customer_id and segment: a table, or a query in brackets.
        campaigns: the campaigns.
    """
    steps = []
    for campaign in campaigns:
        # A repeated segment counts where it is named first, as in the model.
        order = {name: place for place, name in reversed(list(enumerate(campaign.segments, 1)))}
        rows = connection.execute(
            f"""
            with named as (
                select unnest(?::varchar[]) as segment, unnest(?::integer[]) as priority
            ),

            ranked as (
                select
                    priority,
                    row_number() over (partition by memberships.customer_id order by priority) as place
                from named
                inner join {memberships} as memberships on named.segment = memberships.segment
            )

            select
                priority,
                count(*),
                count(*) filter (where place = 1)
            from ranked
            group by priority
            """,
            [list(order), list(order.values())],
        ).fetchall()
        counted = {priority: (members, addressed) for priority, members, addressed in rows}
        for name, place in sorted(order.items(), key=lambda entry: entry[1]):
            steps.append(Step(campaign.name, name, place, *counted.get(place, (0, 0))))
    return steps


def _campaign(entry: object) -> Campaign | None:
    if not isinstance(entry, dict):
        return None
    name, segments = entry.get("name"), entry.get("segments")
    if not isinstance(name, str) or not name or not isinstance(segments, list):
        return None
    if not all(isinstance(segment, str) for segment in segments):
        return None
    return Campaign(name, " ".join(str(entry.get("description") or "").split()), tuple(segments))
