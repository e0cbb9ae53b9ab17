"""Codecs: what space the diffusion lives in."""

from genrep.codecs.base import Codec
from genrep.codecs.grey import Grey
from genrep.codecs.pixels import Pixels

CODECS: dict[str, type[Codec]] = {"grey": Grey, "pixels": Pixels}

__all__ = ["CODECS", "Codec", "Grey", "Pixels"]
