"""Make images of the classes you name, as a grid with one row per class or class set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TAKES_OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `generate` accepts."""
    parser.add_argument("--model", type=Path, metavar="RUN|MODEL", help="a finished run, or a model folder; default: the model that comes with genrep")
    parser.add_argument("--classes", metavar="A,B+C", help="rows of the grid: class names; `+` puts several into one image; default: every class")
    parser.add_argument("--count", type=int, default=8, help="images per row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="image i depends on the seed and i alone (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=25, help="steps of the sampler (default: %(default)s)")
    parser.add_argument("--guidance", type=float, default=2.0, help="1 is none (default: %(default)s)")
    parser.add_argument("--sampler", default="ancestral", help="ancestral, euler, heun, dpm_solver or unipc (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("grid.png"), help="the grid (default: %(default)s)")
    parser.add_argument("--single", type=Path, metavar="FOLDER", help="also write every image as a file of its own")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def run(args: argparse.Namespace) -> int:
    """Generate and write."""
    from genrep.cli.runs import load_model, refuse_existing
    from genrep.evaluation.draw import grid, save_png
    from genrep.registry import lookup
    from genrep.samplers import SAMPLERS

    if args.count < 1:
        raise ValueError(f"`--count` must be at least 1; found {args.count}.")
    refuse_existing(args.out, overwrite=args.overwrite)
    sampler = lookup(SAMPLERS, args.sampler, "sampler")(num_steps=args.steps)
    model = load_model(args.model)
    rows = args.classes.split(",") if args.classes else list(model.class_names)
    classes = class_sets(rows, model.class_names).repeat_interleave(args.count, 0)
    images = model.generate(classes, seed=args.seed, sampler=sampler, guidance=args.guidance)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_png(grid(images, columns=args.count, row_names=rows), args.out)
    print(f"wrote {args.out}: {len(rows)} rows ({', '.join(rows)}) of {args.count}")
    if args.single:
        print(f"wrote {len(write_single(images, rows, args))} files in {args.single}")
    return 0


def class_sets(rows: Sequence[str], class_names: Sequence[str]) -> Tensor:
    """One 0/1 row [k] per entry; `a+b` is the set of both.

    Raises:
        ValueError: an unknown class; the nearest is named.
    """
    import torch

    from genrep.registry import lookup

    index = {name: i for i, name in enumerate(class_names)}
    sets = torch.zeros(len(rows), len(class_names))
    for row, entry in enumerate(rows):
        for name in entry.split("+"):
            sets[row, lookup(index, name.strip(), "class")] = 1.0
    return sets


def write_single(images: Tensor, rows: Sequence[str], args: argparse.Namespace) -> list[Path]:
    """Each image as FOLDER/CLASS_NUMBER.png."""
    from genrep.cli.runs import refuse_existing
    from genrep.evaluation.draw import save_png

    paths = [args.single / f"{row.replace('+', '_')}_{number:03d}.png" for row in rows for number in range(args.count)]
    for path in paths:
        refuse_existing(path, overwrite=args.overwrite)
    args.single.mkdir(parents=True, exist_ok=True)
    for image, path in zip(images, paths, strict=True):
        save_png(image, path)
    return paths
