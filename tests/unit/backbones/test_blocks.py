"""Folded blocks say what blocks under their condition say, and know when their weights have changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from small_models import TRUNK, awake, normal
from torch import Tensor

from genrep.backbones import DiT, DiTConfig
from genrep.layers import StandardConv2d


def trunk(config: DiTConfig = TRUNK) -> DiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return awake(DiT(config, channels=2, image_size=(16, 24), num_classes=3))


def x0(model: DiT) -> Tensor:
    return normal(2, 2, 16, 24).to(model.final_modulation.weight)


def clean(model: DiT) -> tuple[Tensor, ...]:
    """Taps of a clean pass as a plain pass computes them."""
    with torch.enable_grad():
        return tuple(tap.detach() for tap in model(x0(model), x0(model).new_zeros(2), None).features.taps)


@torch.no_grad()
def assert_right(model: DiT, tolerance: float = 1e-5) -> None:
    for folded, plain in zip(model.clean_features(x0(model)).taps, clean(model), strict=True):
        torch.testing.assert_close(folded, plain, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("class_blocks", [0, 1, 3])
def test_folded_is_unfolded(class_blocks: int) -> None:
    assert_right(trunk(replace(TRUNK, class_blocks=class_blocks)))


def test_in_double_it_is_so_to_the_last_digits() -> None:
    assert_right(trunk().double(), 1e-13)


def test_in_half_precision_nearly() -> None:
    model = trunk()
    with torch.autocast("cpu", torch.bfloat16):
        assert_right(model, 0.1)
    assert_right(model)


def with_gradients(model: DiT, step: Callable[[list[Tensor]], object]) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    step(list(model.parameters()))


def by_adam(model: DiT) -> None:
    with_gradients(model, lambda some: torch.optim.AdamW(some, lr=0.1, fused=True).step())


def by_muon(model: DiT) -> None:
    with_gradients(model, lambda some: torch.optim.Muon([p for p in some if p.ndim == 2], lr=0.1).step())


def by_loading(model: DiT) -> None:
    model.load_state_dict(awake(copy.deepcopy(model), seed=1).state_dict())


def by_averaging(model: DiT) -> None:
    """As the momentum teacher follows."""
    torch._foreach_lerp_([p.detach() for p in model.parameters()], [p.detach() for p in awake(copy.deepcopy(model), seed=1).parameters()], 0.9)


@pytest.mark.parametrize("change", [by_adam, by_muon, by_loading, by_averaging])
def test_what_is_kept_follows_the_weights(change: Callable[[DiT], None]) -> None:
    model = trunk()
    assert_right(model)
    before = clean(model)
    change(model)
    assert any(float((a - b).abs().max()) > 1e-3 for a, b in zip(before, clean(model), strict=True))
    assert_right(model)


def test_a_copy_keeps_nothing_of_the_original() -> None:
    model = trunk()
    assert_right(model)
    other = awake(copy.deepcopy(model), seed=2)
    assert_right(other)
    assert_right(model)


def test_with_gradient_it_is_a_plain_pass() -> None:
    model = trunk()
    found = model.clean_features(x0(model)).taps[-1]
    assert torch.equal(found, clean(model)[-1])
    found.sum().backward()
    assert model.embedding.null.grad is not None


def test_filters_of_a_convolution_follow_its_weights() -> None:
    conv, image = awake(StandardConv2d(2, 8, 3)), normal(1, 2, 5, 5)
    for _ in range(2):
        with torch.no_grad():
            kept = [conv(image) for _ in range(2)]
        assert all(torch.equal(each, conv(image)) for each in kept)
        awake(conv, seed=1)
