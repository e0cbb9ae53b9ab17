"""Write what a model sees as an ONNX file, which runs without genrep and without PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrep.model import GenRep

TAKES_OVERRIDES = False
NUM_CHECKED = 16
MOST_APART = 0.1
"""Nats, probabilities, pixels: a file that differs by more is wrong; rounding alone is some thousandths."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `export` accepts."""
    parser.add_argument("--model", type=Path, metavar="RUN|MODEL", help="a finished run, or a model folder; default: the model that comes with genrep")
    parser.add_argument("--out", type=Path, default=Path("model.onnx"), help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="images at a time (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def run(args: argparse.Namespace) -> int:
    """Write, run it, and say what it takes and gives."""
    from genrep.cli.runs import load_model, refuse_outputs

    if args.batch < 1:
        raise ValueError(f"`--batch` must be at least 1; found {args.batch}.")
    if args.out.suffix.lower() != ".onnx":
        raise ValueError(f"{args.out} would be onnx by another name; end it in .onnx.")
    refuse_outputs([args.out], overwrite=args.overwrite)
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f"`genrep export` needs {error.name}: `pip install 'genrep[export]'`.") from None
    from genrep.exported import export_onnx

    model = load_model(args.model)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.out.with_name(f".{args.out.name}.tmp")
    try:
        outputs = export_onnx(model, temporary, batch=args.batch)
        apart = difference(model, temporary, args.batch)
        if not apart <= MOST_APART:
            raise ValueError(
                f"run by onnxruntime the file differs from the model by {apart:.2g}, more than {MOST_APART}: it is not kept. Try another version of it."
            )
        temporary.replace(args.out)
    finally:
        temporary.unlink(missing_ok=True)
    size = " x ".join(map(str, (args.batch, model.codec.image_channels, *model.image_size)))
    print(f"wrote {args.out}: {args.out.stat().st_size / 1e6:.1f} MB; input `image`, float32, {size}, in [-1, 1]")
    for name, shape in outputs.items():
        print(f"  {name} [{' '.join(map(str, shape))}]")
    print(f"run by onnxruntime on {NUM_CHECKED} images of noise it says what the model says, to {apart:.1g}")
    return 0


def difference(model: GenRep, path: Path, batch: int) -> float:
    """By how much at most what the file says differs from what the model says: classes, depth, and of each image the object that is surest; where only one of
    them sees any, without bound."""
    import onnxruntime
    import torch

    from genrep.exported import OBJECTS

    images = 2 * torch.rand(NUM_CHECKED, model.codec.image_channels, *model.image_size, generator=torch.Generator().manual_seed(0)) - 1
    network = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    apart = torch.zeros(())
    for some in images.split(batch):
        padded = torch.cat([some, images[: batch - len(some)]]).expand(-1, 3, -1, -1)
        found = {
            output.name: torch.from_numpy(value)
            for output, value in zip(network.get_outputs(), network.run(None, {"image": padded[:, : images.shape[1]].numpy()}), strict=True)
        }
        seen = model.perceive(padded.contiguous())
        pairs = [(seen.class_log_probs, found.get("class_log_probs")), (seen.presence, found.get("presence")), (seen.inv_depth, found.get("inv_depth"))]
        for i, objects in enumerate(seen.detections or ()):
            mine = found[OBJECTS[0]] == i
            if bool(len(objects.scores)) != bool(mine.any()):
                return float("inf")
            if len(objects.scores):
                best = found[OBJECTS[2]][mine].argmax()
                pairs += [(objects.scores[0], found[OBJECTS[2]][mine][best]), (objects.boxes_xyxy_px[0], found[OBJECTS[3]][mine][best])]
        apart = torch.stack([apart, *((ours - theirs).abs().max() for ours, theirs in pairs if ours is not None and theirs is not None)]).max()
    return float(apart)
