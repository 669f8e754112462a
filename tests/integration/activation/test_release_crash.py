"""Killed at any point, the making of a release leaves the one before or the new one, whole, with its history."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("what", ["freeze", "rollback"])
def test_whenever_it_is_killed(what: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.integration.activation.killed", str(tmp_path), what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    points: list[dict[str, Any]] = [json.loads(line) for line in ran.stdout.splitlines()]
    assert points[-1]["lived"], "the last point lies behind the end"
    assert len(points) > 20
    reached = set()
    for said in points:
        now, then = said["after_the_kill"], said["after_another_try"]
        assert now["problem"] is None, said
        assert now["told"] == now["members"], said
        assert now["told_of"] == list(range(1, now["numbers"][-1] + 1)), said
        reached.add(now["numbers"][-1])
        # A rollback is held as soon as it is there, and nothing is before.
        made = now["numbers"][-1] == 4
        assert now["held"] == ([4, 2] if made and what == "rollback" else None), said
        assert then["problem"] is None, said
        assert then["told"] == then["members"], said
        assert not then["litter"], said
        if what == "freeze":
            assert then["numbers"] == [3, 4], said
            assert [tuple(row) for row in then["members"]] == [("c00000", "b"), ("c00001", "b")], said
        else:
            # Release 2 is beyond the two newest, but held on to.
            newest = 5 if made else 4
            assert then["held"] == [newest, 2], said
            assert 2 in then["numbers"], said
    assert reached == {3, 4}
