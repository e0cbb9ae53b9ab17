"""Candidates of objects, and their share of the image's log-odds."""

from __future__ import annotations

from dataclasses import replace

import torch
from rectangles import rectangles

from genrep.posteriors.base import one_by_one
from genrep.posteriors.denoising_gap import DenoisingGap
from genrep.posteriors.objects import object_log_likelihood, region_of, replace_class
from genrep.randomness import SampleGenerator
from genrep.schedules import RectifiedFlow, expand
from genrep.types import IGNORE, Denoised


def test_own_class_gives_back_what_the_image_holds() -> None:
    classes = (3 * torch.rand(6, 4, generator=torch.Generator().manual_seed(0))).floor()
    label = torch.tensor([0, 1, 2, 3, 0, 1])
    classes[torch.arange(6), label] += 1
    held = replace_class(classes, label, torch.arange(4).expand(6, 4))
    assert torch.equal(held[torch.arange(6), label], classes) and torch.equal(held.sum(2), classes.sum(1, keepdim=True).expand(6, 4))


def test_one_object_is_replaced_the_others_stay() -> None:
    classes = torch.tensor([[1.0, 1.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0]])
    held = replace_class(classes, torch.tensor([0, 0]), torch.tensor([[1, 2], [1, 2]]))
    assert held.tolist() == [[[0, 2, 0, 0], [0, 1, 1, 0]], [[1, 2, 0, 0], [1, 1, 1, 0]]]
    assert classes.tolist() == [[1, 1, 0, 0], [2, 1, 0, 0]]


def test_log_likelihood_sums_over_the_region() -> None:
    maps = torch.arange(24.0).reshape(1, 2, 3, 4)
    region = torch.zeros(1, 3, 4)
    region[0, 1, 1:3] = 1
    assert object_log_likelihood(maps, region).tolist() == [[5.0 + 6.0, 17.0 + 18.0]]


def test_an_object_covers_its_mask_and_where_an_image_has_none_its_box() -> None:
    batch = rectangles(2, num_objects=2, size=16).batch(torch.arange(2))
    unknown = batch.instance_mask.clone()
    unknown[1] = IGNORE
    row, slot = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    found = region_of(replace(batch, instance_mask=unknown), row, slot)
    expected = (batch.instance_mask[row] == slot[:, None, None] + 1).float()
    assert torch.equal(found, expected) and bool((found.sum((1, 2)) > 0).all()), "a rectangle is its box"
    ragged = batch.instance_mask.clone()
    ragged[0, :, ::2] = 0
    assert torch.equal(region_of(replace(batch, instance_mask=ragged), row[:2], slot[:2]), expected[:2] * (torch.arange(16) % 2))


def test_an_object_is_told_from_its_alternatives_whatever_else_is_there() -> None:
    """Two objects side by side, each a patch of its class's grey; the denoiser knows {a, b} as a left of b."""
    grey, schedule = torch.tensor([-0.9, -0.3, 0.3, 0.9]), RectifiedFlow()

    def denoise(xt: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> Denoised:
        order = y * torch.tensor([4.0, 3.0, 2.0, 1.0])
        left, right = grey[order.argmax(1)], grey[3 - y.flip(1).argmax(1)]
        mean = torch.cat([left[:, None, None, None].expand(-1, 1, 4, 4), right[:, None, None, None].expand(-1, 1, 4, 4)], dim=3)
        alpha, sigma2 = expand(schedule.alpha(t), xt), expand(schedule.sigma(t), xt) ** 2
        return Denoised((alpha * 0.1 * xt + sigma2 * mean) / (alpha**2 * 0.1 + sigma2), torch.zeros_like(t))

    left_region = torch.cat([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)], dim=2)
    noise = SampleGenerator(0, torch.tensor([0])).normal(1, 4, 8)
    for a in (0, 1, 2):
        x0 = torch.cat([grey[a].expand(1, 1, 4, 4), grey[3].expand(1, 1, 4, 4)], dim=3) + 0.1**0.5 * noise
        classes = torch.zeros(1, 4).index_fill(1, torch.tensor([a, 3]), 1.0)
        held = replace_class(classes, torch.tensor([a]), torch.arange(3)[None])
        maps = DenoisingGap(budget=16).maps(one_by_one(denoise), x0, held, schedule=schedule, generator=SampleGenerator(0, torch.tensor([0])))
        found = object_log_likelihood(maps, left_region)
        exact = -((x0[:, :, :, :4] - grey[:3].reshape(1, 3, 1, 1)) ** 2).sum((-2, -1)) / 0.2
        torch.testing.assert_close(found.log_softmax(1).exp(), exact.log_softmax(1).exp(), rtol=0, atol=0.05)
        assert object_log_likelihood(maps, 1 - left_region).abs().max() < 1e-3
