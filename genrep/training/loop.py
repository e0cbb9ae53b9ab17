"""Training: two stages in one command, resumable at any step."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import torch

from genrep.config import Config
from genrep.devices import default_device
from genrep.layers import precise
from genrep.lessons import Lessons
from genrep.model import GenRep
from genrep.processes import in_turn, is_first, joined, rank, together, total
from genrep.registry import lookup
from genrep.training.beginning import begin_from, learning
from genrep.training.best import Best
from genrep.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from genrep.training.data import RunData, filled, left_out
from genrep.training.distillation import Teacher
from genrep.training.joint_step import ALIGNED_SETS, JointGradient
from genrep.training.lessons import Memory, give_lessons
from genrep.training.micro_batches import MicroBatches
from genrep.training.optimization import lr_at, make_optimizers, make_teacher, state_of, take_step, update_teacher
from genrep.training.prior import learn_prior
from genrep.training.probe import Probe
from genrep.training.records import Records, Row, Screen, Silent, alone_in, loss_columns, open_run, peak_memory_gb, write_log
from genrep.training.run_folder import RunFolder
from genrep.training.runtime import Interrupted, check_processes, check_steps, decided, side_by_side, where
from genrep.training.step_losses import Drawn, StepLosses, Terms, autocast
from genrep.training.step_report import PART_COLUMN, StepReport, parts_of
from genrep.training.stream import Ahead, Stream, annotated, by_objects, with_annotated


def train(
    config: Config,
    out: Path | str,
    *,
    command: str = "",
    allow_network: bool = False,
    progress: Screen | None = None,
    stop: Callable[[], bool] | None = None,
    look: Look | None = None,
) -> Path:
    """Train, or go on training, in the run folder `out`; a finished run is left as it is.

    Under `torchrun` all processes train one model, each on its part of every batch, and end with the weights that one process would have made; the
    first of them writes, all of them read: the folder is on a disk that they share.

    Args:
        command: what the user typed, for the record.
        allow_network: whether missing data may be fetched.
        progress: who watches.
        stop: asked after every step; True saves the state and raises `Interrupted`.
        look: draws the training sets into the file it is given, before the first step.
    Returns:
        the run folder; `out/model` holds the finished model.
    Raises:
        ValueError: the folder belongs to another configuration, another process trains in it, or the data cannot be had.
        Interrupted: asked to stop.
        FloatingPointError: a loss or gradient is not finite; the last checkpoint is untouched.
    """
    run = RunFolder(Path(out))
    with joined():
        if run.model.is_dir():
            device = default_device()
            open_run(run, decided(filled(config, RunData(config).training()), run, device), command=command, device=device)
            return run.path
        data = RunData(config, allow_network=allow_network)
        with alone_in(run):
            Session(data, run, command=command, screen=progress or Silent(), look=look).run_to_end(stop or (lambda: False))
    return run.path


class Session:
    """One sitting of a run: everything that training holds in memory."""

    def __init__(self, data: RunData, run: RunFolder, *, command: str, screen: Screen, look: Look | None) -> None:
        sets = in_turn(data.training)
        given, self.data = data.config, data
        self.run, self.screen, self.device = run, screen if is_first() else Silent(), default_device()
        self.config = config = data.config = decided(filled(given, sets), run, self.device)
        check_steps(config)
        check_processes(config)
        lines = [*data.lines(sets), *left_out(given, config)]
        (known, shares), self.unrepeated = annotated(sets, data.shares), Stream(sets, seed=config.train.seed, shares=data.shares)
        stage2 = with_annotated(sets, data.shares) if config.objective.learns_from_unannotated else (known, shares)
        self.streams = [Ahead(some, seed=config.train.seed, shares=parts) for some, parts in ((known, shares), stage2)]
        self.glimpsed = Ahead(known, seed=config.train.seed + 1, shares=by_objects(known, shares))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            self.model = GenRep(config.model)
        if config.train.init and run.latest_checkpoint()[0] is None:
            lines += begin_from(self.model, Path(config.train.init))
        learning(self.model, config.train.only).to(self.device)
        self.progress, self.best = Progress(), Best(config.train)
        if config.train.best_by:
            lines += self.best.settle(
                config.model.tasks if "perception" in config.objective.jobs else (), data.first_validation(config.train.validation_images)
            )
        parts = parts_of(self.model, lookup(ALIGNED_SETS, config.train.aligned_set, "aligned set"))
        self.teacher = Teacher(make_teacher(self.model), config.objective, seed=config.train.seed, bf16=bool(config.train.bf16))
        open_run(run, config, command=command, device=self.device)
        write_log(run, lines, data.problems)
        self.steps1, self.steps2 = config.steps
        more = [*loss_columns(config), *(PART_COLUMN + name for name in parts)]
        self.records = Records(run, self.screen, total_steps=self.steps1 + self.steps2, more=more)
        self.memory = Memory(len(self.streams[1]), self.model.denoiser.num_classes, visits=config.objective.distil_visits).to(self.device)
        self._restore()
        if look and is_first() and not run.picture.is_file():
            look(sets, run.picture)
            lines.append(f"a look at the data: {run.picture}")
        self.screen.on_start([*lines, f"{sum(p.numel() for p in self.model.parameters()) / 1e6:.2f} M parameters on {where(self.device, config)}"])

    @property
    def stage(self) -> int:
        return 1 if self.progress.step < self.steps1 else 2

    @property
    def losses(self) -> tuple[str, ...]:
        """What the current stage trains, in the order of the Gramian."""
        return self.config.losses(("perception",) if self.stage == 1 else self.config.objective.in_order)

    @property
    def glimpses(self) -> int:
        """Glimpsed images per step of the current stage."""
        train = self.config.train
        return 0 if self.losses == ("generation",) else train.stage1_glimpses if self.stage == 1 else train.glimpses

    @property
    def threads(self) -> int:
        """How many graphs compute at once: an accelerator is busy with one, processes must speak in one order, and micro-batches are there to save memory."""
        train, graphs = self.config.train, (1 if self.one_pass else len(self.losses)) + (self.glimpses > 0)
        return 1 if self.device.type != "cpu" or together() or train.micro_batches > 1 else min(train.side_by_side, graphs)

    @property
    def one_pass(self) -> bool:
        """Whether the losses of the current stage share a pass of the trunk."""
        return self.config.train.one_pass and len(self.losses) > 1

    def _enter_stage(self) -> None:
        """Fresh optimizers and a joint gradient for the stage that the next step belongs to."""
        train = self.config.train
        self.optimizers = make_optimizers(self.model, train)
        self.joint = JointGradient(
            self.model,
            self.config.aligner,
            weights=train.weights(self.losses),
            aligned=lookup(ALIGNED_SETS, train.aligned_set, "aligned set"),
            side_by_side=self.threads,
            clip_norm=train.clip_norm,
            guard=train.guard,
            sharded=train.sharded and len(self.losses) > 1,
        )

    def _restore(self) -> None:
        folder, damaged = self.run.latest_checkpoint()
        if folder:
            self.progress.step = int(folder.name.removeprefix("step_"))
        self._enter_stage()
        if folder:
            found = load_checkpoint(folder, model=self.model, teacher=self.teacher.model, memory=self.memory, best=self.best, optimizers=self.optimizers)
            self.progress, self.teacher.teaching, state = found
            self.joint.state = state or self.joint.state
            self.teacher.model.calibration = self.teacher.teaching.calibration
            self.teacher.model.object_calibration = self.teacher.teaching.object_calibration
            self.teacher.model.gate = self.teacher.teaching.image_gate
        self.records.cut(self.progress.step)
        for line in damaged:
            self.records.event({"event": "damaged_checkpoint", "what": line})
        if folder:
            self.records.event({"event": "resume", "step": self.progress.step})

    def run_to_end(self, stop: Callable[[], bool]) -> None:
        """All remaining steps, then the model folder."""
        train, before, started, saved = self.config.train, self.progress.seconds, time.monotonic(), time.monotonic()
        while self.progress.step < self.steps1 + self.steps2:
            if self.progress.step == self.steps1 and self.steps1:
                self._enter_stage()
            self._maybe_fit()
            with side_by_side(self.threads):
                row = self._step()
            self.progress.seconds = before + time.monotonic() - started
            if row:
                self.records.row({**row, "seconds": round(self.progress.seconds, 3)})
            if self.best.is_due(self.progress.step - self.steps1, self.steps2):
                self.records.event(self.best.look(self.teacher.model, self.data.first_validation(train.validation_images), self.progress.step))
            due = is_first() and (time.monotonic() - saved > train.checkpoint_every_s or self.progress.step == self.steps1 + self.steps2)
            stopped, due = map(bool, total(torch.tensor([stop(), due], dtype=torch.float, device=self.device)).tolist())
            if stopped or due:
                self._save()
            if stopped:
                raise Interrupted(self.run.path)
            saved = time.monotonic() if due else saved
        self._finish()

    def _finish(self) -> None:
        """The best model, where it is another one, and then the last, whose presence says that training is complete."""
        teacher, is_last = self.teacher, 0 < self.best.step == self.progress.step
        if self.best.step and not is_last:
            last, teaching = copy.deepcopy(teacher.model.state_dict()), teacher.teaching
            teacher.model.load_state_dict(self.best.tensors)
            self._complete([self.run.model_best])
            teacher.model.load_state_dict(last)
            teacher.teaching = teaching
        self._complete([self.run.model_best] * is_last + [self.run.model])
        self.records.event({"event": "end", "step": self.progress.step, "seconds": round(self.progress.seconds, 1)})
        best = [f"{self.run.model_best}, of step {self.best.step}"] * bool(self.best.step)
        self.screen.on_end([str(self.run.model), *best, str(self.run.metrics)])

    def _complete(self, folders: Sequence[Path]) -> None:
        """What a finished model is given, p(sem | classes) and what is fitted on validation images, and its folders."""
        objective = self.config.objective
        updates = objective.prior_steps if "generation" in objective.jobs and self.model.denoiser.modulator.num_told else 0
        asked = {"model": folders[-1].name, "updates": updates, "calibrates": "perception" in objective.jobs or bool(objective.posterior)}
        self.records.event({"event": "completion", "step": self.progress.step, **asked})
        if updates:
            learn_prior(self.teacher, self.unrepeated, seed=self.config.train.seed)
        if asked["calibrates"]:
            for event in self.teacher.calibrate(self.data.first_validation(objective.gate_images).to(self.device)):
                self.records.event({**event, "step": self.progress.step, "model": folders[-1].name})
        for folder in folders if is_first() else ():
            self.teacher.model.save_pretrained(folder, recipe=f"recipe `{self.config.name}`")

    def _save(self) -> None:
        state = state_of(self.optimizers, self.joint.owners)
        if not is_first():
            return
        save_checkpoint(
            self.run,
            model=self.model,
            teacher=self.teacher.model,
            optimizer_state=state,
            aligner_state=self.joint.state,
            teaching=self.teacher.teaching,
            memory=self.memory,
            best=self.best,
            progress=self.progress,
            keep=self.config.train.keep_checkpoints,
        )

    def _maybe_fit(self) -> None:
        """Calibrate and gate at the configured moments of stage 2."""
        objective, step2 = self.config.objective, self.progress.step - self.steps1
        if objective.posterior is None or "perception" not in objective.jobs or step2 not in {round(share * self.steps2) for share in objective.gate_at}:
            return
        with autocast(self.device, self.teacher.bf16):
            for event in self.teacher.fit(self.data.first_validation(objective.gate_images).to(self.device)):
                self.records.event({**event, "step": self.progress.step})

    def _step(self) -> Row | None:
        """One update; returns a row when it is due."""
        train, stage, began = self.config.train, self.stage, time.monotonic()
        size, glimpses = (train.stage1_batch_size if stage == 1 else train.batch_size), self.glimpses
        drawn = self._drawn(self.streams[stage - 1], self.progress.images, size)
        seen = self._drawn(self.glimpsed, self.progress.step * glimpses, glimpses) if glimpses else None
        teach, step = cache(partial(self._lessons, drawn)), self.progress.step
        whole = StepLosses(self.joint.jobs, self.teacher, self.config, drawn, teach, stage, step, num_all=size, seen=seen, num_glimpses=glimpses)
        losses = MicroBatches(self.model, whole, train.micro_batches)
        probe = Probe(self.joint, losses) if train.probe_every and not (step + 1) % train.probe_every else None
        losses.count()
        parts = losses.together() if self.one_pass else (losses.separate(),)
        report = self.joint(*parts, keep=bool(probe))
        first, num_steps = (0, self.steps1) if stage == 1 else (self.steps1, self.steps2)
        lr = lr_at(step - first, num_steps, train)
        self._update(report.update, lr)
        changes = probe.columns() if probe else {}
        update_teacher(self.teacher.model, self.model, updates=self.progress.updates, largest=train.ema_momentum)
        self.progress.advance(size)
        if self.progress.step % train.log_every and self.progress.step != self.steps1 + self.steps2:
            return None
        return self._row(stage, losses.terms, report, {"lr": lr, "grad_norm": report.update, "images_per_s": size / (time.monotonic() - began)}) | changes

    def _drawn(self, stream: Stream, start: int, num: int) -> Drawn:
        batch, positions = stream.batch(start, num)
        return Drawn(batch.to(self.device), positions.to(self.device))

    def _lessons(self, drawn: Drawn) -> Lessons | None:
        """What generation teaches of the images of the current step: new targets where they are due, and those that are remembered."""
        num, which = self.config.objective.lesson_size(self.progress.step), self.streams[1].which(drawn.positions.cpu()).to(self.device)
        with autocast(self.device, self.teacher.bf16):  # whoever asks first
            return give_lessons(self.teacher, drawn.batch, drawn.positions, num=num, memory=self.memory, which=which)

    def _update(self, norm: float, lr: float) -> None:
        if not math.isfinite(norm):
            remedy = "the weights are untouched. Lower `train.lr`, or set `train.bf16 false`."
            raise FloatingPointError(f"the gradient is not finite at step {self.progress.step}; {remedy}")
        take_step(self.optimizers, lr, elsewhere=[p for p, owner in self.joint.owners.items() if owner != rank()])
        self.joint.spread()

    def _row(self, stage: int, terms: Terms, report: StepReport, numbers: dict[str, float]) -> Row:
        row: Row = {"step": self.progress.step, "stage": stage, "images": self.progress.images, "memory_gb": round(peak_memory_gb(self.device), 3)}
        whole = total(torch.stack([precise(value) for value in terms.values()]))
        row |= {f"loss/{name}": round(value, 6) for name, value in zip(terms, whole.tolist(), strict=True)}
        return row | {name: float(f"{value:.6g}") for name, value in numbers.items()} | report.columns(self.joint.jobs)
