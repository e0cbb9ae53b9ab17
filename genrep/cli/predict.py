"""See: class probabilities, boxes and a mask for each image file, as json and as pictures. Files that cannot be read are named and skipped."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.cli.arguments import add_device
from genrep.cli.seeing import ESTIMATED, UNIFORM, second_opinions

if TYPE_CHECKING:
    from genrep.cli.images import Picture
    from genrep.model import GenRep
    from genrep.types import Perception

TAKES_OVERRIDES = False
UNITS = (
    "boxes: (x0, y0, x1, y1) in pixels of the image file; masks: 0 background, c + 1 class c, of the image file's size; presence: that a class is in the image "
    "at all; divergence: KL(head, posterior) in nats; abstains: whether it is above --abstain-above, so that no class is to be taken: class_probabilities are "
    "then the head's opinion all the same; prior: class frequencies that posterior and combined are under, divergence is without them"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `predict` accepts."""
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE|FOLDER", help="image files, or folders of them")
    parser.add_argument("--model", type=Path, metavar="RUN|MODEL", help="a finished run, or a model folder; default: the model that comes with genrep")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder for predictions.json, masks, depths and overlays (default: %(default)s)")
    parser.add_argument("--min-score", type=float, default=0.3, help="boxes scored below are left out, 0 to 1 (default: %(default)s)")
    parser.add_argument(
        "--posterior", type=int, metavar="BUDGET", help="also class probabilities from the generative side, with this many evaluations per class; slow"
    )
    parser.add_argument(
        "--prior",
        default=UNIFORM,
        metavar="PRIOR",
        help=f"with --posterior: how frequent the classes are: {UNIFORM}, {ESTIMATED} from the pictures themselves, or A=.7,B=.2 (default: %(default)s)",
    )
    parser.add_argument("--abstain-above", type=float, metavar="NATS", help="with --posterior: abstain where the two sides diverge by more")
    parser.add_argument("--why", action="store_true", help="with --posterior: pictures of what speaks for its first class against its second, NAME_why.png")
    parser.add_argument("--overwrite", action="store_true", help="replace predictions that exist; never a picture that is looked at")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Read, perceive, write."""
    import torch

    from genrep.cli.images import find_images, read_all
    from genrep.cli.runs import numbered, placed_model, refuse_outputs
    from genrep.model_folder import PACKAGED
    from genrep.storage import write_json

    target = args.out / "predictions.json"
    refuse_outputs([target], overwrite=args.overwrite)
    if not 0 <= args.min_score <= 1:
        raise ValueError(f"`--min-score` must lie in 0 to 1; found {args.min_score}.")
    for option, given in (("--abstain-above", args.abstain_above is not None), ("--why", args.why), ("--prior", args.prior != UNIFORM)):
        if given and args.posterior is None:
            raise ValueError(f"`{option}` needs the generative side: say `--posterior BUDGET` too.")
    model = placed_model(args.model)
    if not model.heads and args.posterior is None:
        raise ValueError("this model perceives nothing, as it has no heads; `genrep train PICTURES --init MODEL` gives it some.")
    if args.abstain_above is not None and "classification" not in model.heads:
        raise ValueError(f"`--abstain-above` compares two opinions of the class; this model has {', '.join(model.heads) or 'no tasks'}, and no classification.")
    paths = find_images(args.images)
    pictures, skipped = read_all(paths, model)
    stems = [args.out / name for name in numbered([picture.path.stem for picture in pictures])]
    refuse_outputs([target, *(file for stem in stems for file in files_of(model, stem, why=args.why))], overwrite=args.overwrite, inputs=paths)
    images = torch.stack([picture.image for picture in pictures])
    seen = model.perceive(images)
    opinions: list[dict[str, Any]] = [{} for _ in pictures]
    if args.posterior is not None:
        opinions = second_opinions(model, images, seen, budget=args.posterior, prior=args.prior, abstain_above=args.abstain_above)
    args.out.mkdir(parents=True, exist_ok=True)
    entries = [write_entry(model, picture, (seen, i), stems[i], opinions[i], args) for i, picture in enumerate(pictures)]
    write_json(target, {"model": str(args.model or PACKAGED), "class_names": list(model.class_names), "units": UNITS, "images": entries, "skipped": skipped})
    print(f"wrote {target} and, beside it, masks and overlays of {len(entries)} images" + (f"; skipped: {len(skipped)}" if skipped else ""))
    return 0


def files_of(model: GenRep, stem: Path, *, why: bool) -> list[Path]:
    """The files that are written of one picture, beside its json entry."""
    kinds = {"mask": "segmentation" in model.heads, "depth": "depth" in model.heads, "overlay": True, "why": why}
    return [stem.with_name(f"{stem.name}_{kind}.png") for kind, written in kinds.items() if written]


def write_entry(
    model: GenRep, picture: Picture, seen: tuple[Perception, int], stem: Path, opinion: Mapping[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """The json entry of one picture, with the generative side's opinion; `files_of` it are written."""
    from genrep.cli.images import mask_png, save_depth
    from genrep.cli.seeing import described, drawn_reasons
    from genrep.evaluation.draw import save_png

    entry, overlay = described(model, picture, seen, opinion, min_score=args.min_score)
    perception, i = seen
    files = {kind: stem.with_name(f"{stem.name}_{kind}.png") for kind in ("mask", "depth", "overlay", "why")}
    written = {"file": str(picture.path), **entry, "overlay": files["overlay"].name}
    save_png(overlay, files["overlay"])
    if perception.semantic_mask is not None:
        files["mask"].write_bytes(mask_png(perception.semantic_mask[i], picture.size))
        written["mask"] = files["mask"].name
    if perception.inv_depth is not None:
        written["depth"] = save_depth(perception.inv_depth[i], picture.size, files["depth"], metric=model.config.depth == "metric").name
    if args.why:
        save_png(drawn_reasons(model, picture.image, opinion), files["why"])
        written["why"] = files["why"].name
    return written
