"""Forests: one row per comparison or group, estimates with intervals, numbers in columns beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ablations.table import StudyInfo
from reports import layout, style
from reports.arms import Row
from reports.cells import LOST, PARTIAL
from reports.legend import handle, handles
from reports.numbers import printed

NAME_LETTERS, SERIES_LINES, BETWEEN = 18, 0.55, 0.35
BOLD = 1.2  # how much wider a bold letter is


@dataclass(frozen=True, kw_only=True)
class Note:
    """A column of text beside the rows."""

    head: str
    text: Callable[[Row], str]


@dataclass(frozen=True, kw_only=True)
class Forest:
    """What a forest says: its axis, its columns of text, and the widest difference that is none.

    ``named`` gives the series a legend; without it the headings name them. ``rope`` shades
    -rope..rope and draws zero; None draws neither.
    """

    x_label: str
    notes: Sequence[Note]
    named: bool
    rope: float | None = None


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where headings and rows of one panel stand, in lines of text from its top."""

    headings: tuple[tuple[float, str], ...]
    places: dict[tuple[str, str], tuple[float, str]]
    end: float


def draw_forest(frame: pd.DataFrame, info: StudyInfo, width: str, forest: Forest) -> Figure:
    """Draw a frame of ``panel, group, row, series, look, estimate, low, high, status``.

    A group has its heading and its rows, a row one mark per series. ``detectable``, if there, is
    drawn as a bracket on either side of zero. A long single panel is halved where there is width.
    """
    frame = frame.assign(group=frame["group"].astype(str), row=frame["row"].astype(str))
    parts = _parts(frame, width)
    columns = min(len(parts), 2 if width == "double" else 1)
    inches = style.WIDTHS[width] / columns
    letters = int((inches - 0.5) / layout.LETTER / BOLD)
    n_series = frame["series"].nunique() if forest.named else 1
    lists = [_rows(part, n_series, letters) for _, part in parts]
    end = max(rows.end for rows in lists)
    height = end * layout.LINE
    page = layout.sheet(width, len(parts), share_y=False, height=height, columns=columns)
    heads = max(note.head.count("\n") + 1 for note in forest.notes)
    for axes, (title, part), rows in zip(page.panels, parts, lists, strict=True):
        _draw_panel(axes, part, rows, forest, list(dict.fromkeys(frame["series"])))
        axes.set_ylim(end, 0)
        if title:
            layout.title(page, axes, title, above=heads * layout.LINE * 72)
    keys = handles(frame if forest.named else frame.assign(role=""), joined=False)
    labels = (forest.x_label, "")
    layout.finish(page, info, labels, [*keys, *_marks(frame, forest)], names_on_x=False)
    return page.figure


def _parts(frame: pd.DataFrame, width: str) -> list[tuple[str, pd.DataFrame]]:
    titles = list(dict.fromkeys(frame["panel"]))
    if len(titles) > 1:
        return [(title, frame[frame["panel"] == title]) for title in titles]
    groups = frame.groupby("group", sort=False).size().cumsum()
    if width != "double" or len(groups) < 2 or len(frame) <= 16:
        return [("", frame)]
    first = set(groups.index[(groups - len(frame) / 2).abs().argsort().iloc[0] :: -1])
    return [("", frame[frame["group"].isin(first)]), ("", frame[~frame["group"].isin(first)])]


def _rows(part: pd.DataFrame, n_series: int, letters: int) -> Rows:
    y, headings, places = 0.1, list[tuple[float, str]](), dict[tuple[str, str], tuple[float, str]]()
    for group, inside in part.groupby("group", sort=False):
        title = layout.filled(str(group), letters)
        headings.append((y, title))
        y += 1.1 * (title.count("\n") + 1)
        for row in dict.fromkeys(inside["row"]):
            name = layout.filled(row, NAME_LETTERS)
            tall = max(name.count("\n") + 1.0, SERIES_LINES * n_series)
            places[str(group), row] = (y + tall / 2, name)
            y += tall + (BETWEEN if n_series > 1 else 0)
        y += BETWEEN
    return Rows(headings=tuple(headings), places=places, end=y)


def _draw_panel(
    axes: Axes, part: pd.DataFrame, rows: Rows, forest: Forest, series: list[str]
) -> None:
    if forest.rope is not None:
        axes.axvspan(-forest.rope, forest.rope, color="0.9", linewidth=0, zorder=0.5)
        axes.axvline(0, color="0.1", linewidth=0.8, zorder=1.1)
    middle = (len(series) - 1) / 2
    for name, own in part.groupby("series", sort=False):
        rank = series.index(str(name)) - middle if forest.named else 0
        lines = [rows.places[place][0] for place in zip(own["group"], own["row"], strict=True)]
        _draw_series(axes, own, pd.Series(lines, own.index) + SERIES_LINES * rank)
    for y, text in rows.headings:
        axes.text(
            *(0.01, y, text),
            transform=axes.get_yaxis_transform(),
            fontweight="bold",
            va="top",
            zorder=2.9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    _name_rows(axes, rows)
    _write_notes(axes, part.drop_duplicates(["group", "row"]), rows, forest.notes)


def _draw_series(axes: Axes, own: pd.DataFrame, y: pd.Series) -> None:
    look, x, lost = style.look(str(own["look"].iloc[0])), own["estimate"], own["status"] == LOST
    axes.hlines(y, own["low"], own["high"], color=look.colour, linewidth=1, zorder=2.5)
    for is_here, face in (
        (own["status"] == PARTIAL, "white"),
        (~lost & (own["status"] != PARTIAL), look.face),
    ):
        point = axes.plot(x[is_here], y[is_here], look.marker, color=look.colour, mfc=face)
        point[0].set(markersize=look.size, zorder=3)
    edge = axes.get_yaxis_transform()
    axes.plot([0.03] * lost.sum(), y[lost], "x", color=look.colour, transform=edge, clip_on=False)
    for end in (-1, 1) if "detectable" in own else ():
        axes.plot(end * own["detectable"], y, "|", color="0.6", markersize=6, zorder=1.5)


def _name_rows(axes: Axes, rows: Rows) -> None:
    places = list(rows.places.values())
    axes.set_yticks([y for y, _ in places], [name for _, name in places])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _write_notes(axes: Axes, part: pd.DataFrame, rows: Rows, notes: Sequence[Note]) -> None:
    """Write the columns at the right, each as wide as its longest text."""
    reach = 6.0
    for note in notes:
        head = note.head.split("\n")
        texts = [(row, printed(note.text(row))) for row in part.to_dict("records")]
        widest = max(map(len, [*head, *(text for _, text in texts)]))
        reach += widest * layout.LETTER * 72 + 5
        axes.annotate(
            *(note.head, (1, 1), (reach, 2)),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="bottom",
            color=style.GREY,
        )
        for row, text in texts:
            axes.annotate(
                *(text, (1, rows.places[row["group"], row["row"]][0]), (reach, 0)),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                ha="right",
                va="center_baseline",
            )


def _marks(frame: pd.DataFrame, forest: Forest) -> list[Line2D]:
    found = []
    if forest.rope is not None:
        region = handle(f"counts as none (±{forest.rope:g})", "0.85", "s", size=7)
        found.append(region)
    if "detectable" in frame:
        found.append(handle("detectable", "0.6", "|", size=6))
    return found
