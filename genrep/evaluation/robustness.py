"""What is left of perception where pictures are worse than those it learnt from: noise and common corruptions at five strengths."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure, plain
from genrep.evaluation.perception import MEASURES, Measured, Seen, look, see
from genrep.evaluation.timing import Progress, silent
from genrep.metrics.base import Estimate
from genrep.model import GenRep
from genrep.randomness import SampleGenerator

HEADLINES = {"top1": "classification", "map": "multilabel", "ap50": "detection", "miou_foreground": "segmentation", "order": "depth", "delta1": "depth"}
"""The figures that are followed, and their tasks; of depth the one that its data allow."""
TITLES = {
    "top1": "Top-1",
    "map": "mAP of class sets",
    "ap50": "AP50",
    "miou_foreground": "mIoU of objects",
    "order": "Pairs in order of depth",
    "delta1": "Depth within 25 %",
}
"""What a page calls them."""


@dataclass(frozen=True)
class Corruption:
    """A way to spoil images, mild to severe.

    `spoil` takes images in [0, 1], a strength and standard normal numbers of the images' shape; what it gives is clipped to [0, 1].
    """

    strengths: tuple[float, ...]
    spoil: Callable[[Tensor, float, Tensor], Tensor]


def _blurred(image: Tensor, sigma: float, _: Tensor) -> Tensor:
    return tv.gaussian_blur(image, [2 * round(3 * sigma) + 1] * 2, [sigma] * 2)


def _coarse(image: Tensor, share: float, _: Tensor) -> Tensor:
    size = [max(1, round(share * side)) for side in image.shape[-2:]]
    small = F.interpolate(image, size, mode="bilinear", antialias=True)
    return F.interpolate(small, image.shape[-2:], mode="bilinear")


def _compressed(image: Tensor, quality: float, _: Tensor) -> Tensor:
    return torch.stack([_of_jpeg(tv.to_pil_image(each), int(quality)) for each in image])


def _of_jpeg(picture: Image.Image, quality: int) -> Tensor:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return tv.to_dtype(tv.pil_to_tensor(Image.open(file)), torch.float32, scale=True)


CORRUPTIONS = {
    "noise": Corruption((0.035, 0.07, 0.104, 0.138, 0.173), lambda image, ratio, normal: image + ratio / 2 * normal),
    "blur": Corruption((0.4, 0.6, 0.7, 0.8, 1.0), _blurred),
    "contrast": Corruption(
        (0.75, 0.5, 0.4, 0.3, 0.15), lambda image, left, _: (image - image.mean((-2, -1), keepdim=True)) * left + image.mean((-2, -1), keepdim=True)
    ),
    "brightness": Corruption((0.05, 0.1, 0.15, 0.2, 0.3), lambda image, more, _: image + more),
    "low resolution": Corruption((0.75, 0.6, 0.5, 0.4, 0.3), _coarse),
    "jpeg": Corruption((80, 65, 58, 50, 40), _compressed),
}
"""By name. Of noise the strength is sigma / alpha, as the heads have seen up to .176; the others' are those of CIFAR-10-C, but for low
resolution, the share of it that is left, in place of pixelation.

Source: Hendrycks and Dietterich 2019, arXiv:1903.12261.
"""


def corrupted(image: Float[Tensor, "b 3 h w"], kind: str, strength: float) -> Float[Tensor, "b 3 h w"]:
    """Images in [-1, 1], spoilt; what happens to one of them depends on its place alone. Grey ones stay grey.

    Args:
        kind: one of `CORRUPTIONS`, whose entry says in what `strength` is measured.
    """
    seen = image[:, :1] if bool((image == image[:, :1]).all()) else image
    normal = SampleGenerator(0, torch.arange(len(seen)), f"corruption/{kind}").normal(*seen.shape[1:])
    spoilt = CORRUPTIONS[kind].spoil(seen / 2 + 0.5, strength, normal)
    return (spoilt.clamp(0, 1) * 2 - 1).expand_as(image)


def robustness_figures(model: GenRep, sets: Sequence[ArrayDataset], *, quick: bool = False, progress: Progress = silent) -> list[Figure]:
    """The headline figure of each task, clean, at every strength of every corruption, and its mean over the strengths.

    Args:
        sets: test images; a task is measured on the last of them that is annotated for it.
        quick: the middle strength alone, on the first hundred of each.
    """
    sets = [data.first(min(len(data), 100)) for data in sets] if quick else list(sets)
    seen = [see(model, data) for data in sets]
    clean = _headlines(model, seen)
    figures = [_figure("clean", key, value, len(sets)) for key, value in clean.items()]
    for kind, corruption in CORRUPTIONS.items():
        progress(f"perception under {kind}")
        strengths = corruption.strengths[2:3] if quick else corruption.strengths
        found = [_headlines(model, [_spoilt(model, each, kind, strength) for each in seen]) for strength in strengths]
        figures += [
            _figure(f"{kind} {strength:g}", key, value, len(sets)) for strength, each in zip(strengths, found, strict=True) for key, value in each.items()
        ]
        if quick:
            continue
        means = {key: sum(each[key].value for each in found) / len(found) for key in clean}
        figures += [_figure(f"{kind}, mean", key, mean, len(sets)) for key, mean in means.items()]
    return figures


def measure_robustness(model: GenRep, seen: Sequence[Seen]) -> Measured:
    """What `genrep eval` tells.

    Args:
        seen: clean test images; a task is measured on the last set that is annotated for it.
    Returns:
        the headline figure of each task, `clean_KEY`; under noise, `noise_KEY`, the mean over its strengths; and under the other corruptions,
        `corruptions_KEY`, the mean over them at their middle strength.
    """
    each = {
        "noise": [("noise", strength) for strength in CORRUPTIONS["noise"].strengths],
        "corruptions": [(kind, one.strengths[len(one.strengths) // 2]) for kind, one in CORRUPTIONS.items() if kind != "noise"],
    }
    figures = {f"clean_{key}": value.value for key, value in _headlines(model, seen).items()}
    if not figures:
        return Measured()
    for name, ways in each.items():
        found = [_headlines(model, [_spoilt(model, one, *way) for one in seen]) for way in ways]
        figures |= {f"{name}_{key}": sum(of[key].value for of in found) / len(found) for key in found[0]}
    return Measured(figures, {"n": len(seen[-1].truth), "set": seen[-1].name})


def _spoilt(model: GenRep, seen: Seen, kind: str, strength: float) -> Seen:
    image = corrupted(seen.truth.image, kind, strength)
    return replace(seen, truth=replace(seen.truth, image=image), perception=look(model, image))


def _headlines(model: GenRep, seen: Sequence[Seen]) -> dict[str, Estimate]:
    """Of the last set that has each."""
    found: dict[str, Estimate] = {}
    for each in seen:
        for measure in MEASURES.values():
            figures = measure(each, model.class_names).figures
            for key in (key for key in HEADLINES if key in figures):
                found[key] = Estimate(figures[key], figures.get(f"{key}_low", float("nan")), figures.get(f"{key}_high", float("nan")))
    return found


def _figure(row: str, key: str, value: Estimate | float, num_sets: int) -> Figure:
    how = f"test images of {num_sets} sets, the last that is annotated for {HEADLINES[key]}; what the image has undergone is not told"
    return plain(f"{row}: {key}", value, "share", how)
