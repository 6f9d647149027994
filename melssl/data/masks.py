"""MaskStore: the masks of a cohort's volumes, laid voxel by voxel as the pixel store lays them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import pydantic
from tqdm import tqdm

from melssl.data.cohort import Cohort
from melssl.data.decode import Fit
from melssl.data.media.volume import Mask, VolumeMedium
from melssl.data.pixel_build import file_sha256, locked
from melssl.errors import ArtifactError, CohortError, CorruptFileError, SplitError, listed
from melssl.files import part_of, publish, write_atomically
from melssl.settings import Settings

if TYPE_CHECKING:
    import torch

ARRAY, MANIFEST = "masks.npy", "manifest.json"
FOLDER = "masks"  # inside that of the pixels which they lie on


class MaskIdentity(Settings):
    """What tells one store from another."""

    version: Literal["melssl-masks-1"] = "melssl-masks-1"
    cohort: str
    size_px: int = pydantic.Field(ge=1)
    fit: Fit = "crop"


class MaskManifest(Settings):
    """The file that makes a store a finished one; ``spacing_mm`` has an entry per row."""

    identity: MaskIdentity
    structures: tuple[str, ...]
    sample_ids: tuple[str, ...]
    spacing_mm: tuple[tuple[float, float, float], ...]
    array_sha256: str


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskStore:
    """Masks as uint8 rows of shape (D, S, S): 0 is background, k the k-th of the structures."""

    directory: Path
    manifest: MaskManifest
    masks: np.memmap

    @classmethod
    def build(
        cls,
        cohort: Cohort,
        directory: Path,
        *,
        size_px: int,
        fit: Fit = "crop",
        workers: int = 2,
        progress: bool = True,
    ) -> MaskStore:
        """Return the finished store of a cohort's masks in ``directory``; build what is missing.

        Raises:
            CohortError: the cohort has no volumes with masks.
            CorruptFileError: masks cannot be used as they are, all of them named.

        """
        identity = MaskIdentity(cohort=cohort.digest, size_px=size_px, fit=fit)
        if not (directory / MANIFEST).exists():
            directory.mkdir(parents=True, exist_ok=True)
            with locked(directory):
                if not (directory / MANIFEST).exists():  # else another builder was faster
                    _build(cohort, directory, identity, workers, progress)
        store = cls.open(directory)
        if store.manifest.identity != identity:
            raise ArtifactError(
                f"{directory}: expected the masks of {identity.plain()}, got those of"
                f" {store.manifest.identity.plain()}; delete the folder and run again"
            )
        return store

    @classmethod
    def open(cls, directory: Path, *, verify: bool = False) -> MaskStore:
        """Return a finished store; ``verify`` compares the array with its hash.

        Raises:
            ArtifactError: there is no finished store, or it is damaged.

        """
        advice = "delete the folder and run again"
        try:
            manifest = MaskManifest.model_validate_json((directory / MANIFEST).read_text())
            masks = np.load(directory / ARRAY, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{directory}: not a finished mask store ({error}); {advice}"
            ) from None
        if len(masks) != len(manifest.sample_ids) or masks.dtype != np.uint8:
            raise ArtifactError(
                f"{directory / ARRAY}: expected {len(manifest.sample_ids)} masks of uint8, got"
                f" {len(masks)} of {masks.dtype}; {advice}"
            )
        if verify and file_sha256(directory / ARRAY) != manifest.array_sha256:
            raise ArtifactError(f"{directory / ARRAY}: masks differ from their digest; {advice}")
        return cls(directory=directory, manifest=manifest, masks=masks)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).open, (self.directory,)

    def of(self, cohort: Cohort) -> Masks:
        """Return the masks by the rows of a cohort, which may be a part of the store's own."""
        known = pd.Index(self.manifest.sample_ids, dtype=object)
        rows = known.get_indexer(pd.Index(cohort.frame["sample_id"], dtype=object))
        return Masks(store=self, rows=rows.astype(np.int64))


@dataclass(frozen=True)
class Masks:
    """Masks by the row of a cohort: ``rows`` (N,) in the store, -1 for one that is not shown."""

    store: MaskStore
    rows: np.ndarray

    def only(self, shown: np.ndarray) -> Masks:
        """Return the masks of the cohort's rows ``shown``, and of no other."""
        hidden = np.ones(len(self.rows), dtype=bool)
        hidden[shown] = False
        return replace(self, rows=np.where(hidden, -1, self.rows))

    @property
    def known(self) -> np.ndarray:
        """Which rows of the cohort have a mask here, (N,) bool."""
        known: np.ndarray = self.rows >= 0
        return known

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """Return uint8 (B, 1, D, S, S) of the cohort's ``rows``.

        Raises:
            SplitError: the mask of a row is not shown, because it is not of the budget.

        """
        import torch

        return torch.from_numpy(np.take(self.store.masks, self._places(rows), axis=0)).unsqueeze(1)

    def each(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[float, float, float]]]:
        """Yield each row's mask (D, S, S) and the distances of its voxels, mm."""
        for place in self._places(rows):
            yield np.asarray(self.store.masks[place]), self.store.manifest.spacing_mm[place]

    def _places(self, rows: np.ndarray) -> np.ndarray:
        places: np.ndarray = self.rows[rows]
        if (places < 0).any():
            raise SplitError(
                f"masks: expected rows whose masks are known here, but {int((places < 0).sum())} of"
                f" {len(rows)} are not, for example row {rows[places < 0][0]}; only the labels of"
                " the budget may be learned from"
            )
        return places


def _build(
    cohort: Cohort, directory: Path, identity: MaskIdentity, workers: int, progress: bool
) -> None:
    frame, medium = cohort.frame, cohort.medium
    if not cohort.structures or not isinstance(medium, VolumeMedium):
        raise CohortError(
            f"{cohort.name}: expected volumes with masks, got a cohort of {medium.kind}s with"
            f" {len(cohort.structures)} structures; segmentation needs both"
        )
    drawn = frame[frame["mask"].fillna("") != ""]
    side, fit, n = identity.size_px, identity.fit, len(cohort.structures)

    def one(image: str, mask: str) -> Mask | str:
        try:
            return medium.decode_mask(cohort.root / image, cohort.root / mask, n, side, fit)
        except Exception as error:  # a damaged file can raise nearly anything from its reader
            return f"{type(error).__name__}: {error}"

    part = part_of(directory / ARRAY)
    shape = (len(drawn), medium.depth(side), side, side)
    masks = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
    spacing, faults = [], []
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(one, drawn["path"], drawn["mask"])
        told = tqdm(found, "masks", len(drawn), unit="mask", disable=not progress)
        for place, (name, mask) in enumerate(zip(drawn["sample_id"], told, strict=True)):
            if isinstance(mask, str):
                faults.append(f"{name}: {mask}")
                continue
            masks[place] = mask.labels
            spacing.append(mask.spacing_mm)
    if faults:
        part.unlink()
        raise CorruptFileError(_told(cohort.name, faults))
    masks.flush()
    publish(part, directory / ARRAY)
    manifest = MaskManifest(
        identity=identity,
        structures=cohort.structures,
        sample_ids=tuple(drawn["sample_id"]),
        spacing_mm=tuple(spacing),
        array_sha256=file_sha256(directory / ARRAY),
    )
    write_atomically(directory / MANIFEST, manifest.model_dump_json(indent=1).encode())


def _told(name: str, faults: Sequence[str]) -> str:
    return (
        f"cohort {name}: {len(faults)} mask(s) cannot be used; mend them, or leave the volumes"
        f" out\n{listed(faults)}"
    )
