"""Codecs: what space the diffusion lives in."""

from pathlib import Path

from genrep.codecs.base import Codec
from genrep.codecs.diffusers_autoencoder import Autoencoder
from genrep.codecs.grey import Grey
from genrep.codecs.pixels import Pixels
from genrep.registry import lookup

CODECS: dict[str, type[Codec]] = {"grey": Grey, "pixels": Pixels, "autoencoder": Autoencoder}
WEIGHTED = ("autoencoder",)
"""Those that have weights, and are made from a folder."""


def make_codec(name: str, folder: str | None) -> Codec:
    """A codec by its name, from its weights where it has some.

    Raises:
        ValueError: unknown, or the weights cannot be read.
    """
    kind = lookup(CODECS, name, "codec")
    return kind(Path(folder)) if name in WEIGHTED and folder else kind()  # type: ignore[call-arg]


__all__ = ["CODECS", "WEIGHTED", "Autoencoder", "Codec", "Grey", "Pixels", "make_codec"]
