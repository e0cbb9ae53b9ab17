"""Look-up by name: helpful where it fails, an inverse where it does not."""

from __future__ import annotations

import pytest

from genrep.registry import lookup, name_of, nearest
from genrep.samplers import SAMPLERS, Heun


def test_look_up_and_back() -> None:
    assert lookup(SAMPLERS, "heun", "sampler") is Heun
    assert name_of(SAMPLERS, Heun()) == "heun"


def test_a_misspelt_name_is_offered_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown sampler `huen`; known: ancestral, dpm_solver, euler, heun, unipc\. Did you mean `heun`\?"):
        lookup(SAMPLERS, "huen", "sampler")


def test_a_name_like_no_other_is_offered_none() -> None:
    assert nearest("xyzzy", SAMPLERS) == ""
