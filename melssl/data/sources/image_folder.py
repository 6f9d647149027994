"""A folder per class, ``root/<class>/.../<image>``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd
from pydantic import field_validator

from melssl.data.cohort import Cohort, file_bytes
from melssl.data.sources.base import SourceConfig
from melssl.data.tables import existing_root
from melssl.errors import CohortError, listed

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


class ImageFolder(SourceConfig):
    """The class is the folder's name; the patient is read from the file's name, if it is there.

    ``classes`` fixes the order (default: folder names, sorted). ``patient_pattern`` is a regular
    expression with one group, searched in the file's name, such as ``^(P[0-9]+)_``; without it
    each image counts as a patient of its own, which the cohort notes.
    """

    label: ClassVar[str] = "Image folder"
    source: Literal["image_folder"] = "image_folder"
    classes: tuple[str, ...] = ()
    patient_pattern: str | None = None
    patient_unit: str = "patient"

    @field_validator("patient_pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"expected exactly one group for the patient id, got {groups}")
        return pattern

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; ``cache`` is not used."""
        root = existing_root(self.source, self.root)
        folders = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
        classes = self.classes or tuple(folders)
        files, ignored = _image_files(root, folders)
        patients = [self._patient(path) for path in files]
        faults = _class_faults(folders, classes, files)
        faults += [
            f"{path}: no patient id matches {self.patient_pattern!r}"
            for path, patient in zip(files, patients, strict=True)
            if not patient
        ]
        if faults:
            raise CohortError(f"image_folder at {root}: {len(faults)} fault(s)\n{listed(faults)}")
        frame = pd.DataFrame({"sample_id": files, "path": files, "patient_id": patients}, dtype=str)
        target = [classes.index(path.partition("/")[0]) for path in files]
        alone = ["no patient_pattern: one image is one patient"] if not self.patient_pattern else []
        return Cohort(
            name=self.source,
            root=root,
            frame=frame.assign(target=target, bytes=file_bytes(frame["path"], root)),
            classes=classes,
            patient_unit=self.patient_unit if self.patient_pattern else "image",
            acquisition=("bytes",),
            notes=(*alone, *ignored),
        )

    def _patient(self, path: str) -> str | None:
        if self.patient_pattern is None:
            return path
        match = re.search(self.patient_pattern, path.rpartition("/")[2])
        return match.group(1) if match else None


def _image_files(root: Path, folders: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    below = [p for name in folders for p in (root / name).rglob("*") if p.is_file()]
    seen = [p for p in below if not p.name.startswith(".")]
    images = sorted(p.relative_to(root).as_posix() for p in seen if p.suffix.lower() in SUFFIXES)
    others = len(seen) - len(images)
    return images, (f"{others} files ignored: their suffix names no image",) if others else ()


def _class_faults(
    folders: Sequence[str], classes: Sequence[str], files: Sequence[str]
) -> list[str]:
    filled = {path.partition("/")[0] for path in files}
    faults = [] if folders else ["no class folders; expected root/<class>/<image>"]
    faults += [f"folder {name} is not one of the classes {list(classes)}" for name in folders
               if name not in classes]  # fmt: skip
    faults += [f"class {name} has no folder" for name in classes if name not in folders]
    return faults + [f"folder {name} holds no image" for name in folders if name not in filled]
