"""Several processes beside one: the same weights, at which cost."""

from __future__ import annotations

import math
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
from typing import Any
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
from genrep.training.optimization import take_step
from genrep.training.records import Silent
from genrep.training.run_folder import RunFolder

NUM_STEPS = 20
WEIGHTS_ATOL, GRADIENTS_RTOL, OF_PLAIN, OVERHEAD = 1e-10, 1e-6, 1.5, 0.03
OF_EQUAL = 1.05
"""What the fullest process may have, beside an equal part."""
NUM_PROCESSES = 2
WHOLE = "replicated"
WAYS: Mapping[str, Mapping[str, Any]] = {
    WHOLE: {},
    "replicated, two micro-batches": {"micro_batches": 2},
    "sharded": {"sharded": True},
    "sharded, two micro-batches": {"sharded": True, "micro_batches": 2},
}
"""How several processes train."""
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
        start(1, _same, alone, config, [WHOLE])
        progress(f"{NUM_PROCESSES} processes, {len(WAYS)} ways")
        start(NUM_PROCESSES, _same, together, config, list(WAYS))
        weights, gradients = load_tensors(alone / WHOLE / "weights.st"), _read_gradients(alone / WHOLE, 1)
        far = {way: difference(weights, load_tensors(together / way / "weights.st")) for way in WAYS}
        first = {way: apart(gradients, _read_gradients(together / way, NUM_PROCESSES)) for way in WAYS}
        wrong = apart(gradients, load_tensors(together / "aligned_before.st"))
        moved = {way: read_json(together / way / "moved.json") for way in WAYS}
    how = f"{NUM_PROCESSES} gloo processes against one, recipe `{config.name}`"
    exact_how = f"{how}, float64, largest entry; glimpses, three tasks, half of the images annotated"
    counted, must = f"{how}; calls counted, rings assumed", f"{how}; must differ, or the check before would see nothing"
    return [
        *(at_most(f"weights after {NUM_STEPS} joint steps, {way}", far[way], WEIGHTS_ATOL, "difference", exact_how) for way in WAYS),
        *(at_most(f"gradient of a step, {way}", first[way], GRADIENTS_RTOL, "ratio", f"{how}, float32, norm of the difference / its own") for way in WAYS),
        Figure(name="the same, aligned before added up", value=wrong, interval=None, unit="ratio", target=GRADIENTS_RTOL, met=wrong > GRADIENTS_RTOL, how=must),
        *(at_most(f"bytes moved of shared gradients / plain data parallelism, {way}", moved[way]["of_shared"], OF_PLAIN, "ratio", counted) for way in WAYS),
        at_most(
            "optimizer's state of shared weights in the fullest process / in one that has all, sharded",
            moved["sharded"]["of_state"],
            OF_EQUAL / NUM_PROCESSES,
            "ratio",
            f"{NUM_PROCESSES} gloo processes, recipe `{config.name}`; bytes",
        ),
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
    """A recipe of `NUM_STEPS` joint steps, half of whose images are annotated.

    No rounding depends on the size of a batch: Muon would work in bfloat16, threads would take turns as they come.
    """
    train = replace(config.train, bf16=False, muon=False, side_by_side=1, stage2_images=NUM_STEPS * config.train.batch_size)
    return replace(config, train=train, data=replace(config.data, labelled_fraction=0.5), objective=replace(config.objective, prior_steps=0))


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Largest absolute difference of tensors."""
    return max(float((value - b[name]).abs().max()) for name, value in a.items())


def apart(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Norm of the difference of all tensors together, relative to the norm of the first ones."""
    squares = [(float((value - b[name]).double().square().sum()), float(value.double().square().sum())) for name, value in a.items()]
    return math.sqrt(sum(each[0] for each in squares) / sum(each[1] for each in squares))


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


def _same(folder: Path, config: Config, ways: Sequence[str]) -> None:
    """Each way weights after both stages in float64, the gradient of a first joint step in float32, and what that moves; once the gradient as it is wrong."""
    joint = replace(config, train=replace(config.train, stage1_images=0))
    for way in ways:
        with mock.patch.object(loop, "GenRep", lambda model: GenRep(model).double()):
            session = _session(folder / way / "run", _changed(config, way))
        session.run_to_end(lambda: False)
        _save(folder / way / "weights.st", session.model.state_dict())
        session = _session(folder / way / "right", _changed(joint, way))
        with _counted() as moved:
            found = _first_gradient(session)
        save_tensors(folder / way / f"gradient_{processes.rank()}.st", found)
        of_state = _of_state(session)
        if is_first():
            write_json(folder / way / "moved.json", {"of_shared": _moved_of_shared(session, sum(moved.values())), "of_state": of_state})
    if processes.together():
        with mock.patch.object(loop, "JointGradient", partial(JointGradient, exchange=AlignedBefore)):
            session = _session(folder / "wrong", joint)
            _save(folder / "aligned_before.st", _first_gradient(session))


def _changed(config: Config, way: str) -> Config:
    return replace(config, train=replace(config.train, **WAYS[way]))


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


def _first_gradient(session: Session) -> dict[str, Tensor]:
    """Of a step, as the optimizers get it: where weights are sharded, this process's part."""
    found: dict[str, Tensor] = {}

    def noting(*args: Any, **options: Any) -> None:
        found.update({name: parameter.grad.clone() for name, parameter in session.model.named_parameters() if parameter.grad is not None})
        take_step(*args, **options)

    with mock.patch.object(loop, "take_step", noting):
        session._step()
    return found


def _read_gradients(folder: Path, num: int) -> dict[str, Tensor]:
    """What `num` processes saved of a gradient."""
    return {name: value for rank in range(num) for name, value in load_tensors(folder / f"gradient_{rank}.st").items()}


def _moved_of_shared(session: Session, moved: float) -> float:
    """What a joint step moves beyond the losses' own parameters, beside one sum of what they share."""
    sizes = {name: view.numel() * view.element_size() for views in session.joint.views for name, view in views.items()}
    shared = sum(size for name, size in sizes.items() if all(name in views for views in session.joint.views))
    return (moved - BETWEEN["all_reduce"] * (sum(sizes.values()) - shared)) / (BETWEEN["all_reduce"] * shared)


def _of_state(session: Session) -> float:
    """The largest part that a process has of the optimizers' state of aligned weights."""
    shared = {name for name in session.joint.views[0] if all(name in views for views in session.joint.views)}
    aligned = {parameter for name, parameter in session.model.named_parameters() if name in shared}
    known = [entry for optimizer in session.optimizers for parameter, entry in optimizer.state.items() if parameter in aligned]
    sizes = processes.gathered(torch.tensor([sum(value.numel() * value.element_size() for entry in known for value in entry.values())]))
    whole = sizes.sum() if session.joint.owners else sizes[0]
    return float(sizes.max() / whole)


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
