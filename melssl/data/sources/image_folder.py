"""A folder per class, ``root/<class>/.../<image>``, or the class in the file's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pandas as pd
from pydantic import field_validator

from melssl.data.cohort import Cohort, file_bytes
from melssl.data.sources.base import SourceConfig
from melssl.data.tables import existing_root
from melssl.errors import CohortError, listed
from melssl.settings import Later

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


class ImageFolder(SourceConfig):
    """The class is the folder's name; the patient is read from the file's name, if it is there.

    ``classes`` fixes the order (default: names, sorted). ``patient_pattern`` is a regular
    expression with one group, searched in the file's name, such as ``^(P[0-9]+)_``; without it
    each image counts as a patient of its own, which the cohort notes. With a ``class_pattern``
    such as ``^(cat|dog)[.]`` the class is read from the file's name too; folders mean nothing then.
    """

    label: ClassVar[str] = "Image folder"
    source: Literal["image_folder"] = "image_folder"
    classes: tuple[str, ...] = ()
    patient_pattern: str | None = None
    class_pattern: Annotated[str | None, Later()] = None
    patient_unit: str = "patient"

    @field_validator("patient_pattern", "class_pattern")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"expected exactly one group, got {groups}")
        return pattern

    def load(self, cache: Path) -> Cohort:
        """Return the checked cohort; ``cache`` is not used."""
        root = existing_root(self.source, self.root)
        folders = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
        files, ignored = _image_files(root, () if self.class_pattern else folders)
        named = [self._class(path) for path in files]
        found = sorted({name for name in named if name}) if self.class_pattern else folders
        classes = self.classes or tuple(found)
        patients = [self._patient(path) for path in files]
        faults = _unmatched(files, named, "class", self.class_pattern)
        faults += _class_faults(found, classes, named)
        faults += _unmatched(files, patients, "patient id", self.patient_pattern)
        if faults:
            raise CohortError(f"image_folder at {root}: {len(faults)} fault(s)\n{listed(faults)}")
        frame = pd.DataFrame({"sample_id": files, "path": files, "patient_id": patients}, dtype=str)
        target = [classes.index(str(name)) for name in named]
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

    def _class(self, path: str) -> str | None:
        if self.class_pattern is None:
            return path.partition("/")[0]
        return _searched(self.class_pattern, path)

    def _patient(self, path: str) -> str | None:
        return path if self.patient_pattern is None else _searched(self.patient_pattern, path)


def _searched(pattern: str, path: str) -> str | None:
    """Return the group of a pattern in a file's name."""
    match = re.search(pattern, path.rpartition("/")[2])
    return match.group(1) if match else None


def _unmatched(
    files: Sequence[str], found: Sequence[str | None], what: str, pattern: str | None
) -> list[str]:
    return [
        f"{path}: no {what} matches {pattern!r}"
        for path, name in zip(files, found, strict=True)
        if not name
    ]


def _image_files(root: Path, folders: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the images in ``folders``, or anywhere below ``root`` where there is none."""
    places = [root / name for name in folders] or [root]
    below = [p for place in places for p in place.rglob("*") if p.is_file()]
    seen = [p for p in below if not p.name.startswith(".")]
    images = sorted(p.relative_to(root).as_posix() for p in seen if p.suffix.lower() in SUFFIXES)
    others = len(seen) - len(images)
    return images, (f"{others} files ignored: their suffix names no image",) if others else ()


def _class_faults(
    found: Sequence[str], classes: Sequence[str], named: Sequence[str | None]
) -> list[str]:
    """Say what is wrong with the folders or names ``found`` of classes; ``named`` has an image."""
    faults = [] if found else ["no class found; expected root/<class>/<image>, or a class_pattern"]
    faults += [f"{name}, which is there, is not one of the classes {list(classes)}"
               for name in found if name not in classes]  # fmt: skip
    faults += [f"class {name}: no folder and no file is named so" for name in classes
               if name not in found]  # fmt: skip
    return faults + [f"folder {name} holds no image" for name in found if name not in named]
