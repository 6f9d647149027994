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
from benchmarks.measure import Crew, Effort, Lap, Laps, Runner, Sample, Way, Work, interleave, rates
from benchmarks.plain_loop import PlainLoop
from melssl.artifacts import CURVES
from melssl.errors import MelsslError
from melssl.evaluation.protocols.base import Evidence, Verdict
from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.spec import RunSpec

FRACTIONS = (0.1, 0.25, 0.5, 0.75, 0.9)
SEEDS = 2  # as many encoders as workers on a small machine, so that no worker stops in between
JUDGED = "judge_seconds"
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
    """A study in a new vault; a step is a draw of five fractions on two folds with two seeds."""

    cache: Path
    n_patients: int
    backend: str
    workers: int

    def prepare(self) -> Runner:
        """Make cohort, folds and pixels, which all laps share."""
        spec = baseline(self.n_patients)
        Preparations(self.cache).of(spec)

        def run(steps: int) -> Lap:
            cold = self._studied(spec, n_draws=1)  # idle workers end, so each lap starts them
            warm = self._studied(spec, n_draws=1)
            lap = self._studied(spec, n_draws=steps)
            start = (cold.seconds - warm.seconds) / self.workers
            return Lap(items=lap.items, seconds=lap.seconds, apart=start)

        return run

    def _studied(self, spec: RunSpec, n_draws: int) -> Lap:
        levels = {"label_fraction": FRACTIONS}
        study = Study(
            name="bench",
            baseline=spec,
            levels=levels,
            control=None,
            n_draws=n_draws,
            n_seeds=SEEDS,
        )
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            root = Path(folder)
            for name in ("cohorts", "pixels", "folds"):
                (root / name).symlink_to(self.cache / name)
            options = RunOptions(
                backend=self.backend,
                workers=self.workers,
                threads=1,
                device="cpu",
                n_devices=1,
                tracking_uri="",
                vault=root,
            )
            return _timed(study, options)


def _timed(study: Study, options: RunOptions) -> Lap:
    """Plan and run; count every second of every worker that no protocol used."""
    vault = Vault(options.vault)
    nothing = Estimate(seconds={}, basis={}, per_stage={})
    with redirect_stderr(io.StringIO()):  # the progress bar
        started = time.perf_counter()
        plan = make_plan(study, Preparations(vault.root, decode=False), vault)
        run_plan(plan, vault, options, nothing, lambda outcome: None)
        wall = time.perf_counter() - started
    return Lap(items=plan.n_planned, seconds=wall * options.workers - _judged(plan, vault))


def _judged(plan: Plan, vault: Vault) -> float:
    total = 0.0
    for stage in plan.all_of("adapt"):
        if failure := vault.failure(stage.kind, stage.key):
            raise MelsslError(f"a trial of the benchmark failed: {failure.reason}")
        curves = json.loads((vault.folder(stage.kind, stage.key) / CURVES).read_text())
        total += curves[JUDGED][0][1]
    return total


def ways(cache: Path, n_patients: int, cores: int) -> list[Way]:
    """Return the harness in one process and on all cores, and a plain loop with scikit-learn."""

    def study(backend: str, workers: int) -> StudyOfProbes:
        own = cache / backend
        return StudyOfProbes(cache=own, n_patients=n_patients, backend=backend, workers=workers)

    works: list[tuple[str, int, Work]] = [("melssl harness", 1, study("sequential", 1))]
    if cores > 1:
        works.append(("melssl harness", cores, study("loky", cores)))
    loop = PlainLoop(cache=cache / "loop", n_patients=n_patients)
    works.append(("obvious: loop, scikit-learn's scores, bootstrap of two", 1, loop))
    return [
        Way(
            name=name,
            place=f"{n} process{'es' if n > 1 else ''} x 1 thread",
            group="a worker's second",
            ours=isinstance(work, StudyOfProbes),
            where="solo",
            work=work,
        )
        for name, n, work in works
    ]


def answer(cache: Path, crew: Crew, effort: Effort, *, n_patients: int, cores: int) -> Answer:
    """Measure all ways."""
    chosen = ways(cache, n_patients, cores)
    laps = interleave(chosen, crew, effort)
    values = [_seconds_per_trial(each) for each in laps]
    rows = compared("linear probes", chosen, values, "s per trial", "less")
    targets = tuple(
        Target(
            text=f"harness, {row.place}: a worker's seconds per trial outside the probe",
            value=row.value.median,
            bound=BOUND_SECONDS,
            better="less",
        )
        for row in rows
        if row.ours
    )
    notes = [
        f"A worker's seconds on a made cohort of {n_patients} patients: planning, embedding, "
        "scores, six bootstrapped metrics, vault and dispatch count, the probes' own time does not"
    ]
    if cores > 1:
        start = Sample(values=tuple(lap.apart for (lap,) in laps[1])).median
        notes.append(f"Starting the {cores} worker processes, once per study: {start:.1f} s")
    return Answer(
        question="The harness: seconds per trial outside the protocol",
        rows=rows,
        targets=targets,
        notes=tuple(notes),
    )


def _seconds_per_trial(laps: Laps) -> Sample:
    return Sample(values=tuple(1 / rate for rate in rates(laps).values))
