"""The one training loop. Every draw is a function of the seed and the step, so resume is exact."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from melssl.errors import ArtifactError, Interrupted, NotFiniteError
from melssl.seeding import Seed
from melssl.settings import Json, Settings
from melssl.training.best import Best, Score
from melssl.training.checkpoint import (
    below,
    load_tensors,
    restore_training_state,
    save_tensors,
    training_state,
)
from melssl.training.devices import Rank, channels_last
from melssl.training.optim import StepPlan, TrainSpec, build_optimizer
from melssl.training.trainable import BatchT, Feed, Progress, StepResult, Trainable

Listener = Callable[[int, int, float], None]
Curves = dict[str, list[tuple[int, float]]]
Observer = Callable[[nn.Module, int, Curves], Mapping[str, float]]
FLUSH_STEPS, LISTEN_SECONDS = 25, 1.0
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TrainLog:
    """What was logged: ``curves[series] = [(step, value), ...]``, means over an epoch.

    ``seconds`` were spent since the first step, ``inherited_seconds`` of them by earlier segments.
    """

    curves: Curves = field(default_factory=dict)
    seconds: float = 0.0
    inherited_seconds: float = 0.0

    def add(self, series: str, step: int, value: float) -> None:
        """Append one point to a series."""
        self.curves.setdefault(series, []).append((step, value))


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a training: from the state in ``begin`` to the step ``end``, left in ``leave``.

    Without ``begin`` it starts at the first step, without ``end`` it goes on to the last. A state
    that is inherited may be of a training of another length: whoever passes it on makes sure that
    nothing before depended on the length.
    """

    begin: Path | None = None
    end: int | None = None
    leave: Path | None = None


WHOLE = Segment()


def fit(
    module: Trainable[BatchT],
    feed: Feed[BatchT],
    spec: TrainSpec,
    seed: Seed,
    rank: Rank,
    *,
    state_file: Path | None = None,
    checkpoint_seconds: float = 60.0,
    listen: Listener | None = None,
    choose: Score | None = None,
    observe: Observer | None = None,
    segment: Segment = WHOLE,
) -> TrainLog:
    """Train ``module`` in place and return its curves.

    With ``choose`` the weights are scored after every epoch (higher is better; averaged weights
    where they are asked for) and those of the first best epoch are left in place; the score is
    logged as ``validation`` and the step that was taken as ``chosen``. ``observe`` is called
    before the first step and at the end of every epoch with the module, the step and the curves;
    what it returns is logged, and what it raises ends the training.

    With ``state_file`` the state is saved there every ``checkpoint_seconds`` and taken up again if
    the file exists; the result is bit-identical to an undisturbed run on the same processor. The
    same holds for segments that follow each other: together they are the whole training.

    ``listen`` hears step, total and loss, about once a second; where it raises ``Interrupted`` the
    state is saved and the training ends.

    Raises:
        NotFiniteError: the loss became NaN or infinite.
        TrainingError: no epoch has a score to choose it by.

    """
    channels_last(module.to(rank.device))
    run = _Run(module, feed, spec, seed, rank, choose, observe)
    resumed = state_file is not None and run.resume(state_file, any_length=segment.end is not None)
    if not resumed and segment.begin is not None:
        run.inherit(segment.begin)
    if run.step == 0:
        run.see()
    end = run.plan.total if segment.end is None else segment.end
    stepper = rank.wrap(module)
    module.train()
    saved = told = time.monotonic()
    while run.step < end:
        run.advance(stepper)
        now = time.monotonic()
        due = now - saved >= checkpoint_seconds
        late = now - told >= LISTEN_SECONDS
        if run.step % FLUSH_STEPS == 0 or run.epoch_ends or due or late or run.step == end:
            loss, told = run.flush(), now
            if run.epoch_ends:
                run.consider()
            if listen is not None and rank.index == 0:
                try:
                    listen(run.step - run.first, end - run.first, loss)
                except Interrupted:
                    if state_file is not None:
                        run.save(state_file)
                    raise
        if due and state_file is not None and rank.index == 0:
            run.save(state_file)
            saved = time.monotonic()
    if segment.leave is not None and rank.index == 0:
        run.save(segment.leave)
    if run.step == run.plan.total:
        run.finish()
    run.log.seconds += time.monotonic() - run.started
    return run.log


def epoch_order(seed: Seed, epoch: int, n_samples: int) -> np.ndarray:
    """Return the order (N,) in which an epoch of the training with ``seed`` passes the samples."""
    return seed.child("order", epoch).numpy().permutation(n_samples)


class _Saved(Settings):
    """What a checkpoint holds beside tensors."""

    plan: tuple[int, int, int]
    step: int
    curves: dict[str, list[tuple[int, float]]]
    sums: dict[str, float]
    counted: int
    seconds: float
    optimizer: dict[str, Any]
    best: tuple[int, float] | None = None
    first: int = 0
    inherited_seconds: float = 0.0


class _Run(Generic[BatchT]):
    """The state of one training between two steps."""

    def __init__(
        self,
        module: Trainable[BatchT],
        feed: Feed[BatchT],
        spec: TrainSpec,
        seed: Seed,
        rank: Rank,
        choose: Score | None,
        observe: Observer | None,
    ) -> None:
        self.module, self.feed, self.spec, self.seed, self.rank = module, feed, spec, seed, rank
        self.plan: StepPlan = spec.steps(feed.n_samples)
        self.optimizer = build_optimizer(module, spec, module.rate)
        self.average = _average(module, spec.ema_decay)
        self.best = Best(choose) if choose is not None else None
        self.observe = observe
        self.step = self.first = 0
        self.log = TrainLog()
        self.sums: dict[str, float] = {}
        self.counted = 0
        self.pending: list[dict[str, Tensor]] = []
        self.order: tuple[int, np.ndarray] | None = None
        self.started = time.monotonic()

    @property
    def epoch_ends(self) -> bool:
        """Whether the last step closed an epoch or the training."""
        return self.step % self.plan.per_epoch == 0 or self.step == self.plan.total

    @property
    def progress(self) -> Progress:
        """Where training stands."""
        return Progress(
            step=self.step,
            total_steps=self.plan.total,
            per_epoch=self.plan.per_epoch,
            anneals_from=self.spec.anneals_from(self.plan.total),
        )

    def lr(self, step: int) -> float:
        """Return the schedule's learning rate."""
        return self.spec.lr_at(step, self.plan.total, self.plan.per_epoch)

    def places(self) -> np.ndarray:
        """Return the samples of the next batch: a slice of the epoch's permutation."""
        epoch, index = divmod(self.step, self.plan.per_epoch)
        if self.order is None or self.order[0] != epoch:
            self.order = (epoch, epoch_order(self.seed, epoch, self.feed.n_samples))
        first = index * self.plan.batch_size
        return self.order[1][first : first + self.plan.batch_size]

    def advance(self, stepper: nn.Module) -> None:
        """Do one step of gradient descent."""
        draw = self.seed.child("step", self.step)
        torch.manual_seed(draw.child("layers", self.rank.index).value)
        self.module.before_step(self.progress)
        lr = self.lr(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"].at(lr, self.spec.peak_lr)
        batch = self.feed.batch(self.places(), draw, self.rank)
        low = self.spec.precision == "bf16"
        with torch.autocast(self.rank.device.type, torch.bfloat16, enabled=low):
            result: StepResult = stepper(batch)
        result.loss.backward()  # type: ignore[no-untyped-call]
        if self.spec.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.spec.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.module.after_step(self.progress)
        if self.average is not None:
            self.average.update_parameters(self.module)
        self.pending.append(self.rank.mean({"loss": result.loss.detach(), **result.parts}))

    def flush(self) -> float:
        """Move pending losses into the epoch's means; return the last loss."""
        for parts in self.pending:
            for name, value in parts.items():
                self.sums[name] = self.sums.get(name, 0.0) + float(value)
        last = float(self.pending[-1]["loss"])
        self.counted += len(self.pending)
        self.pending.clear()
        if not np.isfinite(self.sums["loss"]):
            raise NotFiniteError(
                f"the loss became {self.sums['loss']} before step {self.step} of "
                f"{self.plan.total}; lower lr, set clip_norm, or use precision=fp32"
            )
        if self.epoch_ends:
            means = {name: total / self.counted for name, total in self.sums.items()}
            for name, mean in means.items():
                self.log.add(name, self.step, mean)
            self.log.add("lr", self.step, self.lr(self.step - 1))
            self.sums, self.counted = {}, 0
            self.see()
        return last

    def see(self) -> None:
        """Log what the observer makes of the weights and of the log so far."""
        if self.observe is not None:
            for name, value in self.observe(self.module, self.step, self.log.curves).items():
                self.log.add(name, self.step, value)

    def consider(self) -> None:
        """Score the weights of this epoch, where one is to be chosen."""
        if self.best is None:
            return
        scored = self.module if self.average is None else self.average.module
        value = self.best.consider(scored, self.step)
        if np.isfinite(value):
            self.log.add("validation", self.step, value)

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on."""
        tensors, scalars = training_state(self.module, self.optimizer)
        if self.average is not None:
            tensors |= {f"average/{k}": v for k, v in self.average.state_dict().items()}
        best = self.best if self.best is not None and self.best.weights else None
        if best is not None:
            tensors |= {f"best/{k}": v for k, v in best.weights.items()}
        state = _Saved(
            plan=(self.plan.batch_size, self.plan.per_epoch, self.plan.total),
            step=self.step,
            curves=self.log.curves,
            sums=self.sums,
            counted=self.counted,
            seconds=self.log.seconds + time.monotonic() - self.started,
            optimizer=scalars,
            best=None if best is None else (best.step, best.value),
            first=self.first,
            inherited_seconds=self.log.inherited_seconds,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, tensors, state.plain())

    def resume(self, path: Path, *, any_length: bool) -> bool:
        """Go on from a saved state, and say whether there was one; a damaged one is done without.

        All ranks read the one file, so all of them begin anew or none does.
        """
        if not path.exists():
            return False
        try:
            state = load_tensors(path)
        except ArtifactError as error:
            log.warning("this training begins anew: %s", error)
            return False
        self.restore(path, state, any_length=any_length)
        return True

    def inherit(self, path: Path) -> None:
        """Go on where an earlier segment ended, whatever the length of its training."""
        self.restore(path, load_tensors(path), any_length=True)
        self.first, self.log.inherited_seconds = self.step, self.log.seconds

    def restore(
        self, path: Path, saved: tuple[dict[str, Tensor], dict[str, Json]], *, any_length: bool
    ) -> None:
        """Go on where ``save`` left off, in a training as long or, if asked, of any length."""
        tensors, facts = saved
        state = _Saved.parse(facts)
        plan = (self.plan.batch_size, self.plan.per_epoch, self.plan.total)
        n_compared = 2 if any_length else 3
        if state.plan[:n_compared] != plan[:n_compared]:
            raise ArtifactError(
                f"{path} is of another training (steps {state.plan}, expected {plan}); delete it"
            )
        restore_training_state(self.module, self.optimizer, tensors, state.optimizer)
        if self.average is not None:
            self.average.load_state_dict(below("average/", tensors))
        if self.best is not None and state.best is not None:
            self.best.restore(*state.best, below("best/", tensors))
        self.step, self.sums, self.counted = state.step, dict(state.sums), state.counted
        self.first = state.first
        self.log = TrainLog(
            curves=dict(state.curves),
            seconds=state.seconds,
            inherited_seconds=state.inherited_seconds,
        )

    def finish(self) -> None:
        """Put the chosen or averaged weights in place."""
        if self.best is not None:
            self.best.load_into(self.module)
            self.log.add("chosen", self.best.step, self.best.value)
        elif self.average is not None:
            averaged = self.average.module.state_dict()
            self.module.load_state_dict(averaged)


def _average(module: nn.Module, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(module, multi_avg_fn=average, use_buffers=False)
