"""What a joint step costs beside the two steps it stands for, and the memory that it needs beside generation alone."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genrep.aligners import GenRepRule
from genrep.config import Config
from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure, at_most
from genrep.evaluation.perception_bench import SMALL_DIT
from genrep.evaluation.timing import ENOUGH_ROUNDS, Progress, cpu_seconds, of_rounds, silent
from genrep.model import GenRep
from genrep.objective import JOBS
from genrep.training.distillation import Teacher
from genrep.training.joint_step import ALIGNED_SETS, JointGradient
from genrep.training.optimization import make_optimizers, make_teacher, take_step
from genrep.training.runtime import computes_in_bf16
from genrep.training.step_losses import Drawn, StepLosses

WEIGHTS = {"perception": 0.7, "generation": 0.3}
OF_TWO_STEPS = {4: {"one pass": 0.97, "a pass each": 1.01}, 32: {"one pass": 1.0, "a pass each": 1.01}}
"""What a joint step may take of two, by images of either loss."""
OF_GENERATION = {"one pass": 1.3, "a pass each": 1.05}
"""What memory it may take of a step of generation alone."""


class Rig:
    """Steps of a `SMALL_DIT` with the losses of a configuration, each of them complete but for the drawing of images.

    Args:
        config: whose losses and optimizers are used.
        data: images.
    """

    def __init__(self, config: Config, data: ArrayDataset) -> None:
        self.model = GenRep(replace(config.model, trunk=SMALL_DIT, class_names=data.class_names, image_size=data.image_size))
        bf16 = computes_in_bf16(self.model.device) if config.train.bf16 is None else config.train.bf16
        self._config, self._data = replace(config, train=replace(config.train, bf16=bf16)), data
        self._teacher = Teacher(make_teacher(self.model), config.objective, seed=0, bf16=bf16)
        self.what = f"DiT-S with four-pixel tokens at 32 px, {'bfloat16' if bf16 else 'float32'}"

    def losses(self, num: int, jobs: Sequence[str] = JOBS) -> StepLosses:
        """On the same images every time."""
        drawn = Drawn(self._data.batch(torch.arange(num)), torch.arange(num))
        return StepLosses(jobs, self._teacher, self._config, drawn, lambda: None, stage=2, step=0, num_all=num)

    def gradient(self, num: int, *, jobs: Sequence[str] = JOBS, one_pass: bool = False) -> Callable[[], object]:
        """Losses, gradients, alignment where there are several jobs, and clipping."""
        joint = JointGradient(self.model, GenRepRule(), weights={job: WEIGHTS[job] for job in jobs}, aligned=ALIGNED_SETS["trunk"], clip_norm=1.0)
        losses = self.losses(num, jobs)
        return partial(joint, {job: [] for job in jobs}, [losses.all]) if one_pass else partial(joint, losses.separate())

    def step(self, num: int, *, jobs: Sequence[str] = JOBS, one_pass: bool = False) -> Callable[[], object]:
        """The gradient and the optimizers; the weights stay."""
        fill, optimizers = self.gradient(num, jobs=jobs, one_pass=one_pass), self._optimizers()

        def run() -> None:
            fill()
            take_step(optimizers, 0.0)

        return run

    def summed(self, num: int) -> Callable[[], object]:
        """A step that adds the losses up, as if there were nothing to align."""
        losses, optimizers = self.losses(num).separate(), self._optimizers()

        def run() -> None:
            self.model.zero_grad()
            for loss in losses.values():
                loss(self.model).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            take_step(optimizers, 0.0)

        return run

    def _optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return make_optimizers(self.model, replace(self._config.train, muon=False))


def time_figures(config: Config, data: ArrayDataset, *, num_rounds: int = ENOUGH_ROUNDS, progress: Progress = silent) -> list[Figure]:
    """Joint steps beside a step of perception and one of generation, each a step of training by itself."""
    rig, figures = Rig(config, data), []
    for num, bounds in OF_TWO_STEPS.items():
        progress(f"time of a step, batch {num} + {num}")
        work = {job: rig.step(num, jobs=[job]) for job in JOBS} | {way: rig.step(num, one_pass=way == "one pass") for way in bounds}
        spent = cpu_seconds(work, num_rounds)
        two = sum(spent[job] for job in JOBS)
        how = f"losses, gradients, alignment, clipping, AdamW; {torch.get_num_threads()} threads, CPU time of all; {rig.what}"
        figures += [of_rounds(f"joint step / two steps, {way}, batch {num} + {num}", spent[way] / two, bound, num_rounds, how) for way, bound in bounds.items()]
    return figures


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of what tensors are made within it, and their peak; what a kernel takes for itself is not seen."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        before = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage(), before)
        return found

    def _note(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        where, size = storage.data_ptr(), storage.nbytes()
        if where in self._known or where in before or not size:
            return
        self._known.add(where)
        weakref.finalize(storage, self._forget, where, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, where: int, size: int) -> None:
        self._known.discard(where)
        self.now -= size


def memory_figures(config: Config, data: ArrayDataset, *, batches: Sequence[int] = tuple(OF_TWO_STEPS), progress: Progress = silent) -> list[Figure]:
    """The peak of joint steps beside that of a step of generation alone, above weights and what optimizers keep; gradients count."""
    figures = []
    for num in batches:
        progress(f"memory of a step, batch {num} + {num}")
        rig = Rig(config, data)
        alone = _peak(rig, num, jobs=JOBS[1:])
        for way, bound in OF_GENERATION.items():
            peak = _peak(Rig(config, data), num, one_pass=way == "one pass")
            how = f"bytes of tensors; {peak / 2**20:.0f} MiB and {alone / 2**20:.0f} MiB; {rig.what}"
            figures.append(at_most(f"memory / generation alone, {way}, batch {num} + {num}", peak / alone, bound, "ratio", how))
    return figures


def _peak(rig: Rig, num: int, **options: Any) -> int:
    """Of a second gradient: with the buffers that the first one makes, and not with what that one alone needs."""
    fill = rig.gradient(num, **options)
    with PeakMemory() as memory:
        fill()
        memory.peak = memory.now
        fill()
    return memory.peak
