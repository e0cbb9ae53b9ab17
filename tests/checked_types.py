"""The run-time type check of the tests: beartype, with an int accepted where a float is annotated, as mypy does."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
