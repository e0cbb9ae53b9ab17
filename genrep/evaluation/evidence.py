"""Do evidence maps name the pixels that matter? Delete those they name, and ask a classifier that has nothing to do with the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.evaluation.judge import Judge
from genrep.metrics.base import Estimate, bootstrap_mean
from genrep.model import GenRep
from genrep.randomness import SampleGenerator
from genrep.tasks import run_tasks

SHARE = 0.1
"""Share of an image's pixels that are deleted."""


@dataclass(frozen=True)
class Deletion:
    """What deleting pixels does to the judge's log-odds of an image's class against its rival, by who named the pixels: mean loss, nats."""

    lost: dict[str, Estimate]
    more_than: dict[str, Estimate]
    """How much more the evidence's pixels cost than those of each other namer, paired."""


def deletion(model: GenRep, judge: Judge, image: Float[Tensor, "b 3 h w"], label: Int[Tensor, " b"], *, budget: int = 64) -> Deletion:
    """What deleting the pixels that matter, by various accounts, does to an image's class. They take their mean value over these images.

    Evidence says what speaks for the label against the head's favourite among the other classes. Beside it the head's input gradients, as the
    first-order effect of the deletion on its log-odds, and random pixels.

    Args:
        image: in [-1, 1].
        label: the images' classes, 0 to k - 1.
        budget: evaluations of either class behind the evidence.
    Raises:
        ValueError: the model has no calibration or no classification head.
    Source: Samek et al. 2017, arXiv:1509.06321, on judging explanations by deletion.
    """
    rival = _rivals(model, image, label)
    blank = image.mean(0, keepdim=True)
    namers = {
        "evidence": model.evidence(image, label, rival, budget=budget),
        "input gradients": _first_order(model, image, blank, label, rival),
        "random": SampleGenerator(0, torch.arange(len(image)), "deletion").uniform(*image.shape[-2:]),
    }
    whole = _odds(judge, image, label, rival)
    lost = {name: whole - _odds(judge, _without(image, blank, named), label, rival) for name, named in namers.items()}
    others = {name: lost["evidence"] - values for name, values in lost.items() if name != "evidence"}
    return Deletion({name: bootstrap_mean(values) for name, values in lost.items()}, {name: bootstrap_mean(values) for name, values in others.items()})


def _rivals(model: GenRep, image: Tensor, label: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The class that the head believes most after the label."""
    log_probs = model.perceive(image).class_log_probs
    if log_probs is None:
        raise ValueError("the deletion test needs a model with a classification head.")
    return log_probs.scatter(1, label[:, None], -torch.inf).argmax(1)


def _first_order(model: GenRep, image: Tensor, blank: Tensor, label: Int[Tensor, " b"], rival: Int[Tensor, " b"]) -> Float[Tensor, "b h w"]:
    """What the head's log-odds would lose by each pixel's deletion, were they linear."""
    parts = []
    for rows in torch.arange(len(image)).split(64):
        pixels = image[rows].clone().to(model.device).requires_grad_()
        features = model.clean_features(model.encode(pixels))
        logits = next(output for name, _, output in run_tasks(model.tasks(), features) if name == "classification")
        odds = logits[torch.arange(len(rows)), label[rows]] - logits[torch.arange(len(rows)), rival[rows]]
        (gradient,) = torch.autograd.grad(odds.sum(), pixels)
        parts.append((gradient.cpu() * (image[rows] - blank)).sum(1))
    return torch.cat(parts)


def _without(image: Tensor, blank: Tensor, named: Float[Tensor, "b h w"]) -> Float[Tensor, "b 3 h w"]:
    """The images without the pixels that rank highest."""
    num = round(SHARE * named[0].numel())
    rank = named.flatten(1).argsort(1, descending=True).argsort(1)
    return torch.where((rank < num).view_as(named)[:, None], blank, image)


def _odds(judge: Judge, image: Tensor, label: Int[Tensor, " b"], rival: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """The judge's log-odds, nats."""
    logits = judge.logits(image)
    return (logits.gather(1, label[:, None]) - logits.gather(1, rival[:, None])).squeeze(1)
