"""Suggestions that nobody trains: what a stage would leave, as a function of its settings."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import ablations.searching.command as command
import ablations.searching.hunt as hunt
from ablations.options import RunOptions
from ablations.searching.design import Search
from ablations.vault import Vault
from ablations.workers import Job, Outcome
from melssl.artifacts import CURVES, SCORES
from melssl.errors import NotFiniteError
from melssl.spec import RunSpec
from melssl.stages import Stage

# no MLflow: one test has the real one
MUTE = SimpleNamespace(
    parent=lambda *_: None, record=lambda *_: True, finish=lambda *_: True, held=dict
)
FAILS_BELOW, COLLAPSES_ABOVE = 1.5e-4, 5e-3  # learning rates
FACTS = {"signature": "pretended:0", "units": 1.0}


def score_of(spec: RunSpec) -> float:
    """Return a score that is best at a rate of 2e-3, and rises with the length of training."""
    off = math.log10(spec.pretraining.lr / 2e-3)
    length = 0.05 * math.log10(spec.pretraining.epochs)
    return 0.7 - 0.1 * off**2 + length + 0.01 * (spec.fold % 3) + 0.001 * spec.seed


def pretend(jobs: Iterable[Job], vault: Vault, options: RunOptions) -> Iterator[Outcome]:
    """Leave in the vault what the jobs' stages would, with a failure and a collapse among them."""
    for job in jobs:
        for stage in job.stages:
            reason = None
            if stage.kind == "pretrain" and stage.spec.pretraining.lr < FAILS_BELOW:
                reason = vault.fail(stage, NotFiniteError("the loss is nan")).reason
            elif all(vault.has(*need) for need in stage.needs):
                with vault.claimed(stage.kind, stage.key):
                    if not vault.has(stage.kind, stage.key):
                        vault.put(stage, _writer(stage), FACTS)
            yield Outcome(kind=stage.kind, key=stage.key, seconds=0.0, reason=reason)


def free(*_: object) -> SimpleNamespace:
    """Return an estimate that nothing was trained for."""
    return SimpleNamespace(total=0.0)


def slowly(jobs: Iterable[Job], vault: Vault, options: RunOptions) -> Iterator[Outcome]:
    """Do the same in a time in which a process can be killed."""
    time.sleep(0.05)
    yield from pretend(jobs, vault, options)


def _writer(stage: Stage) -> Callable[[Path], None]:
    spec = stage.spec
    low = spec.pretraining.lr > COLLAPSES_ABOVE
    spread, rank = [(0, 0.1), (400, 0.001 if low else 0.1)], [(0, 9), (400, 9)]
    looks = {"spread": spread, "effective_rank": rank}
    content = {"pretrain": (CURVES, looks), "adapt": (SCORES, {"roc_auc": score_of(spec)})}
    name, data = content.get(stage.kind, ("facts.json", {}))
    return lambda folder: _write(folder / name, data)


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data))


def begun(search: Search, options: RunOptions, out: Path, storage: str = "") -> int:
    """Start a process at a search and return its id; it shares what this one has imported."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ["MELSSL_OUT"] = str(out)
        os.dup2(os.open(out.parent / "said.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY), 2)
        hunt.surviving, hunt.POLL_SECONDS = slowly, 0.05
        command.Ledger, command.estimate = lambda *_: MUTE, free
        command.run_search(search, options, storage=storage, round_size=2)
        code = 0
    finally:
        os._exit(code)
    return 0
