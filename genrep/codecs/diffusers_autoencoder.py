"""Latents of a frozen autoencoder, as diffusers keeps them: images of hundreds of pixels as maps of a few dozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrep.codecs.base import Codec
from genrep.storage import read_json

KIND, CONFIG, PART = "AutoencoderKL", "config.json", "vae"
MOST_PIXELS = 2**21
"""Encoded or decoded at once."""


class Autoencoder(Codec):
    """x0 = (mean of the autoencoder's latent - shift) * scale, of unit order; shift and scale are those that come with its weights.

    It is never trained, and is no part of a model's weights: copies of a model share it. It computes in float32.

    Args:
        folder: an `AutoencoderKL` as diffusers' `save_pretrained` leaves it, or a pipeline's folder that has one as `vae`.
    Raises:
        ValueError: there is none, or one of other images than RGB.
    Source: Rombach et al. 2022, arXiv:2112.10752.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / PART if (folder / PART / CONFIG).is_file() else folder
        if not (self.folder / CONFIG).is_file():
            raise ValueError(f"{folder} holds no autoencoder: expected {CONFIG} of an {KIND} in it, or in `{PART}` below it, as diffusers saves one.")
        config = read_json(self.folder / CONFIG)
        found = config.get("_class_name") if isinstance(config, dict) else None
        if found != KIND or config.get("in_channels", 3) != 3 or config.get("out_channels", 3) != 3:
            raise ValueError(f"{self.folder / CONFIG} is of a {found}; expected an {KIND} of RGB images.")
        self.channels, self.stride = _whole(config, "latent_channels", 4), 2 ** (len(config.get("block_out_channels", (0,))) - 1)
        self._scale, self._shift = (_number(config, name, default) for name, default in (("scaling_factor", 0.18215), ("shift_factor", 0.0)))
        self._network: Any = None

    def encode(self, image: Tensor) -> Tensor:
        network = self._ready(image)
        return self._in_parts(image, lambda part: (network.encode(part).latent_dist.mode() - self._shift) * self._scale, per=1)

    def decode(self, x0: Tensor) -> Tensor:
        network = self._ready(x0)
        return self._in_parts(x0, lambda part: network.decode(part / self._scale + self._shift).sample, per=self.stride**2).clamp(-1, 1)

    def save(self, folder: Path) -> None:
        self._ready(torch.zeros(())).save_pretrained(folder, safe_serialization=True)

    def __deepcopy__(self, memo: object) -> Autoencoder:
        return self

    def _in_parts(self, x: Tensor, do: Callable[[Tensor], Tensor], *, per: int) -> Tensor:
        size = max(1, MOST_PIXELS // (x.shape[-2] * x.shape[-1] * per))
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return torch.cat([do(part.float()) for part in x.split(size)]).to(x.dtype)

    def _ready(self, x: Tensor) -> Any:
        """The network, where x is; read when it is first needed, as many look at a model without."""
        if self._network is None:
            self._network = _read(self.folder)
        return self._network.to(x.device)


def _read(folder: Path) -> Any:
    """Weights as safetensors, from the disk alone."""
    try:
        import diffusers
    except ModuleNotFoundError:
        raise ValueError("codec `autoencoder` needs diffusers; `pip install 'genrep[latent]'` brings it.") from None
    try:
        with torch.device("cpu"):
            kind: Any = diffusers.AutoencoderKL
            network = kind.from_pretrained(folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no readable autoencoder ({str(error).splitlines()[0]}); expected its weights as safetensors.") from None
    return network.eval().requires_grad_(False)


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _whole(config: Mapping[str, Any], name: str, default: int) -> int:
    return int(_number(config, name, default))
