"""Sweep: removes what no known study needs and no running process holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ablations.bounded import held
from ablations.describe import size as words
from ablations.keeping.leftovers import leftovers, stage_of
from ablations.keeping.needs import Needs
from ablations.plan import KINDS
from ablations.vault import Vault
from melssl.errors import ArtifactError
from melssl.files import own_name


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Something that can go: its sort, where it lies, its bytes."""

    sort: str
    path: Path
    size: int


def removals(vault: Vault, needs: Needs) -> list[Removal]:
    """Return what can go."""
    found = {path: sort for sort, path in (*leftovers(vault), *_unneeded(vault, needs))}
    return [Removal(sort=sort, path=path, size=_size(path)) for path, sort in found.items()]


def summary(found: list[Removal]) -> list[str]:
    """Return what can go, by sort, and its size."""
    if not found:
        return ["nothing to remove"]
    frame = pd.DataFrame([{"sort": r.sort, "size": r.size} for r in found])
    by_sort = frame.groupby("sort")["size"].agg(["count", "sum"])
    lines = [f"  {sort:<10}{n:>7}  {words(size):>9}" for sort, n, size in by_sort.itertuples()]
    return [*lines, f"  {'together':<10}{len(frame):>7}  {words(int(frame['size'].sum())):>9}"]


def sweep(vault: Vault, found: list[Removal]) -> tuple[int, int]:
    """Remove what nobody holds; return how many and how many bytes.

    Raises:
        ArtifactError: the vault cannot be written to.

    """
    n_removed = n_bytes = 0
    for removal in found:
        try:
            if _removed(vault, removal):
                n_removed, n_bytes = n_removed + 1, n_bytes + removal.size
        except OSError as error:
            raise ArtifactError(
                f"{removal.path}: cannot be removed ({error.strerror}); {n_removed} were"
            ) from None
    return n_removed, n_bytes


def _unneeded(vault: Vault, needs: Needs) -> Iterator[tuple[str, Path]]:
    for kind in KINDS:
        for key in sorted(vault.finished(kind)):
            if (kind, key) not in needs.stages:
                yield kind, vault.folder(kind, key)
        for key in sorted(vault.failures(kind)):
            if (kind, key) not in needs.stages:
                yield "failures", vault.failure_path(kind, key)
    for path in sorted(vault.root.glob("work/*-*")):
        stage = stage_of(path.name)
        if path.is_dir() and stage[0] is not None and stage not in needs.stages:
            yield "work", path
    for sort in ("pixels", "cohorts"):
        for path in sorted(vault.root.glob(f"{sort}/*")):
            if path not in needs.folders and path.is_dir() and not path.name.startswith("."):
                yield sort, path


def _removed(vault: Vault, removal: Removal) -> bool:
    """Remove one thing under its lock; a folder first leaves its place whole."""
    path = removal.path
    if removal.sort == "failures":
        path.unlink(missing_ok=True)
    elif removal.sort == "locks":
        file = held(path, wait=False)
        if file is None:
            return False
        with file:
            path.unlink(missing_ok=True)
    elif removal.sort in (*KINDS, "work"):
        kind, key = stage_of(
            f"{path.parent.name}-{path.name}" if removal.sort in KINDS else path.name
        )
        assert kind is not None
        with vault.claimed(kind, key, wait=False) as ours:
            if not ours:
                return False
            _vanish(vault, path)
        if not vault.work(kind, key).exists():
            _unlock(vault.work(kind, key).with_suffix(".lock"))
    elif removal.sort == "pixels":
        file = held(path / ".lock", wait=False)
        if file is None:
            return False
        with file:
            _vanish(vault, path)
    else:
        _vanish(vault, path)
    return True


def _unlock(lock: Path) -> None:
    file = held(lock, wait=False)
    if file is not None:
        with file:
            lock.unlink(missing_ok=True)


def _vanish(vault: Vault, path: Path) -> None:
    """Take a file or folder out of its place, then delete it: a kill leaves a part, no half."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    part = vault.root / "parts" / f"gone-{path.name}-{own_name()}"
    part.parent.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        path.replace(part)
        shutil.rmtree(part)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.stat().st_size
    return total
