"""The two losses: what perception learns, and what generation learns, on the same images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.augmentation import Augmentation
from genrep.backbones import Asking, Pass
from genrep.denoiser import draw_times, pool
from genrep.layers import wide
from genrep.lessons import Lessons, distillation
from genrep.model import GenRep
from genrep.overrides import require_at_least_one, require_in, require_known
from genrep.parametrization import reverse_kernel, u_error
from genrep.posteriors import DenoisingGap, PosteriorEstimator
from genrep.posteriors.placebos import PLACEBOS
from genrep.processes import total
from genrep.randomness import SampleGenerator
from genrep.registry import OneOf
from genrep.schedules import expand
from genrep.tasks import run_tasks
from genrep.types import Batch, Features

JOBS = ("perception", "generation")
"""The two losses of a joint step, in the order of the Gramian."""

LESSONS = ("posterior", *PLACEBOS, "tempered")


AT_LEAST_ONE = {
    "draws": "Without generation among `jobs` none is made.",
    "variational_steps": "`variational_weight` 0 leaves that term out.",
    "distil_every": "`distil_images` 0 gives no lessons.",
    "prior_images": "`prior_steps` 0 leaves p(sem | classes) unlearnt.",
}
"""Fields of `ObjectiveConfig` that must be, and what to do instead of a smaller number."""
RANGES = {"gate_at": "[0, 1)", "prior_steps": "[0, inf)"}


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Which losses, on what, with which weights.

    Args:
        classification_weight, multilabel_weight, detection_weight, segmentation_weight, depth_weight: of the task's loss in L_task, >= 0.
    """

    jobs: Annotated[tuple[str, ...], OneOf(JOBS, "job")] = JOBS
    """What stage 2 trains; one of them alone is the control arm."""
    draws: int = 3
    """Noised draws per clean image: cheap variance reduction for the generation loss."""
    noisy_fraction: float = 0.25
    """Share of perception's images that are lightly noised, up to `noisy_t_max`, so that the heads know noise."""
    noisy_t_max: float = 0.15
    """Largest noise time of these, 0 (clean) to 1 (noise)."""
    augment: Augmentation = Augmentation()
    classification_weight: float = 1.0
    multilabel_weight: float = 1.0
    detection_weight: float = 1.0
    segmentation_weight: float = 1.0
    depth_weight: float = 1.0
    null_fraction: float = 0.1
    """Share of noised draws whose condition is dropped."""
    sem_clean: float = 0.8
    """Share of noised draws that see the clean image's semantics from the teacher."""
    sem_own: float = 0.1
    """Share that see their own, read off the same pass; the rest see none."""
    alignment_weight: float = 0.5
    """Weight of L_rep_align in generation's loss; 0: none."""
    variational_weight: float = 0.01
    """Weight of the variational-bound term that trains the modulator's standard deviation."""
    variational_steps: int = 50
    """Steps of the chain whose reverse kernels that term fits."""
    posterior: PosteriorEstimator | None = field(default_factory=DenoisingGap)
    """What is distilled into perception; None: nothing."""
    prior_images: int = 30_000
    """Images of the training stream, at most, whose semantics the modulator's p(sem | classes) learns from, where it has one, at the end of training."""
    prior_steps: int = 6_000
    """Updates of the modulator's p(sem | classes), where it has one, at the end of training; 0: it learns nothing, and samples go by their own."""
    pilot_images: int = 64
    """Validation images of the pilot run that finds, with every calibration, where a denoising gap should draw and how much each noise level counts,
    unless it says so itself; 0: evenly, all alike."""
    pseudo_confidence: float | None = 0.9
    """Where an image is not annotated, generation is conditioned on the classes that the teacher sees in it, if it is so sure of each; None: on none."""
    labeller: str | None = None
    """Folder of a finished model that is asked in the teacher's place, with generation alone, too; None: the teacher, where perception is trained."""
    lesson: Annotated[str, OneOf(LESSONS, "lesson")] = "posterior"
    """What teaches perception where the gate is open: `posterior`, together with what the head knows itself (`posteriors/gate.py`); a placebo of it, to tell
    whether knowledge or smoothing helps: of equal entropy, `smoothed`, or with the posterior `shuffled` (`posteriors/placebos.py`), or `tempered`, the
    head alone, as sure as it should be."""
    self_training: bool = False
    """In every step of stage 2 unannotated images teach perception the classes that the teacher's own heads are sure of (`pseudo_confidence`), of images and
    of the objects that they find, gate or no gate. Lessons are then for unannotated images that it is unsure of."""
    distil_weight: float = 1.0
    """Weight of what lessons teach in perception's loss, beside L_task; 0: none."""
    distil_every: int = 8
    """Steps between lessons."""
    distil_images: int = 16
    """Images taught in such a step."""
    distil_shortlist: int = 0
    """How many of the head's favourite classes a lesson asks the posterior about, for images of one object; the rest keep what the head gives them. 0: all."""
    distil_random: int = 0
    """How many of the other classes, drawn anew for every image, it is asked about besides, each of which stands for as many of those that are not."""
    distil_visits: int = 5
    """How often the posterior that a lesson found of an image teaches again when the image comes back, at no cost; 0: never."""
    distil_candidates: int = 3
    """Candidates per object where there are several objects: the detection head's favourites."""
    gate_at: tuple[float, ...] = (0.4, 0.7)
    """When, as a share of stage 2, calibration and gate are fitted on validation labels."""
    gate_images: int = 256
    """Validation images of each set for that."""

    def __post_init__(self) -> None:
        self._check_lessons()
        if not self.jobs or not set(self.jobs) <= set(JOBS):
            raise ValueError(f"`jobs` must be one or both of {', '.join(JOBS)}; found {self.jobs}.")
        if self.pseudo_confidence is not None and not 0 < self.pseudo_confidence < 1:
            raise ValueError(f"`pseudo_confidence` must lie between 0 and 1; found {self.pseudo_confidence}. `none` switches pseudo-conditions off.")
        require_known(self)
        require_at_least_one(self, AT_LEAST_ONE)
        require_in(self, RANGES | {name: "[0, inf)" for name in vars(self) if name.endswith("_weight")})
        if self.labeller and (self.pseudo_confidence is None or "generation" not in self.jobs):
            raise ValueError("`labeller` says what generation is conditioned on: it needs generation among `jobs`, and a `pseudo_confidence`.")
        if not 0 <= self.sem_clean + self.sem_own <= 1:
            raise ValueError(f"`sem_clean` + `sem_own` must lie in [0, 1]; found {self.sem_clean + self.sem_own}.")

    def _check_lessons(self) -> None:
        if not 0 <= self.distil_visits < 256:
            raise ValueError(f"`distil_visits` must lie in 0..255; found {self.distil_visits}. 0 makes every lesson serve once.")
        if self.self_training and self.pseudo_confidence is None:
            raise ValueError("`self_training` needs to know how sure is sure: set `pseudo_confidence`, for example to .9.")
        if self.distil_shortlist < 0 or self.distil_shortlist == 1:
            raise ValueError(f"`distil_shortlist` must be 0, for all classes, or at least 2; found {self.distil_shortlist}.")
        if self.distil_random < 0 or (self.distil_random and not self.distil_shortlist):
            raise ValueError(f"`distil_random` must be at least 0, and is beside a `distil_shortlist`; found {self.distil_random} and {self.distil_shortlist}.")

    @property
    def in_order(self) -> tuple[str, ...]:
        """The jobs in the order of `JOBS`."""
        return tuple(job for job in JOBS if job in self.jobs)

    @property
    def learns_from_unannotated(self) -> bool:
        """Whether images without annotations teach anything in stage 2: generation, or perception by lessons."""
        return "generation" in self.jobs or self.self_training or self.posterior is not None

    def lesson_size(self, step: int) -> int:
        """Images that may be taught something new in a step."""
        return 0 if step % self.distil_every else self.distil_images


def perception_losses(
    model: GenRep, batch: Batch, *, config: ObjectiveConfig, generator: SampleGenerator, lessons: Lessons | None = None, glimpses: int = 0
) -> Asking[dict[str, Tensor]]:
    """L_percept = L_task + L_distil on a clean or lightly noised pass that sees neither label nor semantics.

    Args:
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
    for name, head, output in run_tasks(model.tasks(), features):
        losses = head.loss(output, annotated)
        weight = getattr(config, f"{name}_weight", 1.0)
        task = task + weight * _share(num, glimpses if head.glimpses else 0) * sum(losses.values())
        terms[name] = sum(losses.values(), x0.new_zeros(())).detach()
        if lessons:
            distil = distil + weight * distillation(head, output, batch, lessons)
    return {**terms, "task": task, "distil": config.distil_weight * distil, "perception": task + config.distil_weight * distil}


def glimpse_loss(model: GenRep, batch: Batch, *, config: ObjectiveConfig, beside: int = 0) -> Tensor:
    """What tasks that can (`Task.glimpses`) learn from clean images without the trunk's blocks, weighted as in L_task.

    Args:
        beside: images of `perception_losses` in the same step, in all processes. Of both together a task's loss is the mean over all images.
    Returns:
        the share of these images in that; 0 where there is no such task, or nothing is annotated.
    Deviates: not in the paper; images are learnt from here at a small part of the cost of a pass.
    """
    glimpsing = ((name, head) for name, head in model.tasks() if head.glimpses)
    found = batch.image.new_zeros(())
    for name, head, output in run_tasks(glimpsing, model.glimpse(model.encode(batch.image))):
        found = found + getattr(config, f"{name}_weight", 1.0) * sum(head.loss(output, batch).values())
    return _share(_num_of_all(batch), beside) * found


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
        the terms `denoise` (mean squared error of u per dimension), `alignment`, `variational`, and their weighted sum
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
    terms = {"denoise": u_error(error2, t, model.schedule).mean()}
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
