"""A run whose diffusion lives in an autoencoder's latents: all that teaches and is taught, stopped and begun from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_autoencoders import save_autoencoder
from toy_runs import assert_same_model_tensors, config, events, rows, stopped

from genrep.cli.runs import resolve_config
from genrep.model import GenRep
from genrep.training import RunFolder, train

pytestmark = pytest.mark.usefixtures("toy_world")


def test_a_run_of_latents_is_a_run(tmp_path: Path) -> None:
    """Posteriors of images and objects, glimpses, a second look; 32 latents of 4 channels an image, the autoencoder as it was."""
    base = config()
    model = replace(base.model, codec="autoencoder", autoencoder=str(save_autoencoder(tmp_path / "vae")), proposals=3)
    settings = replace(base, model=model, train=replace(base.train, stage1_glimpses=3, glimpses=3, log_every=1))
    run = train(settings, tmp_path / "run")
    assert all(float(row["loss/segmentation"]) > 0 for row in rows(run)) and {event["kind"] for event in events(run, "gate")} == {"image", "object"}
    stopped(tmp_path / "parts", 5, settings)
    assert_same_model_tensors(run, train(settings, tmp_path / "parts"))
    found = GenRep.from_pretrained(RunFolder(run).model)
    weights = "diffusion_pytorch_model.safetensors"
    assert (RunFolder(run).model / "autoencoder" / weights).read_bytes() == (tmp_path / "vae" / weights).read_bytes()
    assert found.generate(torch.tensor([0])).shape == (1, 3, 16, 16) and found.posterior(torch.zeros(1, 3, 16, 16)).shape == (1, 4)
    begun = resolve_config("tiny", {}, init=run)
    assert begun.model.autoencoder == str(RunFolder(run).model / "autoencoder")
