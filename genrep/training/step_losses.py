"""The losses of one step: each by itself, or all with one pass of the trunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from genrep.backbones import Asking, answer
from genrep.config import Config
from genrep.lessons import Lessons
from genrep.losses import generation_losses, glimpse_loss, perception_losses
from genrep.model import GenRep
from genrep.randomness import SampleGenerator
from genrep.tasks import TASKS
from genrep.training.distillation import Teacher
from genrep.types import Batch

Terms = Mapping[str, Tensor]
"""Losses by name, and what they are made of."""


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """Without torch's cache of casts, which threads would share: who fills it first would show in the last digits."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)


def require_finite(terms: Mapping[str, Tensor], step: int) -> None:
    """Stop before a non-finite loss reaches the weights.

    Raises:
        FloatingPointError: names the term and the step.
    """
    for name, value in terms.items():
        if not bool(torch.isfinite(value)):
            raise FloatingPointError(
                f"loss term `{name}` is {float(value.detach())} at step {step}; the weights are untouched. Lower `train.lr`, or set `train.bf16 false`."
            )


@dataclass(frozen=True)
class Drawn:
    """Images of a step, and the positions in their stream that their random numbers depend on."""

    batch: Batch
    positions: Tensor

    def rows(self, rows: slice) -> Drawn:
        """Some of them."""
        return Drawn(self.batch.rows(rows), self.positions[rows])


@dataclass
class StepLosses:
    """Losses on the images that a step drew.

    Args:
        jobs: which losses: `perception` or some of its tasks, `generation`.
        teach: what generation teaches of these images; asked whenever perception's loss is, in stage 2.
        num_all: images of the step, of which these are some.
        seen: images to be glimpsed beside these.
        num_glimpses: images that are glimpsed in the step.
    """

    jobs: Sequence[str]
    teacher: Teacher
    config: Config
    drawn: Drawn
    teach: Callable[[], Lessons | None]
    stage: int
    step: int
    num_all: int
    seen: Drawn | None = None
    num_glimpses: int = 0
    found: dict[str, Terms] = field(default_factory=dict)
    """All that has been computed, by what computed it."""

    def __post_init__(self) -> None:
        self.bf16 = bool(self.config.train.bf16)

    @property
    def glimpsing(self) -> tuple[str, ...]:
        """Losses that have a part on glimpsed images."""
        return tuple(job for job in self.jobs if self.seen and (job == "perception" or (job in TASKS and TASKS[job].glimpses)))

    @property
    def terms(self) -> Terms:
        """All that has been computed, for the record; what several losses have a part of is added up."""
        merged: dict[str, Tensor] = {}
        for name, value in ((name, value) for terms in self.found.values() for name, value in terms.items()):
            merged[name] = merged[name] + value if name in merged else value
        return merged

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Without gradients, half precision and record."""
        found = dict(self.found)
        self.bf16 = False
        try:
            with torch.no_grad():
                yield
        finally:
            self.bf16, self.found = bool(self.config.train.bf16), found

    def separate(self) -> dict[str, Callable[[GenRep], Tensor]]:
        """Each loss with a pass of its own."""
        return {job: partial(self.one, job) for job in self.jobs}

    def one(self, job: str, model: GenRep) -> Tensor:
        """One loss, with its own pass of the trunk."""
        with autocast(model.device, self.bf16):
            found = model.answer(self._asking(job, model))
        return self._kept(job, found)

    def all(self, models: Sequence[GenRep]) -> list[Tensor]:
        """All losses, with one pass of the trunk, each of its own twin."""
        with autocast(models[0].device, self.bf16):
            found = answer([model.denoiser.trunk for model in models], [self._asking(job, model) for job, model in zip(self.jobs, models, strict=True)])
        return [self._kept(job, terms) for job, terms in zip(self.jobs, found, strict=True)]

    def glimpsed(self, job: str, model: GenRep) -> Tensor:
        """The part of perception's loss, or of a task's, that needs none; see `glimpse_loss`."""
        assert self.seen is not None
        with autocast(model.device, self.bf16):
            found = glimpse_loss(model, self.seen.batch, config=self.config.objective, beside=self.num_all, only=_task(job))
        return self._kept(f"{job}, glimpsed", {"glimpses": found})

    def _asking(self, job: str, model: GenRep) -> Asking[dict[str, Tensor]]:
        batch, objective = self.drawn.batch, self.config.objective
        stream = "perception" if _task(job) else job
        generator = SampleGenerator(self.config.train.seed, self.drawn.positions, f"stage{self.stage}/{stream}")
        if job == "generation":
            teacher, labeller = self.teacher.model, self.teacher.labeller
            return generation_losses(model, teacher, batch, config=objective, generator=generator, labeller=labeller, num_all=self.num_all)
        lessons, glimpses = self.lessons(), self.num_glimpses
        return perception_losses(model, batch, config=objective, generator=generator, lessons=lessons, glimpses=glimpses, only=_task(job))

    def lessons(self) -> Lessons | None:
        """What perception is taught."""
        return self.teach() if self.stage == 2 else None

    def _kept(self, what: str, found: Terms) -> Tensor:
        """The last of the terms, which is the loss that they add up to."""
        require_finite(found, self.step)
        self.found[what] = {name: value.detach() for name, value in found.items()}
        return list(found.values())[-1]


def _task(job: str) -> str | None:
    """The one task that a loss is of."""
    return job if job in TASKS else None
