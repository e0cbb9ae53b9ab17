"""Trunks: the network that both jobs share."""

from collections.abc import Callable

from genrep.backbones.base import Asking, Backbone, Hidden, Pass, TrunkConfig, answer
from genrep.backbones.dit import DiT, DiTConfig
from genrep.backbones.plain_dit import PlainDiT, PlainDiTConfig
from genrep.backbones.table import ModulationTable
from genrep.registry import lookup, name_of

TRUNKS: dict[str, type[TrunkConfig]] = {"dit": DiTConfig, "plain_dit": PlainDiTConfig}
"""What a configuration says of a trunk, by the trunk's name."""
BACKBONES: dict[str, type[Backbone]] = {"dit": DiT, "plain_dit": PlainDiT}


def make_trunk(config: TrunkConfig, *, channels: int, image_size: tuple[int, int], num_classes: int, num_semantics: int = 0) -> Backbone:
    """The trunk that a configuration is of.

    Args:
        channels, image_size: of x0.
        num_semantics: numbers of semantics that may stand behind the classes of a condition.
    Raises:
        ValueError: `image_size` does not fit it.
    """
    kind: Callable[..., Backbone] = lookup(BACKBONES, name_of(TRUNKS, config), "trunk")
    return kind(config, channels=channels, image_size=image_size, num_classes=num_classes, num_semantics=num_semantics)


__all__ = [
    "BACKBONES",
    "TRUNKS",
    "Asking",
    "Backbone",
    "DiT",
    "DiTConfig",
    "Hidden",
    "ModulationTable",
    "Pass",
    "PlainDiT",
    "PlainDiTConfig",
    "TrunkConfig",
    "answer",
    "make_trunk",
]
