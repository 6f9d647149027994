"""How large may a study be? Planning, resuming, collecting and asking for its status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np

from ablations.commands import run_study
from ablations.design import Study
from ablations.ledger import Ledger
from ablations.options import RunOptions
from ablations.plan import Plan, make_plan
from ablations.preparations import Preparations
from ablations.vault import RECORD, Vault
from benchmarks.answer import Answer, Row, Target
from benchmarks.measure import Sample
from melssl.artifacts import BUDGET, CURVES, FACTS, PREDICTIONS, REPLICATES, SCORES
from melssl.evaluation.metrics import score_all
from melssl.evaluation.predictions import Predictions
from melssl.files import sha256
from melssl.judging import replicates
from melssl.seeding import Seed
from melssl.spec import RunSpec

ROOT = Path(__file__).resolve().parent.parent
RATIOS = (0.3, 0.45, 0.6, 0.75, 0.9)
FRACTIONS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0)
CELLS_DRAWN = (len(RATIOS) + 1) * (len(FRACTIONS) - 1)
N_FOLDS = 5
MEBI = 2**20
MOST_LINKS = 50_000  # file systems allow a file some 65,000 names


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A study of about ``n_trials`` in a vault of its own."""

    out: Path
    n_trials: int
    n_patients: int

    @property
    def study(self) -> Study:
        """Five mask ratios and a control x five folds x eight budgets x many draws."""
        baseline = RunSpec.parse(
            {
                "cohort": {"source": "synthetic", "n_patients": self.n_patients, "image_px": 32},
                "image_px": 32,
                "method": "mae",
                "backbone": "small_vit",
                "folds": {"n_folds": N_FOLDS},
            }
        )
        return Study(
            name="scale",
            baseline=baseline,
            levels={"mask_ratio": RATIOS, "label_fraction": FRACTIONS},
            n_draws=max(1, round(self.n_trials / (CELLS_DRAWN * N_FOLDS))),
        )

    @property
    def options(self) -> RunOptions:
        """One worker; MLflow on a file beside the vault."""
        return RunOptions(
            backend="loky",
            workers=1,
            threads=1,
            device="cpu",
            n_devices=1,
            tracking_uri=f"sqlite:///{self.out / 'mlflow.db'}",
            vault=self.out / "vault",
        )

    def plan(self) -> Plan:
        """Plan from nothing, as the command does."""
        vault = Vault(self.options.vault)
        return make_plan(self.study, Preparations(vault.root, decode=False), vault)


@dataclass(frozen=True, kw_only=True)
class Took:
    """What a fresh process took for a question: memory, and seconds without and with its start.

    ``processor`` are those of the processor, start and all, which other work does not lengthen.
    """

    seconds: float
    wall: float
    processor: float
    mebibytes: float
    n: int


def planned(scale: Scale) -> int:
    """Plan everything."""
    return scale.plan().n_planned


def collected(scale: Scale) -> int:
    """Collect everything."""
    from ablations.collect import collect  # the other questions do without, as the commands do

    plan = scale.plan()
    return len(collect(plan, Vault(scale.options.vault)).trials["trial"].unique())


def resumed(scale: Scale) -> int:
    """Go on with a study up to its first missing stage; return how many jobs there are."""
    started: list[int] = []

    def stop(jobs: list[object], *_: object) -> Iterator[object]:
        started.append(len(jobs))
        if jobs:
            raise SystemExit
        yield from ()

    with (
        suppress(SystemExit),
        mock.patch("ablations.run.surviving", stop),
        mock.patch("ablations.commands.collect_study", side_effect=SystemExit),
    ):
        run_study(scale.study, scale.options)
    return sum(started)


QUESTIONS: dict[str, Callable[[Scale], int]] = {
    "plan": planned,
    "resume": resumed,
    "collect": collected,
}


def pretend(scale: Scale, *, scored: bool) -> None:
    """Fill the vault with a finished study that nobody trained, but for one trial.

    Trials have results, and not only records, if ``scored``.
    """
    vault, options = Vault(scale.options.vault), scale.options
    preparations = Preparations(vault.root)
    for place in ("made", "stages"):
        (vault.root / place).mkdir(parents=True, exist_ok=True)
    preparations.of(scale.study.baseline)
    plan = scale.plan()
    results = _Results(plan, vault.root / "made")
    for stage in plan.all_of("pretrain") + plan.all_of("embed"):
        folder = vault.folder(stage.kind, stage.key)
        folder.mkdir(parents=True)
        left = {FACTS: results.facts, CURVES: results.curves}
        for name, path in left.items():
            (folder / name).hardlink_to(path)
        (folder / RECORD).hardlink_to(results.record(stage.kind, left))
    distinct = {planned.key: planned for planned in plan.trials}
    for index, planned in enumerate(list(distinct.values())[:-1]):
        folder = vault.folder("adapt", planned.key)
        folder.mkdir(parents=True)
        if scored:
            results.write(folder, planned.trial.fold, planned.trial.draw)
        else:
            (folder / RECORD).hardlink_to(results.record(f"adapt-{index // MOST_LINKS}"))
    Ledger(options.tracking_uri, scale.study.name, patience_s=120).parent({}, {})


class _Results:
    """Files that many trials share: what differs between them is not what is measured."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._records: dict[str, Path] = {}
        self._made: dict[tuple[int, int], dict[str, Path]] = {}
        self.facts, self.curves = folder / FACTS, folder / CURVES
        self.curves.write_text(json.dumps({"loss": [[step, 1.0] for step in range(100)]}))
        facts = {"seconds": 1.0, "spread": 0.2, "healthy_spread": 0.25, "effective_rank": 9.0}
        self.facts.write_text(json.dumps(facts | {"alerts": []}))

    def record(self, name: str, artifacts: Mapping[str, Path] | None = None) -> Path:
        """Return a record by name, with the digests of its artifacts."""
        if name not in self._records:
            path = self._records[name] = self._folder / f"{name}.json"
            told = {"signature": "made", "units": 1.0, "seconds": 0.4, "payload": {}}
            digests = {name: sha256(file) for name, file in (artifacts or {}).items()}
            path.write_text(json.dumps(told | {"artifacts": digests, "finished_at": time.time()}))
        return self._records[name]

    def write(self, folder: Path, fold: int, draw: int) -> None:
        """Give a trial its results."""
        place = (fold, draw % 4)
        if place not in self._made:
            self._made[place] = self._make(*place)
        for name, path in self._made[place].items():
            (folder / name).hardlink_to(path)

    def _make(self, fold: int, variant: int) -> dict[str, Path]:
        prepared = self._plan.preparations.of(self._plan.study.baseline)
        frame = prepared.cohort.frame
        test = frame[frame["patient_id"].isin(prepared.folds.folds[fold].test)]
        target = test["target"].to_numpy(np.int64)
        noise = Seed(0).child(fold, variant).numpy().normal(size=len(target))
        score = 1 / (1 + np.exp(1 - target - noise))
        found = Predictions(
            sample_id=test["sample_id"].to_numpy(object),
            patient_id=test["patient_id"].to_numpy(object),
            target=target,
            probability=np.column_stack([1 - score, score]),
            prior=np.array([0.8, 0.2]),
        )
        names = (PREDICTIONS, SCORES, BUDGET, REPLICATES)
        paths = {name: self._folder / f"{fold}-{variant}-{name}" for name in names}
        found.save(paths[PREDICTIONS])
        paths[SCORES].write_text(json.dumps(score_all(found)))
        numbers = {"n_images": 50, "n_patients": 20, "n_positives": 9, "samples": "made"}
        paths[BUDGET].write_text(json.dumps(numbers))
        np.savez(paths[REPLICATES], allow_pickle=False, **replicates(found))
        return paths | {RECORD: self.record(f"{fold}-{variant}", paths)}


def measured(question: str, scale: Scale) -> Took:
    """Answer a question in a fresh process."""
    words = [str(scale.out), str(scale.n_trials), str(scale.n_patients)]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", question, *words],
        cwd=ROOT,
        env=os.environ | {"MELSSL_OUT": str(scale.out), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    wall = time.perf_counter() - started
    told = json.loads(done.stdout.splitlines()[-1])
    return Took(wall=wall, **told)


def status_seconds(scale: Scale) -> float:
    """Return what the status command takes from the shell."""
    words = ["-m", "ablations", "status", "--vault", str(scale.options.vault)]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"MELSSL_OUT": str(scale.out)},
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - started


def answer(folder: Path, *, n_trials: int, n_collected: int, n_patients: int) -> Answer:
    """Measure each question in fresh processes, three times where it is quick."""
    large = Scale(out=folder / "large", n_trials=n_trials, n_patients=n_patients)
    small = replace(large, out=folder / "small", n_trials=n_collected)
    pretend(large, scored=False)
    plans = [measured("plan", large) for _ in range(3)]
    resumes = [measured("resume", large) for _ in range(3)]
    status = Sample(values=tuple(status_seconds(large) for _ in range(5)))
    pretend(small, scored=True)
    collects = [measured("collect", small)]
    rows, targets = [], []
    for told, found, n, bound in (
        ("planned", plans, plans[0].n, 5.0),
        ("resumed up to the first missing stage, imports and all", resumes, plans[0].n, 10.0),
        ("collected", collects, collects[0].n, 30.0),
    ):
        whole = found is resumes
        seconds = Sample(values=tuple(one.wall if whole else one.seconds for one in found))
        text = f"{n:,} trials {told}"
        rows.append(_row(text, seconds, "s"))
        used = Sample(values=tuple(one.processor for one in found))
        rows.append(_row(text, used, "s of the processor, imports and all"))
        rows.append(_row(text, Sample(values=tuple(one.mebibytes for one in found)), "MiB at most"))
        targets.append(Target(text=f"{text}: s", value=seconds.median, bound=bound, better="less"))
    memory = max(one.mebibytes for one in plans)
    targets.append(Target(text="memory of planning: MiB", value=memory, bound=1024, better="less"))
    rows.append(_row("status of it, from the shell", status, "s"))
    targets.append(Target(text="status: s", value=status.median, bound=0.5, better="less"))
    notes = (
        f"{len(RATIOS)} mask ratios and a control x {N_FOLDS} folds x {len(FRACTIONS)} budgets x"
        f" draws, on the made cohort of {n_patients} patients; each figure from a fresh process",
        "Finished stages were written without training; all files of a stage are there",
    )
    return Answer(
        question="The harness at scale", rows=tuple(rows), targets=tuple(targets), notes=notes
    )


def _row(case: str, value: Sample, unit: str) -> Row:
    return Row(
        case=case,
        way="melssl harness",
        place="1 process x 1 thread",
        group="one process",
        ours=True,
        unit=unit,
        value=value,
        ratio=None,
    )


def most_memory() -> int:
    """Return the most bytes that this program had in memory.

    ``getrusage`` would count what forked it, too: its maximum outlives ``exec``.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    most = next(line for line in lines if line.startswith("VmHWM:"))
    return int(most.split()[1]) * 1024


def main(words: list[str]) -> None:
    """Answer one question in this process and print what it took."""
    question, out, n_trials, n_patients = words
    scale = Scale(out=Path(out), n_trials=int(n_trials), n_patients=int(n_patients))
    started = time.perf_counter()
    n = QUESTIONS[question](scale)
    seconds = time.perf_counter() - started
    memory = most_memory() / MEBI
    told = {"seconds": seconds, "processor": time.process_time(), "mebibytes": memory, "n": n}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
