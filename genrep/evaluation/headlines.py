"""The figures of a run that one wants first, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_Row = tuple[str, str, str, str]
"""Name, key, what stands beside, what it was measured on."""


@dataclass(frozen=True)
class Headline:
    """One figure at the top: its interval, its opponent, and what it was measured on."""

    name: str
    value: str
    interval: str
    beside: str
    on: str


def number(value: float | None, digits: int = 3) -> str:
    """A figure with a true minus sign; a dash where there is none.

    >>> number(0.25), number(-1.0, 1), number(None)
    ('0.250', '\u22121.0', '\u2013')
    """
    return "\u2013" if value is None else f"{value:.{digits}f}".replace("-", "\u2212")


def headlines(figures: Mapping[str, float], details: Mapping[str, Any]) -> list[Headline]:
    """The figures one wants first, as far as they were measured."""
    rows = (*_of_sight(figures, details), *_of_samples(figures, details))
    return [Headline(name, number(figures[key]), interval(figures, key), note, on) for name, key, note, on in rows if key in figures]


def interval(figures: Mapping[str, float], key: str) -> str:
    """The 95 % interval of a figure, or nothing."""
    low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def _of_sight(figures: Mapping[str, float], details: Mapping[str, Any]) -> list[_Row]:
    def beside(key: str, words: str) -> str:
        return _beside(figures, key, words)

    of = {task: _on(details, task, "test images of") for task in ("classification", "posterior", "multilabel", "detection", "segmentation", "depth")}
    return [
        ("Top-1", "classification/top1", beside("classification/logistic_regression_top1", "logistic regression on pixels"), of["classification"]),
        ("Top-1 with the generative side", "posterior/combined_top1", beside("posterior/head_top1", "of the same images the head alone"), of["posterior"]),
        ("Calibration error", "classification/ece", beside("classification/nll", "log-loss, nats,"), of["classification"]),
        ("Right told from wrong", "classification/auroc", "by confidence, AUROC; chance: .5", of["classification"]),
        ("mAP of class sets", "multilabel/map", beside("multilabel/f1", "F1"), of["multilabel"]),
        ("AP50", "detection/ap50", beside("detection/ap", "AP"), of["detection"]),
        ("Calibration error of scores", "detection/ece", "against the share that is right at IoU .5", of["detection"]),
        ("mIoU of objects", "segmentation/miou_foreground", beside("segmentation/miou", "with background"), of["segmentation"]),
        ("Pairs in order of depth", "depth/order", "objects that touch; chance: .5", of["depth"]),
        ("Depth within 25 %", "depth/delta1", beside("depth/abs_rel", "relative error"), of["depth"]),
    ]


def _of_samples(figures: Mapping[str, float], details: Mapping[str, Any]) -> list[_Row]:
    guidance = figures.get("generation/guidance")
    guided = "" if guidance is None else f", guidance {guidance:g}"
    on = _on(details, "generation", "samples of") + guided

    def beside(name: str, real: str, words: str) -> str:
        unguided = _beside(figures, f"generation/{name}_unguided", "unguided") if guidance != 1.0 else ""
        return ", ".join(filter(None, (_beside(figures, f"generation/{real}", words), unguided)))

    return [
        ("Samples recognised", "generation/sample_accuracy", beside("sample_accuracy", "judge_accuracy", "real images"), on),
        ("KID", "generation/kid", beside("kid", "kid_real", "real against real"), on),
        ("Bits per dimension", "likelihood/bits_per_dim", "an upper bound, without semantics", _on(details, "likelihood", "test images of")),
        ("Recall", "generation/recall", beside("recall", "recall_real", "real images"), on),
        ("FID", "generation/fid", beside("fid", "fid_real", "real against real"), on),
        (
            "Scenes: F1 of classes",
            "generation/scenes_f1",
            _beside(figures, "generation/scenes_f1_real", "real images"),
            _on(details, "generated_scenes", "samples of") + guided,
        ),
    ]


def _beside(figures: Mapping[str, float], key: str, words: str) -> str:
    return f"{words} {number(figures[key])}" if key in figures else ""


def _on(details: Mapping[str, Any], task: str, kind: str) -> str:
    table = details.get(task, {})
    kind = kind.replace("test", "val") if table.get("set") in details.get("of_val", ()) else kind  # older runs do not say
    return f"{table.get('n', 0):,} {kind} {table.get('set', '')}"
