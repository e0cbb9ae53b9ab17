"""The judge: a small CNN fitted to the real training labels, whose features and classes measure generated images.

ImageNet features say little about 32 x 32 garments, so distances are taken in the penultimate features of this network. It is
fitted once per data set with a fixed seed, kept in the cache, and named in every figure that rests on it. Machines round differently, so that the
same fit is another network elsewhere: the judges of the embedded sets come with the package, and a judge's name ends with what its weights are.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genrep.datasets.base import ArrayDataset
from genrep.randomness import permutation
from genrep.storage import MANIFEST, load_tensors, read_json, save_tensors, verify_folder, write_folder, write_json
from genrep.training import computes_in_bf16
from genrep.types import UNLABELLED

VERSION = 2
"""Raised with any change that changes the weights."""

SHIPPED = Path(__file__).parent.parent / "judges"
"""Of the embedded sets, as `load_judge` once fitted them."""

WEIGHTS, FACTS = "judge.safetensors", "judge.json"
NUM_FEATURES = 128
NUM_EPOCHS, MOST_EPOCHS = 2, 12
"""How often the judge sees each of `NUM_IMAGES`, and at most each of fewer; as often where images hold several, which takes longer to learn."""
NUM_IMAGES = 60_000
MIN_STEPS = 100


def _block(channels: int, width: int, kernel: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]


class _Network(nn.Module):
    """Three convolutions with batch norm, 128 features, a linear classifier."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        convolutions = [*_block(channels, 32, 5, 2), *_block(32, 64, 3, 2), *_block(64, 128, 3, 1)]
        features = [nn.AdaptiveMaxPool2d(4), nn.Flatten(), nn.Linear(128 * 16, NUM_FEATURES), nn.BatchNorm1d(NUM_FEATURES), nn.ReLU()]
        self.trunk = nn.Sequential(*convolutions, *features)
        self.classify = nn.Linear(NUM_FEATURES, num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.trunk(pixels))
        return logits


@dataclass(frozen=True)
class Judge:
    """The fitted network and its name."""

    name: str
    network: _Network
    channels: int

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, "b 3 h w"], *, batch_size: int = 500) -> tuple[Float[Tensor, "b d"], Int[Tensor, " b"]]:
        """Features, d = 128, and most probable class of images in [-1, 1]."""
        features = torch.cat([self.network.trunk(part[:, : self.channels]) for part in image.split(batch_size)])
        return features, self.network.classify(features).argmax(1)

    def sets(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """The classes that images hold, as 0/1, of a judge of class sets."""
        return (self.logits(image) > 0).float()

    @torch.inference_mode()
    def logits(self, image: Float[Tensor, "b 3 h w"], *, batch_size: int = 500) -> Float[Tensor, "b k"]:
        """Class logits of images in [-1, 1]."""
        return torch.cat([self.network(part[:, : self.channels]) for part in image.split(batch_size)])


def _fingerprint(train: ArrayDataset) -> str:
    """Changes with any pixel or label, with the classes that no image shows, and with how often images are seen."""
    digest = hashlib.sha256()
    for array in (train.pixels, train.label, *((train.object_labels, train.classes) if holds_several(train) else ())):
        if array is not None:
            digest.update(array.contiguous().numpy().data)
    if unseen := int((~_shown(train)).sum()):
        digest.update(unseen.to_bytes(8, "little"))
    if not holds_several(train) and (epochs := usual_epochs(len(train))) != NUM_EPOCHS:
        digest.update(epochs.to_bytes(8, "little"))
    return digest.hexdigest()[:8]


def usual_epochs(num: int) -> int:
    """How often the judge sees each of so many images of one class each: as many in all as of `NUM_IMAGES`, but none more than `MOST_EPOCHS` times.

    >>> usual_epochs(1_000), usual_epochs(20_000), usual_epochs(60_000), usual_epochs(10**6)
    (12, 6, 2, 2)
    """
    return min(MOST_EPOCHS, max(NUM_EPOCHS, round(NUM_EPOCHS * NUM_IMAGES / max(1, num))))


def _shown(train: ArrayDataset) -> Bool[Tensor, " k"]:
    """Which classes any image holds."""
    shown = torch.zeros(len(train.class_names), dtype=torch.bool)
    for labels in (train.label, train.object_labels):
        shown[labels[labels != UNLABELLED].long()] = True
    return shown if train.classes is None else shown | (train.classes > 0).any(0)


def holds_several(train: ArrayDataset) -> bool:
    """Whether images may hold several objects, so that a judge of class sets is asked for."""
    return bool((train.label == UNLABELLED).any()) or bool(((train.object_labels != UNLABELLED).sum(1) > 1).any())


def _targets(train: ArrayDataset) -> Tensor:
    """What the network is to say: classes, or class sets.

    Raises:
        ValueError: of some images nothing is known.
    """
    if not holds_several(train):
        return train.label
    sets = train.class_counts.clamp(max=1)
    unknown = int((~train.classified).sum())
    if unknown:
        raise ValueError(f"the judge needs a label for every image of `{train.name}`; found {unknown} without. Measure on a labelled set.")
    return sets


def fit_judge(train: ArrayDataset, *, seed: int = 0, num_epochs: int | None = None, batch_size: int = 128, peak_lr: float = 6e-3) -> _Network:
    """Fits the network to the labels of a set, or to its class sets where images hold several: AdamW, one learning-rate cycle, left-right flips.

    Args:
        num_epochs: at least; `usual_epochs`, or `MOST_EPOCHS` where images hold several, where none is given. A small set is seen as often as `MIN_STEPS`
            updates need.
    Raises:
        ValueError: the set has images without a label.
    """
    targets = _targets(train)
    miss = F.binary_cross_entropy_with_logits if targets.is_floating_point() else F.cross_entropy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(train.pixels.shape[1], len(train.class_names)).to(memory_format=torch.channels_last)
    steps_per_epoch = math.ceil(len(train) / batch_size)
    num_epochs = max(num_epochs or (MOST_EPOCHS if holds_several(train) else usual_epochs(len(train))), math.ceil(MIN_STEPS / steps_per_epoch))
    num_steps = num_epochs * steps_per_epoch
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak_lr, weight_decay=0.02, fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak_lr, total_steps=max(2, num_steps), pct_start=0.2)
    network.train()
    for epoch in range(num_epochs):
        for rows in permutation(len(train), seed, epoch).split(batch_size):
            if len(rows) < 2:  # batch norm needs two
                continue
            pixels = train.pixels[rows].float().div_(127.5).sub_(1.0)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=computes_in_bf16(torch.device("cpu"))):
                logits = network(pixels.flip(-1) if int(rows[0]) % 2 else pixels)
            loss = miss(logits.float(), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
    return network.eval().requires_grad_(False)


def load_judge(train: ArrayDataset, *, cache: Path, seed: int = 0) -> Judge:
    """The judge of a data set: the one that comes with the package, or the cache's, or fitted now and kept there.

    Args:
        train: the real training images and labels, all of them, whatever the run could see.
        cache: folder for fitted judges.
    """
    name = f"{train.name}-judge-v{VERSION}-{_fingerprint(train)}-seed{seed}"
    kept, channels = cache / "judges" / name, train.pixels.shape[1]
    folder = next((known for known in (SHIPPED / name, kept) if _is_whole(known)), None)
    if folder is None:
        network = fit_judge(train, seed=seed)
        facts = {"name": name, "channels": channels, "num_classes": len(train.class_names), "num_features": NUM_FEATURES, "torch": torch.__version__}
        write_folder(kept, lambda made: _save(made, network, facts))
        folder = kept
    network = _Network(channels, len(train.class_names)).to(memory_format=torch.channels_last)
    network.load_state_dict(load_tensors(folder / WEIGHTS))
    weights = read_json(folder / MANIFEST)[WEIGHTS][:8]
    return Judge(f"{name}-{weights}", network.eval().requires_grad_(False), channels)


def _save(folder: Path, network: nn.Module, facts: dict[str, Any]) -> None:
    save_tensors(folder / WEIGHTS, network.state_dict())
    write_json(folder / FACTS, facts)


def _is_whole(folder: Path) -> bool:
    try:
        verify_folder(folder)
    except (OSError, ValueError):
        return False
    return True
