"""Posterior estimators: log p(x0 | y) from the function `denoise`."""

from genrep.posteriors.base import PosteriorEstimator
from genrep.posteriors.denoising_gap import DenoisingGap
from genrep.posteriors.reverse_chain import ReverseChain

POSTERIORS: dict[str, type[PosteriorEstimator]] = {"denoising_gap": DenoisingGap, "reverse_chain": ReverseChain}
"""Every estimator by the name that configs use."""

__all__ = ["POSTERIORS", "DenoisingGap", "PosteriorEstimator", "ReverseChain"]
