"""What a model says of pictures, in words, numbers and drawings: for files, and for the web page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from genrep.cli.images import Picture
    from genrep.evaluation.draw import Picture as Drawing
    from genrep.model import GenRep
    from genrep.types import Perception

LEAST_PRESENCE = 0.5
"""Probability from which on a class is written below a picture."""
UNIFORM, ESTIMATED = "uniform", "estimated"


def second_opinions(
    model: GenRep, images: Tensor, seen: Perception, *, budget: int, prior: str = UNIFORM, abstain_above: float | None = None
) -> list[dict[str, Any]]:
    """What the generative side says of each image: class probabilities, these and the head's combined, how far apart they are, and how likely the image is.

    Args:
        budget: evaluations per class.
        prior: how frequent the classes are: UNIFORM, ESTIMATED from these images, or as `read_prior` reads.
        abstain_above: divergence of the two sides, nats, above which an image is of no class.
    """
    import torch

    from genrep.cli.images import own_index
    from genrep.metrics.base import Z95
    from genrep.posteriors.prior import estimate_prior

    given = None if prior in (UNIFORM, ESTIMATED) else read_prior(prior, model.class_names)  # before what takes long
    index = own_index(images)
    log_probs = model.posterior(images, budget=budget, index=index)
    frequent = estimate_prior(log_probs) if prior == ESTIMATED else given
    entries: list[dict[str, Any]] = [{"posterior": by_class(model, under(frequent, of)), "posterior_budget": budget} for of in log_probs]
    if frequent is not None:
        entries = [entry | {"prior": by_class(model, frequent)} for entry in entries]
    if model.codec.stride == 1:
        bits, error = model.nll(images, index=index).bits_per_dimension()
        for entry, value, half in zip(entries, bits.tolist(), (Z95 * error).tolist(), strict=True):
            entry["bits_per_dimension"] = {"value": value, "low": value - half, "high": value + half}
    if seen.class_log_probs is not None and model.gate is not None:
        for entry, both in zip(entries, model.gate.product(seen.class_log_probs, log_probs), strict=True):
            entry["combined"] = by_class(model, under(frequent, both))
    if seen.class_log_probs is not None:
        divergence = torch.nn.functional.kl_div(log_probs, seen.class_log_probs, log_target=True, reduction="none").sum(1)
        for entry, apart in zip(entries, divergence.tolist(), strict=True):
            entry["divergence"] = apart
            if abstain_above is not None:
                entry["abstains"] = apart > abstain_above
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


def drawn_reasons(model: GenRep, image: Tensor, opinion: Mapping[str, Any]) -> Drawing:
    """Where in an image [3 h w] the generative side sees the first class of its opinion rather than the second."""
    import torch

    from genrep.evaluation.draw import why

    first, second = (model.class_names.index(name) for name in list(opinion["posterior"])[:2])
    (found,) = model.evidence(image[None], torch.tensor([first]), torch.tensor([second]))  # one by one, so that no other file changes its random numbers
    return why(image, found, (first, second), model.class_names)


def described(model: GenRep, picture: Picture, seen: tuple[Perception, int], opinion: Mapping[str, Any], *, min_score: float) -> tuple[dict[str, Any], Drawing]:
    """What is said of a picture, by name, and the picture with its boxes and mask drawn over it.

    Args:
        seen: what a batch holds, and the picture's place in it.
        opinion: of the generative side; empty where it was not asked.
        min_score: boxes scored below are left out.
    """
    from genrep.boxes import one_per_place
    from genrep.evaluation.draw import Annotation, captioned, scene

    perception, i = seen
    entry: dict[str, Any] = {"size": list(picture.size), "changes": picture.changes, **classes_seen(model, perception, i)}
    known: dict[str, Any] = {}
    if perception.detections is not None:
        found = one_per_place(perception.detections[i], min_score)
        known |= {"boxes_xyxy_px": found.boxes_xyxy_px, "labels": found.labels.tolist(), "scores": found.scores.tolist()}
        entry["objects"] = objects_in_file(known, picture, model)
    if perception.semantic_mask is not None:
        known["semantic_mask"] = perception.semantic_mask[i]
    entry |= opinion
    overlay, words = scene(picture.image, Annotation(**known), model.class_names), caption(entry, model.class_names)
    return entry, captioned(overlay, words) if words else overlay


def seen_cells(model: GenRep, images: Tensor) -> list[Drawing]:
    """Each image with what the model sees in it drawn over, and where that has no boxes, its classes below."""
    from genrep.evaluation.draw import captioned, levelled, scene
    from genrep.evaluation.pictures import seen_in

    seen = model.perceive(images)
    cells = [scene(image, seen_in(seen, i), model.class_names) for i, image in enumerate(images)]
    if seen.detections is not None:
        return cells
    words = [caption(classes_seen(model, seen, i), model.class_names) for i in range(len(images))]
    return levelled([captioned(cell, said) if said else cell for cell, said in zip(cells, words, strict=True)])


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
