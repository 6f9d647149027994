"""Leftovers: what kills and crashes left in a vault and no living process holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from ablations.bounded import held
from ablations.vault import DAMAGED, Vault
from melssl.files import left_behind
from melssl.stages import Kind

PARTS = (
    *("cohorts/.*.part", "folds/.*.part", "audits/.*.part", "failures/*/.*.part"),
    *("pixels/*/.*.part", "work/*/.*.part", "users/.*.part"),
)


def leftovers(vault: Vault) -> Iterator[tuple[str, Path]]:
    """Yield what can go, each with its sort: parts, work, locks, failures, damaged."""
    root = vault.root
    for path in sorted(root.glob("parts/*")):
        # a stage is written under its lock, which also tells of processes in other containers
        is_stage = stage_of(path.name)[0] is not None
        if _nobody_at(vault, path) if is_stage else left_behind(path):
            yield "parts", path
    yield from (("parts", p) for pattern in PARTS for p in root.glob(pattern) if left_behind(p))
    for path in sorted(root.glob("work/*")):
        kind, key = stage_of(path.stem)
        if kind is not None and path.suffix == ".lock":
            if not vault.work(kind, key).exists() and _is_free(path):
                yield "locks", path
        elif kind is not None and vault.has(kind, key) and _nobody_at(vault, path):
            yield "work", path
    for path in sorted(root.glob("failures/*/*.json")):
        kind, key = stage_of(f"{path.parent.name}-{path.stem}")
        if kind is not None and vault.has(kind, key):
            yield "failures", path
    yield from (("damaged", path) for path in sorted(root.glob(f"{DAMAGED}/*")))


def stage_of(name: str) -> tuple[Kind | None, str]:
    """Return the stage whose name a lock, a part or a work folder begins with; None if none."""
    kind, _, rest = name.partition("-")
    for known in get_args(Kind):
        if known == kind:
            return known, rest.partition("-")[0]
    return None, ""


def _nobody_at(vault: Vault, path: Path) -> bool:
    """Say whether no process, of this host or another, holds the stage that a path is of."""
    kind, key = stage_of(path.name)
    return kind is not None and _is_free(vault.work(kind, key).with_suffix(".lock"))


def _is_free(lock: Path) -> bool:
    if not lock.exists():
        return True
    file = held(lock, wait=False)
    if file is None:
        return False
    file.close()
    return True
