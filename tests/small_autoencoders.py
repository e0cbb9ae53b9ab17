"""An autoencoder of a few thousand weights, saved as diffusers saves one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch

SCALE, SHIFT = 0.7, 0.1


def save_autoencoder(folder: Path, **changes: Any) -> Path:
    """Stride 2, four channels."""
    sizes: dict[str, Any] = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "scaling_factor": SCALE, "shift_factor": SHIFT}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = diffusers.AutoencoderKL(**blocks, **sizes | changes)
    network.save_pretrained(folder)
    return folder
