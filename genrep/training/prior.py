"""How semantics are distributed given the classes, learnt from a finished teacher at the end of training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genrep.denoiser import draw_times, pool
from genrep.losses import conditions
from genrep.modulators.prior import SemanticPrior
from genrep.processes import gathered
from genrep.randomness import SampleGenerator
from genrep.training.confidence import as_in_training
from genrep.training.distillation import Teacher
from genrep.training.stream import Stream

AT_ONCE = 200
BATCH_SIZE, LR, NULL_FRACTION = 512, 8e-3, 0.1


def learn_prior(teacher: Teacher, stream: Stream, *, seed: int) -> None:
    """Fit the p(sem | classes) of the teacher's modulator to the images that it was trained on, and the classes that generation was told of them.

    Each image comes once: few that are annotated, of which training made half of its batches, would be learnt by heart.
    It is a part of a few hundred thousand weights that sees vectors, not images: with the defaults a minute or two on a CPU.
    """
    as_in_training(teacher.model)  # whatever was completed before
    prior = teacher.model.denoiser.modulator.prior
    assert isinstance(prior, SemanticPrior)
    sem, y = known_semantics(teacher, stream, num=teacher.config.prior_images)
    prior.requires_grad_(True)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=LR, fused=True)
    num_steps = teacher.config.prior_steps
    for step in range(num_steps):
        generator = SampleGenerator(seed, step * BATCH_SIZE + torch.arange(BATCH_SIZE, device=sem.device), "prior")
        draw = generator.uniform(3)
        which = (draw[:, 0] * len(sem)).long()
        told = y[which] * (draw[:, 1:2] >= NULL_FRACTION)
        t = draw_times(draw[:, 2:]).squeeze(1).to(sem.dtype)
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / num_steps)
        optimizer.zero_grad()
        prior.loss(sem[which], told, t, generator.normal(sem.shape[1]).to(sem.dtype)).backward()
        optimizer.step()
    optimizer.zero_grad()
    prior.requires_grad_(False)
    prior.learnt.fill_(1)


@torch.no_grad()
def known_semantics(teacher: Teacher, stream: Stream, *, num: int) -> tuple[Float[Tensor, "n s"], Float[Tensor, "n k"]]:
    """Semantics of the first `num` different images of a stream, and the classes that generation is told of them; of several processes, of all."""
    model, found = teacher.model, []
    for start, is_new in first_visits(stream, num):
        batch, positions = stream.batch(start, AT_ONCE)
        batch = batch.rows(is_new[positions - start]).to(model.device)
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=teacher.bf16):
            taught = model.clean_features(model.encode(batch.image))
            y = conditions(model, batch, taught, config=teacher.config, labeller=teacher.labeller)
            sem = model.denoiser.modulator.semantics(pool(taught))
        found.append((gathered(sem), gathered(y.to(sem))))
    sem, y = (torch.cat(parts) for parts in zip(*found, strict=True))
    return sem, y


def first_visits(stream: Stream, num: int) -> Iterator[tuple[int, Bool[Tensor, " p"]]]:
    """Blocks of `AT_ONCE` positions by their first, and at which of them an image comes that did not come before, until `num` have.

    Sets of unlike size, dealt in turn, do not each come once in as many positions as there are images.
    """
    left, seen = min(num, len(stream)), torch.zeros(len(stream), dtype=torch.bool)
    for start in count(0, AT_ONCE):
        if not left:
            return
        which = stream.which(torch.arange(start, start + AT_ONCE))
        first = torch.full((len(stream),), AT_ONCE).scatter_reduce(0, which, torch.arange(AT_ONCE), "amin")
        is_new = ~seen[which] & (first[which] == torch.arange(AT_ONCE))
        is_new &= is_new.cumsum(0) <= left
        seen[which[is_new]] = True
        left -= int(is_new.sum())
        if is_new.any():
            yield start, is_new
