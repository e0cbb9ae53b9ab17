"""A device that is not the CPU: nothing is left behind there, no float64 is asked for, and the numbers stay what they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "foreign_device.py"
WITHIN = {"weights/denoiser.trunk": 1e-2, "weights/heads": 1e-2, "classes": 5e-3, "boxes": 1e-2, "masks": 0.0, "samples": 0.05}
"""Convolutions and attention are other kernels there, and the optimizers make much of the last digit of a gradient near 0."""


@pytest.mark.slow
def test_training_and_its_model_stay_on_their_device(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, str(PROGRAM), str(tmp_path)], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr[-3_000:]
    mistake, too_wide, apart = ran.stdout.splitlines()[-3:]
    assert "aten.add.Tensor of tensors on two devices" in mistake
    assert "makes float64, which this device has none of" in too_wide
    found = json.loads(apart)
    assert all(any(name.startswith(part) for name in found) for part in WITHIN)
    for name, distance in found.items():
        bound = next((bound for part, bound in WITHIN.items() if name.startswith(part)), float("inf"))
        assert distance <= bound, name
