"""Status: how far a study is, what runs now, what went wrong and why. No torch on this way."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.options import outputs
from ablations.snapshot import Snapshot, basis_of
from ablations.vault import Vault
from melssl.errors import SpecError, nearest

if TYPE_CHECKING:
    from melssl.stages import Kind

STUDY = "study.json"
KIND_NAMES: dict[Kind, str] = {
    "trunk": "trunks",
    "pretrain": "encoders",
    "embed": "embeddings",
    "adapt": "trials",
    "predict": "unseen",
}
SILENT_SECONDS = 120.0  # a training that runs says a word every second, or after a long step


def study_path(name: str) -> Path:
    """Return the description of a study that was started here; without a name the latest.

    Raises:
        SpecError: there is no such study.

    """
    found = sorted(outputs().glob(f"studies/*/{STUDY}"), key=lambda path: path.stat().st_mtime)
    by_name = {path.parent.name: path for path in found}
    if not by_name:
        raise SpecError(f"no study in {outputs()} yet; start one: python -m ablations run")
    if name and name not in by_name:
        raise SpecError(f"study {name!r} is unknown; {nearest(name, by_name)}")
    return by_name[name] if name else found[-1]


def known_status(name: str, vault: Vault) -> list[str] | None:
    """Return the status of a study from its snapshot; None where that is missing or outdated."""
    path = study_path(name)
    snapshot = Snapshot.load(path.parent)
    if snapshot is None or snapshot.basis != basis_of(path, vault.root):
        return None
    return status_lines(snapshot, vault)


def status_lines(snapshot: Snapshot, vault: Vault) -> list[str]:
    """Say all there is to say of a study."""
    done = {kind: vault.finished(kind) for kind in KIND_NAMES}
    failed = {kind: vault.failures(kind) - done[kind] for kind in KIND_NAMES}
    bad = [(k, key) for k in KIND_NAMES for key in failed[k].intersection(snapshot.stages[k])]
    encoders = {k: m for k, m in snapshot.methods.items() if k in done["pretrain"]}
    return [
        *snapshot.header,
        *count_lines(snapshot.stages, done, failed, snapshot.shared),
        *running_lines(vault, snapshot.progress, snapshot.stages),
        *alert_lines(vault, snapshot.facts, encoders),
        *failure_lines(vault, bad),
    ]


def count_lines(
    stages: Mapping[str, Collection[str]],
    done: Mapping[Kind, set[str]],
    failed: Mapping[Kind, set[str]],
    shared: str,
) -> list[str]:
    """Say how many stages of each kind are finished and how many failed."""
    lines = []
    for kind, name in KIND_NAMES.items():
        keys = stages[kind]
        n_done = len(done[kind].intersection(keys))
        n_failed = len(failed[kind].intersection(keys))
        text = f"{n_done} of {len(keys)} finished" + (f", {n_failed} failed" if n_failed else "")
        if keys:
            lines.append(f"  {name:<10} {text}{shared if kind == 'pretrain' else ''}")
    return lines


@dataclass(frozen=True, kw_only=True)
class Running:
    """A stage that has told how far it is; ``age`` is how many seconds ago."""

    kind: str
    key: str
    step: int
    total: int
    loss: float
    age: float

    def __str__(self) -> str:
        share, ago = self.step / max(self.total, 1), duration(self.age)
        silent = f"; no word for {ago}: a long step, or it was stopped and will go on from there"
        told = f", {ago} ago" if self.age < SILENT_SECONDS else silent
        where = f"step {self.step} of {self.total} ({share:.0%}), loss {self.loss:.3f}"
        return f"  {self.kind} {self.key}: {where}{told}"


def running(vault: Vault, progress: str) -> Iterator[Running]:
    """Yield what unfinished stages of the vault told last."""
    for path in sorted((vault.root / "work").glob(f"*/{progress}")):
        try:
            told, at = json.loads(path.read_text()), path.stat().st_mtime
        except (OSError, ValueError):  # it has ended at this moment
            continue
        kind, _, key = path.parent.name.partition("-")
        step, total, loss = int(told["step"]), int(told["total"]), float(told["loss"])
        age = max(time.time() - at, 0.0)
        yield Running(kind=kind, key=key, step=step, total=total, loss=loss, age=age)


def running_lines(vault: Vault, progress: str, stages: Mapping[str, Collection[str]]) -> list[str]:
    """Say how far the trainings of a study are that have begun and not ended."""
    own = [str(one) for one in running(vault, progress) if one.key in stages.get(one.kind, ())]
    return ["at work:", *own] if own else []


def failure_lines(vault: Vault, failed: Iterable[tuple[Kind, str]]) -> list[str]:
    """Name what failed and why, each reason once."""
    reasons: Counter[str] = Counter()
    for kind, key in sorted(failed):
        failure = vault.failure(kind, key)
        reasons[f"{kind}: {failure.reason if failure else 'unknown'}"] += 1
    if not reasons:
        return []
    lines = [f"  {n} x {' '.join(reason.split())[:300]}" for reason, n in reasons.most_common(12)]
    return ["failed stages (the same command runs them again, with the same seeds):", *lines]


def alert_lines(vault: Vault, facts: str, methods: Mapping[str, Sequence[str]]) -> list[str]:
    """Say what the watchdog found in finished encoders, one example of each kind and method.

    ``methods`` are name and label of each encoder's method, by the encoder's key.
    """
    advice: dict[str, list[str]] = {}
    for key, (name, label) in methods.items():
        stored = json.loads(vault.text("pretrain", key, facts))
        for alert in stored.get("alerts", ()):
            said = f"{label}: {alert['advice']}"
            advice.setdefault(f"{name} {alert['kind']}", []).append(said)
    if not advice:
        return []
    lines = [f"  {len(said)} x {said[0]}" for said in advice.values()]
    return ["alerts of the watchdog (--watch stop would have ended these trainings):", *lines]


def duration(seconds: float) -> str:
    """Return ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
