"""PixelStore: every sample of a cohort decoded and resized once, memory-mapped, known by digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pandas as pd
import pydantic

from melssl.data.cohort import Cohort
from melssl.data.decode import Fit
from melssl.data.pixel_build import (
    ARRAY,
    Plan,
    clear,
    file_sha256,
    fill,
    finish,
    locked,
)
from melssl.errors import ArtifactError, CorruptFileError, listed
from melssl.files import write_atomically
from melssl.frame import RGB, Frame
from melssl.settings import Later, Settings, digest

if TYPE_CHECKING:
    import torch

MANIFEST = "manifest.json"


class Identity(Settings):
    """What tells one store from another; it leads to the same bytes wherever it is built."""

    version: Literal["melssl-pixels-1"] = "melssl-pixels-1"
    cohort: str
    size_px: int = pydantic.Field(ge=1)
    fit: Fit = "crop"
    depth: Annotated[int | None, Later()] = None
    channels: Annotated[int, Later()] = RGB

    @classmethod
    def of(cls, cohort: Cohort, size_px: int, fit: Fit) -> Identity:
        """Return the identity of the store of a cohort; its digest covers how it is decoded."""
        frame = cohort.medium.frame(size_px)
        own = {"cohort": cohort.digest, "size_px": size_px, "fit": fit}
        return cls.parse(own | {"depth": frame.depth, "channels": frame.channels})

    @property
    def frame(self) -> Frame:
        """The shape of one sample."""
        return Frame(self.size_px, self.depth, self.channels)


class Manifest(Settings):
    """The file that makes a store a finished one; ``decoder`` is kept for the record."""

    identity: Identity
    sample_ids: tuple[str, ...]
    excluded: dict[str, str]
    array_sha256: str
    decoder: str


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelStore:
    """Samples as uint8 rows (N, S, S, 3) or (N, D, S, S, C), in the order of ``sample_ids``.

    ``excluded`` maps the ids of samples that could not be decoded to the reason; they have no row.
    ``digest`` covers ids and pixels. A store that travels to another process is opened there anew.
    """

    directory: Path
    identity: Identity
    sample_ids: tuple[str, ...]
    excluded: Mapping[str, str]
    digest: str
    pixels: np.memmap

    @classmethod
    def build(
        cls,
        cohort: Cohort,
        directory: Path,
        *,
        size_px: int,
        fit: Fit = "crop",
        on_corrupt: Literal["refuse", "exclude"] = "refuse",
        workers: int = 2,
        progress: bool = True,
    ) -> PixelStore:
        """Return the finished store of ``cohort`` in ``directory``; build what is missing of it.

        Raises:
            CorruptFileError: files cannot be decoded, all of them named, and are not excluded.
            ArtifactError: ``directory`` holds another store, or has no room.

        """
        identity = Identity.of(cohort, size_px, fit)
        if not (directory / MANIFEST).exists():
            directory.mkdir(parents=True, exist_ok=True)
            plan = Plan(
                identity=identity.model_dump_json(),
                files=[cohort.root / path for path in cohort.frame["path"]],
                medium=cohort.medium,
                size_px=size_px,
                fit=fit,
                workers=workers,
                progress=progress,
            )
            with locked(directory):
                if not (directory / MANIFEST).exists():  # else another builder was faster
                    _build(cohort, directory, plan, refuse=on_corrupt == "refuse")
        store = cls.open(directory)
        if store.identity != identity:
            raise ArtifactError(
                f"{directory}: expected the pixels of {identity.plain()}, got those of"
                f" {store.identity.plain()}; build in another folder"
            )
        if on_corrupt == "refuse" and store.excluded:
            raise CorruptFileError(_corrupt_text(cohort.name, store.excluded))
        return store

    @classmethod
    def open(cls, directory: Path, *, verify: bool = False) -> PixelStore:
        """Return a finished store; ``verify`` reads the whole array and compares its hash.

        Raises:
            ArtifactError: there is no finished store, or it is damaged.

        """
        manifest = _manifest(directory)
        identity = manifest.identity
        expected = (len(manifest.sample_ids), *identity.frame.stored)
        advice = "delete the folder and build again"
        try:
            pixels = np.load(directory / ARRAY, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{directory / ARRAY}: {error}; {advice}") from None
        if pixels.shape != expected or pixels.dtype != np.uint8:
            raise ArtifactError(
                f"{directory / ARRAY}: expected uint8 {expected}, got {pixels.dtype}"
                f" {pixels.shape}; {advice}"
            )
        if verify and file_sha256(directory / ARRAY) != manifest.array_sha256:
            raise ArtifactError(f"{directory / ARRAY}: pixels differ from their digest; {advice}")
        return cls(
            directory=directory,
            identity=identity,
            sample_ids=manifest.sample_ids,
            excluded=manifest.excluded,
            digest=digest([manifest.sample_ids, manifest.array_sha256]),
            pixels=pixels,
        )

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).open, (self.directory,)

    @property
    def frame(self) -> Frame:
        """The shape of one sample."""
        return self.identity.frame

    def rows(self, sample_ids: Sequence[str] | np.ndarray | pd.Series) -> np.ndarray:
        """Return the int64 row of each sample.

        Raises:
            ArtifactError: samples that have no row, all of them named.

        """
        wanted = np.asarray(sample_ids, dtype=object)
        rows = self._index.get_indexer(pd.Index(wanted, dtype=object)).astype(np.int64)
        if (rows < 0).any():
            unknown = [self._why_unknown(str(name)) for name in wanted[rows < 0]]
            raise ArtifactError(
                f"pixel store {self.directory}: {len(unknown)} samples have no pixels\n"
                f"{listed(unknown)}"
            )
        return rows

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 (B, *frame.shape), channels last in memory; ``rows`` in any order."""
        import torch

        return torch.from_numpy(np.take(self.pixels, rows, axis=0)).movedim(-1, 1)

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.sample_ids, dtype=object)

    def _why_unknown(self, name: str) -> str:
        reason = self.excluded.get(name)
        return f"{name} was excluded: {reason}" if reason else f"{name} is not in the store"


def store_key(cohort: Cohort, *, size_px: int, fit: Fit = "crop") -> str:
    """Return the name of the folder that this store belongs in."""
    return digest(Identity.of(cohort, size_px, fit).keyed())


def _build(cohort: Cohort, directory: Path, plan: Plan, *, refuse: bool) -> None:
    corrupt = fill(directory, plan)
    names = cohort.frame["sample_id"].tolist()
    excluded = {names[row]: reason for row, reason in corrupt.items()}
    if excluded and (refuse or len(excluded) == len(names)):
        raise CorruptFileError(_corrupt_text(cohort.name, excluded))
    manifest = Manifest(
        identity=Identity.model_validate_json(plan.identity),
        sample_ids=tuple(name for name in names if name not in excluded),
        excluded=excluded,
        array_sha256=finish(directory, plan, corrupt),
        decoder=cohort.medium.decoder,
    )
    write_atomically(directory / MANIFEST, manifest.model_dump_json(indent=1).encode())
    clear(directory)


def _manifest(directory: Path) -> Manifest:
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(
            f"{directory}: expected a finished pixel store, found no {MANIFEST};"
            " call PixelStore.build"
        ) from None
    except (pydantic.ValidationError, OSError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path}: not a manifest that this version can read; delete the folder and build"
            f" again\n{error}"
        ) from None


def _corrupt_text(name: str, excluded: Mapping[str, str]) -> str:
    faults = [f"{sample}: {reason}" for sample, reason in excluded.items()]
    return (
        f"cohort {name}: {len(faults)} image(s) cannot be decoded; mend them, or leave them out"
        f" with on_corrupt='exclude'\n{listed(faults, limit=1000)}"
    )
