"""Aligners: how the gradients of several losses become one update."""

from genrep.aligners.base import Aligner
from genrep.aligners.genrep_rule import GenRepRule
from genrep.aligners.min_norm import MGDA, CAGrad
from genrep.aligners.projection import PCGrad, UPGrad
from genrep.aligners.uncertainty import Uncertainty
from genrep.aligners.units import AlignedMTL, Bisector
from genrep.aligners.weighted_sum import WeightedSum

ALIGNERS: dict[str, type[Aligner]] = {
    "weighted_sum": WeightedSum,
    "genrep": GenRepRule,
    "uncertainty": Uncertainty,
    "pcgrad": PCGrad,
    "upgrad": UPGrad,
    "mgda": MGDA,
    "cagrad": CAGrad,
    "bisector": Bisector,
    "aligned_mtl": AlignedMTL,
}
"""Every aligner by the name that configs use."""

__all__ = ["ALIGNERS", "MGDA", "AlignedMTL", "Aligner", "Bisector", "CAGrad", "GenRepRule", "PCGrad", "UPGrad", "Uncertainty", "WeightedSum"]
