"""A device that is not the CPU, for machines without one: its tensors compute on the CPU, and refuse the company of tensors that lie there.
It has no float64, as mps has none.

Run as a program it is a process of its own (torch knows the device from then on): the tiny run on either device, and what its model then does.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from genrep.layers import WITHOUT_FLOAT64

NAME = "foreign"
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default, aten._foreach_copy_.default}
TAKES_INDICES_OF_THE_CPU = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


class Module(backend_registration._DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class Foreign(Tensor):
    """A tensor there: one of the CPU under another flag."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> Foreign:
        like = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = Tensor._make_wrapper_subclass(cls, inner.size(), device=torch.device(NAME, 0), **like)
        made.inner = inner
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copy: Tensor = Foreign(self.detach().inner.clone())
            memo[id(self)] = nn.Parameter(copy, self.requires_grad) if isinstance(self, nn.Parameter) else copy
        return memo[id(self)]

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return compute(func, args, kwargs or {})


class Mode(TorchDispatchMode):
    """Meanwhile the device can be asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return compute(func, args, kwargs or {})


def inside(value: Any) -> Any:
    return value.inner if isinstance(value, Foreign) else value


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation on the CPU; its results lie where they would on a real device.

    Raises:
        RuntimeError: tensors on two devices.
    """
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, Foreign)]
    if ours and func not in COPIES:
        refuse_mixed(func, tensors[:1] if func in TAKES_INDICES_OF_THE_CPU else tensors)
    wanted = kwargs.get("device")
    there = bool(ours) if wanted is None else torch.device(wanted).type == NAME
    inner = tree_map(inside, kwargs) | ({"device": torch.device("cpu")} if there and wanted is not None else {})
    found = func(*tree_map(inside, args), **inner)
    if func in COPIES and func is not aten._to_copy.default:
        return args[0]
    if not there:
        return found
    refuse_float64(func, found)
    found = tree_map(lambda value: Foreign(value) if isinstance(value, Tensor) else value, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if ours else found


def refuse_mixed(func: Any, tensors: list[Tensor]) -> None:
    if any(not isinstance(tensor, Foreign) and tensor.ndim for tensor in tensors):
        raise RuntimeError(f"{func} of tensors on two devices: {[(tuple(tensor.shape), tensor.device.type) for tensor in tensors]}")


def refuse_float64(func: Any, found: Any) -> None:
    if any(isinstance(value, Tensor) and value.dtype == torch.float64 for value in tree_leaves(found)):
        raise TypeError(f"{func} makes float64, which this device has none of")


def register() -> torch.library.Library:
    """Make the device known to torch; it is, as long as what this returns is kept."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    library = torch.library.Library("aten", "IMPL")

    def copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
        inside(target).copy_(inside(source))
        return target

    library.impl("empty_strided", lambda size, stride, dtype=None, **_: Foreign(torch.empty_strided(size, stride, dtype=dtype)), "PrivateUse1")
    library.impl("empty.memory_format", lambda size, dtype=None, **_: Foreign(torch.empty(size, dtype=dtype)), "PrivateUse1")
    library.impl("_copy_from", copy, "PrivateUse1")
    return library


def everything(out: Path, device: torch.device) -> dict[str, Tensor]:
    """A run, and what its model sees, believes and makes there."""
    from toy_runs import config, load_rectangles

    from genrep import devices
    from genrep.model import GenRep
    from genrep.training import data, loop

    vars(data)["load_dataset"], vars(loop)["default_device"] = load_rectangles, lambda: device
    settings = config()
    settings = replace(settings, train=replace(settings.train, bf16=False, probe_every=1))
    loop.train(settings, out)
    model = GenRep.from_pretrained(out / "model").to(device)
    image = load_rectangles("fashion", "test").batch(torch.arange(4)).image
    seen = model.perceive(image)
    assert seen.class_log_probs is not None and seen.semantic_mask is not None and seen.detections is not None
    vars(devices)["default_device"] = lambda: device
    command(out, "generate", "--classes", "a,b+c", "--count", "2", "--steps", "2", "--guidance", "2", "--seen", "--out", str(out / "grid.png"))
    command(out, "predict", str(out / "grid.png"), "--posterior", "2", "--why", "--out", str(out / "seen"))
    command(out, "nll", str(out / "grid.png"), "--class", "a", "--out", str(out / "nll.json"))
    return {
        **{f"weights/{name}": tensor.cpu() for name, tensor in model.state_dict().items()},
        "classes": seen.class_log_probs,
        "masks": seen.semantic_mask,
        "boxes": torch.cat([found.boxes_xyxy_px for found in seen.detections]),
        "posterior": model.posterior(image, budget=2),
        "bits": model.nll(image, num_draws=2).nats,
        "samples": model.generate(torch.arange(3), seed=0).cpu(),
    }


def command(run: Path, verb: str, *arguments: str) -> None:
    """`genrep VERB` on the run's model."""
    from genrep.cli.main import main

    assert main([verb, *arguments, "--model", str(run)]) == 0, verb


def main(folder: Path) -> None:
    """Everything on either device: how far its numbers are apart, as json; and before it a mistake that is noticed."""
    WITHOUT_FLOAT64.add(NAME)
    kept, fused = register(), torch.optim.AdamW

    def unfused(*args: Any, **kwargs: Any) -> torch.optim.AdamW:
        return fused(*args, **{**kwargs, "fused": False})

    vars(torch.optim)["AdamW"] = unfused
    home = everything(folder / "cpu", torch.device("cpu"))
    with Mode():
        abroad = everything(folder / NAME, torch.device(NAME, 0))
        try:
            torch.ones(2, device=NAME) + torch.ones(2)
        except RuntimeError as error:
            print(error)
        try:
            torch.ones(2, device=NAME).double()
        except TypeError as error:
            print(error)
    apart = {name: float((values.float() - abroad[name].float()).abs().max()) for name, values in home.items()}
    print(json.dumps(apart))
    del kept


if __name__ == "__main__":
    partial(main, Path(sys.argv[1]))()
