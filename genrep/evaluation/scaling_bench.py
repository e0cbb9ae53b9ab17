"""Several processes beside one: the same weights, at which cost."""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from genrep import processes
from genrep.config import Config
from genrep.evaluation.figures import Figure, at_most
from genrep.evaluation.timing import ENOUGH_ROUNDS, Progress, silent
from genrep.model import GenRep
from genrep.processes import is_first, joined
from genrep.storage import load_tensors, read_json, save_tensors, write_json
from genrep.training import loop
from genrep.training.data import RunData
from genrep.training.exchange import Exchange
from genrep.training.joint_step import JointGradient
from genrep.training.loop import Session
from genrep.training.records import Silent
from genrep.training.run_folder import RunFolder

NUM_STEPS = 20
WEIGHTS_ATOL, GRADIENTS_RTOL, OF_PLAIN, OVERHEAD = 1e-10, 1e-6, 1.5, 0.03
NUM_PROCESSES = 2
BETWEEN: Mapping[str, float] = {"reduce_scatter": 1.0, "all_gather": 1.0, "all_reduce": 2.0}
"""What a ring moves per process, in units of (n - 1) / n of what is exchanged."""


class AlignedBefore(Exchange):
    """The mistake that this package avoids: every process aligns the gradients of its own images, and the results are added up."""

    def __init__(self, gradients: Float[Tensor, "l n"], num_aligned: int, num_common: int, ends: Sequence[int]) -> None:
        super().__init__(gradients, num_aligned, num_common, ends)
        self._shards, self.mine = gradients[:, :num_aligned], slice(0, num_aligned)

    def send(self, i: int) -> None:
        dist.all_reduce(self._gradients[i, self._num_common : self._ends[i]])

    def known_to_all(self, grams: Tensor) -> Tensor:
        return grams

    def add_up_mixed(self) -> None:
        pass

    def hand_out(self) -> None:
        dist.all_reduce(self._gradients[0, : self._num_common])


def exactness_figures(config: Config, *, progress: Progress = silent) -> list[Figure]:
    """What several processes make of a small recipe, beside what one makes of it.

    Args:
        config: a few steps of both stages.
    """
    with tempfile.TemporaryDirectory() as folder:
        alone, together = Path(folder) / "alone", Path(folder) / "together"
        progress("one process")
        start(1, _same, alone, config)
        progress(f"{NUM_PROCESSES} processes")
        start(NUM_PROCESSES, _same, together, config)
        apart = {name: difference(load_tensors(alone / f"{name}.st"), load_tensors(together / f"{name}.st")) for name in ("weights", "gradients")}
        wrong = difference(load_tensors(alone / "gradients.st"), load_tensors(together / "aligned_before.st"))
        moved = read_json(together / "moved.json")
    how = f"{NUM_PROCESSES} gloo processes against one, recipe `{config.name}`"
    return [
        at_most(
            f"weights after {NUM_STEPS} joint steps",
            apart["weights"],
            WEIGHTS_ATOL,
            "difference",
            f"{how}, float64, largest entry; glimpses, three tasks",
        ),
        at_most("gradient of a step", apart["gradients"], GRADIENTS_RTOL, "ratio", f"{how}, float32, relative to its largest entry"),
        Figure(
            name="the same, aligned before it is added up",
            value=wrong,
            interval=None,
            unit="ratio",
            target=GRADIENTS_RTOL,
            met=wrong > GRADIENTS_RTOL,
            how=f"{how}; must differ, or the check before would see nothing",
        ),
        at_most("bytes moved of shared gradients / plain data parallelism", moved["of_shared"], OF_PLAIN, "ratio", f"{how}; calls counted, rings assumed"),
    ]


def cost_figures(config: Config, *, num_rounds: int = ENOUGH_ROUNDS, progress: Progress = silent) -> list[Figure]:
    """What speaking to another process adds to a joint step of a recipe."""
    with tempfile.TemporaryDirectory() as folder:
        progress(f"time of a step of {NUM_PROCESSES} processes")
        start(NUM_PROCESSES, _cost, Path(folder), config, num_rounds)
        times = read_json(Path(folder) / "times.json")
    enough = num_rounds >= ENOUGH_ROUNDS
    how = f"a step of {NUM_PROCESSES} gloo processes of a thread, recipe `{config.name}`, beside one in which nothing is sent; medians of {num_rounds} in turn"
    value = times["speaking"] / times["silent"] - 1
    how = how if enough else f"{how}; too few to judge a target by"
    return [at_most("added by speaking", value, OVERHEAD, "ratio", how, judged=enough)]


def exact(config: Config) -> Config:
    """A recipe of `NUM_STEPS` joint steps in which no rounding depends on the size of a batch: Muon works in bfloat16, threads take turns as they come."""
    train = replace(config.train, bf16=False, muon=False, side_by_side=1, stage2_images=NUM_STEPS * config.train.batch_size)
    return replace(config, train=train)


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Largest absolute difference of tensors, relative to the largest entry of all where that is above 1."""
    largest = max(float(value.abs().max()) for value in a.values())
    return max(float((value - b[name]).abs().max()) for name, value in a.items()) / max(1.0, largest)


def start(num: int, work: Callable[..., None], *args: object) -> None:
    """Processes of a thread each that meet and do `work`.

    Raises:
        RuntimeError: one of them failed; what it had to say is on stderr.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    crew = [multiprocessing.get_context("spawn").Process(target=_work, args=(rank, num, port, work, args)) for rank in range(num)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    failed = [rank for rank, process in enumerate(crew) if process.exitcode]
    if failed:
        raise RuntimeError(f"of {num} processes these failed: {', '.join(map(str, failed))}.")


def _work(rank: int, num: int, port: int, work: Callable[..., None], args: tuple[object, ...]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(num), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    with joined():
        work(*args)


def _same(folder: Path, config: Config) -> None:
    """Weights after both stages in float64; the gradient of a first joint step in float32, rightly and wrongly; and what that moves."""
    with mock.patch.object(loop, "GenRep", lambda model: GenRep(model).double()):
        session = _session(folder / "run", config)
    session.run_to_end(lambda: False)
    _save(folder / "weights.st", session.model.state_dict())
    joint = replace(config, train=replace(config.train, stage1_images=0))
    with _counted() as moved:
        session = _session(folder / "right", joint)
        session._step()
    _save(folder / "gradients.st", _gradients(session))
    if is_first():
        write_json(folder / "moved.json", {"of_shared": _moved_of_shared(session, sum(moved.values()))})
    if processes.together():
        with mock.patch.object(loop, "JointGradient", partial(JointGradient, exchange=AlignedBefore)):
            session = _session(folder / "wrong", joint)
        session._step()
        _save(folder / "aligned_before.st", _gradients(session))


def _cost(folder: Path, config: Config, num_rounds: int) -> None:
    """Steps that speak and steps that do not."""
    session = _session(folder / "run", replace(config, train=replace(config.train, stage1_images=0)))
    times: dict[str, list[float]] = {"speaking": [], "silent": []}
    for _ in range(num_rounds + 1):
        for name, spent in times.items():
            processes.meet()
            with _mute() if name == "silent" else nullcontext():
                began = time.perf_counter()
                session._step()
                spent.append(time.perf_counter() - began)
    if is_first():
        write_json(folder / "times.json", {name: statistics.median(spent[1:]) for name, spent in times.items()})


def _session(path: Path, config: Config) -> Session:
    return Session(RunData(config), RunFolder(path), command="", screen=Silent(), look=None)


def _gradients(session: Session) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in session.model.named_parameters() if parameter.grad is not None}


def _moved_of_shared(session: Session, moved: float) -> float:
    """What a joint step moves beyond the losses' own parameters, beside one sum of what they share."""
    sizes = {name: gradient.numel() * gradient.element_size() for name, gradient in _gradients(session).items()}
    shared = sum(size for name, size in sizes.items() if all(name in views for views in session.joint.views))
    return (moved - BETWEEN["all_reduce"] * (sum(sizes.values()) - shared)) / (BETWEEN["all_reduce"] * shared)


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    if is_first():
        save_tensors(path, {name: value.contiguous() for name, value in tensors.items()})


@contextmanager
def _counted() -> Iterator[dict[str, float]]:
    """How much of gradients the calls of this process exchange, weighed by `BETWEEN`; what is counted besides is a few numbers."""
    moved = dict.fromkeys(BETWEEN, 0.0)
    with ExitStack() as stack:
        for name, weight in BETWEEN.items():
            stack.enter_context(mock.patch.object(dist, name, _counting(name, weight, moved)))
        yield moved


def _counting(name: str, weight: float, moved: dict[str, float]) -> Callable[..., object]:
    call = getattr(dist, name)

    def counted(*args: Tensor | list[Tensor], **options: object) -> object:
        whole = next((value for value in args if isinstance(value, list)), args)
        if "group" not in options:
            moved[name] += weight * sum(part.numel() * part.element_size() for part in whole if isinstance(part, Tensor))
        return call(*args, **options)

    return counted


class _Done:
    def wait(self) -> None: ...


@contextmanager
def _mute() -> Iterator[None]:
    """As if what is exchanged were here already."""

    def all_gather(found: list[Tensor], mine: Tensor, **_: object) -> None:
        for each in found:
            each.copy_(mine)

    def reduce_scatter(mine: Tensor, parts: list[Tensor], **_: object) -> _Done:
        mine.copy_(parts[processes.rank()])
        return _Done()

    with mock.patch.multiple(dist, all_gather=all_gather, reduce_scatter=reduce_scatter, all_reduce=lambda *_, **__: _Done()):
        yield
