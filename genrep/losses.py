"""The two losses: what perception learns, and what generation learns, on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.backbones import Asking, Pass
from genrep.denoiser import draw_times, pool
from genrep.layers import wide
from genrep.lessons import Lessons, distillation
from genrep.model import GenRep
from genrep.objective import ObjectiveConfig
from genrep.parametrization import eps_error, reverse_kernel, u_error
from genrep.processes import total
from genrep.randomness import SampleGenerator
from genrep.schedules import expand
from genrep.tasks import Task, run_tasks
from genrep.types import Batch, Features


def perception_losses(
    model: GenRep,
    batch: Batch,
    *,
    config: ObjectiveConfig,
    generator: SampleGenerator,
    lessons: Lessons | None = None,
    glimpses: int = 0,
    only: str | None = None,
) -> Asking[dict[str, Tensor]]:
    """L_percept = L_task + L_distil on a clean or lightly noised pass that sees neither label nor semantics.

    Args:
        only: the one task whose part of it is wanted; None: all of them. The parts add up to the whole: what is drawn at random is the same.
        glimpses: images of `glimpse_loss` in the same step, in all processes; a task that learns from them, too, counts here with the share of these images.
    Returns:
        the unweighted terms by name, `task` and `distil`, and their sum `perception`; means over images, of several processes this one's part of them.
    Source: equation (5), and (4) for the distillation.
    Deviates: the pass is not conditioned on the label, which is unknown at test time; a share of the images is noised; all may be augmented.
    """
    located = lessons.located if lessons else None
    batch = config.augment(located.batch if located else batch, generator)
    annotated = batch.without(located.rows) if located else batch
    x0 = model.encode(batch.image)
    draw = generator.uniform(2).to(x0.dtype)
    t = torch.where(draw[:, 0] < config.noisy_fraction, draw[:, 1] * config.noisy_t_max, 0.0)
    xt = model.schedule.noised(x0, t, generator.normal(*x0.shape[1:]))
    features = model.scanned((yield Pass(xt, t, None)).features)
    terms: dict[str, Tensor] = {}
    task = distil = x0.new_zeros(())
    num = _num_of_all(batch)
    for name, head, output in _wanted(run_tasks(model.tasks(), features), only):
        losses = head.loss(output, annotated)
        weight = getattr(config, f"{name}_weight", 1.0)
        task = task + weight * _share(num, glimpses if head.glimpses else 0) * sum(losses.values())
        terms[name] = sum(losses.values(), x0.new_zeros(())).detach()
        if lessons:
            distil = distil + weight * distillation(head, output, batch, lessons)
    return {**terms, "task": task, "distil": config.distil_weight * distil, "perception": task + config.distil_weight * distil}


def glimpse_loss(model: GenRep, batch: Batch, *, config: ObjectiveConfig, beside: int = 0, only: str | None = None) -> Tensor:
    """What tasks that can (`Task.glimpses`) learn from clean images without the trunk's blocks, weighted as in L_task.

    Args:
        beside: images of `perception_losses` in the same step, in all processes. Of both together a task's loss is the mean over all images.
        only: the one task whose part of it is wanted; None: all of them.
    Returns:
        the share of these images in that; 0 where there is no such task, or nothing is annotated.
    Deviates: not in the paper; images are learnt from here at a small part of the cost of a pass.
    """
    glimpsing = ((name, head) for name, head in model.tasks() if head.glimpses)
    found = batch.image.new_zeros(())
    for name, head, output in _wanted(run_tasks(glimpsing, model.glimpse(model.encode(batch.image))), only):
        found = found + getattr(config, f"{name}_weight", 1.0) * sum(head.loss(output, batch).values())
    return _share(_num_of_all(batch), beside) * found


def _wanted(ran: Iterator[tuple[str, Task[Any, Any], Any]], only: str | None) -> Iterator[tuple[str, Task[Any, Any], Any]]:
    return ((name, head, output) for name, head, output in ran if only in (None, name))


def _num_of_all(batch: Batch) -> Tensor:
    """Images of the batch in all processes."""
    return total(batch.image.new_tensor(len(batch)))


def _share(num: Tensor, others: int) -> Tensor:
    """Of `num` images among all."""
    return num / (num + others)


def generation_losses(
    model: GenRep, teacher: GenRep, batch: Batch, *, config: ObjectiveConfig, generator: SampleGenerator, labeller: GenRep | None = None, num_all: int = 0
) -> Asking[dict[str, Tensor]]:
    """L_genera = L_denoise + weights * (L_rep_align, variational term) on `draws` noised versions of each image.

    Args:
        labeller: who says what images without annotations show, in the teacher's place.
        num_all: images of the step, of which these are some; 0: these.
    Returns:
        the terms `denoise` (mean squared error per dimension of u, or of eps where that is predicted), `alignment`, `variational`, and their weighted sum
        `generation`; means over draws and all images, these images' part of them.
    Source: equation (10); the modulation is that of (6)-(9), see `modulators.semantic`.
    """
    x0 = model.encode(batch.image)
    with torch.no_grad():
        taught = teacher.denoiser.clean_features(x0)
        y = conditions(teacher, batch, taught, config=config, labeller=labeller)
    num = config.draws
    x0, y = x0.repeat_interleave(num, 0), y.repeat_interleave(num, 0)
    draw = generator.uniform(3, num).transpose(1, 2).reshape(-1, 3).to(x0.dtype)
    t = draw_times(draw[:, 0].view(-1, num)).flatten()
    y = y * (draw[:, 1:2] >= config.null_fraction)
    xt = model.schedule.noised(x0, t, generator.normal(num, *x0.shape[1:]).flatten(0, 1))
    pooled = pool(taught)
    if torch.is_grad_enabled():  # what is only measured leaves no trace
        model.denoiser.modulator.observe(pooled)
    clean = model.denoiser.modulator.semantics(pooled).repeat_interleave(num, 0) * (draw[:, 2:] < config.sem_clean)
    noised = model.denoiser.noised((yield Pass(xt, t, model.denoiser.condition(y, clean))), xt, t)
    own = model.denoiser.modulator.semantics(noised.pooled)
    sem = torch.where((draw[:, 2:] >= config.sem_clean) & (draw[:, 2:] < config.sem_clean + config.sem_own), own, clean)
    denoised = model.denoiser.modulate(noised, xt, t, sem)
    error2 = (denoised.x0_hat - x0).square()
    error = eps_error if model.config.prediction == "eps" else u_error
    terms = {"denoise": error(error2, t, model.schedule).mean()}
    terms["variational"] = variational_term(model, error2.detach(), t, denoised.log_std_scale, num_steps=config.variational_steps).mean()
    terms["alignment"] = (
        representation_alignment(model, noised.features.taps[0], taught.taps[-1].repeat_interleave(num, 0)) if config.alignment_weight else x0.new_zeros(())
    )
    terms = {name: len(batch) / (num_all or len(batch)) * term for name, term in terms.items()}
    weighted = terms["denoise"] + config.alignment_weight * terms["alignment"] + config.variational_weight * terms["variational"]
    return {**terms, "generation": weighted}


def conditions(teacher: GenRep, batch: Batch, taught: Features, *, config: ObjectiveConfig, labeller: GenRep | None = None) -> Float[Tensor, "b k"]:
    """What generation is conditioned on: the annotated classes; where there are none, those that the labeller is sure to see, else null.

    Without a labeller the teacher is asked; where perception is not trained it knows nothing, and nobody is.

    Args:
        taught: the teacher's features of the clean images.
    """
    unknown = batch.unannotated
    if config.pseudo_confidence is None or not (labeller or "perception" in config.jobs) or not bool(unknown.any()):
        return batch.classes
    if labeller:
        seen = labeller.seen(labeller.clean_features(labeller.encode(batch.image[unknown])), config.pseudo_confidence)
    else:
        seen = teacher.seen(teacher.scanned(taught.rows(unknown)), config.pseudo_confidence)
    return batch.classes if seen is None else batch.classes.masked_scatter(unknown[:, None], seen.classes)


def variational_term(
    model: GenRep, error2: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], log_std_scale: Float[Tensor, " b"], *, num_steps: int
) -> Float[Tensor, " b"]:
    """KL(q(xs | xt, x0) || p(xs | xt)) in nats per dimension, with the mean held fixed: it trains only the spread.

        KL = l + (1 + of_x0^2 |x0 - x0_hat|^2 / var) / (2 e^(2 l)) - 1/2,   l = log_std_scale

    Source: Nichol and Dhariwal 2021, arXiv:2102.09672, equation (16) and section 3.1.
    """
    s = torch.maximum(t - 1 / num_steps, t / 2)
    kernel = reverse_kernel(model.schedule, t, s)
    miss = expand(kernel.of_x0**2 / kernel.var.clamp(min=1e-12), error2) * error2
    ratio = 1 + miss.mean((1, 2, 3)).clamp(max=100)
    return log_std_scale + ratio / (2 * torch.exp(2 * log_std_scale)) - 0.5


def representation_alignment(model: GenRep, early: Float[Tensor, "b d gh gw"], teacher_late: Float[Tensor, "b d gh gw"]) -> Float[Tensor, ""]:
    """L_rep_align = 1 - cos(projected early features of xt, teacher's late features of x0), mean over tokens and images.

    Deviates: the paper says "minimise the cosine similarity", which would push them apart.
    """
    target = teacher_late.flatten(2).transpose(1, 2)
    return 1 - torch.nn.functional.cosine_similarity(wide(model.project(early)), wide(target), dim=-1).mean()
