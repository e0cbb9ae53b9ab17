"""What the weights are: everything that must be known to build a model and read its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from genrep.backbones import DiTConfig
from genrep.schedules import RectifiedFlow, Schedule


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the weights are."""

    class_names: tuple[str, ...] = ()
    """Filled from the data where empty."""
    image_size: tuple[int, int] = (32, 32)
    """(height, width) in pixels."""
    codec: str = "grey"
    trunk: DiTConfig = DiTConfig()
    schedule: Schedule = field(default_factory=RectifiedFlow)
    prediction: str = "u"
    """What the trunk's output means: residual, u, v or x0 (`parametrization`)."""
    tasks: tuple[str, ...] = ("classification", "detection", "segmentation")
    depth: str = "relative"
    """Of the task `depth`: relative, what lies before what; or metric, in metres, of data that were measured."""
    object_depth: bool = True
    """Whether the task `depth` also says how near each of the detector's objects is, where boxes are looked at twice (`proposals`)."""
    modulator: str = "drawn"
    proposals: int = 0
    """Boxes per image that the detector looks at a second time, so that classification and segmentation know them too; 0: none."""

    def __post_init__(self) -> None:
        if self.prediction == "eps":
            raise ValueError(
                "`prediction` eps says nothing of an image that is nothing but noise, where samples begin; found eps. v or u say the same, and that too."
            )
        if self.proposals < 0:
            raise ValueError(f"`proposals` must be at least 0; found {self.proposals}. 8 is a good number for a few objects, 0 switches the second look off.")
