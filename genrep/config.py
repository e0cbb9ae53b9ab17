"""Everything a run depends on, as frozen dataclasses; recipes are functions that return a `Config`.

A part without weights is its own config (`Ancestral(num_steps=20)`); a part with weights has an `XxxConfig` beside it.
Reading, writing and overriding by dotted name is in `genrep.overrides`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from genrep.aligners import Aligner, GenRepRule
from genrep.model_config import ModelConfig
from genrep.objective import JOBS, ObjectiveConfig
from genrep.overrides import require_at_least_one, require_in, require_known
from genrep.registry import OneOf, lookup
from genrep.samplers import Ancestral, Sampler


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how many of them carry labels."""

    sets: tuple[str, ...] = ("fashion", "fashion-scenes")
    """Embedded sets by name, or folders of your own (pictures in class folders, with COCO json, with masks, ...). Equal shares of the images come
    from each; one that is named twice has two shares."""
    root: str | None = None
    """Folder with the raw files; None: cache, installed package, then (where asked) the network."""
    num_train: int | None = None
    """The first so many training images of each set, or all of one that has fewer; None: as many as a set comes with. Scenes (`fashion-scenes`) come 60,000 at
    a time and are composed in any number: more of them, seen less often each, are not learnt by heart."""
    labelled_fraction: float = 1.0
    """Share of the training images whose labels training may see, in (0, 1]. Below 1, these alone are seen in stage 1 and fill half of stage 2,
    or all of it where the others teach nothing."""
    strict: bool = False
    """Stop at the first thing wrong with a folder; otherwise what cannot be used is named and left out."""


AT_LEAST_ONE = {
    "micro_batches": "1 computes all images of a step at once.",
    "validations": "`best_by none` looks at no validation images.",
    "validation_images": "`best_by none` looks at no validation images.",
    "log_every": "1 writes a row for every step.",
    "keep_checkpoints": "Without one a stopped run could not go on.",
    "side_by_side": "1 computes one graph after the other.",
    "stage1_batch_size": "`stage1_images` 0 leaves stage 1 out.",
    "batch_size": "`micro_batches` computes the images of a step in parts.",
}
"""Fields of `TrainConfig` that must be, and what to do instead of a smaller number."""

RANGES = {
    "stage1_images": "[0, inf)",
    "stage2_images": "[0, inf)",
    "lr": "(0, inf)",
    "final_lr_fraction": "[0, 1]",
    "warmup_fraction": "[0, 1]",
    "perception_weight": "[0, inf)",
    "generation_weight": "[0, inf)",
    "clip_norm": "(0, inf)",
    "ema_momentum": "[0, 1)",
}
"""Where other fields of it must lie."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The two stages, counted in clean images so that a run is the same on any machine."""

    seed: int = 0
    """Of all that is random: weights, order of the images, noise."""
    init: str | None = None
    """Folder of a finished model to begin from, of these or of other classes; None: from scratch. `genrep train --init` sets it, and `model` with it."""
    only: tuple[str, ...] = ()
    """Tasks whose heads alone learn, of a finished model (`init`) that is to be taught a further task, or one of its own better: all else stays as it is, to
    the bit, but for what is fitted on validation images at the end. Perception's job alone; none named: everything learns."""
    stage1_images: int = 23_040
    """Clean images of stage 1: perception alone (L_task), so that semantics exist before they modulate."""
    stage2_images: int = 24_000
    """Clean images of stage 2: perception and generation jointly."""
    stage1_batch_size: int = 64
    """Clean images of a step of stage 1."""
    batch_size: int = 32
    """Clean images of a joint step."""
    stage1_glimpses: int = 0
    """Further images per step of stage 1, of which detection and segmentation learn from the stem alone, without the trunk's blocks: a small part of the
    cost; 0: none. A set with several objects per image gives so many times more of them."""
    glimpses: int = 0
    """The same for a joint step."""
    side_by_side: int = 2
    """Graphs that compute at once, in threads of a CPU: the losses of a step, and the glimpses."""
    micro_batches: int = 1
    """Parts in which the images of a step are computed, one after the other, to need less memory. Each loss's gradient is added up over them before it is
    aligned, so the numbers are the same up to rounding; graphs take turns, and perception's passes are made once more, without gradients, to count."""
    sharded: bool = False
    """Of several processes, each keeps the optimizers' state of, and updates, a part of the weights that both losses are aligned in, not all of them all."""
    one_pass: bool = False
    """Both losses take one pass through the trunk together, forth and back: less time where a machine is not full with one of them, but the memory of both.
    The numbers are the same up to rounding."""
    lr: float = 1.5e-3
    """Peak learning rate; linear warm-up, then cosine to `final_lr_fraction` of it over each stage."""
    final_lr_fraction: float = 0.02
    """Learning rate at the end of a stage, as a share of its peak."""
    warmup_fraction: float = 0.05
    """Share of a stage's steps in which the learning rate rises from 0."""
    weight_decay: float = 0.02
    """Of AdamW, at weights with more than one dimension; per step, times the learning rate."""
    muon: bool = True
    """Muon for the matrices of the trunk's blocks and of what conditions and reads them, AdamW for all else; otherwise AdamW for all."""
    muon_decay: float = 0.1
    """Weight decay of these matrices: an orthogonal step does not become smaller as they grow."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Of AdamW: how much its means of the gradients and of their squares keep in a step."""
    perception_weight: float = 0.7
    """w_p, the weight of perception's gradient once both are aligned."""
    generation_weight: float = 0.3
    """w_g, of generation's."""
    aligned_set: Annotated[str, OneOf(("trunk", "blocks", "attention"), "aligned set")] = "trunk"
    """Which of the parameters that both losses reach are aligned: all of the trunk, its blocks, or the attention in them."""
    by_task: bool = False
    """Align perception's gradients task by task, each a loss of its own with `perception_weight` beside generation's, and among themselves in stage 1;
    otherwise their sum. Every task takes a pass of the trunk."""
    guard: bool = False
    """Where the aligned direction would raise one of the losses, to first order: take UPGrad's, which raises none."""
    probe_every: int = 0
    """Steps between rows of metrics.csv that also say how each loss changed on the step's own images, and how its gradient said it would; a multiple of
    `log_every`, and four more passes forth; 0: never."""
    clip_norm: float = 1.0
    """Largest norm of the whole aligned gradient."""
    ema_momentum: float = 0.999
    """Largest momentum of the teacher; after n updates min(this, (1 + n) / (10 + n))."""
    bf16: bool | None = None
    """Autocast to bfloat16 in training; None: where the device is faster in it, decided when a run begins and kept in its config.json."""
    best_by: Literal["mean", "classification", "multilabel", "detection", "segmentation", "depth"] | None = None
    """The model that is best on validation images is kept, too, as `model_best`: by the figure of this task (top-1, mAP, AP, mIoU, depth within 25 % or in
    order), or by their mean; none: the last alone. A folder of your own, and `--init`, have the mean."""
    validations: int = 10
    """How often stage 2 looks at validation images for that, evenly and at its end."""
    validation_images: int = 500
    """Validation images of each set, the first ones, for that."""
    checkpoint_every_s: float = 120.0
    """Wall-clock seconds between checkpoints (they do not change the run)."""
    keep_checkpoints: int = 2
    """The newest so many."""
    log_every: int = 10
    """Steps between rows of metrics.csv."""

    def __post_init__(self) -> None:
        require_known(self)
        require_at_least_one(self, AT_LEAST_ONE)
        require_in(self, RANGES)
        if self.probe_every < 0 or self.probe_every % self.log_every:
            raise ValueError(f"`probe_every` must be a multiple of `log_every` = {self.log_every}, or 0; found {self.probe_every}.")
        for name in ("stage1_glimpses", "glimpses"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0; found {getattr(self, name)}. 0 switches glimpses off.")

    def weights(self, losses: Sequence[str]) -> dict[str, float]:
        """w of the losses that are aligned with each other (`Config.losses`); 1 where they are of one job."""
        jobs = ["generation" if loss == "generation" else "perception" for loss in losses]
        given = {"perception": self.perception_weight, "generation": self.generation_weight}
        return {loss: given[job] if len(set(jobs)) > 1 else 1.0 for loss, job in zip(losses, jobs, strict=True)}


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What is measured on test after training, and with how many images."""

    num_test: int = 2_000
    """Test images per set."""
    num_samples: int = 1_000
    """Class-conditional samples, equal shares of the classes; 0: none are judged, a few are drawn."""
    num_scene_samples: int = 0
    """Samples with the objects of test scenes, where images hold several classes; 0: none."""
    sampler: Sampler = field(default_factory=lambda: Ancestral(num_steps=25))
    """How samples are made from noise."""
    guidance: float | None = None
    """Guidance scale; None: fixed on validation data among `guidance_grid`."""
    guidance_grid: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    """Scales that are tried: of those that keep recall the least whose samples are recognised as often as real images is taken, or the one whose are most
    often; 1, no guidance, always is tried."""
    guidance_interval: tuple[float, float] = (0.3, 0.7)
    """Noise times between which guidance acts."""
    num_guidance_samples: int = 300
    """Samples made at each scale for that."""
    num_posterior: int = 500
    """Test images of which the generative side is asked, too, beside the head and together with it, where the model knows what either weighs; 0: none."""
    num_robust: int = 300
    """Test images per set that are seen again under noise and corruptions; 0: none."""
    num_likelihood: int = 200
    """Test images per set whose likelihood is measured, where generation was trained; 0: none."""
    imagenet: bool = False
    """Distances of samples in ImageNet's features, too; needs `pip install 'genrep[imagenet]'` and minutes on a CPU."""
    batch_size: int = 250
    """Test images that are seen at once."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run."""

    name: str = "fashion"
    """Recipe this began as."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    aligner: Aligner = GenRepRule(balance=True)
    """The paper's rule on gradients of one length: as it is written the longer one drowns the other (suite `aligners`)."""
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    def __post_init__(self) -> None:
        self._check_only()
        losses = self.losses(JOBS)
        if isinstance(self.aligner, GenRepRule) and (self.aligner.only or 0) >= len(losses):
            known = ", ".join(f"{i} ({loss})" for i, loss in enumerate(losses))
            raise ValueError(f"`aligner.only` must be one of {known}, or none; found {self.aligner.only}.")

    def _check_only(self) -> None:
        train = self.train
        if not train.only:
            return
        for name in train.only:
            lookup(dict.fromkeys(self.model.tasks), name, "task of the model")
        if self.objective.jobs != ("perception",):
            raise ValueError(f"`train.only` {', '.join(train.only)} leaves generation as it is: set `objective.jobs` perception.")
        if not train.init:
            raise ValueError("`train.only` leaves the trunk as it is, so there must be a finished one: name it by `genrep train --init`.")
        if train.by_task:
            raise ValueError("`train.by_task` aligns tasks with each other, of which `train.only` leaves some out: set one of them.")

    def losses(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """What is aligned where these jobs are trained, in the order of the Gramian: the loss of each, or perception's task by task."""
        of_perception = self.model.tasks if self.train.by_task else ("perception",)
        return tuple(loss for job in jobs for loss in (of_perception if job == "perception" else (job,)))

    @property
    def steps(self) -> tuple[int, int]:
        """Of either stage; stage 1 is perception's."""
        first = self.train.stage1_images // self.train.stage1_batch_size if "perception" in self.objective.jobs else 0
        return first, self.train.stage2_images // self.train.batch_size
