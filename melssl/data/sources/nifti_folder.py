"""NIfTI volumes in a folder, the masks of their structures in another, under the same names."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import pandas as pd
from pydantic import field_validator

from melssl.data.cohort import UNLABELLED, Cohort, file_bytes
from melssl.data.media.volume import VolumeMedium
from melssl.data.sources.base import SourceConfig
from melssl.data.tables import existing_root
from melssl.errors import CohortError, listed

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A volume and, where there is one, the mask of its structures, as paths below the root."""

    image: str
    mask: str | None = None
    split: str | None = None


class VolumeSource(SourceConfig):
    """Volumes with masks to segment; a subclass per layout of the files.

    ``structures`` names the labels 1, 2 and so on of the masks. ``patient_pattern`` is a regular
    expression with one group, searched in the file's name, such as ``^(P[0-9]+)_``; without it each
    volume counts as a patient of its own, which the cohort notes. ``volume`` says how a file
    becomes what is stored. A volume with a mask is labelled; there is one class.
    """

    structures: tuple[str, ...] = ()
    patient_pattern: str | None = None
    volume: VolumeMedium = VolumeMedium()

    @field_validator("patient_pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"expected exactly one group, got {groups}")
        return pattern

    @abstractmethod
    def rows(self, root: Path) -> tuple[Sequence[Row], tuple[str, ...]]:
        """Return the volumes below the root, and the names of their structures.

        Raises:
            CohortError: a table or a file is not what the source expects.

        """

    @property
    def medium(self) -> VolumeMedium:
        """How its volumes are decoded."""
        return self.volume

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; ``cache`` is not used.

        Raises:
            MissingExtraError: NIfTI files cannot be read here.

        """
        self.volume.check_reader()
        root = existing_root(self.source, self.root)
        rows, structures = self.rows(root)
        self._check(root, rows, structures)
        frame = pd.DataFrame(
            {
                "sample_id": _ids([row.image for row in rows]),
                "path": [row.image for row in rows],
                "patient_id": [self._patient(row.image) for row in rows],
                "target": [0 if row.mask else UNLABELLED for row in rows],
                "mask": [row.mask or "" for row in rows],
            }
        )
        if any(row.split for row in rows):
            frame["split"] = [row.split for row in rows]
        alone = () if self.patient_pattern else ("no patient_pattern: one volume is one patient",)
        return Cohort(
            name=self.source,
            root=root,
            frame=frame.assign(bytes=file_bytes(frame["path"], root)),
            classes=("volume",),
            patient_unit="patient" if self.patient_pattern else "volume",
            acquisition=("bytes",),
            notes=alone,
            medium=self.volume,
            structures=structures,
        )

    def _check(self, root: Path, rows: Sequence[Row], structures: tuple[str, ...]) -> None:
        faults = [] if rows else [f"no files {' or '.join(SUFFIXES)} where volumes are expected"]
        if any(row.mask for row in rows) and not structures:
            faults.append("masks of unknown structures; name their labels 1, 2, ... in structures")
        faults += [
            f"{row.image}: no patient id matches {self.patient_pattern!r}"
            for row in rows
            if not self._patient(row.image)
        ]
        if faults:
            raise CohortError(f"{self.source} at {root}: {len(faults)} fault(s)\n{listed(faults)}")

    def _patient(self, path: str) -> str:
        name = PurePosixPath(path).name
        if self.patient_pattern is None:
            return path
        match = re.search(self.patient_pattern, name)
        return match.group(1) if match else ""


class TwoFolders(VolumeSource):
    """Every NIfTI file below ``images``; a mask of the same name below ``labels`` belongs to it.

    ``labels`` may be missing as a whole: then nothing is labelled.
    """

    images: str = "images"
    labels: str = "labels"

    def rows(self, root: Path) -> tuple[Sequence[Row], tuple[str, ...]]:
        """Return the files of the two folders."""
        images, masks = (_niftis(root, folder) for folder in (self.images, self.labels))
        strays = sorted(masks.keys() - images.keys())
        if strays:
            raise CohortError(
                f"{self.source} at {root}: {len(strays)} masks have no volume of their name in"
                f" {self.images}/\n{listed(strays)}"
            )
        rows = [Row(image=path, mask=masks.get(name)) for name, path in images.items()]
        return rows, self.structures


class NiftiFolder(TwoFolders):
    """Volumes in one folder, masks in another."""

    label: ClassVar[str] = "NIfTI folder"
    source: Literal["nifti_folder"] = "nifti_folder"


def _niftis(root: Path, folder: str) -> dict[str, str]:
    """Return the NIfTI files below a folder, by their path in it without its ending."""
    found = {}
    for path in sorted((root / folder).rglob("*")):
        name = path.relative_to(root / folder).as_posix()
        suffix = next((end for end in SUFFIXES if name.endswith(end)), None)
        if suffix and path.is_file() and path.name[0] != ".":
            found[name.removesuffix(suffix)] = path.relative_to(root).as_posix()
    return found


def _ids(paths: Sequence[str]) -> list[str]:
    """Return the files' names without their endings, or their paths where two have one name."""
    whole = [path.removesuffix(".gz").removesuffix(".nii") for path in paths]
    names = [PurePosixPath(path).name for path in whole]
    return names if len(set(names)) == len(names) else whole
