"""TrialTable: finished trials and their study's description, the files both sides agree on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.gallery import INDEX, Gallery, GalleryError
from ablations.table import files
from ablations.table.columns import SCHEMAS, empty
from ablations.table.faults import TableError, faults_of
from ablations.table.info import StudyInfo
from melssl.errors import listed


@dataclass(frozen=True, kw_only=True)
class TrialTable:
    """A study's results as frames; ``SCHEMAS`` says what the rows of each are.

    A factor that does not apply to a cell is empty there. Where ``trials`` has a column named like
    a key of the origin (``cohort_digest``, ``numbers_version``), it must hold the origin's value.
    The table of a search has two frames more and no cell.

    ``gallery`` holds pictures of encoders where they were made, ``gallery_fault`` what is wrong
    with them; they are no part of the table's files.

    ``watts`` is what whoever draws states as the power of one worker; it is in no file.

    Raises:
        TableError: frames and description contradict each other, every fault in one list.

    """

    info: StudyInfo
    trials: pd.DataFrame
    cells: pd.DataFrame
    missing: pd.DataFrame
    curves: pd.DataFrame
    comparisons: pd.DataFrame = field(default_factory=lambda: empty("comparisons"))
    savings: pd.DataFrame = field(default_factory=lambda: empty("savings"))
    variances: pd.DataFrame = field(default_factory=lambda: empty("variances"))
    pooled: pd.DataFrame = field(default_factory=lambda: empty("pooled"))
    subgroups: pd.DataFrame = field(default_factory=lambda: empty("subgroups"))
    reliability: pd.DataFrame = field(default_factory=lambda: empty("reliability"))
    encoders: pd.DataFrame = field(default_factory=lambda: empty("encoders"))
    costs: pd.DataFrame = field(default_factory=lambda: empty("costs"))
    sweeps: pd.DataFrame = field(default_factory=lambda: empty("sweeps"))
    ranks: pd.DataFrame = field(default_factory=lambda: empty("ranks"))
    pairs: pd.DataFrame = field(default_factory=lambda: empty("pairs"))
    parts: pd.DataFrame = field(default_factory=lambda: empty("parts"))
    spent: pd.DataFrame = field(default_factory=lambda: empty("spent"))
    unseen: pd.DataFrame = field(default_factory=lambda: empty("unseen"))
    relative: pd.DataFrame = field(default_factory=lambda: empty("relative"))
    structures: pd.DataFrame = field(default_factory=lambda: empty("structures"))
    suggestions: pd.DataFrame = field(default_factory=lambda: empty("suggestions"))
    searched: pd.DataFrame = field(default_factory=lambda: empty("searched"))
    watts: float | None = None

    gallery: Gallery | None = None
    gallery_fault: str = ""

    FRAMES = tuple(SCHEMAS)

    def __post_init__(self) -> None:
        if faults := faults_of(self.info, self.frames):
            raise TableError(f"study {self.info.name!r} cannot be used:\n{listed(faults)}")

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """All frames by name."""
        return {name: getattr(self, name) for name in self.FRAMES}

    def save(self, directory: Path) -> None:
        """Write ``study.json`` and one CSV per frame; a torn write is refused by ``load``."""
        files.write(directory, self.info, self.frames)

    @classmethod
    def load(cls, directory: Path) -> TrialTable:
        """Read what ``save`` wrote.

        Raises:
            TableError: a file is missing, changed since, of another format, or lacks columns.

        """
        info, frames = files.read(directory)
        named: dict[str, Any] = dict(frames)
        return cls(info=info, **named)

    def with_pictures(self, folder: Path) -> TrialTable:
        """Return the same table with the pictures in a folder, if there are any and they are whole.

        All else of a study can be drawn without them: what is wrong with them is a note.
        """
        if not (folder / INDEX).exists():
            return self
        try:
            return dataclasses.replace(self, gallery=Gallery.load(folder))
        except GalleryError as error:
            return dataclasses.replace(self, gallery_fault=str(error))

    def with_main_metric(self, name: str) -> TrialTable:
        """Return the same table with another metric in the place of the main one.

        Raises:
            TableError: the study has no such metric.

        """
        return dataclasses.replace(self, info=dataclasses.replace(self.info, main_metric=name))
