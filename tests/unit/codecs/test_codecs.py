"""Codecs: images to x0 and back."""

from __future__ import annotations

import pytest
import torch
from small_models import normal

from genrep.codecs import CODECS, WEIGHTED, Codec, Grey, make_codec

every_codec = pytest.mark.parametrize("codec", [make_codec(name, None) for name in CODECS if name not in WEIGHTED])
"""Without weights; `test_autoencoder.py` has the others."""
GREY_IMAGE = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8).expand(-1, 3, -1, -1)


@every_codec
def test_grey_images_come_back_exactly(codec: Codec) -> None:
    x0 = codec.encode(GREY_IMAGE)
    assert x0.shape[1] == codec.channels and torch.equal(codec.decode(x0), GREY_IMAGE)


@every_codec
def test_images_stay_in_range(codec: Codec) -> None:
    image = codec.decode(3 * normal(2, codec.channels, 8, 8))
    assert image.shape == (2, 3, 8, 8) and image.min() == -1 and image.max() == 1


def test_grey_refuses_colour() -> None:
    for channel in range(3):
        coloured = GREY_IMAGE.clone()
        coloured[1, channel, 3, 3] += 1e-3
        with pytest.raises(ValueError, match=r"codec `grey` needs grey images .* Use `--model.codec pixels`"):
            Grey().encode(coloured)
