"""Samplers: from noise to data with the function `denoise`."""

from genrep.samplers.ancestral import Ancestral
from genrep.samplers.base import Sampler
from genrep.samplers.euler import Euler
from genrep.samplers.heun import Heun

SAMPLERS: dict[str, type[Sampler]] = {"euler": Euler, "heun": Heun, "ancestral": Ancestral}
"""Every sampler by the name that configs use."""

__all__ = ["SAMPLERS", "Ancestral", "Euler", "Heun", "Sampler"]
