"""See: class probabilities, boxes and a mask for each image file, as json and as pictures. Files that cannot be read are named and skipped."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.cli.arguments import add_device

if TYPE_CHECKING:
    from torch import Tensor

    from genrep.cli.images import Picture
    from genrep.model import GenRep
    from genrep.types import Perception

TAKES_OVERRIDES = False
LEAST_PRESENCE = 0.5
"""Probability from which on a class is written below a picture."""
UNITS = (
    "boxes: (x0, y0, x1, y1) in pixels of the image file; masks: 0 background, c + 1 class c, of the image file's size; presence: that a class is in the image "
    "at all; divergence: KL(head, posterior) in nats; abstains: whether it is above --abstain-above, so that no class is to be taken: class_probabilities are "
    "then the head's opinion all the same; prior: class frequencies that posterior and combined are under, divergence is without them"
)
UNIFORM, ESTIMATED = "uniform", "estimated"


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
    opinions = second_opinions(model, images, seen, args) if args.posterior is not None else [{} for _ in pictures]
    args.out.mkdir(parents=True, exist_ok=True)
    entries = [write_entry(model, picture, (seen, i), stems[i], opinions[i], min_score=args.min_score) for i, picture in enumerate(pictures)]
    reasons = explain(model, images, opinions, stems) if args.why else [{} for _ in pictures]
    entries = [entry | reason for entry, reason in zip(entries, reasons, strict=True)]
    write_json(target, {"model": str(args.model or PACKAGED), "class_names": list(model.class_names), "units": UNITS, "images": entries, "skipped": skipped})
    print(f"wrote {target} and, beside it, masks and overlays of {len(entries)} images" + (f"; skipped: {len(skipped)}" if skipped else ""))
    return 0


def files_of(model: GenRep, stem: Path, *, why: bool) -> list[Path]:
    """The files that are written of one picture, beside its json entry."""
    kinds = {"mask": "segmentation" in model.heads, "depth": "depth" in model.heads, "overlay": True, "why": why}
    return [stem.with_name(f"{stem.name}_{kind}.png") for kind, written in kinds.items() if written]


def second_opinions(model: GenRep, images: Tensor, seen: Perception, args: argparse.Namespace) -> list[dict[str, Any]]:
    """What the generative side says of each image: class probabilities, these and the head's combined, how far apart they are, and how likely the image is."""
    import torch

    from genrep.cli.images import own_index
    from genrep.metrics.base import Z95
    from genrep.posteriors.prior import estimate_prior

    given = None if args.prior in (UNIFORM, ESTIMATED) else read_prior(args.prior, model.class_names)  # before what takes long
    index = own_index(images)
    log_probs = model.posterior(images, budget=args.posterior, index=index)
    prior = estimate_prior(log_probs) if args.prior == ESTIMATED else given
    entries: list[dict[str, Any]] = [{"posterior": by_class(model, under(prior, of)), "posterior_budget": args.posterior} for of in log_probs]
    if prior is not None:
        entries = [entry | {"prior": by_class(model, prior)} for entry in entries]
    if model.codec.stride == 1:
        bits, error = model.nll(images, index=index).bits_per_dimension()
        for entry, value, half in zip(entries, bits.tolist(), (Z95 * error).tolist(), strict=True):
            entry["bits_per_dimension"] = {"value": value, "low": value - half, "high": value + half}
    if seen.class_log_probs is not None and model.gate is not None:
        for entry, both in zip(entries, model.gate.product(seen.class_log_probs, log_probs), strict=True):
            entry["combined"] = by_class(model, under(prior, both))
    if seen.class_log_probs is not None:
        divergence = torch.nn.functional.kl_div(log_probs, seen.class_log_probs, log_target=True, reduction="none").sum(1)
        for entry, apart in zip(entries, divergence.tolist(), strict=True):
            entry["divergence"] = apart
            if args.abstain_above is not None:
                entry["abstains"] = apart > args.abstain_above
    return entries


def read_prior(text: str, class_names: Sequence[str]) -> Tensor:
    """log of class frequencies [k] from `A=.7,B=.2`; classes that are not named share what is left.

    Raises:
        ValueError: an unknown class, no number, or numbers that are no frequencies.

    >>> read_prior("boot=.5", ("boot", "bag", "coat")).exp().tolist()
    [0.5, 0.25, 0.25]
    """
    import torch

    from genrep.registry import lookup

    found: dict[str, float] = {}
    for entry in text.split(","):
        name, _, number = entry.rpartition("=")
        lookup(dict.fromkeys(class_names), name.strip(), "class")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise ValueError(f"`--prior` has `{entry}`; expected {UNIFORM}, {ESTIMATED}, or CLASS=FREQUENCY, ...") from None
    rest, others = 1 - sum(found.values()), len(class_names) - len(found)
    if not all(0 < value <= 1 for value in found.values()) or not (rest > 0 if others else abs(rest) < 0.01):
        raise ValueError(f"`--prior` {text}: frequencies are above 0, and those of all classes sum up to 1; found {sum(found.values()):g} in all.")
    return torch.tensor([found.get(name, rest / max(others, 1)) for name in class_names]).log().log_softmax(0)


def under(prior: Tensor | None, log_probs: Tensor) -> Tensor:
    """Log-probabilities [k] that were under a uniform prior, under another one."""
    return log_probs if prior is None else (log_probs + prior.to(log_probs)).log_softmax(0)


def by_class(model: GenRep, log_probs: Tensor) -> dict[str, float]:
    """Probabilities [k] by name, the likeliest first."""
    return dict(sorted(zip(model.class_names, log_probs.exp().tolist(), strict=True), key=lambda pair: -pair[1]))


def explain(model: GenRep, images: Tensor, opinions: Sequence[Mapping[str, Any]], stems: Sequence[Path]) -> list[dict[str, Any]]:
    """Where the generative side sees its first class rather than its second, as pictures STEM_why.png."""
    import torch

    from genrep.evaluation.draw import save_png, why

    pairs = [[model.class_names.index(name) for name in list(opinion["posterior"])[:2]] for opinion in opinions]
    entries = []
    for image, (first, second), stem in zip(images, pairs, stems, strict=True):
        (found,) = model.evidence(image[None], torch.tensor([first]), torch.tensor([second]))  # one by one, so that no other file changes its random numbers
        path = stem.with_name(f"{stem.name}_why.png")
        save_png(why(image, found, (first, second), model.class_names), path)
        entries.append({"why": path.name})
    return entries


def write_entry(model: GenRep, picture: Picture, seen: tuple[Perception, int], stem: Path, opinion: Mapping[str, Any], *, min_score: float) -> dict[str, Any]:
    """The json entry of one picture, with the generative side's opinion; `files_of` it, but for the reasons, are written."""
    from genrep.boxes import one_per_place
    from genrep.cli.images import save_depth, save_mask
    from genrep.evaluation.draw import Annotation, captioned, save_png, scene

    perception, i = seen
    entry: dict[str, Any] = {"file": str(picture.path), "size": list(picture.size), "changes": picture.changes}
    known: dict[str, Any] = {}
    entry |= classes_seen(model, perception, i)
    if perception.detections is not None:
        found = one_per_place(perception.detections[i], min_score)
        known |= {"boxes_xyxy_px": found.boxes_xyxy_px, "labels": found.labels.tolist(), "scores": found.scores.tolist()}
        entry["objects"] = objects_in_file(known, picture, model)
    if perception.semantic_mask is not None:
        known["semantic_mask"] = perception.semantic_mask[i]
        entry["mask"] = save_mask(perception.semantic_mask[i], picture.size, stem.with_name(f"{stem.name}_mask.png")).name
    if perception.inv_depth is not None:
        path, metric = stem.with_name(f"{stem.name}_depth.png"), model.config.depth == "metric"
        entry["depth"] = save_depth(perception.inv_depth[i], picture.size, path, metric=metric).name
    entry |= opinion
    entry["overlay"] = f"{stem.name}_overlay.png"
    overlay, words = scene(picture.image, Annotation(**known), model.class_names), caption(entry, model.class_names)
    save_png(captioned(overlay, words) if words else overlay, stem.with_name(entry["overlay"]))
    return entry


def classes_seen(model: GenRep, perception: Perception, i: int) -> dict[str, Any]:
    """What image i shows as a whole, as far as the model says it: the class it is of, and the classes that are there."""
    log_probs, presence = perception.class_log_probs, perception.presence
    entry = {} if log_probs is None else {"class_probabilities": by_class(model, log_probs[i])}
    return entry if presence is None else entry | {"presence": by_class(model, presence[i].log())}


def caption(entry: Mapping[str, Any], class_names: Sequence[str] = ()) -> list[str]:
    """What is written below an overlay, where no boxes have names: the classes that are there, or the likeliest one, if any is to be named.

    A class whose name cannot be drawn has its number among `class_names`.

    >>> caption({"presence": {"boot": 0.93, "bag": 0.61, "coat": 0.02}}), caption({"class_probabilities": {"boot": 0.88, "bag": 0.12}})
    (['boot .93', 'bag .61'], ['boot .88'])
    >>> caption({"presence": {"boot": 0.02}}), caption({"presence": {"boot": 0.9}, "objects": []})
    (['none of the classes'], [])
    >>> caption({"class_probabilities": {"boot": 0.88, "bag": 0.12}, "abstains": True})
    ['abstains']
    >>> caption({"class_probabilities": {"boot": 0.88, "bag": 0.12}, "objects": [], "abstains": True})
    ['abstains']
    """
    from genrep.evaluation.draw import scored
    from genrep.evaluation.words import legible

    drawn = dict(zip(class_names, legible(class_names), strict=True))
    abstains = ["abstains"] if entry.get("abstains") else []
    if "objects" in entry:
        return abstains
    if "presence" in entry:
        there = [scored(drawn.get(name, name), prob) for name, prob in entry["presence"].items() if prob >= LEAST_PRESENCE]
        return [*abstains, *(there or ["none of the classes"])]
    return abstains or [scored(drawn.get(name, name), prob) for name, prob in list(entry.get("class_probabilities", {}).items())[:1]]


def objects_in_file(known: Mapping[str, Any], picture: Picture, model: GenRep) -> list[dict[str, Any]]:
    """Objects with their boxes in pixels of the image file."""
    down, across = (size / of for size, of in zip(picture.size, model.image_size, strict=True))
    boxes = (known["boxes_xyxy_px"] * known["boxes_xyxy_px"].new_tensor([across, down, across, down])).tolist()
    rows = zip(known["labels"], known["scores"], boxes, strict=True)
    return [{"class": model.class_names[label], "score": score, "box_xyxy_px": box} for label, score, box in rows]
