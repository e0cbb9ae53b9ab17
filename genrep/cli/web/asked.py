"""What a request may ask for, with its limits; anything else is refused in one line."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genrep.cli.made_set import Order

MOST_IMAGES = 128
"""That one request may have made or kept."""
MOST_EVALUATIONS = 20_000
"""Of the network in one request: images times steps."""
MOST_BUDGET = 128


class Request(BaseModel):
    """Fields by name; one that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Seeing(Request):
    """What to say of a picture."""

    min_score: float = Field(0.3, ge=0, le=1)
    """Boxes scored below are left out."""
    budget: int = Field(0, ge=0, le=MOST_BUDGET)
    """Evaluations of each class by the generative side; 0: it is not asked."""
    why: bool = False
    """Whether to draw where its evidence lies."""


class Making(Request):
    """Images of classes."""

    classes: str = Field("", max_length=2_000)
    """As `genrep generate --classes`; empty: each class."""
    count: int = Field(8, ge=1, le=MOST_IMAGES)
    """Of each entry of `classes`."""
    seed: int = Field(0, ge=0, lt=2**31)
    steps: int = Field(25, ge=1, le=250)
    guidance: float = Field(2.0, ge=0, le=20)
    sampler: str = Field("ancestral", max_length=40)
    seen: bool = False
    """Whether to draw what the model itself sees in them."""


class Choosing(Request):
    """Images that the model makes and recognises, to choose from."""

    classes: str = Field("", max_length=2_000)
    count: int = Field(16, ge=1, le=MOST_IMAGES)
    tries: int = Field(5, ge=1, le=20)
    sure: float = Field(0.9, ge=0, le=1)
    min_score: float = Field(0.5, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)
    steps: int = Field(25, ge=1, le=250)
    guidance: float = Field(1.5, ge=0, le=20)
    sampler: str = Field("ancestral", max_length=40)

    @property
    def order(self) -> Order:
        """The same as `genrep synthesize` would have it."""
        return Order(**{name: getattr(self, name) for name in Order.__dataclass_fields__} | {"classes": self.classes or None})


class Keeping(Request):
    """A set of what an order offers, less what is rejected."""

    order: Choosing
    rejected: tuple[int, ...] = Field((), max_length=MOST_IMAGES * 40)
    """Indices of images that were offered and are not wanted."""


Asked = TypeVar("Asked", bound=Request)


def read(kind: type[Asked], found: Any) -> Asked:
    """A request, checked.

    Raises:
        ValueError: what is wrong with it, in one line.
    """
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(map(str, first["loc"]))
        value = "" if isinstance(first["input"], dict) else f"; found {str(first['input'])[:60]}"
        known = f" It has {', '.join(kind.model_fields)}." if first["type"] == "extra_forbidden" else ""
        raise ValueError(f"`{name or 'request'}`: {first['msg'][0].lower()}{first['msg'][1:]}{value}.{known}") from None


def refuse_much(num: int, steps: int, *, tries: int = 1) -> None:
    """One request keeps others waiting for as long as it takes.

    Raises:
        ValueError: too many images, or too many evaluations of the network.
    """
    if num > MOST_IMAGES:
        raise ValueError(f"{num} images are more than the {MOST_IMAGES} that one request may have. Ask for fewer of each class, or for fewer classes.")
    if num * steps * tries > MOST_EVALUATIONS:
        of = f"{num} images of {steps} steps" + (f", tried {tries} times," if tries > 1 else "")
        raise ValueError(f"{of} are {num * steps * tries} evaluations, more than {MOST_EVALUATIONS}. Ask for fewer images, steps or tries.")
