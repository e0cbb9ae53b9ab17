"""What the diffusion model says of the objects in annotated images, beside what the detection head says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from genrep.layers import wide
from genrep.model import GenRep
from genrep.posteriors import DenoisingGap
from genrep.posteriors.objects import object_log_likelihood, region_of, replace_class
from genrep.randomness import SampleGenerator
from genrep.tasks.detection import Detection
from genrep.types import IGNORE, UNLABELLED, Batch


@dataclass(frozen=True)
class ObjectLikelihoods:
    """Objects of multi-object images with the log-likelihood of each candidate class (nats, up to a constant per object)."""

    row: Int[Tensor, " r"]
    slot: Int[Tensor, " r"]
    truth: Int[Tensor, " r"]
    """Which candidate is the object's own class."""
    candidates: Int[Tensor, "r m"]
    log_lik: Float[Tensor, "r m"]
    area: Float[Tensor, " r"]


def object_log_likelihoods(
    teacher: GenRep, batch: Batch, scores: Float[Tensor, "b n k"], *, estimator: DenoisingGap, index: Int[Tensor, " b"], seed: int, num_candidates: int
) -> ObjectLikelihoods:
    """Likelihood of the objects' shortlisted classes, the rest of their image being as it is.

    Objects whose own class is not on the shortlist are left out. Adding it there would leak the label: what stands beside
    the head's favourites without being one of them would always be the truth. What an object covers is `region_of`.

    Args:
        scores: what the detection head thinks of each object, [b slots k]; its favourites are the shortlist.
    """
    row, slot = torch.nonzero(batch.object_labels != UNLABELLED, as_tuple=True)
    candidates = scores[row, slot].topk(min(num_candidates, scores.shape[2]), dim=1).indices
    is_own = candidates == batch.object_labels[row, slot][:, None]
    row, slot, candidates, truth = (values[is_own.any(1)] for values in (row, slot, candidates, is_own.int().argmax(1)))
    if not len(row):
        return ObjectLikelihoods(row, slot, truth, candidates, scores.new_zeros(candidates.shape), scores.new_zeros(0))
    held = replace_class(batch.classes[row], batch.object_labels[row, slot], candidates)
    generator = SampleGenerator(seed, index[row] * IGNORE + slot, "objects")
    maps = estimator.maps(teacher.denoiser.candidates, teacher.encode(batch.image)[row], held, schedule=teacher.schedule, generator=generator)
    region = F.adaptive_avg_pool2d(region_of(batch, row, slot)[:, None], (maps.shape[-2], maps.shape[-1])).squeeze(
        1
    )  # of latents a place may be half an object's
    return ObjectLikelihoods(row, slot, truth, candidates, object_log_likelihood(maps, region), region.sum((1, 2)).clamp(min=1))


@torch.no_grad()
def object_scores(model: GenRep, batch: Batch) -> Float[Tensor, "b n k"]:
    """Log-probabilities of the detection head for each annotated object."""
    head = model.heads["detection"]
    assert isinstance(head, Detection)
    return wide(head.object_logits(head(model.clean_features(model.encode(batch.image))), batch)).log_softmax(-1)


def shortlisted(scores: Float[Tensor, "b n k"], found: ObjectLikelihoods) -> Float[Tensor, "r m"]:
    """What the head says of each object's candidates: log-probabilities among them."""
    return scores[found.row, found.slot].gather(1, found.candidates).log_softmax(1)
