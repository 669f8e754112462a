"""Segments are read from their files; what is wrong with one is said of that one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from core.errors import MailwrightError
from core.settings import PROJECT_ROOT
from segments.definitions import METADATA, SegmentError, read_segments, read_segments_at, survey
from tests.unit.segments.conftest import PROJECT, SQL, YAML, Write


def reason(project: Path, name: str) -> str:
    """What is wrong with one segment; all others must be well."""
    problems = survey(project).problems
    assert [problem.segment for problem in problems] == [name]
    return f"{problems[0].file}: {problems[0].reason}"


def test_a_segment_is_what_its_two_files_say(project: Path) -> None:
    (segment,) = read_segments(project)
    assert (segment.name, segment.model, segment.file) == ("good", "seg_good", "models/segments/seg_good.sql")
    assert segment.path == project / "models" / "segments" / "seg_good.sql"
    assert (segment.owner, segment.purpose, segment.consent_purpose) == ("crm", "To try things out.", "profiling")
    assert (segment.min_size, segment.max_size, segment.min_share, segment.max_share) == (1, 1000, None, None)
    assert (segment.cadence, segment.kpi_metric, segment.kpi_effect) == ("weekly", "bought_90", 0.02)
    assert (segment.min_dwell_days, segment.reentry_after_days) == (7, 14)
    assert segment.missing == ()
    assert segment.unknown == ()


def test_sql_alone_is_a_segment_that_lacks_its_metadata(project: Path, write: Write) -> None:
    write("seg_bare.sql", SQL % "true")
    bare = survey(project).segment("bare")
    assert bare.missing == ("description", *METADATA)
    assert (bare.min_dwell_days, bare.reentry_after_days, bare.consent_purpose) == (0, 0, "profiling")


def test_metadata_without_a_meaning_is_named(project: Path, write: Write) -> None:
    write("seg_good.yml", (YAML % "good").replace("min_dwell_days", "min_dwel_days"))
    (segment,) = read_segments(project)
    assert segment.missing == ("min_dwell_days",)
    assert segment.unknown == ("min_dwel_days",)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("seg_bad.sql", "", "models/segments/seg_bad.sql: is empty"),
        ("seg_bad.sql", " \n\n", "models/segments/seg_bad.sql: is empty"),
        ("seg_bad.yml", YAML % "bad" + "    oh: [no\n", "models/segments/seg_bad.yml: line 22"),
        ("seg_bad.yml", "- a list\n", "no mapping with `models:`"),
        ("seg_bad.yml", "models: 3\n", "no list of models"),
        ("seg_bad.yml", (YAML % "bad").replace("weekly", "fortnightly"), "meta.cadence"),
        ("seg_bad.yml", (YAML % "bad").replace("min: 1,", "min: 2000,"), "meta.expected_size: begins above its end"),
        ("seg_bad.yml", (YAML % "bad").replace("{min: 1, max: 1000}", "{}"), "meta.expected_size: says neither"),
        ("seg_bad.yml", (YAML % "bad").replace("bought_90", "liked_90"), "meta.kpi.metric"),
        ("seg_bad.yml", (YAML % "bad").replace("0.02", "0"), "meta.kpi.effect"),
        ("seg_bad.yml", (YAML % "bad").replace("days: 7", "days: a week"), "meta.min_dwell_days"),
        ("seg_bad.yml", (YAML % "bad").replace("days: 14", "days: -1"), "meta.reentry_after_days"),
        ("seg_bad.yml", (YAML % "bad").replace("config:", "config:\n      enabled: false"), "switches the segment off"),
        ("bad.sql", SQL % "true", "named seg_<name>.sql"),
        ("more/seg_bad.sql", SQL % "true", "several files of this name"),
        ("other.yml", YAML % "bad", "is described in models/segments/other.yml as well"),
    ],
    ids=[
        "empty",
        "blank",
        "yaml",
        "no mapping",
        "no models",
        "cadence",
        "range",
        "no range",
        "metric",
        "effect",
        "dwell",
        "re-entry",
        "disabled",
        "name",
        "twice",
        "described twice",
    ],
)
def test_what_cant_be_read_is_its_own_segments_problem(
    project: Path, write: Write, name: str, text: str, said: str
) -> None:
    if name != "bad.sql":
        write("seg_bad.sql", SQL % "true")
        write("seg_bad.yml", YAML % "bad")
    write(name, text)
    assert said in reason(project, "bad")
    assert [segment.name for segment in survey(project).segments] == ["good"]
    with pytest.raises(SegmentError, match="bad"):
        read_segments(project)


def test_a_file_that_is_no_text_is_its_own_segments_problem(project: Path, write: Write) -> None:
    write("seg_bad.sql", "").write_bytes(b"select '\xff'")
    assert "no text in UTF-8" in reason(project, "bad")


def test_a_segment_that_is_not_there_is_told_from_one_that_is_broken(project: Path, write: Write) -> None:
    write("seg_bad.sql", "")
    with pytest.raises(SegmentError, match="empty"):
        survey(project).segment("bad")
    with pytest.raises(MailwrightError, match="there is no segment other; there are: bad, good"):
        survey(project).segment("other")


def test_an_earlier_revision_has_its_own_sql_and_vars(project: Path, write: Write) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=Ann Example", "-c", "user.email=ann@example.com"]
        subprocess.run(["git", "-C", str(project.parent), *who, *arguments], check=True, capture_output=True)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "before")
    (project / "dbt_project.yml").write_text(PROJECT.replace("many: 8", "many: 9"))
    write("seg_good.sql", SQL % "orders > 1")
    write("seg_new.sql", SQL % "true")
    (before,) = read_segments_at(project, "HEAD")
    assert before.sql == SQL % "orders > {{ var('many') }}"
    assert before.project.variables["many"] == 8
    assert before.owner == "crm"
    assert [segment.name for segment in read_segments(project)] == ["good", "new"]
    with pytest.raises(MailwrightError, match="git can't read"):
        read_segments_at(project, "no-such-revision")
    with pytest.raises(MailwrightError, match="no git revision"):
        read_segments_at(project, "--output=x")


def test_the_shipped_segments_can_be_read() -> None:
    found = survey(PROJECT_ROOT / "dbt_project")
    assert not found.problems
    assert len(found.segments) >= 14
