"""What else a posterior is good for: another mix of classes than in training is found from images alone, strangers are told from what was learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure, plain
from genrep.metrics.base import bootstrap, bootstrap_mean
from genrep.metrics.classification import auroc
from genrep.model import GenRep
from genrep.posteriors.prior import estimate_prior

IMBALANCE = 50
"""Images of the most frequent class for one of the rarest."""
BUDGET, DRAWS = 8, 32
"""Evaluations per class of the posterior; pairs of evaluations of the likelihood."""
GARMENT_PX = 28

Say = Callable[[str], None]


def imbalanced(label: Int[Tensor, " n"], num_classes: int, *, most: int) -> Int[Tensor, " m"]:
    """The first images of each class: `most` of class 0, IMBALANCE times fewer of the last, falling geometrically between.

    >>> kept = imbalanced(torch.arange(3000) % 3, 3, most=100)
    >>> torch.bincount(torch.arange(3000)[kept] % 3).tolist()
    [100, 14, 2]
    """
    nums = [round(most * IMBALANCE ** (-k / (num_classes - 1))) for k in range(num_classes)]
    return torch.cat([torch.nonzero(label == k).squeeze(1)[:num] for k, num in enumerate(nums)])


def prior_figures(model: GenRep, test: ArrayDataset, *, most: int, progress: Say) -> list[Figure]:
    """Accuracy and error of the class frequencies on an imbalanced test set, before and after these are estimated from its images.

    Args:
        test: images of one class each.
        most: images of the most frequent class.
    """
    progress(f"trained model: classes {IMBALANCE} to 1")
    batch = test.batch(imbalanced(test.label, len(test.class_names), most=most))
    label, head = batch.label, model.perceive(batch.image).class_log_probs
    assert head is not None
    how = f"{len(label)} test images, {IMBALANCE} to 1; frequencies by expectation maximisation from the images alone"
    true = torch.bincount(label, minlength=len(test.class_names)) / len(label)
    figures = []
    for name, log_probs in (("head", head), ("posterior", model.posterior(batch.image, budget=BUDGET, index=batch.index))):
        found = estimate_prior(log_probs)
        before, after = ((p.argmax(1) == label).float() for p in (log_probs, log_probs + found))
        row = f"{IMBALANCE} to 1, {name}"
        figures += [
            plain(f"{row}: accuracy", bootstrap_mean(before), "0 to 1", how),
            plain(f"{row}: accuracy gained by the frequencies found", bootstrap_mean(after - before), "0 to 1", how),
            plain(
                f"{row}: error of the frequencies found",
                bootstrap(_error_of(log_probs, label), len(label), num_resamples=100, distance=True),
                "total variation",
                how,
            ),
            plain(f"{row}: error of equal frequencies", bootstrap_mean((true - 1 / len(true)).abs().sum().expand(2) / 2), "total variation", how),
        ]
    return figures


def _error_of(log_probs: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Callable[[Int[Tensor, " n"]], float]:
    """Total variation between the frequencies found and those of the images, of a resample."""

    def error(rows: Int[Tensor, " n"]) -> float:
        true = torch.bincount(label[rows], minlength=log_probs.shape[1]) / len(rows)
        return float((estimate_prior(log_probs[rows]).exp() - true).abs().sum()) / 2

    return error


def strangers(num: int, image_size: tuple[int, int]) -> dict[str, Float[Tensor, "n 3 h w"]]:
    """Images that no garment is on: digits, drawn as large as garments, and noise, uniform in [-1, 1].

    Raises:
        ValueError: scikit-learn, which carries the digits, is not installed.
    """
    from genrep.evaluation.oracle import load_oracle

    digits = torch.nn.functional.interpolate(load_oracle().images[:num].float(), (GARMENT_PX, GARMENT_PX), mode="bilinear")
    side = [(size - GARMENT_PX) // 2 for size in image_size]
    digits = torch.nn.functional.pad(digits.clamp(-1, 1), (side[1], side[1], side[0], side[0]), value=-1.0)
    noise = torch.rand(num, 1, *image_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"digits": digits.expand(-1, 3, -1, -1), "noise": noise.expand(-1, 3, -1, -1)}


def stranger_figures(model: GenRep, test: ArrayDataset, others: Mapping[str, Float[Tensor, "n 3 h w"]], *, num: int, progress: Say) -> list[Figure]:
    """How well images of no known class are told from test images: AUROC of three suspicions.

    Density: bits per dimension under the null condition. Head: 1 - the highest probability. Divergence: KL of posterior to head, nats.
    """
    figures, own = [], None
    for name, images in others.items():
        progress(f"trained model: garments against {name}")
        own = own or _suspicions(model, test.batch(torch.arange(min(num, len(test)))).image)
        theirs = _suspicions(model, images[:num])
        for kind in own:
            score = torch.cat([own[kind], theirs[kind]])
            area = bootstrap(_area(score, torch.arange(len(score)) >= len(own[kind])), len(score), num_resamples=200)
            how = f"{len(own[kind])} test images against {len(theirs[kind])} of {name}; bootstrap interval"
            figures.append(plain(f"AUROC against {name}: {kind}", area, "0 to 1", how))
    return figures


def _area(score: Float[Tensor, " n"], is_stranger: Bool[Tensor, " n"]) -> Callable[[Int[Tensor, " n"]], float]:
    return lambda rows: auroc(score[rows], is_stranger[rows])


def _suspicions(model: GenRep, image: Float[Tensor, "n 3 h w"]) -> dict[str, Float[Tensor, " n"]]:
    head = model.perceive(image).class_log_probs
    assert head is not None
    posterior = model.posterior(image, budget=BUDGET)
    return {
        "density": model.nll(image, num_draws=DRAWS).bits_per_dimension()[0].float(),
        "head": 1 - head.exp().amax(1),
        "divergence": torch.nn.functional.kl_div(head, posterior, reduction="none", log_target=True).sum(1),
    }
