"""Make a labelled set: images of the classes you name that the model, looking at them, recognises, with its boxes and masks, as a folder that trains."""

from __future__ import annotations

import argparse
from pathlib import Path

from genrep.cli.arguments import add_device
from genrep.cli.wishes import CLASSES_HELP

TAKES_OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `synthesize` accepts."""
    parser.add_argument("--model", type=Path, metavar="RUN|MODEL", help="a finished run, or a model folder; default: the model that comes with genrep")
    parser.add_argument("--classes", metavar="A,B+C", help=CLASSES_HELP.replace("rows of the grid", "what to make"))
    parser.add_argument("--count", type=int, default=100, help="images to keep of each (default: %(default)s)")
    parser.add_argument("--tries", type=int, default=5, help="give up after so many times as many images (default: %(default)s)")
    parser.add_argument("--sure", type=float, default=0.9, help="of one object: least probability of its class, 0 to 1 (default: %(default)s)")
    parser.add_argument("--min-score", type=float, default=0.5, help="boxes of at least this score must be those asked for, 0 to 1 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="images depend on the seed and their number alone (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=25, help="steps of the sampler (default: %(default)s)")
    parser.add_argument("--guidance", type=float, default=1.5, help="1 is none (default: %(default)s)")
    parser.add_argument("--sampler", default="ancestral", help="ancestral, euler, heun, dpm_solver or unipc (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("made"), help="folder for the set (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a set that was made before")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Make, judge, write."""
    from genrep.cli.made_set import PROVENANCE, Lot, Order, lots, set_files
    from genrep.cli.runs import model_folder, placed_model, refuse_existing
    from genrep.model_folder import PACKAGED
    from genrep.storage import refuse_others, write_folder

    for name in ("count", "tries"):
        if getattr(args, name) < 1:
            raise ValueError(f"`--{name}` must be at least 1; found {getattr(args, name)}.")
    refuse_existing(args.out, overwrite=args.overwrite)
    refuse_others(args.out, sign=PROVENANCE, what="a made set")
    model = placed_model(args.model)
    order = Order(**{name: getattr(args, name) for name in Order.__dataclass_fields__})
    found: list[Lot] = []
    for lot in lots(model, order):
        complete = len(lot.made) == args.count
        print(f"{lot.name}: kept {len(lot.made)} of {lot.num}" + ("" if complete else "; gave up: lower the floors, or raise `--tries`"))
        found.append(lot)
    if not any(lot.made for lot in found):
        raise ValueError("nothing was kept: the model recognises none of what it made. Lower `--sure` or `--min-score`, or make other classes.")
    source = model_folder(args.model) if args.model else PACKAGED

    def fill(folder: Path) -> None:
        for name, content in set_files(model, found, order, source, args.line):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    write_folder(args.out, fill)
    if short := [f"{len(lot.made)} of {lot.name}" for lot in found if len(lot.made) < args.count]:
        print(f"fewer than the {args.count} asked for: {', '.join(short)}")
    num = sum(len(lot.made) for lot in found)
    print(f"wrote {args.out}: {num} images; `genrep data check {args.out}` counts them, `--data.sets` names it beside others")
    return 0
