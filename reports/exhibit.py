"""Exhibit: a figure or a table with the data behind it, first a frame, then a drawing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports.cells import draws_masks


@dataclass(frozen=True)
class Exhibit(ABC):
    """What every exhibit can say: what it needs, its numbers and its caption.

    One that is ``of_search`` shows the suggestions of a search, all others the cells of a study;
    one that is ``of_classes`` rests on predicted probabilities, which drawn masks do not have.
    """

    of_search: ClassVar[bool] = False
    of_classes: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """Stem of the files."""

    @classmethod
    def each(cls, info: StudyInfo) -> Sequence[Self]:
        """Return the exhibits of this kind that a study can have; one, unless there is a choice."""
        return (cls(),)

    @abstractmethod
    def needs(self, table: TrialTable) -> str | None:
        """Return why this study cannot have the exhibit, or None if it can."""

    def refusal(self, table: TrialTable) -> str | None:
        """Return why the table cannot give the exhibit, or None if it can."""
        if self.of_search and table.suggestions.empty:
            return "is drawn of a search, and this is none"
        if not self.of_search and len(table.suggestions):
            return "a search has suggestions, and no cells"
        if self.of_classes and draws_masks(table.info):
            return "rests on probabilities of classes, and this study draws masks"
        return self.needs(table)

    @abstractmethod
    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return every number that will be shown; all arithmetic happens here."""

    @abstractmethod
    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Return what a reader must know to read it, in plain text."""


class FigureExhibit(Exhibit):
    """An exhibit that is drawn."""

    @abstractmethod
    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Return the figure at a width of ``style.WIDTHS``, drawn from the frame alone."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One field of a printed table: its lines, of which the first is the main one."""

    lines: tuple[str, ...]
    bold: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A printed table: one head per column, the first ``n_labels`` columns name the row.

    ``prose`` says that the last column holds sentences, which may be broken. ``notes`` are
    sentences below the rows, in the table itself.
    """

    heads: tuple[Entry, ...]
    rows: tuple[tuple[Entry, ...], ...]
    n_labels: int
    prose: bool = False
    notes: tuple[str, ...] = ()


class TableExhibit(Exhibit):
    """An exhibit that is printed."""

    @abstractmethod
    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return the fields to print, rounded from the frame alone."""
