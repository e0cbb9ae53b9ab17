"""Samplers: from noise to data with the function `denoise`."""

from genrep.samplers.ancestral import Ancestral
from genrep.samplers.base import Sampler
from genrep.samplers.euler import Euler
from genrep.samplers.grids import GRIDS
from genrep.samplers.heun import Heun
from genrep.samplers.multistep import DPMSolver, UniPC

SAMPLERS: dict[str, type[Sampler]] = {"euler": Euler, "heun": Heun, "dpm_solver": DPMSolver, "unipc": UniPC, "ancestral": Ancestral}
"""Every sampler by the name that configs use."""

__all__ = ["GRIDS", "SAMPLERS", "Ancestral", "DPMSolver", "Euler", "Heun", "Sampler", "UniPC"]
