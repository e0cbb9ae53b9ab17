"""The runs of a suite, as many at a time as were asked for, each in a process and on a thread of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def train_suite(recipe: str, runs: Mapping[str, Mapping[str, str]], folder: Path, *, at_once: int) -> None:
    """Train and measure what is not finished; what a run prints goes to FOLDER/RUN.txt. A stopped suite continues where it was.

    Raises:
        ValueError: a run failed; the others are finished first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(at_once) as pool:
        failed = [name for name, code in zip(runs, pool.map(lambda name: _run(recipe, runs[name], folder / name), runs), strict=True) if code]
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}; {folder / f'{failed[0]}.txt'} says why. The same command tries again."
        )


def _run(recipe: str, changes: Mapping[str, str], run: Path) -> int:
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
