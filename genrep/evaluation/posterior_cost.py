"""What a posterior costs beside a plain loop, and a lesson beside a training step: ratios within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from genrep.config import Config
from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure
from genrep.model import GenRep
from genrep.objective import generation_losses, glimpse_loss, perception_losses
from genrep.posteriors import DenoisingGap
from genrep.posteriors.base import one_by_one
from genrep.posteriors.calibration import Calibration
from genrep.posteriors.gate import Gate
from genrep.randomness import SampleGenerator
from genrep.training.distillation import Teacher, Teaching
from genrep.training.lessons import give_lessons
from genrep.training.optimization import make_teacher

NUM_ROUNDS, NUM_IMAGES = 7, 8
SHARED, ADDED = 0.15, 0.15
"""What one posterior may cost of the plain loop's time, and lessons of a step's."""


def cost_figures(config: Config, data: ArrayDataset, *, num_rounds: int = NUM_ROUNDS, progress: Callable[[str], None] = lambda line: None) -> list[Figure]:
    """Time of a posterior and of a lesson; weights do not matter and are random.

    Args:
        config: whose trunk and steps are measured.
        data: images of one class each.
    """
    progress("cost of a posterior and of lessons")
    config = replace(config, model=replace(config.model, class_names=data.class_names))
    return [_of_posterior(config, data, num_rounds), _of_lessons(config, data, num_rounds)]


def _of_posterior(config: Config, data: ArrayDataset, num_rounds: int) -> Figure:
    """All candidates of a few draws at once, bfloat16, class in the last block; against every candidate and draw through the network alone, float32."""
    trunk = replace(config.model.trunk, class_blocks=1)
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

    ratio = _ratio({"ours": ours, "plain": plain}, num_rounds)["ours", "plain"]
    what = f"{NUM_IMAGES} images, {candidates.shape[1]} classes, 4 evaluations; class in the last of {trunk.depth} blocks"
    how = f"{what}; medians of {num_rounds} rounds in turn, CPU time"
    return _at_most("one posterior / one evaluation at a time", ratio, SHARED, num_rounds, how)


def _of_lessons(config: Config, data: ArrayDataset, num_rounds: int) -> Figure:
    """A lesson, shared among the steps until the next one, beside what a joint step computes: losses and gradients."""
    objective, train = config.objective, config.train
    model = GenRep(config.model)
    teacher = Teacher(make_teacher(model), objective, seed=0, bf16=True)
    flat = Calibration(tau=1.0, bias=(0.0,) * len(data.class_names))
    teacher.teaching = Teaching(calibration=flat, image_gate=Gate(weight=1.0, standard_error=0.1))
    positions = torch.arange(train.batch_size)
    batch, more = data.batch(positions), data.batch(torch.arange(max(1, train.glimpses)))

    def lesson() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            give_lessons(teacher, batch, positions)

    def step() -> None:
        generator = SampleGenerator(0, positions, "cost")
        with torch.autocast("cpu", torch.bfloat16):
            losses = [perception_losses(model, batch, config=objective, generator=generator)["perception"]]
            losses.append(generation_losses(model, teacher.model, batch, config=objective, generator=generator)["generation"])
            losses += [glimpse_loss(model, more, config=objective)] if train.glimpses else []
        sum(losses, torch.zeros(())).backward()
        model.zero_grad()

    ratio = _ratio({"lesson": lesson, "step": step}, num_rounds)["lesson", "step"] / objective.distil_every
    taught = min(objective.distil_images, train.batch_size) / train.batch_size / objective.distil_every
    share = f"one in {objective.distil_every} has a lesson, so that {taught:.0%} of the images are taught"
    how = f"of a joint step, on average; {share}; medians of {num_rounds} rounds in turn, CPU time"
    return _at_most(f"lessons / step, recipe {config.name}", ratio, ADDED, num_rounds, how)


def _ratio(work: Mapping[str, Callable[[], None]], num_rounds: int) -> dict[tuple[str, str], float]:
    """Ratios of the median process CPU times, measured in turn after one round that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(num_rounds + 1):
        for name, run in work.items():
            began = time.process_time()
            run()
            spent[name].append(time.process_time() - began)
    median = {name: statistics.median(times[1:]) for name, times in spent.items()}
    return {(a, b): median[a] / median[b] for a in work for b in work if a != b}


def _at_most(name: str, value: float, target: float, num_rounds: int, how: str) -> Figure:
    enough = num_rounds >= NUM_ROUNDS
    met = value <= target if enough else None
    how = how if enough else f"{how}; too few to judge a target by"
    return Figure(name=name, value=value, interval=None, unit="ratio", target=target, at_most=True, met=met, how=how)
