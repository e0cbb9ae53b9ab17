"""What the model makes: class-conditional samples against real images, in the features of the judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.config import EvalConfig
from genrep.datasets.base import ArrayDataset
from genrep.drawing import Wishes
from genrep.evaluation.imagenet import NAME, imagenet_figures
from genrep.evaluation.judge import Judge
from genrep.evaluation.perception import Measured, Seen, accuracy_of_row
from genrep.metrics.base import bootstrap_mean, wilson
from genrep.metrics.classification import confusion_matrix
from genrep.metrics.generation import density_coverage, fid, kid, precision_recall
from genrep.metrics.multilabel import set_f1
from genrep.model import GenRep
from genrep.processes import agreed, gathered, part

_VAL_SEED, _TEST_SEED = 1, 0

RECALL_TOLERANCE = 0.03
"""How much recall guidance may cost on val, against unguided samples, when it is chosen; on test .05 is allowed, and the
choice needs a margin for the noise of its samples."""


LIKELIHOOD_DRAWS = 16
"""Pairs of evaluations per image."""

UNLIKE = 0.1
"""Total variation between the shares of the classes in real images and equal ones, above which it is worth a note."""


@dataclass(frozen=True)
class Samples:
    """Generated images, the classes asked for, and what the judge makes of them."""

    image: Float[Tensor, "n 3 h w"]
    label: Int[Tensor, " n"]
    features: Float[Tensor, "n d"]
    judged: Int[Tensor, " n"]

    @property
    def num_right(self) -> int:
        """Samples whose class the judge recognises."""
        return int((self.judged == self.label).sum())


def sampling(config: EvalConfig) -> dict[str, Any]:
    """Options of `GenRep.generate`, but for guidance."""
    return {"sampler": config.sampler, "wishes": Wishes(guidance_interval=config.guidance_interval)}


@dataclass(frozen=True)
class Studio:
    """A model, the judge of its samples, and how samples are drawn."""

    model: GenRep
    judge: Judge
    config: EvalConfig
    bf16: bool = False

    def samples(self, num: int, guidance: float, *, seed: int) -> Samples:
        """Equal shares of the classes; image i depends on (seed, i) alone, so guidances share their noise."""
        label = torch.arange(num) % len(self.model.class_names)
        image = self.made(label, guidance, seed=seed)
        return Samples(image, label, *self.judge(image))

    def made(self, classes: Int[Tensor, " n"] | Float[Tensor, "n k"], guidance: float, *, seed: int) -> Float[Tensor, "n 3 h w"]:
        """Images of these classes, or with so many objects of each; each process makes its part of them, and has all."""
        mine = torch.arange(len(classes))[part(len(classes))]
        options = {"batch_size": self.config.batch_size, "bf16": self.bf16, **self.options}
        return gathered(self.model.generate(classes[mine], index=mine, seed=seed, guidance=guidance, **options))

    @property
    def options(self) -> dict[str, Any]:
        """Of `GenRep.generate`, but for guidance."""
        return sampling(self.config)

    def features(self, dataset: ArrayDataset, num: int) -> tuple[Tensor, Tensor]:
        """Judge features and classes of the first `num` real images."""
        parts = [self.judge(dataset.batch(rows).image) for rows in torch.arange(min(num, len(dataset))).split(2000)]
        return torch.cat([features for features, _ in parts]), torch.cat([judged for _, judged in parts])


def choose_guidance(studio: Studio, val: ArrayDataset) -> tuple[float, list[dict[str, float]]]:
    """The least guidance of the grid whose samples are recognised as often as real images, among those that keep recall; where none is, the one whose are
    recognised most often. Fixed on validation data.

    More than real images are is not wanted: what is recognised more often is more typical, and less like them.

    Returns:
        The guidance, and one row per guidance tried: judged accuracy, precision, recall.
    """
    config = studio.config
    if config.guidance is not None:
        return config.guidance, []
    num = config.num_guidance_samples
    real, judged = studio.features(val, num)
    enough = float((judged == val.label[: len(judged)]).float().mean())
    rows = []
    for guidance in sorted({1.0, *config.guidance_grid}):
        made = studio.samples(num, guidance, seed=_VAL_SEED)
        precision, recall = precision_recall(real, made.features)
        rows.append({"guidance": guidance, "accuracy": made.num_right / num, "precision": precision, "recall": recall})
    unguided = next(row["recall"] for row in rows if row["guidance"] == 1.0)
    kept = [row for row in rows if row["recall"] >= unguided - RECALL_TOLERANCE]
    return agreed(max(kept, key=lambda row: (min(row["accuracy"], enough), -row["guidance"]))["guidance"]), rows


def measure_generation(studio: Studio, val: ArrayDataset, test: ArrayDataset) -> tuple[Measured, Samples]:
    """KID, FID, precision and recall of samples against test images, their recognised share, and what real images would get.

    Of unguided samples, too: guidance is each model's own choice, by which figures of two models differ besides.
    """
    guidance, tried = choose_guidance(studio, val)
    num = studio.config.num_samples
    made = studio.samples(num, guidance, seed=_TEST_SEED)
    unguided = made if guidance == 1.0 else studio.samples(num, 1.0, seed=_TEST_SEED)
    real, judged = studio.features(test, len(test))
    other_real, _ = studio.features(val, num)
    density, coverage = density_coverage(real, made.features)
    figures = {
        **_closeness(real, made),
        **_closeness(real, unguided, "_unguided"),
        **kid(real, other_real).named("kid_real"),
        "fid_real": fid(real, other_real),
        "recall_real": precision_recall(real, other_real)[1],
        "density": density,
        "coverage": coverage,
        "coverage_real": density_coverage(real, other_real)[1],
        **wilson(int((judged == test.label).sum()), len(test)).named("judge_accuracy"),
        "guidance": guidance,
        "n": num,
    }
    figures |= class_kid(real, test.label, made.features, made.label)
    if studio.config.imagenet:
        figures |= imagenet_figures(made.image, val, test)
    if len(other_real) < num:  # of fewer images these are worse, whatever the images
        figures = {name: value for name, value in figures.items() if name not in ("fid_real", "recall_real", "coverage_real", "fid_imagenet_real")}
    return Measured(figures, _tables(studio, made, tried) | {"set": test.name, "n_real": len(test), "n_recall": min(num, len(test))}), made


def _closeness(real: Float[Tensor, "n d"], made: Samples, suffix: str = "") -> dict[str, float]:
    """How close samples are to real images, and how many of them are recognised; every name ends with `suffix`."""
    precision, recall = precision_recall(real, made.features)
    return {
        **kid(real, made.features).named(f"kid{suffix}"),
        f"fid{suffix}": fid(real, made.features),
        f"precision{suffix}": precision,
        f"recall{suffix}": recall,
        **wilson(made.num_right, len(made.label)).named(f"sample_accuracy{suffix}"),
    }


def unlike_samples(test: ArrayDataset) -> Iterator[str]:
    """A note, where the classes have other shares in the real images than in samples."""
    shares = test.label.bincount(minlength=len(test.class_names)) / len(test)
    if float((shares - 1 / len(shares)).abs().sum()) / 2 > UNLIKE:
        least, most = (f"{float(share):.0%}" for share in (shares.min(), shares.max()))
        yield (
            f"samples have equal shares of the classes, the images of {test.name} that they are set beside from {least} to {most}: "
            "KID, FID, precision, recall, density and coverage count that, too."
        )


def class_kid(real: Float[Tensor, "n d"], of_real: Int[Tensor, " n"], made: Float[Tensor, "m d"], of_made: Int[Tensor, " m"]) -> dict[str, float]:
    """`class_kid`: KID of every class's samples from its real images, mean over the classes; none where a class has fewer than two of either."""
    classes = of_made.unique().tolist()
    if not classes or any(int((label == k).sum()) < 2 for label in (of_real, of_made) for k in classes):
        return {}
    found = [kid(real[of_real == k], made[of_made == k], num_resamples=1).value for k in classes]
    return {"class_kid": sum(found) / len(found)}


def measure_scenes(studio: Studio, val: ArrayDataset, test: ArrayDataset, *, guidance: float) -> Measured:
    """Samples with the objects of test images: how well a judge of class sets finds the classes that were asked for, and KID in its features.

    Args:
        studio: its judge is one of class sets.
    """
    num = min(studio.config.num_scene_samples, len(test))
    batch = test.batch(torch.arange(num))
    made = studio.made(batch.classes, guidance, seed=_TEST_SEED)
    of_made, of_real = studio.judge(made)[0], studio.features(test, len(test))[0]
    figures = {
        **bootstrap_mean(set_f1(studio.judge.sets(made) > 0, batch.classes > 0)).named("scenes_f1"),
        **bootstrap_mean(set_f1(studio.judge.sets(batch.image) > 0, batch.classes > 0)).named("scenes_f1_real"),
        **kid(of_real, of_made).named("scenes_kid"),
        **kid(of_real, studio.features(val, num)[0]).named("scenes_kid_real"),
    }
    return Measured(figures, {"set": test.name, "n": num, "n_real": len(test), "judge": studio.judge.name, "guidance": guidance})


def _tables(studio: Studio, made: Samples, tried: list[dict[str, float]]) -> dict[str, Any]:
    names = studio.model.class_names
    confusion = confusion_matrix(made.judged, made.label, num_classes=len(names))
    sampler = studio.config.sampler
    return {
        "n": len(made.label),
        "judge": studio.judge.name,
        "resize": "none",
        "imagenet": NAME if studio.config.imagenet else None,
        "sampler": f"{type(sampler).__name__}, {sampler.num_steps} steps",
        "arithmetic": "bfloat16" if studio.bf16 else "float32",
        "guidance_tried": tried,
        "guidance_interval": list(studio.config.guidance_interval),
        "per_class": {name: accuracy_of_row(confusion, k) for k, name in enumerate(names)},
    }


def nearest(made: Float[Tensor, "n d"], real: Float[Tensor, "m d"], *, k: int = 3) -> Int[Tensor, "n k"]:
    """Indices of the k real images nearest to each sample in feature space."""
    return torch.cdist(made, real).topk(k, largest=False).indices


def film(
    model: GenRep, classes: Int[Tensor, " b"] | Float[Tensor, "b k"], *, num_frames: int = 8, **options: Any
) -> tuple[Float[Tensor, "f b 3 h w"], Float[Tensor, "f b 3 h w"]]:
    """How samples come about: what the sampler holds and what the model expects, the last being the sample.

    Args:
        options: of `GenRep.generate`.
    """
    held: list[Tensor] = []
    expected: list[Tensor] = []

    def watch(xt: Tensor, x0_hat: Tensor) -> None:
        held.append(xt)
        expected.append(x0_hat)

    last = model.generate(classes, watch=watch, batch_size=len(classes), **options)
    picks = torch.linspace(0, len(held) - 1, num_frames - 1).round().long().unique().tolist()
    first, second = (torch.stack([*(sequence[i] for i in picks), last]) for sequence in (held, expected))
    return first, second


def measure_likelihood(model: GenRep, seen: Seen) -> Measured:
    """Bits per dimension of test images given their classes, an upper bound, with the interval of images like these.

    All models are asked about the same images with the same noise. Under several processes each asks about its part.

    Source: Kingma et al. 2021, arXiv:2107.00630 (`posteriors/likelihood.py`).
    """
    mine = seen.truth.rows(part(len(seen.truth)))
    bits, _ = model.nll(mine.image, mine.classes, num_draws=LIKELIHOOD_DRAWS, index=mine.index).bits_per_dimension()
    return Measured(bootstrap_mean(gathered(bits).double()).named("bits_per_dim"), {"n": len(seen.truth), "set": seen.name})
