"""Finished: a trial with its result, and the fair pairs of an arm's and its control's trials."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ablations.design import Place
from ablations.plan import PlannedTrial
from ablations.vault import REPAIR, Vault
from melssl.artifacts import BUDGET, REPLICATES, SCORES
from melssl.errors import ArtifactError
from melssl.runs import Run
from melssl.spec import ARMS_DIFFER_IN, RunSpec, differing

Reader = Callable[[Path], Mapping[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A trial with its result; ``labels`` identifies the samples of its budget."""

    planned: PlannedTrial
    scores: dict[str, float]
    budget: dict[str, int]
    labels: str
    replicates: Mapping[str, np.ndarray]
    seconds: float

    @property
    def place(self) -> Place:
        """Fold, draw and seed: what a paired trial shares."""
        return self.planned.trial.place

    def score(self, metric: str) -> float:
        """Return a score; NaN where the trial has none of that name."""
        return self.scores.get(metric, float("nan"))


@dataclass(frozen=True)
class Pair:
    """A trial and the trial of the control on the same fold, draw and seed."""

    own: Finished
    control: Finished

    def __post_init__(self) -> None:
        _check_fair(self.own, self.control)


class Replicates(Mapping[str, np.ndarray]):
    """A trial's replicates by metric, (R,) each, read from its file when one is asked for."""

    def __init__(self, path: Path, read: Reader) -> None:
        self._path, self._read = path, read

    def __getitem__(self, metric: str) -> np.ndarray:
        return self._read(self._path)[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read(self._path))

    def __len__(self) -> int:
        return len(self._read(self._path))


def read_trial(planned: PlannedTrial, vault: Vault, read: Reader | None = None) -> Finished:
    """Return a trial's result from the vault; ``read`` may remember the replicates of others."""
    record = vault.record("adapt", planned.key)
    budget = json.loads(vault.text("adapt", planned.key, BUDGET, record))
    return Finished(
        planned=planned,
        scores=json.loads(vault.text("adapt", planned.key, SCORES, record)),
        budget={name: budget[name] for name in ("n_images", "n_patients", "n_positives")},
        labels=str(budget["samples"]),
        replicates=Replicates(
            vault.folder("adapt", planned.key) / REPLICATES, read or read_replicates
        ),
        seconds=float(str(record["seconds"])),
    )


def read_replicates(path: Path) -> dict[str, np.ndarray]:
    """Return all replicates of a file that ``np.savez`` wrote.

    What ``np.load`` does, but a header that was seen before is not parsed again: a study has ten
    arrays of one shape per trial, and parsing took most of the time of collecting it.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as file:  # which compares every member with its checksum
            for member in file.infolist():
                content = file.read(member)
                length = 10 + int.from_bytes(content[8:10], "little")
                shape, dtype, start = _header(content[:length])
                found[member.filename.removesuffix(".npy")] = np.frombuffer(
                    content, dtype, offset=start
                ).reshape(shape)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); {REPAIR}") from None
    return found


@lru_cache(maxsize=64)
def _header(begin: bytes) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return shape, dtype and where the numbers begin; objects, which could hold code, never."""
    file = io.BytesIO(begin)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ArtifactError("replicates: expected the first version of NumPy's format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype.hasobject:
        raise ArtifactError(f"replicates: expected plain numbers in C order, got {dtype}")
    return shape, dtype, file.tell()


def _check_fair(own: Finished, control: Finished) -> None:
    ours, theirs = own.planned, control.planned
    parts = _differing(ours.trial.run, theirs.trial.run) - ARMS_DIFFER_IN
    faults = [f"specs differ in {', '.join(sorted(parts))}"] if parts else []
    faults += ["budgets hold other labels"] if own.labels != control.labels else []
    if faults:
        raise ArtifactError(
            f"{ours.trial.cell.name}: trial {ours.key} cannot be compared with {theirs.key} of"
            f" {theirs.trial.cell.name}: expected arms that differ in method and pretraining only,"
            f" got: {'; '.join(faults)}. Make them equal, or leave one arm out of the study"
        )


def _differing(a: Run, b: Run) -> frozenset[str]:
    if (a.fold, a.draw, a.seed) != (b.fold, b.draw, b.seed):
        return differing(a.spec, b.spec)
    return _bases_differing(a.base, b.base)


@lru_cache(maxsize=256)  # the trials of two cells differ in the same
def _bases_differing(a: RunSpec, b: RunSpec) -> frozenset[str]:
    one, other = (Run(base=base, fold=0, draw=0, seed=0).spec for base in (a, b))
    return differing(one, other)
