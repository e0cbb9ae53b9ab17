"""Teachers with a calibration and gates of known state, and batches for them."""

from __future__ import annotations

from dataclasses import replace

import torch
from rectangles import rectangles
from small_models import small_model

from genrep.objective import ObjectiveConfig
from genrep.posteriors import DenoisingGap
from genrep.posteriors.calibration import Calibration, ObjectCalibration
from genrep.posteriors.gate import Gate
from genrep.training.distillation import Teacher, Teaching
from genrep.training.optimization import make_teacher
from genrep.types import Batch

OPEN, CLOSED = Gate(weight=0.5, standard_error=0.1), Gate(weight=0.5, standard_error=0.4)
CALIBRATION = Calibration(tau=0.05, bias=(0.0, 0.1, 0.2, 0.3))
OBJECT_CALIBRATION = ObjectCalibration(tau=0.05, gamma=0.5, bias=(0.0, 0.1, 0.2, 0.3))
CONFIG = ObjectiveConfig(posterior=DenoisingGap(budget=2), distil_images=3)
SELF = replace(CONFIG, self_training=True, pseudo_confidence=0.8)


def teaching(*, image: Gate = CLOSED, objects: Gate = CLOSED) -> Teaching:
    return Teaching(calibration=CALIBRATION, image_gate=image, object_calibration=OBJECT_CALIBRATION, object_gate=objects)


def teacher(state: Teaching | None = None, config: ObjectiveConfig = CONFIG) -> Teacher:
    made = Teacher(make_teacher(small_model()), config, seed=0)
    made.teaching = state or Teaching()
    return made


def batch_of(num: int = 6) -> Batch:
    """Half of the images have one object, half three."""
    some = torch.arange(num // 2)
    return Batch.cat([rectangles(num // 2, size=16).batch(some), rectangles(num // 2, num_objects=3, size=16, seed=1).batch(some)])
