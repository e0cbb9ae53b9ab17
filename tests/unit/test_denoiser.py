"""The denoiser: one function for samplers and posteriors, and what must not leak through it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import TRUNK, awake, normal, small_model
from torch import Tensor

from genrep import denoiser as denoiser_module
from genrep.backbones import Hidden
from genrep.denoiser import Denoiser, pool
from genrep.parametrization import PREDICTIONS, x0_from
from genrep.posteriors.base import one_by_one
from genrep.schedules import SCHEDULES
from genrep.types import Denoised

T = torch.tensor([0.1, 0.5, 0.95])
SETS = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]]).float().expand(3, -1, -1)


def xt() -> Tensor:
    return normal(3, 1, 16, 16)


def without_semantics(denoiser: Denoiser, xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
    return denoiser.modulate(denoiser.noised_pass(xt, t, y), xt, t, torch.zeros(len(xt), 64))


@pytest.mark.parametrize("modulator", ["none", "semantic", "drawn"])
@pytest.mark.parametrize(("class_blocks", "class_rank"), [(0, 0), (0, 5), (1, 0), (3, 0)])
@pytest.mark.parametrize("schedule", SCHEDULES)
@torch.no_grad()
def test_candidates_are_the_denoiser_without_semantics(modulator: str, class_blocks: int, class_rank: int, schedule: str) -> None:
    trunk = replace(TRUNK, class_blocks=class_blocks, class_rank=class_rank)
    denoiser = small_model(modulator=modulator, trunk=trunk, schedule=SCHEDULES[schedule]()).denoiser
    plain = one_by_one(lambda xt, t, y: without_semantics(denoiser, xt, t, y))
    torch.testing.assert_close(denoiser.candidates(xt(), T, SETS), plain(xt(), T, SETS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [1, 2 * 5 * 16 * 16])
@torch.no_grad()
def test_many_candidates_of_large_images_take_turns(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, sizes = small_model().denoiser, list[int]()
    whole, prefix = denoiser.candidates(xt(), T, SETS), denoiser.trunk.prefix

    def counted(xt: Tensor, t: Tensor) -> Hidden:
        sizes.append(len(xt))
        return prefix(xt, t)

    monkeypatch.setattr(denoiser_module, "MOST_PIXELS", most)
    monkeypatch.setattr(denoiser.trunk, "prefix", counted)
    torch.testing.assert_close(denoiser.candidates(xt(), T, SETS), whole, rtol=1e-4, atol=1e-5)
    assert sizes == ([1, 1, 1] if most == 1 else [2, 1])


@torch.no_grad()
def test_passes_for_posteriors_see_no_semantics() -> None:
    denoiser = small_model().denoiser
    candidates, forward = denoiser.candidates(xt(), T, SETS), denoiser(xt(), T, SETS[:, 0]).x0_hat
    awake(denoiser.modulator.embed, seed=1)
    assert torch.equal(denoiser.candidates(xt(), T, SETS), candidates)
    assert not torch.equal(denoiser(xt(), T, SETS[:, 0]).x0_hat, forward)


@torch.no_grad()
def test_semantics_of_the_condition_come_before_the_images_own() -> None:
    denoiser, sem = small_model().denoiser, normal(3, 64, seed=5)
    sem[1] = 0
    y = denoiser.condition(SETS[:, 0], sem)
    noised = denoiser.noised_pass(xt(), T, y)
    told = sem.clone()
    told[1] = denoiser.modulator.semantics(noised.pooled)[1]
    assert torch.equal(denoiser(xt(), T, y).x0_hat, denoiser.modulate(noised, xt(), T, told).x0_hat)
    looped = denoiser.looped(T, y)(xt(), T[:1].expand(3), y).x0_hat
    torch.testing.assert_close(looped, denoiser(xt(), T[:1].expand(3), y).x0_hat, rtol=1e-4, atol=1e-5)
    assert torch.equal(small_model(modulator="semantic").denoiser.condition(SETS[:, 0], sem), SETS[:, 0])


@torch.no_grad()
def test_samplers_see_the_images_own_semantics() -> None:
    denoiser, y = small_model().denoiser, SETS[:, 0]
    noised = denoiser.noised_pass(xt(), T, y)
    sem = denoiser.modulator.semantics(noised.features.taps[-1].mean((-2, -1)))
    assert torch.equal(denoiser(xt(), T, y).x0_hat, denoiser.modulate(noised, xt(), T, sem).x0_hat)
    assert torch.equal(noised.pooled, pool(noised.features))


@pytest.mark.parametrize("kind", [kind for kind in PREDICTIONS if kind != "eps"])
@torch.no_grad()
def test_the_trunks_output_means_what_the_configuration_says(kind: str) -> None:
    model = small_model(prediction=kind, modulator="none")
    output = model.denoiser.trunk.decode(model.denoiser.trunk(xt(), T, SETS[:, 0]))
    assert torch.equal(model.denoise(xt(), T, SETS[:, 0]).x0_hat, x0_from(output, xt(), T, kind=kind, schedule=model.schedule))


@torch.no_grad()
def test_says_float32_under_autocast() -> None:
    denoiser = small_model().denoiser
    exact = denoiser(xt(), T, SETS[:, 0])
    with torch.autocast("cpu", torch.bfloat16):
        denoised, candidates = denoiser(xt(), T, SETS[:, 0]), denoiser.candidates(xt(), T, SETS)
    assert {denoised.x0_hat.dtype, denoised.log_std_scale.dtype, candidates.dtype} == {torch.float32}
    torch.testing.assert_close(denoised.x0_hat, exact.x0_hat, rtol=0, atol=0.1)


def test_without_a_condition_features_are_those_of_null() -> None:
    """They depend on no class embedding but null, and not on the modulator."""
    denoiser = small_model().denoiser
    features = denoiser.trunk(xt(), T, None).features
    total = sum(((tap**2).sum() for tap in (*features.taps, *features.stem)), torch.zeros(()))
    total.backward()
    embedding = denoiser.trunk.embedding
    assert embedding.null.grad.abs().max() > 0
    assert embedding.classes.grad is None or not embedding.classes.grad.any()
    assert embedding.set.grad is None or not embedding.set.grad.any()
    assert all(parameter.grad is None for parameter in denoiser.modulator.parameters())
