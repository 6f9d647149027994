"""What does the harness cost per trial? A study of linear probes, less the time inside them."""

from __future__ import annotations

import io
import json
import tempfile
import time
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from ablations.cost import Estimate
from ablations.design import Study
from ablations.options import RunOptions
from ablations.plan import Plan, make_plan
from ablations.preparations import Preparations
from ablations.run import run_plan
from ablations.vault import Vault
from benchmarks.answer import Answer, Target, compared
from benchmarks.measure import Crew, Effort, Lap, Laps, Runner, Sample, Way, Work, interleave
from benchmarks.plain_loop import PlainLoop
from melssl.errors import MelsslError
from melssl.evaluation.protocols.base import Evidence, Verdict
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.pipeline import CURVES
from melssl.spec import RunSpec

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
JUDGED = "judge_seconds"
GROUP = "a worker"
BOUND_SECONDS = 0.2


class TimedProbe(LinearProbe):
    """A linear probe that leaves its own time among the stage's curves."""

    def judge(self, evidence: Evidence) -> Verdict:
        """Judge, and look at the clock before and after."""
        started = time.perf_counter()
        verdict = super().judge(evidence)
        verdict.log.add(JUDGED, 0, time.perf_counter() - started)
        return verdict


def baseline(n_patients: int) -> RunSpec:
    """Return a run on a made cohort, with random weights: nothing is trained."""
    return RunSpec.parse(
        {
            "cohort": {"source": "synthetic", "n_patients": n_patients, "image_px": 32},
            "image_px": 32,
            "folds": {"n_folds": 2},
            "method": "no_pretext",
            "protocol": TimedProbe(),
        }
    )


@dataclass(frozen=True, kw_only=True)
class StudyOfProbes:
    """A study in a new vault; a step is a draw, which has nine fractions on two folds."""

    cache: Path
    n_patients: int
    backend: str
    workers: int

    def prepare(self) -> Runner:
        """Make cohort, folds and pixels, which all laps share."""
        spec = baseline(self.n_patients)
        Preparations(self.cache).of(spec)

        def run(steps: int) -> Lap:
            levels = {"label_fraction": FRACTIONS}
            study = Study(name="bench", baseline=spec, levels=levels, control=None, n_draws=steps)
            with tempfile.TemporaryDirectory(dir=self.cache) as folder:
                for name in ("cohorts", "pixels", "folds"):
                    (Path(folder) / name).symlink_to(self.cache / name)
                return self._lap(study, Path(folder))

        return run

    def _lap(self, study: Study, root: Path) -> Lap:
        vault = Vault(root)
        options = RunOptions(
            backend=self.backend,
            workers=self.workers,
            threads=1,
            device="cpu",
            n_devices=1,
            tracking_uri="",
            vault=root,
        )
        nothing = Estimate(seconds={}, basis={}, per_stage={})
        with redirect_stderr(io.StringIO()):  # the progress bar
            started = time.perf_counter()
            plan = make_plan(study, Preparations(root, decode=False), vault)
            run_plan(plan, vault, options, nothing, lambda outcome: None)
            wall = time.perf_counter() - started
        seconds = wall * self.workers - _judged(plan, vault)
        return Lap(items=plan.n_planned, seconds=seconds)


def _judged(plan: Plan, vault: Vault) -> float:
    total = 0.0
    for stage in plan.all_of("adapt"):
        if failure := vault.failure(stage.kind, stage.key):
            raise MelsslError(f"a trial of the benchmark failed: {failure.reason}")
        curves = json.loads((vault.folder(stage.kind, stage.key) / CURVES).read_text())
        total += curves[JUDGED][0][1]
    return total


def ways(cache: Path, n_patients: int, cores: int) -> list[Way]:
    """Return the harness in one process and on all cores, and a plain loop with sklearn."""

    def study(backend: str, workers: int) -> StudyOfProbes:
        own = cache / backend
        return StudyOfProbes(cache=own, n_patients=n_patients, backend=backend, workers=workers)

    one, many = "1 process x 1 thread", f"{cores} processes x 1 thread"
    loop: Work = PlainLoop(cache=cache / "loop", n_patients=n_patients)
    several = [("melssl harness", many, True, study("loky", cores))] if cores > 1 else []
    return [
        Way(name=name, place=place, group=GROUP, ours=ours, where="solo", work=work)
        for name, place, ours, work in (
            ("melssl harness", one, True, study("sequential", 1)),
            *several,
            ("obvious: a loop, sklearn's scores, bootstrap of two", one, False, loop),
        )
    ]


def answer(cache: Path, crew: Crew, effort: Effort, *, n_patients: int, cores: int) -> Answer:
    """Measure all ways."""
    chosen = ways(cache, n_patients, cores)
    values = [_seconds_per_trial(laps) for laps in interleave(chosen, crew, effort)]
    rows = compared("linear probes", chosen, values, "s of a worker per trial", "less")
    targets = [
        Target(
            text=f"harness, {row.place}: s of a worker per trial",
            value=row.value.median,
            bound=BOUND_SECONDS,
            better="less",
        )
        for row in rows
        if row.ours
    ]
    note = (
        f"made cohort of {n_patients} patients; planning, embedding, scores, six bootstrapped "
        "metrics, vault and processes are counted, the probes' own time is not"
    )
    return Answer(
        question="The harness: seconds per trial outside the protocol",
        rows=rows,
        targets=tuple(targets),
        notes=(note,),
    )


def _seconds_per_trial(laps: Laps) -> Sample:
    return Sample(
        values=tuple(sum(p.seconds for p in each) / sum(p.items for p in each) for each in laps)
    )
