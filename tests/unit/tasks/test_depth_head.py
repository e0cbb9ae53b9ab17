"""The depth head learns both kinds of depth, forgives what it should, and learns from known pixels alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rectangles import rectangles
from small_models import normal, small_model
from torch import Tensor

from genrep.tasks import Depth
from genrep.tasks.depth import APART, KINDS, disorder, misfit
from genrep.types import Batch, Features, FeatureSpec

SPEC = FeatureSpec(image_size=(32, 32), taps=(6, 6), tap_stride=4, stem=(4, 8), stem_strides=(1, 2))


@pytest.fixture(params=KINDS)
def deep(request: pytest.FixtureRequest) -> tuple[Depth, Batch, Tensor]:
    """A depth head that has seen one batch of maps, whose pixels say how near they are, and its output."""
    batch = rectangles(6, num_objects=3).batch(torch.arange(6))
    stem = (batch.inv_depth[:, None].repeat(1, 4, 1, 1), normal(6, 8, 16, 16))
    features = Features(taps=(normal(6, 6, 8, 8), normal(6, 6, 8, 8, seed=1)), stem=stem)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        head = Depth(SPEC, 4, width=16, kind=request.param)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        head.loss(head(features), batch)["depth"].backward()
        optimizer.step()
    return head, batch, head(features).detach()


def test_depth_overfits_a_batch(deep: tuple[Depth, Batch, Tensor]) -> None:
    head, batch, output = deep
    found = head.results(output)
    if head.kind == "metric":
        assert float((found / batch.inv_depth - 1).abs().mean()) < 0.1
    else:
        spread = batch.inv_depth.amax((1, 2), keepdim=True) - batch.inv_depth.amin((1, 2), keepdim=True)
        truth = (batch.inv_depth - batch.inv_depth.amin((1, 2), keepdim=True)) / spread
        assert (found.amin((1, 2)) == 0).all() and (found.amax((1, 2)) == 1).all()
        assert float((found - truth).abs().mean()) < 0.1


def test_what_depth_forgives(deep: tuple[Depth, Batch, Tensor]) -> None:
    """A relative head any origin, and any scale as far as it fits; a metric one a part of a common factor, as its formula says."""
    head, batch, output = deep
    loss = head.loss(output, batch)["depth"]
    if head.kind == "relative":
        torch.testing.assert_close(head.loss(output - 7, batch)["depth"], loss)
        known = batch.inv_depth.isfinite()
        torch.testing.assert_close(misfit(3 * output - 7, batch.inv_depth, known), misfit(output, batch.inv_depth, known))
        far = head.loss(-output, batch)["depth"]
    else:
        exact = batch.inv_depth.log()
        torch.testing.assert_close(head.loss(exact + 0.2, batch)["depth"], torch.tensor(0.2 * 0.5**0.5))
        far = head.loss(output + 1, batch)["depth"]
    assert far > 2 * loss


def test_depth_learns_from_what_is_known(deep: tuple[Depth, Batch, Tensor]) -> None:
    head, batch, output = deep
    hidden = torch.arange(6)[:, None, None].expand_as(batch.inv_depth) < 2
    hidden = hidden | (torch.arange(32) < 8)
    partly = replace(batch, inv_depth=batch.inv_depth.masked_fill(hidden, float("nan")))
    leaf = output.clone().requires_grad_()
    loss = head.loss(leaf, partly)["depth"]
    loss.backward()
    assert leaf.grad is not None and leaf.grad.isfinite().all() and (leaf.grad[hidden] == 0).all() and leaf.grad[~hidden].any()
    seen = [head.loss(output[i : i + 1], partly.rows(slice(i, i + 1)))["depth"] for i in range(2, 6)]
    torch.testing.assert_close(loss.detach(), torch.stack(seen).mean())


def test_no_other_kind() -> None:
    with pytest.raises(ValueError, match=r"unknown kind of depth `metrik`.*metric"):
        small_model(tasks=("depth",), depth="metrik")


def test_a_model_perceives_it() -> None:
    image = rectangles(3, size=16).batch(torch.arange(3)).image
    seen = small_model(tasks=("detection", "depth"), depth="metric").perceive(image)
    assert seen.inv_depth is not None and seen.inv_depth.shape == (3, 16, 16) and (seen.inv_depth > 0).all()
    assert small_model().perceive(image).inv_depth is None


def test_disorder_is_the_loop_over_pairs() -> None:
    truth, nearness = torch.tensor([[[0.0, 1.0, 1.0, 2.0], [0.0, 0.0, float("nan"), 2.0]]]), normal(1, 2, 4)
    terms = []
    for y, x in torch.cartesian_prod(torch.arange(2), torch.arange(4)).tolist():
        for v, u in [(y + d, x) for d in APART] + [(y, x + d) for d in APART]:
            if v < 2 and u < 4 and float((truth[0, v, u] - truth[0, y, x]).nan_to_num().abs()) > 0:
                nearer, farther = ((v, u), (y, x)) if truth[0, v, u] > truth[0, y, x] else ((y, x), (v, u))
                terms.append(torch.nn.functional.softplus(nearness[0][farther] - nearness[0][nearer]))
    torch.testing.assert_close(disorder(nearness, truth), torch.stack(terms).mean()[None])
    assert float(disorder(nearness, torch.full_like(truth, float("nan")))) == 0
