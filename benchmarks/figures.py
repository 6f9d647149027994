"""How long does the report of a thousand trials take, from the shell?"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from ablations.collect import collect
from ablations.vault import Vault
from benchmarks.answer import Answer, Row, Target
from benchmarks.measure import Sample
from benchmarks.scale import ROOT, Scale, pretend

BOUND_SECONDS = 60.0


def written(scale: Scale) -> Path:
    """Collect a pretended study and return its folder, with the table in it."""
    pretend(scale, scored=True)
    study = scale.out / "studies" / "scale"
    collect(scale.plan(), Vault(scale.options.vault)).save(study / "table")
    return study


def seconds_of(script: str, study: Path) -> tuple[float, float]:
    """Return the seconds of a script from the shell, on the clock and of all its processors."""
    before, started = _children(), time.perf_counter()
    subprocess.run(
        [sys.executable, script, "--study", str(study)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - started, _children() - before


def answer(folder: Path, *, n_trials: int, n_patients: int, repeats: int = 3) -> Answer:
    """Measure the commands in fresh processes."""
    scale = Scale(out=folder, n_trials=n_trials, n_patients=n_patients)
    study, n = written(scale), scale.plan().n_planned
    found = [seconds_of("reports/make_figures.py", study) for _ in range(repeats)]
    wall, processor = (Sample(values=tuple(one)) for one in zip(*found, strict=True))
    n_pdf = len(list((study / "figures").glob("*.pdf")))
    told = f"figures and tables of {n:,} trials, {n_pdf} PDFs and as many PNGs"
    target = Target(text=f"{told}: s", value=wall.median, bound=BOUND_SECONDS, better="less")
    return Answer(
        question="The report",
        rows=(_row(told, wall, "s"), _row(told, processor, "s of the processors, imports and all")),
        targets=(target,),
        notes=("A pretended study, collected for real; `python reports/make_figures.py`",),
    )


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _row(case: str, value: Sample, unit: str) -> Row:
    return Row(
        case=case,
        way="make_figures",
        place=f"{len(os.sched_getaffinity(0))} cores",
        group="one command",
        ours=True,
        unit=unit,
        value=value,
        ratio=None,
    )
