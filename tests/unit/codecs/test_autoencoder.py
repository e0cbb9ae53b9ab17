"""Latents of a saved autoencoder: those that diffusers finds, of unit order, and whatever is no autoencoder is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
from small_autoencoders import SCALE, SHIFT, save_autoencoder
from small_models import normal

from genrep.codecs import Autoencoder, diffusers_autoencoder, make_codec
from genrep.storage import read_json, write_json

IMAGE = normal(3, 3, 16, 24).clamp(-1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_autoencoder(tmp_path_factory.mktemp("pipeline") / "vae")


@pytest.mark.parametrize("most", [2**21, 16 * 24, 1])
def test_it_is_what_diffusers_makes_of_the_folder_however_many_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(diffusers_autoencoder, "MOST_PIXELS", most)
    network = diffusers.AutoencoderKL.from_pretrained(folder)
    with torch.no_grad():
        latent = network.encode(IMAGE).latent_dist.mode()
        image = network.decode(latent).sample.clamp(-1, 1)
    for named in (folder, folder.parent):  # a pipeline's has it as `vae`
        codec = make_codec("autoencoder", str(named))
        assert (codec.channels, codec.stride, codec.image_channels) == (4, 2, 3)
        x0 = codec.encode(IMAGE)
        assert x0.shape == (3, 4, 8, 12) and not x0.requires_grad
        torch.testing.assert_close(x0, (latent - SHIFT) * SCALE, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(codec.decode(x0), image, rtol=1e-4, atol=1e-5)
    assert codec.encode(IMAGE.double()).dtype == torch.float64


def test_copies_share_it_and_what_is_saved_is_the_same(folder: Path, tmp_path: Path) -> None:
    codec = Autoencoder(folder)
    assert copy.deepcopy(codec) is codec
    codec.save(tmp_path / "copy")
    assert torch.equal(Autoencoder(tmp_path / "copy").encode(IMAGE), codec.encode(IMAGE))


def test_who_only_asks_for_sizes_reads_no_weights(folder: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", read_json(folder / "config.json"))
    codec = Autoencoder(tmp_path)
    assert codec.channels == 4
    with pytest.raises(ValueError, match="holds no readable autoencoder"):
        codec.encode(IMAGE)


def _pickled(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "diffusion_pytorch_model.bin")


def _cut(folder: Path) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1_000])


@pytest.mark.parametrize("spoil", [_pickled, _cut], ids=["pickled", "cut"])
def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(save_autoencoder(tmp_path / "vae"))
    with pytest.raises(ValueError, match=r"vae holds no readable autoencoder .* as safetensors"):
        Autoencoder(tmp_path / "vae").encode(IMAGE)


@pytest.mark.parametrize("changes", [{"_class_name": "UNet2DModel"}, {"in_channels": 1}, {"out_channels": 4}])
def test_other_networks_are_refused(folder: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    write_json(tmp_path / "config.json", {**read_json(folder / "config.json"), **changes})
    with pytest.raises(ValueError, match="expected an AutoencoderKL of RGB images"):
        Autoencoder(tmp_path)
    with pytest.raises(ValueError, match=r"holds no autoencoder: expected config\.json"):
        Autoencoder(tmp_path / "nothing")
