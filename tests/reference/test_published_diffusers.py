"""A DiT's published weights say here what they say in diffusers, at every time and of every class; and a sampler makes of them what theirs does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import normal
from small_pipelines import NULL, save_pipeline, their

from genrep.backbones import PlainDiTConfig
from genrep.backbones.plain_dit import place_codes
from genrep.model import GenRep
from genrep.published import published_model
from genrep.randomness import SampleGenerator
from genrep.samplers import Euler
from genrep.schedules import LinearBetas

XT = normal(3, 4, 8, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("published") / "dit")


@pytest.fixture(scope="module")
def model(folder: Path) -> GenRep:
    return published_model(folder)


@torch.no_grad()
@pytest.mark.parametrize("time", [0, 1, 500, 999])
def test_the_network_is_theirs(folder: Path, model: GenRep, time: int) -> None:
    labels = torch.tensor([0, 2, NULL])
    expected = their(folder)(XT, timestep=torch.full((3,), time), class_labels=labels).sample[:, :4]
    t, y = torch.full((3,), (time + 1) / 1000), model.condition(labels.where(labels != NULL, -1))
    trunk = model.denoiser.trunk
    torch.testing.assert_close(trunk.decode(trunk(XT, t, y)), expected, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(trunk.decode(trunk(XT[2:], t[2:], None)), expected[2:], rtol=1e-4, atol=2e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.1


def test_noise_grows_as_theirs_does() -> None:
    theirs = diffusers.DDPMScheduler(beta_schedule="linear").alphas_cumprod.double()
    ours = LinearBetas().alpha(torch.arange(1, 1001, dtype=torch.float64) / 1000) ** 2
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=0)  # a product of a thousand in float32


@torch.no_grad()
def test_samples_are_theirs(folder: Path, model: GenRep) -> None:
    """DDIM in ten steps from the last of the times to the first, decoded; the last step to the clean image is ours in both."""
    label, network = torch.tensor([1, 1]), their(folder)
    scheduler: Any = diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    xt = start = normal(2, 4, 8, 8, seed=1)
    for time in scheduler.timesteps:
        xt = scheduler.step(network(xt, timestep=time.expand(2), class_labels=label).sample[:, :4], time, xt).prev_sample
    y = torch.cat([model.condition(label), torch.zeros(2, 64)], 1)
    found = Euler(num_steps=10)(model.denoise, start, y, schedule=model.schedule, generator=SampleGenerator(0, torch.arange(2), "generate"))
    torch.testing.assert_close(found, xt, rtol=1e-3, atol=1e-3)
    assert model.generate(label).shape == (2, 3, 16, 16)


def test_what_it_is(model: GenRep) -> None:
    assert model.class_names == ("tench", "crane 1", "crane 2") and model.image_size == (16, 16) and not list(model.tasks())
    assert model.config.trunk == PlainDiTConfig(width=32, depth=4, num_heads=2, taps=(1, 2, 3), patch=2, places=4)


def test_other_sizes_spread_the_same_places(folder: Path) -> None:
    """As diffusers does it: images of twice the size have their tokens half as far apart."""
    embed: Any = diffusers.models.embeddings.get_2d_sincos_pos_embed
    torch.testing.assert_close(place_codes((4, 4), 32, 4), embed(32, (4, 4), base_size=4).float())
    torch.testing.assert_close(place_codes((8, 8), 32, 4), embed(32, (8, 8), base_size=4).float())


def changed(folder: Path, there: Path, part: str, **values: Any) -> Path:
    shutil.copytree(folder, there)
    path = there / part / ("config.json" if part == "transformer" else "scheduler_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return there


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("transformer", {"_class_name": "UNet2DModel"}, "holds a UNet2DModel; expected the transformer of a DiT"),
        ("transformer", {"activation_fn": "geglu"}, "`activation_fn` in .*transformer is 'geglu'; only 'gelu-approximate' can be read"),
        ("transformer", {"num_layers": 5}, r"has no tensor 'transformer_blocks\.4\..*, which a DiT of 5 blocks has"),
        ("transformer", {"attention_head_dim": 32}, r"does not fit its config\.json"),
        ("transformer", {"num_layers": 0}, "`num_layers` of the published model must be a whole number from 1; found 0"),
        ("scheduler", {"beta_schedule": "scaled_linear"}, "`beta_schedule` in .*scheduler is 'scaled_linear'; only 'linear' can be read"),
        ("scheduler", {"beta_end": "much"}, "`beta_end` of the published model's scheduler must be a number; found 'much'"),
        ("scheduler", {"beta_end": 1e-5}, "`first` < `last` < 1; found 1000, 0.0001, 1e-05"),
        ("scheduler", {"prediction_type": "v_prediction"}, "`prediction_type` in .* is 'v_prediction'"),
    ],
)
def test_what_is_of_another_kind_is_refused(folder: Path, tmp_path: Path, part: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        published_model(changed(folder, tmp_path / "other", part, **values))


def test_weights_that_are_missing_or_could_run_code_or_differ_between_blocks_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json is missing: expected the folder of a DiT's pipeline"):
        published_model(tmp_path)
    there = changed(folder, tmp_path / "other", "transformer")
    weights = there / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["transformer_blocks.2.norm1.emb.timestep_embedder.linear_1.bias"] += 1
    save_file(tensors, weights)
    with pytest.raises(ValueError, match="what t and y are to blocks 0 and 2 differs"):
        published_model(there)
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(ValueError, match="other formats may run code, and are not read"):
        published_model(there)
