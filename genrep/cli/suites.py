"""The runs of a suite, as many at a time as were asked for, each in a process and on a thread of its own, on as many machines as share the folder."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.cli.arguments import again

if TYPE_CHECKING:
    from genrep.evaluation.suite import Suite

POLL_S = 5.0
"""How often a worker with nothing to do looks whether others have finished, or died, or left it something."""
ASKED_TO_STOP = "no further run is begun, and those at work end; once more to save and stop them."


def train_suite(
    suite: Suite, folder: Path, *, at_once: int | None = None, arms: Sequence[str] = (), seeds: Sequence[int] = (), data: Path | None = None
) -> None:
    """Train and measure what is not finished; what a run prints goes to FOLDER/RUN.txt. A stopped suite continues where it was.

    Any number of processes, on any machines, may do so in one folder: none begins a run that another is at, and each ends when all runs have.

    Args:
        at_once: runs at a time, by this process; None: one for each accelerator, without any one.
        arms, seeds: only these; none: all.
        data: the folder, of a suite on one's own.
    Raises:
        ValueError: that is missing; a run needs another that is neither finished nor asked for; or a run failed, and the others are finished first.
        KeyboardInterrupt: asked to stop before all were finished.
    """
    from genrep.cli.stopping import stop_on_signal
    from genrep.evaluation.suite import finished

    if suite.data and data is None:
        raise ValueError(f"this suite trains on a folder of your own; name it with --data. The runs that are kept are of {suite.data}.")
    runs = {name: changes for name, changes in suite.runs(folder, arms, seeds).items() if not finished(folder, name)}
    lacking = next((name for name in runs if (first := suite.first(name)) and first not in runs and not finished(folder, first)), None)
    if lacking:
        raise ValueError(f"`{lacking}` needs `{suite.first(lacking)}`, which is not finished in {folder}. Name both of their arms with --arms.")
    if not runs:
        return
    folder.mkdir(parents=True, exist_ok=True)
    alike, devices = _arithmetic(suite, folder), accelerators()
    with stop_on_signal(ASKED_TO_STOP) as stop:
        crew = _Crew(suite, folder, {name: changes | alike for name, changes in runs.items()}, str(data or suite.recipe), stop)
        crew.work([devices[i % len(devices)] if devices else None for i in range(at_once or max(1, len(devices)))])
    if crew.failed:
        raise ValueError(
            f"{len(crew.failed)} of {len(runs)} runs failed: {', '.join(crew.failed)}; {folder / f'{crew.failed[0]}.txt'} says why. "
            "The same command tries again."
        )
    if crew.left:
        raise KeyboardInterrupt


class _Crew:
    """Workers that share the runs of a folder, with one another and with the crews of other processes.

    Args:
        runs: by name, with their overrides; of `recipe`.
        stop: whether to begin no further run.
    """

    def __init__(self, suite: Suite, folder: Path, runs: Mapping[str, dict[str, str]], recipe: str, stop: Callable[[], bool]) -> None:
        self._suite, self._folder, self._runs, self._recipe, self._stop = suite, folder, runs, recipe, stop
        self._at_work: dict[str, subprocess.Popen[bytes]] = {}
        self._codes: dict[str, int] = {}

    @property
    def left(self) -> list[str]:
        """Runs that are not finished, and that this crew has not tried."""
        from genrep.evaluation.suite import finished

        return [name for name in self._runs if name not in self._codes and not finished(self._folder, name)]

    @property
    def failed(self) -> list[str]:
        return [name for name in self._runs if self._codes.get(name)]

    def work(self, devices: Sequence[str | None]) -> None:
        """Until nothing is left, or everyone was told to stop; a worker for each device."""
        with ThreadPoolExecutor(len(devices)) as pool:
            try:
                for worker in [pool.submit(self._work, device) for device in devices]:
                    worker.result()
            except KeyboardInterrupt:  # told twice
                for process in list(self._at_work.values()):
                    process.terminate()

    def _work(self, device: str | None) -> None:
        while not self._stop() and (left := self.left):
            if not any(self._did(name, device) for name in left):
                time.sleep(POLL_S)

    def _did(self, name: str, device: str | None) -> bool:
        """Train and measure a run, unless another is at it, or what it needs is not there yet."""
        from genrep.evaluation.suite import finished
        from genrep.storage import claimed

        first = self._suite.first(name)
        if first in self.failed:
            self._codes[name] = 1
            return True
        if first and not finished(self._folder, first):
            return False
        with claimed(self._folder / f".{name}.lock") as place:
            if place is None or name not in self.left:
                return False
            code = self._run(name, device, place)
            if not self._stop():
                self._codes[name] = code
        return True

    def _run(self, name: str, device: str | None, place: int) -> int:
        """Exit code of training and measuring one run."""
        run = self._folder / name
        overrides = [word for field, value in self._runs[name].items() for word in (f"--{field}", value)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({} if device is None else {"CUDA_VISIBLE_DEVICES": device})
        with run.with_suffix(".txt").open("a") as log:
            for command in (["train", self._recipe, "--out", str(run), *overrides], ["eval", str(run)]):
                print(f"{name}: genrep {command[0]}", flush=True)
                process = _genrep(command, log.fileno(), environment, place)
                self._at_work[name] = process
                code = process.wait()
                del self._at_work[name]
                if code or self._stop():
                    return code
        return 0


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
    """What was found, but for what is left open: nothing wanted, a path, which moves with the folder, tasks for which data may have no annotations."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        ways = {"labeller": lambda there, value: value, "tasks": _of_data}
        return {key: ways.get(key, _as_far_as_asked)(found.get(key), value) for key, value in wanted.items()}
    return wanted if wanted in (None, [], ()) else found


def _of_data(found: Sequence[str], wanted: Sequence[str]) -> Sequence[str]:
    """The tasks wanted, where those found are some of them; else those found."""
    return wanted if found and list(found) == [task for task in wanted if task in found] else found


def accelerators() -> list[str]:
    """What each of a machine's accelerators that may be used is called in `CUDA_VISIBLE_DEVICES`."""
    import torch

    from genrep.devices import uses_cuda

    num = torch.cuda.device_count() if uses_cuda() else 0
    named = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    return (named or [str(i) for i in range(num)])[:num]


def _arithmetic(suite: Suite, folder: Path) -> dict[str, str]:
    """`train.bf16` of the runs that are there, or what suits this machine: what is compared is computed alike, whichever machine is quicker at what."""
    from genrep.devices import default_device
    from genrep.training import RunFolder, computes_in_bf16

    begun = [config["train"]["bf16"] for name in suite.runs(folder) if (config := RunFolder(folder / name).begun())]
    found = set(begun) or {computes_in_bf16(default_device())}
    if len(found) > 1:
        print(f"of the runs in {folder} {sum(begun)} are in bfloat16 and {len(begun) - sum(begun)} in float32: what is compared is not computed alike")
        return {}
    return {"train.bf16": str(found.pop()).lower()}


def _genrep(arguments: Sequence[str], log: int, environment: Mapping[str, str], place: int) -> subprocess.Popen[bytes]:
    """A process of its own, which keeps the run's place, and which Ctrl-C does not reach."""
    return subprocess.Popen([*again(), *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment, pass_fds=(place,), start_new_session=True)
