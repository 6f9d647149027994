"""What does sharing save? The mask-ratio study, against a loop that trains each cell anew."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from ablations.cost import Estimate
from ablations.design import Study
from ablations.options import RunOptions
from ablations.plan import Plan, PlannedTrial, make_plan
from ablations.preparations import Preparations
from ablations.run import run_plan
from ablations.vault import Vault
from benchmarks.answer import Answer, Target, compared
from benchmarks.measure import Sample, Way
from benchmarks.plain_loop import PlainLoop
from melssl.artifacts import PREDICTIONS, Place
from melssl.evaluation.predictions import Predictions
from melssl.pipeline import execute
from melssl.prepared import Prepared
from melssl.settings import Json
from melssl.spec import RunSpec
from melssl.stages import Kind, Stage
from melssl.training.devices import Runtime

CPU = Runtime(device="cpu", watch="off")
CHEAPER, OVERHEAD = 10.0, 0.02
PROBE: dict[str, Json] = {"name": "linear_probe"}
# short, as the pretraining is: what a cell costs by itself is a small part of it in earnest too
FINE_TUNE: dict[str, Json] = {
    "name": "fine_tune",
    "training": {"epochs": 1, "min_steps": 4, "batch_size": 32},
    "threshold_folds": 0,
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the study is, and how many of its cells are trained anew."""

    ratios: tuple[float, ...] = (0.3, 0.45, 0.6, 0.75, 0.9)
    fractions: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    n_folds: int = 3
    n_draws: int = 3
    n_patients: int = 40
    epochs: int = 90
    n_anew: int = 6

    def studies(self) -> tuple[Study, ...]:
        """Return ratios x folds x budgets x draws, judged by a probe and by fine-tuning."""
        return tuple(self._study(protocol) for protocol in (PROBE, FINE_TUNE))

    def _study(self, protocol: dict[str, Json]) -> Study:
        baseline = RunSpec.parse(
            {
                "cohort": {"source": "synthetic", "n_patients": self.n_patients, "image_px": 32},
                "image_px": 32,
                "folds": {"n_folds": self.n_folds},
                "method": "mae",
                "backbone": {"family": "small_vit", "patch_px": 8, "embed_width": 48, "depth": 2},
                "pretraining": {"epochs": self.epochs, "batch_size": 64},
                "protocol": protocol,
            }
        )
        levels = {"mask_ratio": self.ratios, "label_fraction": self.fractions}
        return Study(
            name="bench", baseline=baseline, levels=levels, control=None, n_draws=self.n_draws
        )


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds of the whole study, and those of them inside its stages."""

    whole: float
    stages: float

    @property
    def overhead(self) -> float:
        """What the harness adds to its stages, as a share of them."""
        return self.whole / self.stages - 1


def answer(cache: Path, size: Size) -> Answer:
    """Run the study once in one process, then some of its cells from the start."""
    studies, vault = size.studies(), Vault(cache / "vault")
    preparations = Preparations(vault.root)
    preparations.of(studies[0].baseline)
    plans, spent = harnessed(studies, vault)
    trials = [planned for plan in plans for planned in plan.trials]
    chosen = trials[:: max(len(trials) // size.n_anew, 1)]
    anew, n_same = 0.0, 0
    for index, planned in enumerate(chosen):
        folder = cache / f"cell-{index}"
        started = time.perf_counter()
        from_the_start(planned, preparations.of(planned.trial.spec), folder)
        anew += time.perf_counter() - started
        n_same += _same(folder / "adapt", vault.folder("adapt", planned.key))
    n_shared = len(vault.finished("pretrain"))
    return _told(len(trials), n_shared, len(chosen), spent, anew / len(chosen), n_same)


def harnessed(studies: Iterable[Study], vault: Vault) -> tuple[list[Plan], Spent]:
    """Plan and run studies in this process, one after another."""
    options = RunOptions(
        backend="sequential",
        workers=1,
        threads=1,
        device="cpu",
        n_devices=1,
        tracking_uri="",
        vault=vault.root,
        watch="off",
    )
    nothing = Estimate(seconds={}, basis={}, per_stage={})
    with redirect_stderr(io.StringIO()), clocked() as inside:  # without the progress bar
        started = time.perf_counter()
        plans = []
        for study in studies:
            plans.append(make_plan(study, Preparations(vault.root, decode=False), vault))
            run_plan(plans[-1], vault, options, nothing, lambda outcome: None)
        whole = time.perf_counter() - started
    return plans, Spent(whole=whole, stages=sum(inside))


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Yield a list that grows by the seconds of each stage that this process executes."""
    seconds: list[float] = []

    def timed(stage: Stage, prepared: Prepared, place: Place) -> None:
        started = time.perf_counter()
        execute(stage, prepared, place)
        seconds.append(time.perf_counter() - started)

    with patch("ablations.workers.execute", timed):
        yield seconds


def from_the_start(planned: PlannedTrial, prepared: Prepared, folder: Path) -> None:
    """Do what a loop over cells does: pretrain, embed, judge, and keep nothing for the next."""
    inputs: dict[Kind, Path] = {}
    for stage in planned.stages:
        out, work = folder / stage.kind, folder / "work" / stage.kind
        out.mkdir(parents=True)
        work.mkdir(parents=True)
        execute(stage, prepared, Place(inputs=dict(inputs), out=out, work=work, runtime=CPU))
        inputs[stage.kind] = out


def _same(one: Path, other: Path) -> bool:
    first, second = (Predictions.load(folder / PREDICTIONS) for folder in (one, other))
    return np.array_equal(first.probability, second.probability)


def _told(
    n_trials: int, n_shared: int, n_anew: int, spent: Spent, seconds_anew: float, n_same: int
) -> Answer:
    whole = seconds_anew * n_trials
    ways = [
        Way(
            name=name,
            place="1 process x 1 thread",
            group="one process",
            ours=ours,
            where="solo",
            work=PlainLoop(cache=Path(), n_patients=0),
        )
        for name, ours in (("melssl harness", True), ("obvious: each cell from the start", False))
    ]
    values = [Sample(values=(spent.whole,)), Sample(values=(whole,))]
    name = f"{n_trials} trials, {n_shared} pretrainings"
    return Answer(
        question="The whole mask-ratio study: what does sharing save?",
        rows=compared(name, ways, values, "s", "less"),
        targets=(
            Target(
                text="mask-ratio study: times cheaper than each cell from the start",
                value=whole / spent.whole,
                bound=CHEAPER,
                better="more",
            ),
            Target(
                text="mask-ratio study: the harness's own share, above its stages",
                value=spent.overhead,
                bound=OVERHEAD,
                better="less",
            ),
        ),
        notes=(
            f"Of the {n_trials} cells {n_anew}, evenly spread, were trained from the start,"
            f" {seconds_anew:.2f} s each; {n_same} of them gave the study's predictions bit for"
            " bit",
            f"Stages took {spent.stages:.1f} s, planning, vault and dispatch"
            f" {spent.whole - spent.stages:.2f} s more",
        ),
    )
