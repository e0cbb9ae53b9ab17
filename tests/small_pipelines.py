"""A diffusion transformer of a few thousand weights, saved as diffusers saves the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from small_autoencoders import save_autoencoder
from small_models import awake

SIZES: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 4, "sample_size": 8, "in_channels": 4, "out_channels": 8}
CLASSES = {0: "tench, Tinca tinca", 1: "crane", 2: "crane"}
NULL = len(CLASSES)


def save_pipeline(folder: Path, **changes: Any) -> Path:
    """Three classes, latents of 8 x 8 places with four channels, 16 tokens; images of 16 x 16 px."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = awake(diffusers.DiTTransformer2DModel(**SIZES, num_embeds_ada_norm=len(CLASSES), **changes))
    first = network.transformer_blocks[0].norm1.emb.state_dict()
    for block in network.transformer_blocks:  # as in published weights, which were one for all blocks when they were trained
        block.norm1.emb.load_state_dict(first)
    codec: Any = diffusers.AutoencoderKL
    codec = codec.from_pretrained(save_autoencoder(folder.parent / f"{folder.name}-vae", shift_factor=0.0), low_cpu_mem_usage=False)
    scheduler = diffusers.DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    pipeline: Any = diffusers.DiTPipeline
    pipeline(network, codec, scheduler).save_pretrained(folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": CLASSES}))  # published ones have it there; saving leaves it out
    return folder


def their(folder: Path) -> Any:
    """The transformer in such a folder."""
    network: Any = diffusers.DiTTransformer2DModel
    return network.from_pretrained(folder / "transformer", low_cpu_mem_usage=False).eval()
