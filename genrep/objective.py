"""What is trained for: which losses, on what, with which weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from genrep.augmentation import Augmentation
from genrep.overrides import require_at_least_one, require_in, require_known
from genrep.posteriors import DenoisingGap, PosteriorEstimator
from genrep.posteriors.placebos import PLACEBOS
from genrep.registry import OneOf

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
