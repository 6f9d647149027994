"""What preparing and interrupted trainings have left on disk, and what is wrong with it."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from melssl.audit.audit import Audit
from melssl.data.masks import FOLDER, MaskStore
from melssl.data.pixel_build import UNFINISHED
from melssl.data.pixels import MANIFEST, PixelStore
from melssl.errors import MelsslError
from melssl.files import DIGESTS, differing_files
from melssl.prepared import Prepared, folds_file
from melssl.settings import digest
from melssl.splits.folds import FoldPlan, FoldSpec
from melssl.training.checkpoint import load_tensors

STATES = "work/*/*.safetensors"


def damaged(cache: Path) -> Iterator[tuple[Path, str]]:
    """Yield each damaged cohort, pixel store, audit, fold plan and saved state, with its fault."""
    for pattern, fault_of in _KINDS.items():
        for path in sorted(cache.glob(pattern)):
            fault = fault_of(path)
            if fault:
                yield path, fault


def files_of(prepared: Prepared, folds: FoldSpec, cache: Path) -> Iterator[Path]:
    """Yield the files that a run's keys rest on: its fold plan, and the audit of its patients."""
    path = folds_file(prepared.cohort, folds, cache / "folds")
    if path.exists():
        yield path
    if prepared.audit is not None:
        for path in sorted(cache.glob("audits/*.json")):
            if not _audit(path) and Audit.load(path) == prepared.audit:
                yield path


def verify_pixels(several: Collection[Prepared]) -> None:
    """Compare the pixels that a study learns from with their digests, each store once.

    Raises:
        ArtifactError: pixels differ from their digest.

    """
    stores = {prepared.store: None for prepared in several}
    stores |= {prepared.external.store: None for prepared in several if prepared.external}
    for store in stores:
        if (store / MANIFEST).exists():
            PixelStore.open(store, verify=True)


def _made_cohort(folder: Path) -> str:
    if not (folder / DIGESTS).exists():
        return ""  # made by an earlier version; its pixels have a digest
    try:
        differing = differing_files(folder)
    except ValueError as error:
        return str(error)
    return f"{len(differing)} images differ from their digests" if differing else ""


def _pixels(folder: Path) -> str:
    if not (folder / MANIFEST).exists():
        return "" if (folder / UNFINISHED).exists() else f"neither {MANIFEST} nor {UNFINISHED}"
    try:
        store = PixelStore.open(folder, verify=True)
    except MelsslError as error:
        return str(error)
    if (folder / FOLDER / MANIFEST).exists():
        try:
            MaskStore.open(folder / FOLDER, verify=True)
        except MelsslError as error:
            return str(error)
    expected = digest(store.identity.keyed())
    return "" if folder.name == expected else f"holds the pixels of {expected}"


def _folds(path: Path) -> str:
    try:
        FoldPlan.load(path)
    except MelsslError as error:
        return str(error)
    return ""


def _audit(path: Path) -> str:
    try:
        Audit.load(path)
    except MelsslError as error:
        return str(error)
    return ""


def _arrays(path: Path) -> str:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            for name in file.files:  # the archive compares each with its checksum
                file[name]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        return f"cannot be read ({error})"
    return ""


def _state(path: Path) -> str:
    try:
        load_tensors(path)
    except MelsslError as error:
        return str(error)
    return ""


_KINDS = {
    "cohorts/*": _made_cohort,
    "pixels/*": _pixels,
    "folds/*.json": _folds,
    "audits/*.json": _audit,
    "audits/*.npz": _arrays,
    STATES: _state,
}
