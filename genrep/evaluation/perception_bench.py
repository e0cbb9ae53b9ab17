"""What perceiving costs: the trunk beside timm's vision transformer of equal size, the heads beside the trunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from genrep.backbones import DiT, DiTConfig
from genrep.config import Config
from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure, plain
from genrep.evaluation.timing import ENOUGH_ROUNDS, Progress, cpu_seconds, of_rounds, silent
from genrep.model import GenRep
from genrep.tasks import run_tasks
from genrep.training import computes_in_bf16

SMALL_DIT = DiTConfig(width=384, depth=12, num_heads=6, stem_width=48, class_blocks=12, taps=(4, 8, 12))
"""DiT-S with four-pixel tokens."""
OF_PEER, OF_ONE_TASK, NOISE = 1.0, 1.4, 0.02
OF_TRUNK = {"classification": 0.01, "multilabel": 0.01, "segmentation": 0.15, "detection": 0.25, "depth": 0.15}
"""What a head may cost, beside the trunk."""
BATCHES = (1, 8)


@torch.no_grad()
def latency_figures(config: Config, data: ArrayDataset, *, num_rounds: int = ENOUGH_ROUNDS, progress: Progress = silent) -> list[Figure]:
    """Times of random weights, which are as long as any.

    Args:
        config: whose heads are measured, on a `SMALL_DIT`.
        data: images.
    """
    model = GenRep(replace(config.model, trunk=SMALL_DIT, class_names=data.class_names, image_size=data.image_size)).eval()
    _settle(model)
    x0 = model.encode(data.batch(torch.arange(max(BATCHES))).image)
    peer, figures = _peer(model), []
    for num in BATCHES:
        for bf16 in (False, True)[: 1 + computes_in_bf16(model.device)]:
            kind = "bfloat16" if bf16 else "float32"
            progress(f"time of the trunk, batch {num}, {kind}")
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                figures += _of_trunk(model, peer, x0[:num], num_rounds, f"batch {num}, {kind}")
    progress("time of the heads")
    return figures + _of_heads(model, x0, num_rounds)


def _of_trunk(model: GenRep, peer: nn.Module, x0: Tensor, num_rounds: int, where: str) -> list[Figure]:
    trunk, zero = model.denoiser.trunk, torch.zeros(len(x0))
    assert isinstance(trunk, DiT)
    work: dict[str, Callable[[], object]] = {
        "folded": lambda: trunk.clean_features(x0),
        "unfolded": lambda: trunk(x0, zero, None),
        "stem": lambda: trunk.stem(x0),
        "timm": lambda: peer(x0),
    }
    spent = cpu_seconds(work, num_rounds)
    how = f"DiT-S with four-pixel tokens at 32 px, {where}; timm's VisionTransformer of its width, depth, heads and tokens, queries and keys normalised"
    unbound = f"{how}; medians of {num_rounds} rounds in turn, CPU time"
    return [
        of_rounds(f"trunk / timm, {where}", spent["folded"] / spent["timm"], OF_PEER + NOISE, num_rounds, how),
        plain(f"the same without the convolutional stem, {where}", (spent["folded"] - spent["stem"]) / spent["timm"], "ratio", unbound),
        plain(f"folded / unfolded, {where}", spent["folded"] / spent["unfolded"], "ratio", unbound),
    ]


def _of_heads(model: GenRep, x0: Tensor, num_rounds: int) -> list[Figure]:
    """Each head on what the trunk and the scan gave; and all of them, trunk included, beside the dearest one."""
    features = model.clean_features(x0)
    offered = features
    for _, head, output in run_tasks(model.tasks(), features):
        offered = replace(offered, objects=head.offer(output) or offered.objects)

    def alone(head: nn.Module) -> Callable[[], object]:
        return lambda: head(offered)

    def together() -> None:
        for _ in run_tasks(model.tasks(), model.clean_features(x0)):
            pass

    work = {name: alone(head) for name, head in model.tasks()}
    work |= {f"{name} alone": _whole(model, name, x0) for name, _ in model.tasks()}
    spent = cpu_seconds({"trunk": lambda: model.denoiser.clean_features(x0), "all": together, **work}, num_rounds)
    how = f"DiT-S with four-pixel tokens at 32 px, batch {len(x0)}, float32"
    figures = [of_rounds(f"{name} / trunk", spent[name] / spent["trunk"], OF_TRUNK[name], num_rounds, how) for name, _ in model.tasks() if name in OF_TRUNK]
    dearest = max(spent[f"{name} alone"] for name, _ in model.tasks())
    return [*figures, of_rounds("all tasks / the dearest alone", spent["all"] / dearest, OF_ONE_TASK, num_rounds, f"{how}; trunk included in both")]


def _whole(model: GenRep, name: str, x0: Tensor) -> Callable[[], object]:
    """One task from images on, without what others offer it."""
    chosen = [(each, head) for each, head in model.tasks() if each == name]

    def run() -> None:
        for _ in run_tasks(chosen, model.clean_features(x0)):
            pass

    return run


def _settle(model: GenRep) -> None:
    """Modulations are zero at the start, and folding would fold nothing."""
    for block in model.denoiser.trunk.modules():
        if isinstance(modulation := getattr(block, "modulation", None), nn.Linear):
            nn.init.normal_(modulation.weight, std=0.02)


def _peer(model: GenRep) -> nn.Module:
    """timm's vision transformer of a model's trunk.

    Raises:
        ValueError: timm is not installed.
    """
    try:
        from timm.models.vision_transformer import VisionTransformer
    except ImportError:
        raise ValueError("the peer of this figure is not installed: expected timm; `pip install 'genrep[bench]'` brings it.") from None
    trunk, size = model.config.trunk, model.image_size
    sizes: dict[str, Any] = {"embed_dim": trunk.width, "depth": trunk.depth, "num_heads": trunk.num_heads, "mlp_ratio": trunk.mlp_ratio}
    ends: dict[str, Any] = {"img_size": size, "patch_size": model.denoiser.trunk.stride, "in_chans": model.codec.channels, "num_classes": 0}
    network: nn.Module = VisionTransformer(**sizes, **ends, qk_norm=True, class_token=False, global_pool="").eval()
    return network
