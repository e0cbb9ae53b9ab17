"""Make images of the classes you name, as a grid with one row per class or combination of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.cli.arguments import add_device
from genrep.cli.wishes import CLASSES_HELP, add_wish_arguments

if TYPE_CHECKING:
    from torch import Tensor

    from genrep.model import GenRep

TAKES_OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `generate` accepts."""
    parser.add_argument("--model", type=Path, metavar="RUN|MODEL", help="a finished run, or a model folder; default: the model that comes with genrep")
    parser.add_argument("--classes", metavar="A,B+C", help=CLASSES_HELP)
    parser.add_argument("--count", type=int, default=8, help="images per row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="image i depends on the seed and i alone (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=25, help="steps of the sampler (default: %(default)s)")
    parser.add_argument("--guidance", type=float, default=2.0, help="1 is none (default: %(default)s)")
    parser.add_argument("--interval", type=float, nargs=2, default=(0.3, 0.7), metavar=("LOW", "HIGH"), help="noise times it acts at (default: .3 .7)")
    parser.add_argument("--sampler", default="ancestral", help="ancestral, euler, heun, dpm_solver or unipc (default: %(default)s)")
    parser.add_argument("--grid", default="uniform", help="where its steps lie: uniform, logsnr or karras (default: %(default)s)")
    add_wish_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("grid.png"), help="the grid (default: %(default)s)")
    parser.add_argument("--single", type=Path, metavar="FOLDER", help="also write every image as a file of its own")
    parser.add_argument("--seen", action="store_true", help="draw what the model itself sees in each image")
    parser.add_argument("--film", type=Path, metavar="FILE", help="also a strip of how the first image of each row comes about")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Generate and write."""
    import torch

    from genrep.cli.runs import placed_model, refuse_outputs
    from genrep.cli.wishes import asked_counts, read_rows, read_wishes
    from genrep.evaluation.generation import film
    from genrep.evaluation.words import legible
    from genrep.registry import lookup
    from genrep.samplers import SAMPLERS

    if args.count < 1:
        raise ValueError(f"`--count` must be at least 1; found {args.count}.")
    sheets, given = [args.out, *([args.film] if args.film else [])], [file for file in (args.image, args.hidden, args.reference) if file]
    refuse_outputs(sheets, overwrite=args.overwrite, inputs=given)
    if misnamed := [str(file) for file in sheets if file.suffix.lower() != ".png"]:
        raise ValueError(f"{misnamed[0]} would be a png by another name; end it in .png.")
    sampler = lookup(SAMPLERS, args.sampler, "sampler")(num_steps=args.steps, grid=args.grid)
    model = placed_model(args.model)
    if args.seen and not set(model.heads) - {"depth"}:
        raise ValueError(f"`--seen` draws classes, boxes and masks; this model sees {', '.join(model.heads) or 'nothing'}.")
    rows = read_rows(args.classes, model.class_names, model.image_size)
    names, drawn = (["+".join(of[one.label] for one in row) for row in rows] for of in (model.class_names, legible(model.class_names)))
    singles = single_files(names, args) if args.single else []
    refuse_outputs([*sheets, *singles], overwrite=args.overwrite, inputs=given)
    classes, wishes = asked_counts(rows, len(model.class_names)), read_wishes(args, model, rows)
    options: dict[str, Any] = {"sampler": sampler, "guidance": args.guidance, "seed": args.seed}
    images = model.generate(classes.repeat_interleave(args.count, 0), wishes=wishes, **options)
    write_grid(model, images, drawn, args)
    print(f"wrote {args.out}: {len(names)} rows ({', '.join(names)}) of {args.count}")
    if args.single:
        write_single(images, singles)
        print(f"wrote {len(singles)} files in {args.single}")
    if args.film:
        firsts = torch.arange(0, len(images), args.count)
        write_film(film(model, classes, wishes=wishes.rows(firsts), index=firsts, **options), drawn, args.film)
    return 0


def write_grid(model: GenRep, images: Tensor, names: Sequence[str], args: argparse.Namespace) -> None:
    """The grid; with `--seen` drawn over by what the model itself sees."""
    from genrep.cli.seeing import seen_cells
    from genrep.evaluation.draw import grid, save_png, tile

    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.seen:
        save_png(tile(seen_cells(model, images), columns=args.count, row_names=names), args.out)
    else:
        save_png(grid(images, columns=args.count, row_names=names), args.out)


def write_film(frames: tuple[Tensor, Tensor], names: Sequence[str], path: Path) -> None:
    """Two strips per row of the grid: what the sampler held, and what the model expected."""
    import torch

    from genrep.evaluation.draw import grid, save_png

    num_frames = len(frames[0])
    strips = torch.stack(frames).permute(2, 0, 1, 3, 4, 5).flatten(0, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(grid(strips, columns=num_frames, row_names=[text for name in names for text in (name, "expected")]), path)
    print(f"wrote {path}: of each row the first image, from noise, {num_frames} frames")


def single_files(rows: Sequence[str], args: argparse.Namespace) -> list[Path]:
    """FOLDER/CLASS_NUMBER.png for each image, row by row; a row that is called as one before it has a number of its own."""
    from genrep.cli.runs import numbered
    from genrep.storage import file_name

    return [args.single / f"{row}_{number:03d}.png" for row in numbered([file_name(row) for row in rows]) for number in range(args.count)]


def write_single(images: Tensor, paths: Sequence[Path]) -> None:
    """Each image as a file."""
    from genrep.evaluation.draw import save_png

    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for image, path in zip(images, paths, strict=True):
        save_png(image, path)
