"""Modulators: how perception drives generation."""

from genrep.modulators.base import Modulator
from genrep.modulators.none import NoModulation
from genrep.modulators.semantic import DrawnSemantics, MeanModulation, SemanticModulation, SpreadModulation

MODULATORS: dict[str, type[Modulator]] = {
    "none": NoModulation,
    "semantic": SemanticModulation,
    "mean": MeanModulation,
    "spread": SpreadModulation,
    "drawn": DrawnSemantics,
}

__all__ = ["MODULATORS", "DrawnSemantics", "MeanModulation", "Modulator", "NoModulation", "SemanticModulation", "SpreadModulation"]
