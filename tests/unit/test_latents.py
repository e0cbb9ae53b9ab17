"""A model of latents: it perceives, generates and explains in the pixels of images, and its folder needs no other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rectangles import rectangles
from small_autoencoders import save_autoencoder
from small_models import normal, small_config, small_model

from genrep.drawing import Wishes
from genrep.model import GenRep
from genrep.posteriors import DenoisingGap
from genrep.posteriors.calibration import Calibration
from genrep.training.object_likelihoods import object_log_likelihoods, object_scores

SIZE = (32, 48)
IMAGES = normal(2, 3, *SIZE).clamp(-1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_autoencoder(tmp_path_factory.mktemp("saved") / "vae")


@pytest.fixture(scope="module")
def model(folder: Path) -> GenRep:
    tasks = ("classification", "detection", "segmentation", "depth")
    return small_model(codec="autoencoder", autoencoder=str(folder), image_size=SIZE, proposals=3, tasks=tasks).eval()


def test_it_sees_and_makes_images_of_its_size(model: GenRep) -> None:
    """A place of x0 is 2 x 2 px, a token 8 x 8."""
    assert model.x0_size == (16, 24) and model.encode(IMAGES).shape == (2, 4, 16, 24)
    seen = model.perceive(IMAGES)
    assert seen.semantic_mask is not None and seen.inv_depth is not None and seen.detections is not None
    assert seen.semantic_mask.shape == seen.inv_depth.shape == (2, *SIZE)
    boxes = torch.cat([each.boxes_xyxy_px for each in seen.detections])
    assert len(boxes) and bool((boxes[:, 2] > 24).any()) and bool((boxes <= torch.tensor([48, 32, 48, 32])).all())
    made = model.generate(torch.tensor([0, 1]))
    assert made.shape == (2, 3, *SIZE)
    torch.testing.assert_close(made[1:], model.generate(torch.tensor([1]), index=torch.tensor([1])), rtol=0, atol=1e-4)


def test_its_weights_are_not_the_autoencoder_s(model: GenRep) -> None:
    assert not any("codec" in name for name in (*model.state_dict(), *(name for name, _ in model.named_parameters())))


def test_its_folder_needs_no_other_and_says_when_it_is_damaged(tmp_path: Path) -> None:
    folder = save_autoencoder(tmp_path / "vae")
    model = small_model(codec="autoencoder", autoencoder=str(folder), image_size=SIZE, tasks=("segmentation",)).eval()
    before = model.generate(torch.tensor([0])), model.perceive(IMAGES).semantic_mask
    model.save_pretrained(tmp_path / "model")
    shutil.rmtree(folder)
    shutil.move(tmp_path / "model", tmp_path / "moved")
    again = GenRep.from_pretrained(tmp_path / "moved")
    assert torch.equal(again.generate(torch.tensor([0])), before[0]) and torch.equal(again.perceive(IMAGES).semantic_mask, before[1])
    assert "vae" not in (tmp_path / "moved" / "config.json").read_text()
    weights = tmp_path / "moved" / "autoencoder" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.safetensors is damaged"):
        GenRep.from_pretrained(tmp_path / "moved")


def test_what_is_kept_of_an_image_is_kept_to_the_pixel(model: GenRep) -> None:
    hidden = torch.zeros(2, *SIZE)
    hidden[:, 5:11, 7:20] = 1
    made = model.generate(torch.tensor([0, 1]), wishes=Wishes(image=IMAGES, hidden=hidden))
    kept = (hidden == 0)[:, None].expand_as(made)
    assert torch.equal(made[kept], IMAGES[kept]) and not torch.equal(made, IMAGES)


def test_evidence_lies_in_pixels_and_adds_up_to_what_latents_say(model: GenRep) -> None:
    model.estimator, model.calibration = DenoisingGap(budget=4), Calibration(tau=1.0, bias=(0.0,) * 4)
    found = model.evidence(IMAGES, torch.tensor([0, 1]), torch.tensor([2, 3]), budget=4)
    assert found.shape == (2, *SIZE) and torch.equal(found[:, ::2, ::2], found[:, 1::2, 1::2]) and bool(found.any())
    with pytest.raises(ValueError, match="likelihoods are of pixels"):
        model.nll(IMAGES)


def test_objects_are_told_from_the_places_that_they_cover(model: GenRep) -> None:
    batch = rectangles(4, num_objects=2, size=32).batch(torch.arange(4))
    small = small_model(codec="autoencoder", autoencoder=model.config.autoencoder, image_size=(32, 32)).eval()
    found = object_log_likelihoods(small, batch, object_scores(small, batch), estimator=DenoisingGap(budget=2), index=batch.index, seed=0, num_candidates=4)
    covered = torch.stack([(batch.instance_mask[row] == slot + 1).sum() for row, slot in zip(found.row, found.slot, strict=True)])
    assert len(covered) and torch.allclose(4 * found.area, covered.float()) and bool(found.log_lik.isfinite().all())


def test_a_size_that_does_not_divide_and_a_folder_without_codec_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"`image_size` must be a multiple of 2, the stride of the codec; found \(33, 48\)"):
        GenRep(small_config(codec="autoencoder", autoencoder=str(folder), image_size=(33, 48)))
    with pytest.raises(ValueError, match="the codec `autoencoder` needs its weights: set `autoencoder`"):
        replace(small_config(), codec="autoencoder")
    with pytest.raises(ValueError, match="`autoencoder` is the folder of the codec `autoencoder`; found it with `grey`"):
        replace(small_config(), autoencoder=str(folder))
