"""Ink: sizes, colours, markers, lines; the one place where a look is decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ablations.table import StudyInfo

# IEEE column widths in inches.
WIDTHS: Mapping[str, float] = {"single": 3.5, "double": 7.16}
POINTS, STAMP = 8.0, 5.0
DPI = 300
GREY, DIAGONAL = "0.45", "0.7"

# Okabe-Ito without yellow (too light on paper) and black (the control's). Markers and dashes differ
# as well, so that a grey print still tells the lines apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 1.5), (1, 1), (5, 1, 1, 1), (8, 2))
Line = Literal["-", "none"] | tuple[float, tuple[float, ...]]
CONTROL_DASHES = (3.0, 1.5)
# References see no image: they stand behind the arms, in thin grey dots.
QUIET = ("0.55", "0.35", "0.65", "0.25")
QUIET_MARKERS, QUIET_DASHES = ("p", "h", "8", "*"), (1.0, 2.5)

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
    "legend.borderaxespad": 0.2,
    "legend.borderpad": 0.2,
    "pdf.fonttype": 42,
    # A PDF holds every small image as it is, not one large copy of all of them.
    "image.composite_image": False,
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one series is drawn."""

    colour: str
    marker: str
    dashes: tuple[float, ...] = ()
    hollow: bool = False
    width: float = 1.2
    size: float = 4.0

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
    """Return the look of ``control``, ``method:i``, ``reference:i``, ``level[-control]:i/n``.

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
    if kind == "reference":
        return Look(
            colour=QUIET[index % len(QUIET)],
            marker=QUIET_MARKERS[index % len(QUIET_MARKERS)],
            dashes=QUIET_DASHES,
            width=0.8,
            size=3.0,
        )
    colour = to_hex(colormaps["viridis"](0.8 * index / max(count - 1, 1)))
    hollow = kind == "level-control"
    return Look(
        colour=colour,
        marker="s" if hollow else marker,
        dashes=CONTROL_DASHES if hollow else (),
        hollow=hollow,
    )


def origin(info: StudyInfo) -> list[str]:
    """Return what identifies the numbers of a study, in short phrases."""
    at = info.origin
    cohort = f"{at['cohort']!s:.24} {at['cohort_digest']!s:.12}"
    return [
        f"study {at['study_key']!s:.12} · commit {at['commit']!s:.12}",
        f"numbers version {at['numbers_version']} · {found(info)} · cohort {cohort}",
    ]


def found(info: StudyInfo) -> str:
    """Return ``57 of 60 trials``."""
    return f"{info.n_finished} of {info.n_planned} trials"
