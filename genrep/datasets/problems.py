"""What is wrong with a user's data, said by file and counted: collected, or raised at the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Problem:
    """One thing found, and what was done about it."""

    where: str
    """File, and the annotation in it where there is one."""
    what: str
    is_wrong: bool = True
    """False: a remark."""
    num_dropped: int = 0
    """Files and annotations that were left out."""
    num_fixed: int = 0
    """Those that were used in part, or changed."""

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
        """Something wrong, with which nothing was done.

        Raises:
            ValueError: with `strict`, the problem itself; so with `drop` and `fix`.
        """
        self._wrong(Problem(where, what))

    def drop(self, where: str, what: str, num: int = 1) -> None:
        """Something wrong, for which so many files and annotations are left out."""
        self._wrong(Problem(where, f"{what}; left out", num_dropped=num))

    def fix(self, where: str, what: str) -> None:
        """Something wrong that is used all the same, changed or in part; `what` says how."""
        self._wrong(Problem(where, what, num_fixed=1))

    def note(self, where: str, what: str, *, num_dropped: int = 0) -> None:
        """Something to know that is not wrong."""
        self.found.append(Problem(where, what, is_wrong=False, num_dropped=num_dropped))

    def _wrong(self, problem: Problem) -> None:
        if self.strict:
            raise ValueError(str(problem))
        self.found.append(problem)


def merged(*found: Iterable[Problem]) -> list[Problem]:
    """What several reads of one folder found, each thing as often as the read that found it most often: splits may share a file."""
    counts: Counter[Problem] = Counter()
    for some in found:
        counts |= Counter(some)
    return list(counts.elements())
