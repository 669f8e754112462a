"""Kill the making of a release at every point where it touches the disk, and say what is found then. Run by itself.

    python -m tests.integration.activation.killed FOLDER freeze|rollback

Each point gets a home of its own in FOLDER and a process of its own, forked before anything has a thread. Prints one
JSON object per point.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset
import sqlalchemy.dialects.sqlite

from activation import history, releases, retention, rollback
from core.errors import ReleaseError
from core.home import Home
from core.settings import Settings
from tests.integration.activation.world import AS_OF, Person, fill_warehouse, people

KEPT = 2
WARM = (pyarrow.dataset, sqlalchemy.dialects.sqlite)  # else every process would import them


def settings_of(home: Home) -> Settings:
    return Settings(home=home.root, memory_limit="500MB", threads=1, releases_kept=KEPT)


def populations() -> list[list[Person]]:
    """Who is in release 1, 2, 3; and in the one whose making is killed."""
    third = people(3, segments=("a", "b"))
    third[0].segments = ("c",)
    return [people(3, segments=("a",)), people(4, segments=("a", "b")), third, people(2, segments=("b",))]


def freeze(home: Home, number: int) -> releases.Release:
    with duckdb.connect() as connection:
        fill_warehouse(connection, populations()[number - 1])
        as_of = AS_OF + timedelta(days=number)
        return releases.freeze(settings_of(home), home, connection, as_of=as_of)


def act(home: Home, what: str) -> None:
    if what == "freeze":
        freeze(home, 4)
    else:
        rollback.rollback(settings_of(home), home, 2)


def kill_at(point: int) -> None:
    """Have this process killed before the point-th touch of the disk."""
    touched = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def touch(*arguments: Any, **options: Any) -> Any:
            nonlocal touched
            touched += 1
            if touched == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return touch

    for owner, name in (
        (os, "rename"),
        (os, "replace"),
        (os, "unlink"),
        (shutil, "rmtree"),
        (releases.Draft, "write"),
        (releases.Draft, "copy"),
        (releases, "_flush"),
        (retention, "_keep_addresses"),
    ):
        setattr(owner, name, counting(getattr(owner, name)))


def in_a_process(function: Callable[[], None]) -> bool:
    """Run in a fork; returns whether it lived."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException as error:  # whatever it is, this process ends here
            sys.stderr.write(f"{error!r}\n")
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"a process failed: {status}")
    return os.WIFEXITED(status)


def found(home: Home) -> dict[str, Any]:
    """What there is: releases, whether the newest is whole, and whether the history told of it says the same."""
    newest = releases.latest(home)
    assert newest is not None
    problem = None
    try:
        releases.verify(home, newest)
    except ReleaseError as error:
        problem = str(error)
    held = releases.hold(home)
    with duckdb.connect() as connection:
        history.changes_view(connection, home)
        told = connection.execute("""
            select customer_id, segment from membership_changes
            group by all having arg_max(change, release) = 'entered' order by all
        """).fetchall()
        members = connection.execute(f"select * from '{newest.file('memberships')}' order by all").fetchall()
        numbered = connection.execute("select distinct release from membership_changes order by 1").fetchall()
    return {
        "numbers": releases.numbers(home),
        "problem": problem,
        "held": [held.release, held.reverts_to] if held else None,
        "members": members,
        "told": told,
        "told_of": [number for (number,) in numbered],
        "litter": sorted(path.name for path in home.releases.iterdir() if path.name.startswith(".")),
    }


def main(folder: Path, what: str) -> None:
    template = folder / "template"

    def prepare() -> None:
        home = Home.create(template, "Europe/London", "GBP")
        for number in (1, 2, 3):
            freeze(home, number)

    in_a_process(prepare)
    for point in range(1, 1000):
        root = folder / f"{point:03}"
        shutil.copytree(template, root)

        def step(what: Callable[[Home], None], root: Path = root) -> bool:
            return in_a_process(lambda: what(Home.open(root)))

        def say(home: Home, name: str, root: Path = root) -> None:
            (root / f"{name}.json").write_text(json.dumps(found(home)))

        def die(home: Home, point: int = point) -> None:
            kill_at(point)
            act(home, what)

        def try_again(home: Home) -> None:
            act(home, what)
            say(home, "after_another_try")

        lived = step(die)
        step(lambda home: say(home, "after_the_kill"))
        step(try_again)
        said = {
            name: json.loads((root / f"{name}.json").read_text()) for name in ("after_the_kill", "after_another_try")
        }
        sys.stdout.write(json.dumps({"point": point, "lived": lived, **said}) + "\n")
        shutil.rmtree(root)
        if lived:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
