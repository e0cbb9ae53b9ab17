"""Make a model folder of published weights: a DiT's pipeline, as diffusers saves one. It makes images at once; `genrep train --init` teaches it to see."""

from __future__ import annotations

import argparse
from pathlib import Path

TAKES_OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `convert` accepts."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the pipeline, with model_index.json in it; its weights as safetensors")
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL", help="the model folder to write")
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.add_argument("--overwrite", action="store_true", help="replace a model folder that exists")


def run(args: argparse.Namespace) -> int:
    """Read, write, and say what it is."""
    from genrep.cli.runs import refuse_existing
    from genrep.published import published_model

    refuse_existing(args.out, overwrite=args.overwrite)
    if args.folder.resolve().is_relative_to(args.out.resolve()) or args.out.resolve().is_relative_to(args.folder.resolve()):
        raise ValueError(f"`--out` {args.out} and {args.folder} lie in each other; name a folder of its own.")
    model = published_model(args.folder)
    model.save_pretrained(args.out, recipe=f"the published weights in `{args.folder.name}`", half=args.half)
    millions, (height, width) = sum(p.numel() for p in model.parameters()) / 1e6, model.image_size
    print(f"wrote {args.out}: {millions:.1f} million weights, {len(model.class_names)} classes, images of {height} x {width} px")
    print(f"next: genrep generate --model {args.out}    genrep train PICTURES --init {args.out}")
    return 0
