"""Ink: sizes, colours, markers, legend and stamp; the one place where a look is decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from ablations.table import StudyInfo

# IEEE column widths in inches.
WIDTHS: Mapping[str, float] = {"single": 3.5, "double": 7.16}
STRIPS: Mapping[str, float] = {"single": 0.2, "double": 0.12}
POINTS, STAMP = 8.0, 5.0
DPI = 300
# Pixels between neighbouring tick labels.
GAP = 8
GREY = "0.45"

# Okabe-Ito without yellow (too light on paper) and black (the control's). Markers and dashes differ
# as well, so that a grey print still tells the lines apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 1.5), (1, 1), (5, 1, 1, 1), (8, 2))
Line = Literal["-", "none"] | tuple[float, tuple[float, ...]]
CONTROL_DASHES = (3.0, 1.5)

_RC: dict[Any, Any] = {
    # This font comes with matplotlib: every machine draws the same glyphs.
    "font.family": "DejaVu Sans",
    "font.size": POINTS,
    "axes.labelsize": POINTS,
    "axes.titlesize": POINTS,
    "legend.fontsize": POINTS,
    "xtick.labelsize": POINTS,
    "ytick.labelsize": POINTS,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "lines.scale_dashes": True,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.1,
    "pdf.fonttype": 42,
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one series is drawn."""

    colour: str
    marker: str
    dashes: tuple[float, ...] = ()
    hollow: bool = False

    @property
    def face(self) -> str:
        """Colour inside the marker."""
        return "white" if self.hollow else self.colour

    @property
    def line(self) -> Line:
        """The dash pattern as matplotlib wants it."""
        return (0, self.dashes) if self.dashes else "-"


@contextmanager
def ink() -> Iterator[None]:
    """Draw and save inside this block: the house's look, whatever the user's settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def look(name: str) -> Look:
    """Return the look of ``control``, ``method:i``, ``level:i/n`` or ``level-control:i/n``.

    Methods get unrelated colours; levels, which have an order, go from dark to light.
    """
    kind, _, place = name.partition(":")
    if kind == "control":
        return Look(colour="#222222", marker="s", dashes=CONTROL_DASHES)
    index, count = (int(part) for part in f"{place}/1".split("/")[:2])
    marker = MARKERS[index % len(MARKERS)]
    if kind == "method":
        colour = COLOURS[index % len(COLOURS)]
        return Look(colour=colour, marker=marker, dashes=DASHES[index % len(DASHES)])
    colour = to_hex(colormaps["viridis"](0.8 * index / max(count - 1, 1)))
    hollow = kind == "level-control"
    return Look(
        colour=colour,
        marker="s" if hollow else marker,
        dashes=CONTROL_DASHES if hollow else (),
        hollow=hollow,
    )


@dataclass(frozen=True)
class Sheet:
    """A figure at print size: a body with panels, and a strip below it that only the stamp uses."""

    figure: Figure
    body: SubFigure
    strip: SubFigure
    panels: list[Axes]


def sheet(width: str, height: float, shape: tuple[int, int], *, share_y: bool) -> Sheet:
    """Return a sheet of a named width, its body ``height`` inches high, rows x columns of panels."""
    strip = STRIPS[width]
    figure = Figure(figsize=(WIDTHS[width], height + strip), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    body, foot = figure.subfigures(2, 1, height_ratios=[height, strip])
    grid = body.subplots(*shape, sharex=True, sharey=share_y, squeeze=False)
    return Sheet(figure, body, foot, list(grid.flat))


def stamp(strip: SubFigure, info: StudyInfo, width: str) -> None:
    """Write the origin in small letters at the bottom right."""
    parts = origin(info)
    cut = 1 if width == "single" else len(parts)
    lines = [" · ".join(parts[:cut]), " · ".join(parts[cut:])]
    text = "\n".join(line for line in lines if line)
    strip.text(0.99, 0.1, text, ha="right", va="bottom", fontsize=STAMP, color=GREY)


def origin(info: StudyInfo) -> list[str]:
    """Return what identifies the numbers of a study, in short phrases."""
    at = info.origin
    return [
        f"study {at['study_key']!s:.12} · commit {at['commit']!s:.12}",
        f"numbers version {at['numbers_version']} · {found(info)} · cohort {at['cohort']!s:.24} {at['cohort_digest']!s:.12}",
    ]


def found(info: StudyInfo) -> str:
    """Return ``57 of 60 trials``."""
    return f"{info.n_finished} of {info.n_planned} trials"


def legend(figure: SubFigure, handles: Sequence[Line2D]) -> None:
    """Put a legend above the panels in as many columns as fit the width."""
    if not handles:
        return
    for columns in range(min(len(handles), 6), 0, -1):
        box = figure.legend(
            handles=list(handles),
            loc="outside upper center",
            ncols=columns,
        )
        if columns == 1 or box.get_window_extent().width <= 0.98 * figure.bbox.width:
            return
        box.remove()


def settle(figure: Figure, *, names: bool) -> None:
    """Lay the figure out for good; labels of x that would touch are turned (names) or blanked."""
    figure.draw_without_rendering()
    if names and any(_crowded(axes) for axes in figure.axes):
        for label in (label for axes in figure.axes for label in axes.get_xticklabels()):
            label.set(rotation=30, ha="right", rotation_mode="anchor")
        figure.draw_without_rendering()
    elif not names:
        for axes in figure.axes:
            _thin(axes)
    # Another resolution must not move anything: what was looked at is what is saved.
    figure.set_layout_engine("none")


def _crowded(axes: Axes) -> bool:
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    return any(left.x1 + GAP > right.x0 for left, right in pairwise(boxes))


def _thin(axes: Axes) -> None:
    edge, texts = float("-inf"), []
    for label in axes.get_xticklabels():
        box = label.get_window_extent()
        fits = box.x0 > edge
        texts.append(label.get_text() if fits else "")
        edge = box.x1 + GAP if fits else edge
    axes.set_xticks(axes.get_xticks(), texts)
