"""What training writes as it goes: metrics.csv, events.jsonl, and the few files that say what ran where."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from genrep.config import Config
from genrep.objective import JOBS
from genrep.overrides import from_dict, to_dict
from genrep.processes import is_first, meet, world
from genrep.storage import claimed, write_json, write_text
from genrep.training.run_folder import RunFolder
from genrep.training.step_report import pair_column

COLUMNS = (
    "step",
    "stage",
    "images",
    "seconds",
    "images_per_s",
    "lr",
    *(f"loss/{name}" for name in ("classification", "detection", "segmentation", "task", "distil", "denoise", "alignment", "variational")),
    "loss/perception",
    "loss/generation",
    "align/cosine",
    "align/kept_perception",
    "align/kept_generation",
    "align/norm_ratio",
    "align/harmful",
    *(f"align/{kind}_{job}" for job in ("perception", "generation") for kind in ("predicted", "actual")),
    "grad_norm",
    "memory_gb",
)

Row = dict[str, float | int | None]


@runtime_checkable
class Screen(Protocol):
    """Who watches a training run; the command line prints, a library user may ignore it."""

    def on_start(self, lines: list[str]) -> None:
        """What is about to run, on what, from where."""

    def on_row(self, row: Row, total_steps: int) -> None:
        """A row of metrics.csv."""

    def on_event(self, event: dict[str, Any]) -> None:
        """A line of events.jsonl."""

    def on_end(self, lines: list[str]) -> None:
        """Which files were written."""


HOW = ("micro_batches", "sharded")
"""Settings of how a step is computed, not of what: a run may go on with others."""


class Silent:
    """Watches nothing."""

    def on_start(self, lines: list[str]) -> None:
        del lines

    def on_row(self, row: Row, total_steps: int) -> None:
        del row, total_steps

    def on_event(self, event: dict[str, Any]) -> None:
        del event

    def on_end(self, lines: list[str]) -> None:
        del lines


class Records:
    """Appends rows and events, and cuts back what a resumed run will write again; of several processes, in the first.

    Args:
        more: columns beyond `COLUMNS`.
    """

    def __init__(self, run: RunFolder, screen: Screen, *, total_steps: int, more: Sequence[str] = ()) -> None:
        self._run, self._screen, self._total = run, screen, total_steps
        self._columns = tuple(dict.fromkeys((*COLUMNS, *more)))

    def cut(self, step: int) -> None:
        """Drop rows and events beyond `step`, which belong to a future that did not happen, and a last line that was not written to its end."""
        if not is_first():
            return
        kept: list[Row] = []
        if self._run.metrics.is_file():
            kept = [row for row in csv.DictReader(_whole_lines(self._run.metrics)) if int(row["step"]) <= step]  # type: ignore[misc]
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, self._columns)
        writer.writeheader()
        writer.writerows(kept)
        write_text(self._run.metrics, table.getvalue())
        if self._run.events.is_file():
            lines = _whole_lines(self._run.events)
            write_text(self._run.events, "".join(f"{line}\n" for line in lines if _is_of_the_past(json.loads(line), step)))

    def row(self, row: Row) -> None:
        """Append to metrics.csv."""
        if not is_first():
            return
        with self._run.metrics.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)
        self._screen.on_row(row, self._total)

    def event(self, event: dict[str, Any]) -> None:
        """Append to events.jsonl."""
        if not is_first():
            return
        with self._run.events.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        self._screen.on_event(event)


AFTER_CHECKPOINT = ("gate", "completion", "confidence", "calibration", "end")
"""Events that come after the checkpoint of their step, and again where a run goes on from it."""


def _is_of_the_past(event: Mapping[str, Any], step: int) -> bool:
    return event.get("step", 0) <= step - (event["event"] in AFTER_CHECKPOINT)


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that is written line by line; on a full disk the last one may have no end."""
    return [line.rstrip("\r\n") for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


def loss_columns(config: Config) -> list[str]:
    """What a configuration's losses add to `COLUMNS`."""
    glimpses, aligned = ("glimpses",) if config.train.glimpses or config.train.stage1_glimpses else (), config.losses(JOBS)
    pairs = [pair_column(*pair) for pair in combinations(aligned, 2)] if len(aligned) > 2 else []
    changes = [f"align/{kind}_{name}" for name in aligned for kind in ("predicted", "actual")]
    return [*(f"loss/{name}" for name in (*config.model.tasks, *glimpses)), *pairs, *changes]


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware."""
    return {
        "commit": commit(Path(__file__).resolve().parents[2] / ".git"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": world(),
    }


def commit(git: Path) -> str | None:
    """What a checkout is at; None where the package is not in one."""
    head = git / "HEAD"
    if not head.is_file():
        return None
    found = head.read_text(encoding="utf-8").strip()
    ref = found.removeprefix("ref: ")
    if found == ref:
        return found
    if (git / ref).is_file():
        return (git / ref).read_text(encoding="utf-8").strip()
    packed = git / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {ref}")), None)


@contextmanager
def alone_in(run: RunFolder) -> Iterator[None]:
    """Let no other process train in the folder meanwhile; of several that train together, the first sees to it. Without a run in it the folder is gone
    afterwards, if it was not there before.

    Raises:
        ValueError: another process does already, or it is a file.
    """
    if not is_first():
        yield
        return
    if run.path.is_file():
        raise ValueError(f"{run.path} is a file; a run is a folder. Name another one with --out.")
    new = not run.path.exists()
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        with claimed(run.lock) as mine:
            if mine is None:
                raise ValueError(f"{run.path} is being trained by another process; nothing was written. Wait for its end, or name another folder with --out.")
            yield
    finally:
        if new:
            with suppress(OSError):  # not empty
                run.path.rmdir()


def open_run(run: RunFolder, config: Config, *, command: str, device: torch.device) -> None:
    """Make the folder, or check that it belongs to this configuration; of several processes, the first does while the others wait.

    Raises:
        ValueError: the folder holds a run of another configuration; the first differing field is named.
    """
    if is_first():
        _open(run, config, command, device)
    meet()


def what(config: dict[str, Any]) -> dict[str, Any]:
    """Of a plain configuration, what is trained; fields that it is too old to know have their defaults."""
    whole = to_dict(from_dict(config, Config))
    return {**whole, "train": {name: value for name, value in whole["train"].items() if name not in HOW}}


def _open(run: RunFolder, config: Config, command: str, device: torch.device) -> None:
    wanted = to_dict(config)
    if begun := run.begun():
        difference = first_difference(what(begun), what(wanted))
        if difference:
            raise ValueError(f"{run.path} holds a run of another configuration: {difference}. Name another folder with --out.")
        for left in run.checkpoints.glob(".step_*"):  # by a process that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        return
    if run.path.is_dir() and any(found != run.lock for found in run.path.iterdir()):
        raise ValueError(f"{run.path} exists and is not a run folder; nothing was written. Name another folder with --out.")
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.config, wanted)
    write_json(run.env, environment(device))
    write_text(run.command, command + "\n")


def write_log(run: RunFolder, lines: Sequence[str], problems: Mapping[str, Sequence[object]]) -> None:
    """log.txt: what was said of the data before training, and everything that is wrong with it."""
    if not is_first():
        return
    found = [f"{name}: {problem}" for name, of_set in problems.items() for problem in of_set]
    write_text(run.log, "\n".join([*lines, *(line for line in found if line not in lines)]) + "\n")


def first_difference(found: Any, wanted: Any, path: str = "") -> str:
    """Where two plain configurations first differ, or nothing."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(k for k in found if k not in wanted)]:
            difference = first_difference(found.get(key), wanted.get(key), f"{path}.{key}" if path else key)
            if difference:
                return difference
        return ""
    if found == wanted or (isinstance(found, list) and isinstance(wanted, list | tuple) and found == list(wanted)):
        return ""
    return f"`{path}` is {found!r} there and {wanted!r} here"


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory of the accelerator, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
