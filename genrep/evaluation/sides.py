"""What the two sides of a model know of a class: the head, the generative side's posterior, and both together."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.evaluation.perception import Figures, Measured, Seen
from genrep.metrics.base import bootstrap_mean
from genrep.metrics.classification import expected_calibration_error, negative_log_likelihood, top1
from genrep.model import GenRep
from genrep.processes import gathered, part
from genrep.types import UNLABELLED


def measure_sides(model: GenRep, seen: Seen, num: int) -> Measured:
    """Top-1, calibration error and likelihood of the posterior, of the head and of their product, on the same images.

    Under several processes each asks for the posteriors of its part of the images.

    Args:
        num: labelled images of the set that are asked about, at the most; the first ones.
    Returns:
        figures `top1`, `ece`, `nll` of the posterior, the same with `head_` and `combined_` before them, and `combined_gain`, by how much more often
        the product is right than the head, paired, with a bootstrap interval; none where the model has no calibration or no gate.
    """
    log_head, rows = seen.perception.class_log_probs, torch.nonzero(seen.truth.label != UNLABELLED).squeeze(1)[:num]
    if log_head is None or model.calibration is None or model.gate is None or not len(rows):
        return Measured()
    truth = seen.truth.rows(rows)
    mine = part(len(rows))
    log_posterior = gathered(model.posterior(truth.image[mine], index=truth.index[mine]))
    log_head = log_head[rows].float()
    log_both = model.gate.product(log_head, log_posterior)
    figures = _of(log_posterior, truth.label) | _of(log_head, truth.label, "head_") | _of(log_both, truth.label, "combined_")
    gain = (log_both.argmax(1) == truth.label).double() - (log_head.argmax(1) == truth.label).double()
    return Measured(figures | bootstrap_mean(gain).named("combined_gain"), {"n": len(rows), "set": seen.name})


def _of(log_probs: Float[Tensor, "n k"], label: Int[Tensor, " n"], prefix: str = "") -> Figures:
    """Figures of one side."""
    ece, nll = expected_calibration_error(log_probs, label), negative_log_likelihood(log_probs, label)
    return top1(log_probs, label).named(f"{prefix}top1") | {f"{prefix}ece": ece, f"{prefix}nll": nll}
