"""What is wrong with a user's data, said by file: collected, or raised at the first."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Problem:
    """One thing found, and what was done about it."""

    where: str
    """File, and the annotation in it where there is one."""
    what: str
    is_wrong: bool = True
    """False: a remark."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Problems:
    """Collects what a reader finds.

    Args:
        strict: raise at the first problem instead.
    """

    strict: bool
    found: list[Problem] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """Something wrong.

        Raises:
            ValueError: with `strict`, the problem itself.
        """
        if self.strict:
            raise ValueError(str(Problem(where, what)))
        self.found.append(Problem(where, what))

    def note(self, where: str, what: str) -> None:
        """Something to know that is not wrong."""
        self.found.append(Problem(where, what, is_wrong=False))
