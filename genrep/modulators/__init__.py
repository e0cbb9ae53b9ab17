"""Modulators: how perception drives generation."""

from genrep.modulators.base import Modulator
from genrep.modulators.none import NoModulation
from genrep.modulators.semantic import SemanticModulation

MODULATORS: dict[str, type[Modulator]] = {"none": NoModulation, "semantic": SemanticModulation}

__all__ = ["MODULATORS", "Modulator", "NoModulation", "SemanticModulation"]
