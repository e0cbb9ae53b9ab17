"""How likely image files are: -log p(image) in bits per dimension of 8-bit pixels, with the interval of its random draws, as json."""

from __future__ import annotations

import argparse
from pathlib import Path

from genrep.cli.arguments import add_device

TAKES_OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `nll` accepts."""
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE|FOLDER", help="image files, or folders of them")
    parser.add_argument("--model", type=Path, metavar="RUN|MODEL", help="a finished run, or a model folder; default: the model that comes with genrep")
    parser.add_argument("--class", dest="condition", metavar="A+B", help="given this class, or these; default: whatever the class")
    parser.add_argument("--method", default="integral", help="integral or bound (of the chain of 1,000 steps), both from above; or flow (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=64, help="pairs of evaluations, or flows: more makes the interval narrower (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("nll.json"), help="(default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Read, measure, write; a line per image."""
    import torch

    from genrep.cli.images import find_images, own_index, read_all
    from genrep.cli.runs import placed_model, refuse_outputs
    from genrep.cli.wishes import asked_counts, read_row
    from genrep.metrics.base import Z95, mean_of_repetitions
    from genrep.model_folder import PACKAGED
    from genrep.storage import write_json

    files = find_images(args.images)
    refuse_outputs([args.out], overwrite=args.overwrite, inputs=files)
    model = placed_model(args.model)
    asked = [read_row(args.condition, model.class_names, model.image_size)] if args.condition else []
    if any(one.box for row in asked for one in row):
        raise ValueError("`--class` says what is in the images, not where; leave the places out.")
    pictures, skipped = read_all(files, model)
    images = torch.stack([picture.image for picture in pictures])
    y = asked_counts(asked, len(model.class_names)).expand(len(images), -1) if asked else None
    options = {"num_probes" if args.method == "flow" else "num_draws": args.draws}
    bits, error = model.nll(images, y, method=args.method, seed=args.seed, index=own_index(images), **options).bits_per_dimension()
    entries = []
    for picture, value, half in zip(pictures, bits.tolist(), (Z95 * error).tolist(), strict=True):
        entries.append({"file": str(picture.path), "changes": picture.changes, "bits_per_dimension": value, "low": value - half, "high": value + half})
        print(f"{value:8.4f}  [{value - half:.4f}, {value + half:.4f}]  {picture.path}")
    if len(entries) > 1:
        mean = mean_of_repetitions(bits.tolist())
        print(f"{mean.value:8.4f}  [{mean.low:.4f}, {mean.high:.4f}]  mean of {len(entries)} images, and the interval of images like these")
    known = {"model": str(args.model or PACKAGED), "class": args.condition, "method": args.method, "draws": args.draws, "seed": args.seed}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, {**known, "images": entries, "skipped": skipped})
    print(f"wrote {args.out}: bits per dimension of 8-bit pixels" + (f"; skipped: {len(skipped)}" if skipped else ""))
    return 0
