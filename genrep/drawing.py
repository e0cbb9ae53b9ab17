"""What an image should be besides its classes: like another one, the rest of one, or such that perception sees in it what is wished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.types import Batch, Denoise, Denoised

Watch = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """Tensors have a row for each image that is made.

    Raises:
        ValueError: a number out of its range, or a part of the image is hidden without an image.
    """

    guidance_interval: tuple[float, float] = (0.3, 0.7)
    """Noise times between which classifier-free guidance acts; over all of them, 0 to 1, samples vary less for the same gain."""
    image: Float[Tensor, "b 3 h w"] | None = None
    """An image in [-1, 1] to begin from."""
    strength: float = 1.0
    """Noise time, in (0, 1], that it is noised to: near 0 little of it changes, 1 forgets it."""
    hidden: Float[Tensor, "b h w"] | None = None
    """Where it is above 0, `image` is made anew; elsewhere it is kept."""
    reference: Float[Tensor, "b 3 h w"] | None = None
    """An image whose semantics drive the denoising, in place of those drawn for the sample, or its own."""
    likeness: float = 1.0
    """How much of the semantics is the reference's, in [0, 1]."""
    wanted: Batch | None = None
    """What the model's own heads should see: labels, boxes, masks; the images in it are not looked at."""
    insistence: float = 1.0
    """How strongly; 1: as Bayes' rule has it."""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"`strength` must lie in (0, 1]; found {self.strength}. 1 forgets the image.")
        if not 0 <= self.likeness <= 1:
            raise ValueError(f"`likeness` must lie in [0, 1]; found {self.likeness}. 0 is free of the reference.")
        if self.insistence < 0:
            raise ValueError(f"`insistence` must be at least 0; found {self.insistence}. 0 does not insist.")
        if self.image is None and (self.hidden is not None or self.strength < 1):
            raise ValueError("`hidden` and `strength` need an `image` to begin from; found none.")

    @property
    def keeps(self) -> bool:
        """Whether something of an image is to stay."""
        return self.hidden is not None or self.strength < 1

    def keep(self, made: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """What is made, and where nothing is hidden what `image` has there, which a codec with weights changes a little."""
        if self.hidden is None or self.image is None:
            return made
        return torch.where(self.hidden.to(made.device)[:, None] > 0, made, self.image.to(made))

    def refuse_unheard(self, modulator: str, *, noisy: bool) -> None:
        """A reference acts through the modulator, and semantics that scale the spread alone act where noise is drawn.

        Args:
            noisy: the sampler draws some.
        Raises:
            ValueError: there is a reference, and nothing would come of it.
        """
        if self.reference is not None and modulator == "none":
            raise ValueError("`reference` needs a model whose semantics drive the denoising; this one has the modulator none.")
        if self.reference is not None and modulator == "spread" and not noisy:
            raise ValueError("`reference` scales the noise alone in a model with the modulator spread, and this sampler draws none; ancestral does.")

    def rows(self, where: Int[Tensor, " m"]) -> Wishes:
        """Those of some of the images."""

        def some(value: object) -> object:
            if isinstance(value, Batch):
                return value.rows(where.to(value.image.device))
            return value[where.to(value.device)] if isinstance(value, Tensor) else value

        return Wishes(**{f.name: some(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]


def watched(denoise: Denoise, watch: Watch, decode: Callable[[Tensor], Tensor]) -> Denoise:
    """A denoiser that shows at every evaluation what it is given and what it expects, as images on the CPU."""

    def seen(xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        found = denoise(xt, t, y)
        watch(decode(xt).cpu(), decode(found.x0_hat).cpu())
        return found

    return seen
