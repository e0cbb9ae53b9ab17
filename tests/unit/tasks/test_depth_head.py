"""The depth head learns both kinds of depth, forgives what it should, and learns from known pixels alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rectangles import rectangles
from small_models import normal, small_model
from torch import Tensor

from genrep.model import GenRep
from genrep.storage import MANIFEST, read_json, sha256_of, write_json
from genrep.tasks import Depth, run_tasks
from genrep.tasks.depth import APART, KINDS, disorder, misfit
from genrep.types import Batch, Features, FeatureSpec, Objects

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


def test_a_pixel_is_nearer_as_its_object_is() -> None:
    """By what the second look has of the object; where there is none the map speaks alone."""
    head = Depth(replace(SPEC, seen=7), 4, width=16)
    features = Features(taps=(normal(2, 6, 8, 8), normal(2, 6, 8, 8, seed=1)), stem=(normal(2, 4, 32, 32), normal(2, 8, 16, 16)))
    owner = torch.full((2, 3, 32, 32), -40.0)
    owner[:, 0, :, :10], owner[:, 2, :, 20:] = 40.0, 40.0
    objects = Objects(normal(2, 3, 4), owner, normal(2, 3, 7, seed=2))
    alone, nearness = head(features), head.of_object(objects.seen).squeeze(-1)
    expected = alone.clone()
    expected[:, :, :10] += nearness[:, 0, None, None]
    expected[:, :, 20:] += nearness[:, 2, None, None]
    torch.testing.assert_close(head(replace(features, objects=objects)), expected)
    assert (nearness[:, 0] - nearness[:, 2]).abs().min() > 1e-3
    without = Depth(replace(SPEC, seen=7), 4, width=16, of_objects=False)
    assert without.of_object is None and torch.equal(without(replace(features, objects=objects)), without(features))
    assert Depth(SPEC, 4, width=16).of_object is None


def test_depth_learns_from_objects_and_teaches_detection_nothing() -> None:
    model = small_model(image_size=(32, 32), codec="pixels", tasks=("detection", "depth"), proposals=4)
    batch = rectangles(4, num_objects=2, colour=True).batch(torch.arange(4))
    *_, (_, head, output) = run_tasks(model.tasks(), model.clean_features(model.encode(batch.image)))
    head.loss(output, batch)["depth"].backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    assert not any(name.startswith("heads.detection.") for name in reached)
    assert {name for name in reached if ".of_object." in name} == {f"heads.depth.of_object.{part}" for part in ("0.weight", "0.bias", "2.weight", "2.bias")}


def test_a_model_of_before_objects_had_depth_still_loads(tmp_path: Path) -> None:
    model = small_model(tasks=("detection", "depth"), proposals=4, object_depth=False)
    model.save_pretrained(tmp_path / "model")
    stored = read_json(tmp_path / "model" / "config.json")
    del stored["config"]["object_depth"]
    write_json(tmp_path / "model" / "config.json", stored)
    names = ("config.json", "model.safetensors", "README.md")
    write_json(tmp_path / "model" / MANIFEST, {name: sha256_of(tmp_path / "model" / name) for name in names})
    image = rectangles(3, size=16).batch(torch.arange(3)).image
    assert torch.equal(GenRep.from_pretrained(tmp_path / "model").perceive(image).inv_depth, model.perceive(image).inv_depth)
