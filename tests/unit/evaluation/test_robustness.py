"""Corruptions: mild to severe, of each image by itself, and what is left of perception under them."""

from __future__ import annotations

import pytest
import torch
from rectangles import rectangles
from small_models import small_model
from torch import Tensor

from genrep.evaluation.perception import see
from genrep.evaluation.robustness import CORRUPTIONS, HEADLINES, TITLES, corrupted, measure_robustness, robustness_figures
from genrep.tasks import TASKS


def images(channels: int = 3) -> Tensor:
    """Smooth shapes with an edge and some texture, in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-0.8, 0.6, 32).expand(4, channels, 32, 32).clone()
    ramp[:, :, 8:20, 10:26] = 0.7
    ramp[:, 1:] -= 0.3
    return (ramp + 0.1 * torch.randn(4, channels, 32, 32, generator=generator)).clamp(-1, 1).expand(-1, 3, -1, -1)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_stronger_is_further_from_the_image(kind: str) -> None:
    distances = [float((corrupted(images(), kind, strength) - images()).square().mean()) for strength in CORRUPTIONS[kind].strengths]
    assert len(distances) == 5 and distances == sorted(distances) and 0 < distances[0] < distances[-1]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_stays_an_image_of_its_kind_and_depends_on_its_place_alone(kind: str) -> None:
    strength = CORRUPTIONS[kind].strengths[-1]
    grey, colour = corrupted(images(1), kind, strength), corrupted(images(), kind, strength)
    for spoilt in (grey, colour):
        assert spoilt.shape == images().shape and spoilt.dtype == torch.float32 and spoilt.abs().max() <= 1
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])
    assert (colour[:, 0] - colour[:, 1]).abs().max() > 0.01
    assert torch.equal(corrupted(images()[:2], kind, strength), colour[:2])


def test_noise_has_the_spread_it_says() -> None:
    flat = torch.zeros(64, 3, 32, 32)
    assert float(corrupted(flat, "noise", 0.173).std()) == pytest.approx(0.173, rel=0.02)


def test_contrast_keeps_the_mean_and_its_share() -> None:
    spoilt = corrupted(images(), "contrast", 0.4)
    torch.testing.assert_close(spoilt.mean((-2, -1)), images().mean((-2, -1)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(spoilt.std((-2, -1)), 0.4 * images().std((-2, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quick", [True, False])
def test_every_task_is_followed_through_every_corruption(quick: bool) -> None:
    sets = [rectangles(6, num_objects=num, size=16, name=name) for num, name in ((1, "one"), (2, "two"))]
    model = small_model(tasks=tuple(TASKS), depth="metric")
    figures = {figure.name: figure for figure in robustness_figures(model, sets, quick=quick)}
    followed = set(HEADLINES) - {"order"}  # measured depth
    rows = {name.split(": ")[0] for name in figures}
    assert rows == {"clean"} | {
        f"{kind} {strength:g}" for kind, each in CORRUPTIONS.items() for strength in (each.strengths[2:3] if quick else each.strengths)
    } | (set() if quick else {f"{kind}, mean" for kind in CORRUPTIONS})
    assert {name.split(": ")[1] for name in figures} == followed and len(figures) == len(rows) * len(followed)
    if not quick:
        values = [figures[f"blur {strength:g}: top1"].value for strength in CORRUPTIONS["blur"].strengths]
        assert figures["blur, mean: top1"].value == pytest.approx(sum(values) / 5)  # type: ignore[arg-type]
        assert figures["clean: top1"].interval and figures["blur, mean: top1"].interval is None


def test_an_evaluation_tells_the_same_in_short() -> None:
    sets = [rectangles(6, num_objects=num, size=16, name=name) for num, name in ((1, "one"), (2, "two"))]
    model = small_model(tasks=("classification", "detection"))
    figures = {figure.name: figure.value for figure in robustness_figures(model, sets)}
    seen = [see(model, rectangles(9, num_objects=1, size=16, name="one")).first(6), see(model, sets[1]).first(100)]
    found = measure_robustness(model, seen).figures
    assert set(found) == {f"{kind}_{key}" for kind in ("clean", "noise", "corruptions") for key in ("top1", "ap50")}
    middle = [f"{kind} {each.strengths[2]:g}" for kind, each in CORRUPTIONS.items() if kind != "noise"]
    for key in ("top1", "ap50"):
        assert found[f"clean_{key}"] == figures[f"clean: {key}"]
        assert found[f"noise_{key}"] == pytest.approx(figures[f"noise, mean: {key}"])
        assert found[f"corruptions_{key}"] == pytest.approx(sum(figures[f"{row}: {key}"] or 0 for row in middle) / len(middle))
    assert TITLES.keys() == HEADLINES.keys()
