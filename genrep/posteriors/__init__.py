"""Posterior estimators: log p(x0 | y) from the function `denoise`."""

from genrep.posteriors.base import PosteriorEstimator
from genrep.posteriors.denoising_gap import DenoisingGap
from genrep.posteriors.probability_flow import ProbabilityFlow
from genrep.posteriors.reverse_chain import ReverseChain
from genrep.posteriors.variational_bound import VariationalBound

POSTERIORS: dict[str, type[PosteriorEstimator]] = {
    "denoising_gap": DenoisingGap,
    "variational_bound": VariationalBound,
    "probability_flow": ProbabilityFlow,
    "reverse_chain": ReverseChain,
}
"""Every estimator by the name that configs use."""

__all__ = ["POSTERIORS", "DenoisingGap", "PosteriorEstimator", "ProbabilityFlow", "ReverseChain", "VariationalBound"]
