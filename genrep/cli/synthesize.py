"""Make a labelled set: images of the classes you name that the model, looking at them, recognises, with its boxes and masks, as a folder that trains."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.cli.arguments import add_device
from genrep.cli.wishes import CLASSES_HELP

if TYPE_CHECKING:
    from torch import Tensor

    from genrep.model import GenRep
    from genrep.synthesis import Made

TAKES_OVERRIDES = False
SPLIT, PROVENANCE = "train", "provenance.json"


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
    from genrep.cli.runs import numbered, placed_model, refuse_existing
    from genrep.cli.wishes import asked_counts, read_rows
    from genrep.storage import file_name, refuse_others, write_folder

    for name in ("count", "tries"):
        if getattr(args, name) < 1:
            raise ValueError(f"`--{name}` must be at least 1; found {getattr(args, name)}.")
    refuse_existing(args.out, overwrite=args.overwrite)
    refuse_others(args.out, sign=PROVENANCE, what="a made set")
    model = placed_model(args.model)
    rows = read_rows(args.classes, model.class_names, model.image_size)
    if any(asked.box for row in rows for asked in row):
        raise ValueError("`--classes` says what to make, not where; leave the places out.")
    wanted = ["+".join(model.class_names[one.label] for one in row) for row in rows]
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"`--classes` names something twice: {', '.join(wanted)}.")
    if "detection" not in model.heads:
        refuse_columns(model.class_names)
    names = numbered([file_name("_".join(model.class_names[one.label] for one in row)) for row in rows])
    streams = [stream(model, counts, number, args) for number, counts in enumerate(asked_counts(rows, len(model.class_names)))]
    found: dict[str, list[Made]] = {}
    tally = {}
    for name, images in zip(names, streams, strict=True):
        found[name], num = kept(images, args.count, args.count * args.tries)
        tally[name] = {"made": num, "kept": len(found[name])}
        print(f"{name}: kept {len(found[name])} of {num}" + ("" if len(found[name]) == args.count else "; gave up: lower the floors, or raise `--tries`"))
    if not any(found.values()):
        raise ValueError("nothing was kept: the model recognises none of what it made. Lower `--sure` or `--min-score`, or make other classes.")
    labels = {name: row[0].label for name, row in zip(names, rows, strict=True)}
    write_folder(args.out, lambda folder: write_set(folder, model, found, labels, tally, args))
    if short := [f"{len(several)} of {name}" for name, several in found.items() if len(several) < args.count]:
        print(f"fewer than the {args.count} asked for: {', '.join(short)}")
    print(f"wrote {args.out}: {sum(map(len, found.values()))} images; `genrep data check {args.out}` counts them, `--data.sets` names it beside others")
    return 0


def stream(model: GenRep, wanted: Tensor, row: int, args: argparse.Namespace) -> Iterator[Made | None]:
    """Images of one entry of `--classes`, as they are made and judged."""
    from genrep.registry import lookup
    from genrep.samplers import SAMPLERS
    from genrep.synthesis import Floor, synthesize

    floor = Floor(class_prob=args.sure, score=args.min_score)
    sampler = lookup(SAMPLERS, args.sampler, "sampler")(num_steps=args.steps)
    options: dict[str, Any] = {"seed": args.seed, "sampler": sampler, "guidance": args.guidance, "batch_size": min(64, args.count)}
    return synthesize(model, wanted, floor=floor, row=row, **options)


def kept(images: Iterator[Made | None], num: int, most: int) -> tuple[list[Made], int]:
    """The first `num` images that pass, and how many it took; fewer where `most` do not have them."""
    found: list[Made] = []
    seen = 0
    while len(found) < num and seen < most:
        one, seen = next(images), seen + 1
        found += [one] if one else []
    return found, seen


def refuse_columns(class_names: Sequence[str]) -> None:
    """Classes as the columns of a table: a name that would be read as something else is refused.

    Raises:
        ValueError: such a name.
    """
    from genrep.datasets.table import CLASSES
    from genrep.datasets.table import SPLIT as OF_SPLIT

    for name in class_names:
        if name != name.strip() or name.lower() in (*CLASSES, OF_SPLIT):
            raise ValueError(f"a set without boxes is written as a table, and as its column `{name}` would not be read as a class; rename that class.")


def write_set(
    folder: Path, model: GenRep, found: Mapping[str, Sequence[Made]], labels: Mapping[str, int], tally: Mapping[str, Any], args: argparse.Namespace
) -> None:
    """Images with COCO json and masks where the model detects, else with a table of their `labels`; and where all of it comes from."""
    from genrep import __version__
    from genrep.cli.images import save_mask
    from genrep.cli.runs import model_folder
    from genrep.datasets.table import TABLE
    from genrep.evaluation.draw import save_png
    from genrep.model_folder import PACKAGED
    from genrep.storage import sha256_of, write_json, write_text

    (folder / "images").mkdir()
    detects, images = "detection" in model.heads, []
    for name, several in found.items():
        for number, made in enumerate(several):
            file = Path("images", f"{name}_{number:05d}.png")
            save_png(made.image, folder / file)
            if detects and made.semantic_mask is not None:
                (folder / "masks").mkdir(exist_ok=True)
                save_mask(made.semantic_mask, model.image_size, folder / "masks" / file.name)
            images.append((file, made))
    if detects:
        (folder / "annotations").mkdir()
        write_json(folder / "annotations" / f"instances_{SPLIT}.json", coco(images, model))
    else:
        of_each = [label for name, label in labels.items() for _ in found[name]]
        write_text(folder / TABLE, table([file.name for file, _ in images], of_each, model.class_names))
    source = model_folder(args.model) if args.model else PACKAGED
    of = {"model": str(source), "model_sha256": sha256_of(source / "model.safetensors"), "command": args.line, "genrep": __version__}
    seeds = {str(file): {"index": made.index, "class_prob": made.class_prob} for file, made in images}
    write_json(folder / PROVENANCE, {**of, "class_names": list(model.class_names), "seed": args.seed, "tally": dict(tally), "images": seeds})


def table(files: Sequence[str], labels: Sequence[int], class_names: Sequence[str]) -> str:
    """The set as a table with a column of 0 and 1 for each class of the model, which keeps their names and their order.

    >>> table(["a.png"], [1], ["boot, ankle", "bag"]).split()
    ['file_name,"boot,', 'ankle",bag', 'a.png,0,1']
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file_name", *class_names])
    writer.writerows([file, *(int(k == label) for k in range(len(class_names)))] for file, label in zip(files, labels, strict=True))
    return text.getvalue()


def coco(images: Sequence[tuple[Path, Made]], model: GenRep) -> dict[str, Any]:
    """The set as COCO json."""
    from genrep.datasets.coco_masks import run_lengths

    height, width = model.image_size
    annotations: list[dict[str, Any]] = []
    for number, (_, made) in enumerate(images):
        assert made.objects is not None
        rows = zip(made.objects.boxes_xyxy_px.tolist(), made.objects.labels.tolist(), made.objects.scores.tolist(), strict=True)
        for j, ((x0, y0, x1, y1), label, score) in enumerate(rows):
            box = [x0, y0, x1 - x0, y1 - y0]
            entry = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": label + 1, "bbox": box, "area": box[2] * box[3]}
            mask = {} if made.masks is None else {"segmentation": run_lengths(made.masks[j].numpy()), "area": int(made.masks[j].sum())}
            annotations.append({**entry, "iscrowd": 0, "score": score, **mask})
    return {
        "images": [{"id": n + 1, "file_name": file.name, "height": height, "width": width} for n, (file, _) in enumerate(images)],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(model.class_names)],
    }
