"""What diffusers has, for ours to be measured against: a sampling loop, and a small network that segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from genrep.model import GenRep


def loop_of_diffusers(model: GenRep, *, num_steps: int) -> Callable[[], object]:
    """Their loop with their transformer of a model's width, depth and tokens; its weights are random, which changes nothing in its time.

    Raises:
        ValueError: diffusers is not installed.
    """
    diffusers = _diffusers()
    config = model.config.trunk
    sizes: dict[str, Any] = {"num_attention_heads": config.num_heads, "attention_head_dim": config.width // config.num_heads, "num_layers": config.depth}
    ends: dict[str, Any] = {
        "in_channels": model.codec.channels,
        "out_channels": model.codec.channels,
        "sample_size": model.x0_size[0],
        "patch_size": model.denoiser.trunk.stride,
    }
    network = diffusers.DiTTransformer2DModel(**sizes, **ends, num_embeds_ada_norm=1000).eval()
    scheduler = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    label = torch.zeros(1, dtype=torch.int64)

    def run() -> None:
        scheduler.set_timesteps(num_steps)
        xt = torch.zeros(1, model.codec.channels, *model.x0_size)
        for timestep in scheduler.timesteps:
            found = network(xt, timestep=timestep.expand(1), class_labels=label).sample
            xt = scheduler.step(found, timestep, xt).prev_sample

    return run


class SmallUNet(nn.Module):
    """diffusers' UNet without a time, over maps of 16, 32 and 64 channels."""

    def __init__(self, num_values: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        peer = _diffusers()
        down, up = ("DownBlock2D",) * 3, ("UpBlock2D",) * 3
        widths = {"block_out_channels": (16, 32, 64), "down_block_types": down, "up_block_types": up, "layers_per_block": 1, "norm_num_groups": 8}
        self.network = peer.UNet2DModel(sample_size=image_size, in_channels=3, out_channels=num_values, add_attention=False, **widths)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"out": self.network(image, 0).sample}


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError:
        raise ValueError("the peer of this figure is not installed: expected diffusers; `pip install 'genrep[bench]'` brings it.") from None
    return diffusers
