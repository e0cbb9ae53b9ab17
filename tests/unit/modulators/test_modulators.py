"""Modulators: nothing at the start, then the paper's equations (6) to (9) in terms of x0_hat."""

from __future__ import annotations

import pytest
import torch
from small_models import awake, normal
from torch import Tensor

from genrep.modulators import MODULATORS, DrawnSemantics, Modulator, NoModulation, SemanticModulation
from genrep.modulators.semantic import MAX_LOG_STD, NUM_BASES, bases
from genrep.parametrization import reverse_kernel
from genrep.schedules import SCHEDULES, Schedule

PATCH, CHANNELS = 4, 2
LOGSNR = torch.tensor([-6.0, 0.5, 4.0])


def make(name: str = "semantic") -> Modulator:
    return MODULATORS[name](width=12, patch=PATCH, channels=CHANNELS, num_classes=4)


def inputs() -> tuple[Tensor, Tensor]:
    return normal(3, CHANNELS, 8, 12, seed=1), normal(3, CHANNELS, 8, 12, seed=2)


@pytest.mark.parametrize("name", MODULATORS)
def test_changes_nothing_at_initialisation(name: str) -> None:
    modulator, (x0_hat, xt) = make(name), inputs()
    denoised = modulator(x0_hat, xt, LOGSNR, modulator.semantics(normal(3, 12)))
    assert torch.equal(denoised.x0_hat, x0_hat) and torch.equal(denoised.log_std_scale, torch.zeros(3))


def test_no_modulation_stays_none() -> None:
    modulator, (x0_hat, xt) = awake(make("none")), inputs()
    assert isinstance(modulator, NoModulation) and not list(modulator.parameters())
    assert modulator(x0_hat, xt, LOGSNR, modulator.semantics(normal(3, 12))).x0_hat is x0_hat


def test_bases_are_a_smooth_partition_of_one() -> None:
    logsnr = torch.linspace(-20, 20, 4001)
    phi = bases(logsnr)
    assert phi.shape == (4001, NUM_BASES) and phi.min() >= 0
    torch.testing.assert_close(phi.sum(1), torch.ones(4001))
    assert phi.diff(dim=0).abs().max() < 0.01
    assert set(phi.argmax(1).tolist()) == set(range(NUM_BASES))


def test_shifts_each_token_by_a_linear_map_of_itself_and_semantics() -> None:
    modulator, (x0_hat, xt) = awake(make()), inputs()
    assert isinstance(modulator, SemanticModulation)
    sem, phi = modulator.semantics(normal(3, 12)), bases(LOGSNR)
    found = modulator(x0_hat, xt, LOGSNR, sem).x0_hat - x0_hat
    sigma = torch.sigmoid(-LOGSNR).sqrt()
    for b in range(3):
        weight = sum(phi[b, j] * modulator.mean[j] for j in range(NUM_BASES))
        for row in range(0, 8, PATCH):
            for column in range(0, 12, PATCH):
                token = xt[b, :, row : row + PATCH, column : column + PATCH].flatten()
                expected = (sigma[b] * weight @ torch.cat([token, sem[b]])).view(CHANNELS, PATCH, PATCH)
                torch.testing.assert_close(found[b, :, row : row + PATCH, column : column + PATCH], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=SCHEDULES)
def test_shifts_the_mean_of_the_reverse_kernel(schedule: Schedule) -> None:
    modulator, (x0_hat, xt) = awake(make()), inputs()
    t, s = torch.tensor([0.9, 0.5, 0.2]), torch.tensor([0.8, 0.1, 0.15])
    modulated = modulator(x0_hat, xt, schedule.logsnr(t), modulator.semantics(normal(3, 12)))
    kernel = reverse_kernel(schedule, t, s)
    var_ts = schedule.sigma(t) ** 2 - (schedule.alpha(t) / schedule.alpha(s)) ** 2 * schedule.sigma(s) ** 2
    factor = schedule.alpha(s) * var_ts / schedule.sigma(t) ** 2
    shift = kernel.mean(xt, modulated.x0_hat) - kernel.mean(xt, x0_hat)
    torch.testing.assert_close(shift, factor[:, None, None, None] * (modulated.x0_hat - x0_hat), rtol=1e-4, atol=1e-5)
    assert shift.abs().max() > 1e-2


def test_leaves_clean_input_alone() -> None:
    modulator, (x0_hat, xt) = awake(make()), inputs()
    clean = modulator(x0_hat, xt, torch.full((3,), 20.0), modulator.semantics(normal(3, 12)))
    torch.testing.assert_close(clean.x0_hat, x0_hat, rtol=0, atol=1e-3)


def test_std_is_positive_and_bounded_whatever_the_weights() -> None:
    modulator, (x0_hat, xt) = awake(make()), inputs()
    with torch.no_grad():
        for parameter in modulator.parameters():
            parameter.mul_(1e4)
    scale = modulator(x0_hat, xt, LOGSNR, modulator.semantics(normal(3, 12))).log_std_scale
    assert scale.abs().max() <= MAX_LOG_STD and scale.exp().min() > 0


def test_semantics_have_one_scale() -> None:
    modulator = awake(make())
    sem = modulator.semantics(normal(5, 12) * torch.tensor([[0.1], [1.0], [10.0], [100.0], [1000.0]]))
    torch.testing.assert_close(sem.mean(1), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(sem.var(1, unbiased=False), torch.ones(5), rtol=0, atol=1e-2)


def test_the_halves_make_the_whole() -> None:
    (x0_hat, xt), whole = inputs(), awake(make())
    pooled = normal(3, 12)
    halves = [make("mean"), make("spread")]
    for half in halves:
        half.load_state_dict(whole.state_dict())
    both, mean, spread = (m(x0_hat, xt, LOGSNR, m.semantics(pooled)) for m in (whole, *halves))
    assert torch.equal(mean.x0_hat, both.x0_hat) and torch.equal(mean.log_std_scale, torch.zeros(3))
    assert torch.equal(spread.x0_hat, x0_hat) and torch.equal(spread.log_std_scale, both.log_std_scale)
    assert both.log_std_scale.all() and (both.x0_hat - x0_hat).abs().max() > 1e-2


@pytest.mark.parametrize("num_updates", [3, 900])
def test_drawn_semantics_are_of_standardised_features(num_updates: int) -> None:
    """At first of the mean over all that was seen, then of what was seen last; of micro-batches that are noted twice, as of their whole."""
    modulator = make("drawn")
    assert isinstance(modulator, DrawnSemantics)
    shift, scale = torch.linspace(-5, 5, 12), torch.linspace(0.1, 3, 12)
    for update in range(num_updates):
        seen = (num_updates > 3) * (update < 300) + shift + scale * normal(8, 12, seed=update)
        for micro_batch in (seen[:3], seen[3:]) * 2:
            modulator.observe(micro_batch)
        modulator.settle()
    if num_updates == 3:
        seen = torch.cat([shift + scale * normal(8, 12, seed=update) for update in range(3)])
        torch.testing.assert_close(modulator.centre, seen.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(modulator.scale, seen.std(0, unbiased=False), rtol=1e-3, atol=1e-4)
    assert (modulator.centre - shift).abs().max() < 0.9 and (modulator.scale / scale - 1).abs().max() < 0.5 + 4 * (num_updates > 3)
    before = modulator.centre.clone()
    modulator.settle()
    assert torch.equal(modulator.centre, before)
    with torch.no_grad():
        modulator.embed.weight.copy_(torch.eye(64, 12))
        modulator.embed.bias.zero_()
    pooled = normal(6, 12, seed=7)
    standard = torch.nn.functional.pad((pooled - modulator.centre) / modulator.scale, (0, 52))
    torch.testing.assert_close(modulator.semantics(pooled), torch.nn.functional.layer_norm(standard, (64,)), rtol=1e-4, atol=1e-5)
