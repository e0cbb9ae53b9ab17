"""Aligners: how the gradients of several losses become one update."""

from genrep.aligners.base import Aligner
from genrep.aligners.genrep_rule import GenRepRule
from genrep.aligners.weighted_sum import WeightedSum

ALIGNERS: dict[str, type[Aligner]] = {"weighted_sum": WeightedSum, "genrep": GenRepRule}
"""Every aligner by the name that configs use."""

__all__ = ["ALIGNERS", "Aligner", "GenRepRule", "WeightedSum"]
