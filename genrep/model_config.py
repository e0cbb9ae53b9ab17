"""What the weights are: everything that must be known to build a model and read its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch

from genrep.backbones import DiTConfig, TrunkConfig
from genrep.codecs import CODECS, WEIGHTED
from genrep.modulators import MODULATORS
from genrep.overrides import require_known
from genrep.parametrization import PREDICTIONS
from genrep.registry import OneOf
from genrep.schedules import RectifiedFlow, Schedule
from genrep.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the weights are."""

    class_names: tuple[str, ...] = ()
    """Filled from the data where empty."""
    image_size: tuple[int, int] = (32, 32)
    """(height, width) in pixels."""
    codec: Annotated[str, OneOf(CODECS, "codec")] = "grey"
    """The space that images are noised and made in: one channel of grey, the pixels' three, or an autoencoder's latents."""
    autoencoder: str | None = None
    """Of the codec `autoencoder`: folder of a frozen AutoencoderKL, as diffusers saves it and Stable Diffusion has one; a model's folder has a copy."""
    trunk: TrunkConfig = DiTConfig()
    """The network that both jobs share: this project's, or the one that published weights are of (plain_dit)."""
    schedule: Schedule = field(default_factory=RectifiedFlow)
    """How noise grows from t = 0, the image, to t = 1, nothing but noise: along straight lines, or with constant variance; or as in published weights."""
    prediction: Annotated[str, OneOf(PREDICTIONS, "prediction")] = "u"
    """What the trunk's output means (`parametrization`): x0 is the image, u and v are velocities, residual what the best linear guess leaves over, eps the
    noise, where some of the image is left at t = 1."""
    tasks: Annotated[tuple[str, ...], OneOf(TASKS, "task")] = ("classification", "detection", "segmentation")
    """What perception says of an image. Those that no data set is annotated for are left out."""
    depth: Annotated[str, OneOf(("relative", "metric"), "kind of depth")] = "relative"
    """Of the task `depth`: relative, what lies before what; or metric, in metres, of data that were measured."""
    object_depth: bool = True
    """Whether the task `depth` also says how near each of the detector's objects is, where boxes are looked at twice (`proposals`)."""
    modulator: Annotated[str, OneOf(MODULATORS, "modulator")] = "drawn"
    """What semantics, as perception reads them, do to the denoised image: move its mean, widen its spread, both (semantic), both and drawn before the image
    where none are given (drawn), or nothing."""
    proposals: int = 0
    """Boxes per image that the detector looks at a second time, so that classification and segmentation know them too; 0: none."""

    def __post_init__(self) -> None:
        require_known(self)
        if self.prediction == "eps" and not bool(self.schedule.alpha(torch.ones(1))):
            raise ValueError(
                "`prediction` eps says nothing of an image that is nothing but noise, where samples begin; found eps. v or u say the same, and that too."
            )
        if self.codec in WEIGHTED and not self.autoencoder:
            raise ValueError(f"the codec `{self.codec}` needs its weights: set `autoencoder` to the folder of an AutoencoderKL that diffusers has saved.")
        if self.autoencoder and self.codec not in WEIGHTED:
            raise ValueError(f"`autoencoder` is the folder of the codec `autoencoder`; found it with `{self.codec}`. Set `codec`, too, or leave it out.")
        if self.proposals < 0:
            raise ValueError(f"`proposals` must be at least 0; found {self.proposals}. 8 is a good number for a few objects, 0 switches the second look off.")
