"""Estimates: what runs were thought to take and what they took, so that a plan can judge itself."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from ablations.cost import HISTORY, Estimate
from ablations.options import RunOptions
from ablations.plan import Plan
from ablations.vault import Vault
from ablations.workers import Outcome
from melssl.errors import ArtifactError
from melssl.stages import Kind

JOURNAL = "estimates.jsonl"


class Reckoning:
    """A run's estimate beside what its stages took, told when the run ends, however it does."""

    def __init__(self, plan: Plan, cost: Estimate, options: RunOptions) -> None:
        self._study, self._cost = plan.study.name, cost
        self._wall = cost.wall(plan, options.workers)
        self._began = time.monotonic()
        self._ended: list[tuple[Kind, str]] = []
        self._counts: Counter[str] = Counter()

    def ended(self, outcome: Outcome) -> None:
        """Count a stage that has a result; of many of a kind the first are enough."""
        if outcome.reason is None and outcome.key in self._cost.per_stage:
            self._counts[outcome.kind] += 1
            if self._counts[outcome.kind] <= HISTORY:
                self._ended.append((outcome.kind, outcome.key))

    def write(self, vault: Vault) -> None:
        """Add a line to the vault's journal; the time that passed, where nothing is left."""
        thought = taken = 0.0
        for kind, key in self._ended:
            try:
                taken += float(str(vault.record(kind, key)["seconds"]))
            except ArtifactError:  # set aside meanwhile
                continue
            thought += self._cost.per_stage[key]
        if not taken:
            return
        line = {"study": self._study, "at": time.time(), "thought": thought, "taken": taken}
        if self._counts.total() == len(self._cost.per_stage):
            line |= {"wall_thought": self._wall, "wall_taken": time.monotonic() - self._began}
        # one write of one line, for several runs may end at the same time
        # a full disk costs a line of statistics, no table
        with suppress(OSError), (vault.root / JOURNAL).open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")


def accuracy_lines(vault: Vault) -> list[str]:
    """Say how far off earlier estimates were; nothing where no run has ended yet."""
    of_work = _ratios(vault, "thought", "taken")
    if not of_work:
        return []
    n_studies = len(of_work)
    studies = f"{n_studies} stud{'ies' if n_studies > 1 else 'y'}"
    of_wall = _ratios(vault, "wall_thought", "wall_taken")
    passed = f", {_span(of_wall)} of the time that passed" if of_wall else ""
    return [
        f"  earlier estimates were {_span(of_work)} of what the stages took{passed} ({studies})"
    ]


def _span(ratios: list[float]) -> str:
    low, high = f"{min(ratios):.2g}", f"{max(ratios):.2g}"
    return low if low == high else f"{low} to {high}"


def _ratios(vault: Vault, thought: str, taken: str) -> list[float]:
    """Return estimate over outcome, one ratio per study."""
    sums: dict[str, list[float]] = {}
    for line in _lines(vault):
        if thought in line and taken in line:
            both = sums.setdefault(str(line["study"]), [0.0, 0.0])
            both[0] += float(str(line[thought]))
            both[1] += float(str(line[taken]))
    return [first / second for first, second in sums.values() if second > 0]


def _lines(vault: Vault) -> Iterator[dict[str, object]]:
    path = vault.root / JOURNAL
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(text)
        except ValueError:  # a full disk or a power cut can tear a line
            continue
