"""Trunks: the network that both jobs share."""

from genrep.backbones.base import Backbone, Hidden
from genrep.backbones.dit import DiT, DiTConfig
from genrep.backbones.table import ModulationTable

BACKBONES: dict[str, type[Backbone]] = {"dit": DiT}

__all__ = ["BACKBONES", "Backbone", "DiT", "DiTConfig", "Hidden", "ModulationTable"]
