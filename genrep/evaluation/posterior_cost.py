"""What a posterior costs beside a plain loop, and a lesson beside a training step: ratios within one run."""

from __future__ import annotations

from dataclasses import replace

import torch

from genrep.backbones import DiTConfig
from genrep.config import Config
from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure
from genrep.evaluation.timing import ENOUGH_ROUNDS, Progress, cpu_seconds, of_rounds, silent
from genrep.losses import generation_losses, glimpse_loss, perception_losses
from genrep.model import GenRep
from genrep.posteriors import DenoisingGap
from genrep.posteriors.base import one_by_one
from genrep.posteriors.calibration import Calibration
from genrep.posteriors.gate import Gate
from genrep.randomness import SampleGenerator
from genrep.training.distillation import Teacher, Teaching
from genrep.training.lessons import give_lessons
from genrep.training.optimization import make_teacher
from genrep.training.runtime import computes_in_bf16

NUM_IMAGES = 8
SHARED, ALL_AT_ONCE, ADDED = 0.15, 0.10, 0.15
"""What one posterior may cost of the plain loop's time, with the class in the last block, and with all classes in one pass, and lessons of a step's."""
RANK = 16
"""Maps that classes mix, for that."""


def cost_figures(config: Config, data: ArrayDataset, *, num_rounds: int = ENOUGH_ROUNDS, progress: Progress = silent) -> list[Figure]:
    """Time of a posterior and of a lesson; weights do not matter and are random.

    Args:
        config: whose trunk and steps are measured.
        data: images of one class each.
    """
    progress("cost of a posterior and of lessons")
    config = replace(config, model=replace(config.model, class_names=data.class_names))
    trunk = config.model.trunk
    assert isinstance(trunk, DiTConfig), "only this one can be told the class late"
    depth, late = trunk.depth, replace(trunk, class_blocks=1, class_rank=0)
    posteriors = [
        _of_posterior(config, data, num_rounds, late, SHARED, f"class in the last of {depth} blocks"),
        _of_posterior(config, data, num_rounds, replace(late, class_blocks=0, class_rank=RANK), ALL_AT_ONCE, f"classes mix {RANK} maps after {depth} blocks"),
    ]
    return [*posteriors, _of_lessons(config, data, num_rounds)]


def _of_posterior(config: Config, data: ArrayDataset, num_rounds: int, trunk: DiTConfig, target: float, what: str) -> Figure:
    """All candidates of a few draws at once, bfloat16, the class late; against every candidate and draw through the network alone, float32."""
    model = GenRep(replace(config.model, trunk=trunk)).eval()
    x0 = model.encode(data.batch(torch.arange(NUM_IMAGES)).image)
    candidates = torch.eye(len(data.class_names)).expand(NUM_IMAGES, -1, -1)
    estimator = DenoisingGap(budget=4)

    def ours() -> None:
        with torch.no_grad(), torch.autocast(x0.device.type, torch.bfloat16):
            estimator(model.denoiser.candidates, x0, candidates, schedule=model.schedule, generator=SampleGenerator(0, torch.arange(NUM_IMAGES), "cost"))

    def plain() -> None:
        alone = one_by_one(model.denoise)
        with torch.no_grad():
            for i in range(NUM_IMAGES):
                for k in range(candidates.shape[1]):
                    for _ in range(estimator.budget):
                        alone(x0[i : i + 1], torch.full((1,), 0.5), candidates[i : i + 1, k : k + 1])

    spent = cpu_seconds({"ours": ours, "plain": plain}, num_rounds)
    how = f"{NUM_IMAGES} images, {candidates.shape[1]} classes, 4 evaluations"
    return of_rounds(f"one posterior / one evaluation at a time, {what}", spent["ours"] / spent["plain"], target, num_rounds, how)


def _of_lessons(config: Config, data: ArrayDataset, num_rounds: int) -> Figure:
    """A lesson, shared among the steps until the next one, beside what a joint step computes: losses and gradients."""
    objective, train = config.objective, config.train
    model = GenRep(config.model)
    bf16 = computes_in_bf16(model.device)
    teacher = Teacher(make_teacher(model), objective, seed=0, bf16=bf16)
    flat = Calibration(tau=1.0, bias=(0.0,) * len(data.class_names))
    teacher.teaching = Teaching(calibration=flat, image_gate=Gate(weight=1.0, standard_error=0.1))
    positions = torch.arange(train.batch_size)
    batch, more = data.batch(positions), data.batch(torch.arange(max(1, train.glimpses)))

    def lesson() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            give_lessons(teacher, batch, positions)

    def step() -> None:
        generator = SampleGenerator(0, positions, "cost")
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = [model.answer(perception_losses(model, batch, config=objective, generator=generator))["perception"]]
            losses.append(model.answer(generation_losses(model, teacher.model, batch, config=objective, generator=generator))["generation"])
            losses += [glimpse_loss(model, more, config=objective)] if train.glimpses else []
        sum(losses, torch.zeros(())).backward()
        model.zero_grad()

    spent = cpu_seconds({"lesson": lesson, "step": step}, num_rounds)
    taught = min(objective.distil_images, train.batch_size) / train.batch_size / objective.distil_every
    share = f"{'bfloat16' if bf16 else 'float32'}; one in {objective.distil_every} has a lesson, so that {taught:.0%} of the images are taught"
    ratio = spent["lesson"] / spent["step"] / objective.distil_every
    return of_rounds(f"lessons / step, recipe {config.name}", ratio, ADDED, num_rounds, f"of a joint step, on average; {share}")
