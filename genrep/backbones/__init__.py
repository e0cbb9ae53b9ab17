"""Trunks: the network that both jobs share."""

from genrep.backbones.base import Asking, Backbone, Hidden, Pass, answer
from genrep.backbones.dit import DiT, DiTConfig
from genrep.backbones.table import ModulationTable

BACKBONES: dict[str, type[Backbone]] = {"dit": DiT}

__all__ = ["BACKBONES", "Asking", "Backbone", "DiT", "DiTConfig", "Hidden", "ModulationTable", "Pass", "answer"]
