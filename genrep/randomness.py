"""Random numbers that belong to samples, not to batches: a counter-based generator with one stream per sample.

Row i of whatever is drawn depends on (seed, stream, index[i], how much was drawn before) and on nothing else: not on the
batch it sits in, the number of workers or processes, or the device. There is no state worth a checkpoint: a resumed run
makes the same generator from the same (seed, index) again.
"""

from __future__ import annotations

import math
import zlib

import torch
from jaxtyping import Float, Int
from torch import Tensor


def _signed(value: int) -> int:
    """A 64-bit pattern as the int64 that has it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift(z: Tensor, by: int) -> Tensor:
    return (z >> by) & ((1 << (64 - by)) - 1)


def _mix(z: Int[Tensor, "*s"]) -> Int[Tensor, "*s"]:
    """SplitMix64's finaliser: neighbouring inputs give unrelated 64-bit outputs (int64 products wrap)."""
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


class SampleGenerator:
    """One random stream per sample.

    Args:
        seed: any integer; runs with other seeds are independent.
        index: [b] which sample each row is (its place in the training stream, its seed offset, ...).
        stream: what the numbers are for; streams of other names are independent.
    Source: SplitMix64, Steele, Lea and Flood 2014, used as a counter-based generator (Salmon et al. 2011).

    >>> whole = SampleGenerator(0, torch.arange(4)).normal(3)
    >>> bool((SampleGenerator(0, torch.tensor([2])).normal(3) == whole[2:3]).all())
    True
    """

    def __init__(self, seed: int, index: Int[Tensor, " b"], stream: str = "") -> None:
        salt = torch.tensor(_signed(seed * 0x2545F4914F6CDD1D ^ zlib.crc32(stream.encode()) << 32), device=index.device)
        self._key = _mix(_mix(salt) + index.long() * _GOLDEN)
        self._drawn = 0

    def __len__(self) -> int:
        return len(self._key)

    @property
    def device(self) -> torch.device:
        return self._key.device

    def _bits(self, num: int) -> Int[Tensor, "b n"]:
        counter = torch.arange(self._drawn + 1, self._drawn + num + 1, device=self.device)
        self._drawn += num
        return _mix(self._key[:, None] + counter * _GOLDEN)

    def uniform(self, *shape: int) -> Float[Tensor, "b *shape"]:
        """Uniform numbers in the open interval (0, 1), float32, [b, *shape]."""
        bits = self._bits(math.prod(shape))
        return ((_shift(bits, 40).float() + 0.5) * 2.0**-24).clamp_(max=1 - 2.0**-24).view(len(self), *shape)

    def normal(self, *shape: int) -> Float[Tensor, "b *shape"]:
        """Standard normal numbers, float32, [b, *shape] (Box-Muller: two of them from each 64 random bits)."""
        num = math.prod(shape)
        bits = self._bits((num + 1) // 2)
        radius = ((_shift(bits, 40).float() + 0.5) * 2.0**-24).clamp_(max=1.0).log_().mul_(-2).sqrt_()
        angle = ((bits & 0xFFFFFF).float() + 0.5) * (2 * math.pi * 2.0**-24)
        pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return pairs[:, :num].reshape(len(self), *shape)

    def integers(self, high: int, *shape: int) -> Int[Tensor, "b *shape"]:
        """Uniform integers in [0, high), [b, *shape]."""
        return (self.uniform(*shape) * high).long().clamp_(max=high - 1)


def permutation(num: int, seed: int, epoch: int) -> Int[Tensor, " num"]:
    """The order in which epoch `epoch` visits a set of `num` samples."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % (1 << 62))
    return torch.randperm(num, generator=generator)
