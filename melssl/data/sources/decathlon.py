"""Volumes listed in JSON: ``dataset.json`` of the Decathlon, and MONAI's data lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from melssl.data.sources.nifti_folder import Row, VolumeSource
from melssl.errors import CohortError, listed

LABELLED = ("training", "validation")


class Decathlon(VolumeSource):
    """The sections ``training``, ``validation`` and, if wanted, ``test`` of a data list.

    An entry is ``{"image": path, "label": path}``, without its label, or a path alone; paths start
    at the list's folder. The section is the official ``split``, which the audit compares with. The
    list's own ``labels`` name the structures, unless ``structures`` does.
    """

    label: ClassVar[str] = "Decathlon or MONAI data list"
    source: Literal["decathlon"] = "decathlon"
    datalist: str = "dataset.json"
    test_volumes: Literal["leave_out", "unlabelled"] = "leave_out"

    def rows(self, root: Path) -> tuple[Sequence[Row], tuple[str, ...]]:
        """Return the volumes of the list."""
        data = self._parsed(root)
        sections = LABELLED if self.test_volumes == "leave_out" else (*LABELLED, "test")
        rows, faults = [], []
        for section in sections:
            for place, entry in enumerate(_entries(data, section)):
                row = self._row(entry, section)
                if row is None:
                    faults.append(f"{section}[{place}]: {str(entry)[:80]}")
                else:
                    rows.append(row)
        if faults or not rows:
            expected = 'one or more of {"image": path, "label": path}, or paths'
            raise CohortError(
                f"{self.source} at {root}: expected in {', '.join(sections)} of {self.datalist}"
                f" {expected}, got {len(faults)} others (found: {', '.join(data)})\n"
                f"{listed(faults)}"
            )
        return rows, self.structures or _structures(data.get("labels"))

    def _parsed(self, root: Path) -> Mapping[str, object]:
        try:
            data = json.loads((root / self.datalist).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CohortError(
                f"{self.source} at {root}: {self.datalist} cannot be read as JSON ({error}); name"
                " the list with datalist"
            ) from None
        if not isinstance(data, dict):
            raise CohortError(
                f"{self.source} at {root}: expected sections such as training in {self.datalist},"
                f" got a {type(data).__name__}"
            )
        return data

    def _row(self, entry: object, section: str) -> Row | None:
        """Return the row of an entry; None for one that is none."""
        named = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(named, dict) or not isinstance(named.get("image"), str):
            return None
        mask = named.get("label") if section != "test" else None
        if mask is not None and not isinstance(mask, str):
            return None
        return Row(
            image=self._path(named["image"]),
            mask=None if mask is None else self._path(mask),
            split=section,
        )

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self.datalist).parent / name)  # without the "./" of the lists


def _entries(data: Mapping[str, object], section: str) -> Sequence[object]:
    found = data.get(section, [])
    return found if isinstance(found, list) else [found]


def _structures(labels: object) -> tuple[str, ...]:
    """Return the names of labels 1..K from ``{"0": "background", "1": name}`` or the reverse."""
    if not isinstance(labels, dict):
        return ()
    pairs = [(k, v) if str(k).isdigit() else (v, k) for k, v in labels.items()]
    names = {int(label): str(name) for label, name in pairs if str(label).isdigit()}
    return tuple(
        names.get(label, f"label {label}") for label in range(1, max(names, default=0) + 1)
    )
