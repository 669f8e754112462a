"""A segment is one SQL file: nothing else needs to know of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[3] / "dbt_project"
SEGMENT = "select customer_id from {{ ref('customer_360') }} where country_code = 'FR'\n"


def parse(project: Path, target: Path) -> dict[str, Any]:
    parsed = subprocess.run(
        [str(Path(sys.executable).with_name("dbt")), "parse", "--target-path", str(target), "--log-path", str(target)],
        cwd=project,
        env=os.environ | {"MAILWRIGHT_HOME": str(target / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr
    return json.loads((target / "manifest.json").read_text())


@pytest.mark.slow
def test_a_new_file_is_a_dependency_of_the_memberships_although_parsed_before(tmp_path: Path) -> None:
    project, target = tmp_path / "dbt_project", tmp_path / "target"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    memberships = "model.mailwright.segment_memberships"
    shipped = {f"model.mailwright.{path.stem}" for path in (PROJECT / "models" / "segments").glob("*.sql")}
    before = set(parse(project, target)["nodes"][memberships]["depends_on"]["nodes"])
    assert len(shipped) == 19
    assert shipped <= before

    (project / "models" / "segments" / "seg_in_france.sql").write_text(SEGMENT)
    node = parse(project, target)["nodes"][memberships]
    assert set(node["depends_on"]["nodes"]) - before == {"model.mailwright.seg_in_france"}
