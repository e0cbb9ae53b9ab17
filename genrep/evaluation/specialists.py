"""Networks for one task each, from scratch, by those who know it best: what a joint model's perception is measured against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.backbones.dit import stride_for
from genrep.boxes import to_xyxy_px
from genrep.evaluation.diffusers_peer import SmallUNet
from genrep.tasks.detection import LEAST_SCORE
from genrep.types import IGNORE, UNLABELLED, Batch, Detections, Perception

MOST_TOKENS = 192
"""Of a vision transformer, as many as our trunk has."""
SMALL_PX = 64
"""Images whose shorter side is below this enter a ResNet by a convolution of stride 1, as is usual there; FCOS's maps are four times as fine then."""


@runtime_checkable
class Specialist(Protocol):
    """A network for one task."""

    @property
    def network(self) -> nn.Module: ...

    def known(self, batch: Batch) -> Tensor:
        """Which images it can learn from."""

    def loss(self, batch: Batch) -> Tensor:
        """Of such images, their mean."""

    def see(self, image: Float[Tensor, "b 3 h w"]) -> Perception:
        """What it sees; its network is in `eval` and nobody asks for gradients."""


@dataclass(frozen=True)
class Classifier:
    """Cross-entropy on one label per image."""

    network: nn.Module

    def known(self, batch: Batch) -> Tensor:
        return batch.label != UNLABELLED

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.network(batch.image), batch.label)

    def see(self, image: Tensor) -> Perception:
        return Perception(self.network(image).float().log_softmax(1), None, None)


@dataclass(frozen=True)
class Detector:
    """A detector of torchvision's, with its own losses; it is given pixels in [0, 1]."""

    network: nn.Module

    def known(self, batch: Batch) -> Tensor:
        return batch.has_objects

    def loss(self, batch: Batch) -> Tensor:
        size = (batch.image.shape[-2], batch.image.shape[-1])
        used = batch.object_labels != UNLABELLED
        boxes = to_xyxy_px(batch.boxes_cxcywh, size)
        truth = [{"boxes": b[u], "labels": c[u]} for b, c, u in zip(boxes, batch.object_labels, used, strict=True)]
        losses: dict[str, Tensor] = self.network(list(batch.image / 2 + 0.5), truth)
        return torch.stack(list(losses.values())).sum()

    def see(self, image: Tensor) -> Perception:
        found = self.network(list(image / 2 + 0.5))
        return Perception(None, [Detections(each["boxes"], each["scores"], each["labels"]) for each in found], None)


@dataclass(frozen=True)
class Segmenter:
    """Cross-entropy on the labelled pixels."""

    network: nn.Module

    def known(self, batch: Batch) -> Tensor:
        return (batch.semantic_mask != IGNORE).flatten(1).any(1)

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self._logits(batch.image), batch.semantic_mask.long(), ignore_index=IGNORE)

    def see(self, image: Tensor) -> Perception:
        return Perception(None, None, self._logits(image).argmax(1).to(torch.uint8))

    def _logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)["out"]
        return logits


def _vit(num: int, image_size: tuple[int, int]) -> Specialist:
    import timm

    stride = stride_for(image_size, MOST_TOKENS)
    return Classifier(timm.create_model("vit_tiny_patch16_224", img_size=image_size, patch_size=stride, num_classes=num))


def _resnet(num: int, image_size: tuple[int, int]) -> Specialist:
    import timm

    network = timm.create_model("resnet18", num_classes=num)
    if min(image_size) < SMALL_PX:
        _enter_finely(network)
    return Classifier(network)


def _enter_finely(network: nn.Module) -> None:
    """A ResNet of small pictures: the first convolution moves pixel by pixel, and nothing is pooled after it."""
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()


def _fcos(num: int, image_size: tuple[int, int]) -> Specialist:
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    finest = 8
    if min(image_size) < SMALL_PX:
        _enter_finely(backbone.body)
        finest = 2
    sizes = AnchorGenerator(sizes=tuple((finest * 2**i,) for i in range(5)), aspect_ratios=((1.0,),) * 5)
    return Detector(FCOS(backbone, num, anchor_generator=sizes, min_size=min(image_size), max_size=max(image_size), score_thresh=LEAST_SCORE))


def _lraspp(num: int, image_size: tuple[int, int]) -> Specialist:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    del image_size
    return Segmenter(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num + 1))


def _unet(num: int, image_size: tuple[int, int]) -> Specialist:
    return Segmenter(SmallUNet(num + 1, image_size))


Make = Callable[[int, tuple[int, int]], Specialist]
"""From the number of classes and the images' (height, width)."""

SPECIALISTS: dict[str, dict[str, Make]] = {
    "classification": {"ViT-Ti": _vit, "ResNet-18": _resnet},
    "detection": {"FCOS, ResNet-18": _fcos},
    "segmentation": {"LR-ASPP": _lraspp, "UNet": _unet},
}
"""By task and name: what makes one. timm's, torchvision's, diffusers'."""
