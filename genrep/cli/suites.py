"""The runs of a suite, as many at a time as were asked for, each in a process and on a thread of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrep.evaluation.suite import Suite


def train_suite(suite: Suite, folder: Path, *, at_once: int, arms: Sequence[str] = (), data: Path | None = None) -> None:
    """Train and measure what is not finished; what a run prints goes to FOLDER/RUN.txt. A stopped suite continues where it was.

    Args:
        arms: only these; none: all.
        data: the folder, of a suite on one's own.
    Raises:
        ValueError: that is missing; a run needs another that is neither finished nor asked for; or a run failed, and the others are finished first.
    """
    from genrep.evaluation.suite import finished

    if suite.data and data is None:
        raise ValueError(f"this suite trains on a folder of your own; name it with --data. The runs that are kept are of {suite.data}.")
    recipe = str(data or suite.recipe)
    runs = {name: changes for name, changes in suite.runs(folder, arms).items() if not finished(folder, name)}
    lacking = next((name for name in runs if (first := suite.first(name)) and first not in runs and not finished(folder, first)), None)
    if lacking:
        raise ValueError(f"`{lacking}` needs `{suite.first(lacking)}`, which is not finished in {folder}. Name both of their arms with --arms.")
    folder.mkdir(parents=True, exist_ok=True)
    codes: dict[str, Future[int]] = {}

    def code(name: str) -> int:
        first = suite.first(name)
        if first in codes and codes[first].result():  # begun before, so that no worker waits for one that has none
            return 1
        return _run(recipe, runs[name], folder / name)

    with ThreadPoolExecutor(at_once) as pool:
        for name in runs:
            codes[name] = pool.submit(code, name)
    if failed := [name for name in runs if codes[name].result()]:
        raise ValueError(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}; {folder / f'{failed[0]}.txt'} says why. The same command tries again."
        )


def check_runs(suite: Suite, folder: Path, data: Path | None = None) -> None:
    """Whether what lies in a folder as a suite's finished runs was trained as the suite says; what it leaves to data and machine may be anything.

    Args:
        data: the folder, of a suite on one's own; where it is not named everything may be.
    Raises:
        ValueError: a run was not; the first field that differs is named.
    """
    from genrep.evaluation.suite import finished
    from genrep.overrides import override, to_dict
    from genrep.recipes import RECIPES, own
    from genrep.storage import read_json
    from genrep.training.records import first_difference, what

    if suite.data and data is None:
        return
    begun = own(data.resolve())[0] if data else RECIPES[suite.recipe]()
    for name, changes in suite.runs(folder).items():
        config = folder / name / "config.json"
        if not finished(folder, name) or not config.is_file():
            continue
        found, wanted = what(read_json(config)), what(to_dict(override(begun, changes)))
        if difference := first_difference(_as_far_as_asked(found, wanted), wanted):
            raise ValueError(f"{folder / name} was trained by other settings than the suite's: {difference}. Move it away; the same command trains it anew.")


def _as_far_as_asked(found: Any, wanted: Any) -> Any:
    """What was found, but for what is left open: nothing wanted, or a path, which moves with the folder."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {key: _as_far_as_asked(found.get(key), value) if key != "labeller" else value for key, value in wanted.items()}
    return wanted if wanted in (None, [], ()) else found


def _run(recipe: str, changes: dict[str, str], run: Path) -> int:
    """Exit code of training and measuring one run."""
    overrides = [word for name, value in changes.items() for word in (f"--{name}", value)]
    with run.with_suffix(".txt").open("a") as log:
        for command in (["train", recipe, "--out", str(run), *overrides], ["eval", str(run)]):
            print(f"{run.name}: genrep {command[0]}", flush=True)
            code = _genrep(command, log.fileno())
            if code:
                return code
    return 0


def _genrep(arguments: Sequence[str], log: int) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "genrep", *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment, check=False).returncode
