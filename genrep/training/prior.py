"""How semantics are distributed given the classes, learnt from a finished teacher at the end of training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.denoiser import pool
from genrep.modulators.prior import SemanticPrior
from genrep.objective import conditions, draw_times
from genrep.processes import gathered
from genrep.randomness import SampleGenerator
from genrep.training.distillation import Teacher
from genrep.training.stream import Stream

AT_ONCE = 200
BATCH_SIZE, LR, NULL_FRACTION = 512, 8e-3, 0.1


def learn_prior(teacher: Teacher, stream: Stream, *, seed: int) -> None:
    """Fit the p(sem | classes) of the teacher's modulator to the images that it was trained on, and the classes that generation was told of them.

    It is a part of a few hundred thousand weights that sees vectors, not images: with the defaults a minute or two on a CPU.
    """
    prior = teacher.model.denoiser.modulator.prior
    assert isinstance(prior, SemanticPrior)
    sem, y = known_semantics(teacher, stream, num=min(teacher.config.prior_images, len(stream)))
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
    """Semantics of the first images of a stream, and the classes that generation is told of them; of several processes, of all."""
    model, found = teacher.model, []
    for start in range(0, num, AT_ONCE):
        batch, _ = stream.batch(start, min(AT_ONCE, num - start))
        batch = batch.to(model.device)
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=teacher.bf16):
            taught = model.clean_features(model.encode(batch.image))
            y = conditions(model, batch, taught, config=teacher.config, labeller=teacher.labeller)
            sem = model.denoiser.modulator.semantics(pool(taught))
        found.append((gathered(sem), gathered(y.to(sem))))
    sem, y = (torch.cat(parts) for parts in zip(*found, strict=True))
    return sem, y
