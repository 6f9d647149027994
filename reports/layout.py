"""Layout: panels of a fixed size in inches, and margins as wide as what stands in them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from ablations.table import StudyInfo
from reports import style

# Inches.
LETTER, LINE, GAP = 0.068, 0.14, 0.05


@dataclass(frozen=True, kw_only=True)
class Margins:
    """Inches around the panels.

    ``above`` is what a panel needs over it in its own column, ``y_label`` the distance from the
    left edge to the label of y.
    """

    left: float = 0.8
    y_label: float = 0.4
    right: float = 0.2
    top: float = 0.3
    bottom: float = 0.8
    above: float = 0.1
    between: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A figure at print size and its panels, row by row; the last row may be shorter."""

    figure: Figure
    panels: tuple[Axes, ...]
    columns: int
    panel_height: float

    @property
    def rows(self) -> int:
        """Number of rows."""
        return math.ceil(len(self.panels) / self.columns)

    @property
    def corner(self) -> Axes:
        """The first panel of the last row: it shows both axes."""
        return self.panels[(self.rows - 1) * self.columns]


def sheet(
    width: str,
    n_panels: int,
    *,
    share_y: bool,
    height: float | None = None,
    columns: int | None = None,
) -> Sheet:
    """Return a sheet of a width of ``style.WIDTHS`` with panels that share x, and y if asked.

    ``height`` is that of a panel in inches, by default less where there are several rows;
    ``columns`` is by default what fits.
    """
    few = 1 if n_panels <= 3 else 2
    rows = math.ceil(n_panels / (columns or (3 if width == "double" else few)))
    columns = columns or math.ceil(
        n_panels / rows
    )  # four panels stand two by two, not three and one
    figure = Figure(figsize=(style.WIDTHS[width], 2.0 * rows), dpi=style.DPI)
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False).flat)
    for index, axes in enumerate(grid[:n_panels]):
        axes.tick_params(labelbottom=index + columns >= n_panels)
    for axes in grid[n_panels:]:
        axes.remove()
    height = height or {1: 1.8, 2: 1.5}.get(rows, 1.3)
    return Sheet(figure=figure, panels=tuple(grid[:n_panels]), columns=columns, panel_height=height)


def title(target: Sheet, axes: Axes, text: str, *, above: float = 0.0) -> None:
    """Write the title of a panel, wrapped to its width, ``above`` points higher than usual."""
    inches = target.figure.get_figwidth() / target.columns - 0.4
    axes.set_title(_wrapped(text, inches), pad=3 + above)


def finish(
    target: Sheet,
    info: StudyInfo,
    labels: tuple[str, str],
    handles: Sequence[Line2D],
    *,
    names_on_x: bool,
) -> None:
    """Write axis labels (x, y), legend and stamp, and give everything its place for good.

    Tick labels of x that would touch are turned where they are names, left out where numbers.
    """
    key = legend(target.figure, handles)
    x_label = _wrapped(labels[0], target.figure.get_figwidth() - 0.8)
    y_label = _wrapped(labels[1], target.rows * target.panel_height)
    strip = stamp(target.figure, info)
    _place(target, Margins())
    _place(target, _measured(target, key, x_label, y_label, strip))
    _untouch(target, names=names_on_x)
    margins = _measured(target, key, x_label, y_label, strip)
    _place(target, margins)
    width, height = target.figure.get_size_inches()
    middle_x = (margins.left + width - margins.right) / 2 / width
    middle_y = (margins.bottom + height - margins.top) / 2 / height
    text = target.figure.text
    text(middle_x, (strip + GAP) / height, x_label, ha="center", va="bottom")
    text(
        *(margins.y_label / width, middle_y, y_label),
        rotation=90,
        ha="left",
        va="center",
        multialignment="center",
    )


def _wrapped(text: str, inches: float) -> str:
    return "\n".join(filled(line, int(inches / LETTER)) for line in text.split("\n"))


def filled(text: str, letters: int) -> str:
    """Return text in lines of at most so many letters; words stay whole, also fine-tuning."""
    return textwrap.fill(text, letters, break_on_hyphens=False, break_long_words=False)


def stamp(figure: Figure, info: StudyInfo) -> float:
    """Write the origin in small letters at the bottom right; return the inches that it takes."""
    parts = style.origin(info)
    is_wide = figure.get_figwidth() > style.WIDTHS["single"]
    lines = [" · ".join(parts)] if is_wide else parts
    figure.text(
        *(0.995, 0.002, "\n".join(lines)),
        ha="right",
        va="bottom",
        fontsize=style.STAMP,
        color=style.GREY,
        linespacing=1.1,
    )
    return style.STAMP / 72 * (len(lines) * 1.25) + 0.03


def legend(figure: Figure, handles: Sequence[Line2D]) -> Legend | None:
    """Put a legend on top in as many columns as fit the width."""
    for columns in range(min(len(handles), 6), 0, -1):
        key = figure.legend(
            handles=list(handles), loc="upper center", bbox_to_anchor=(0.5, 1), ncols=columns
        )
        if columns == 1 or key.get_window_extent().width <= 0.98 * figure.bbox.width:
            return key
        key.remove()
    return None


def _place(target: Sheet, margins: Margins) -> None:
    """Set the height of the figure and the places of the panels."""
    figure, rows = target.figure, target.rows
    panels = rows * target.panel_height + (rows - 1) * margins.above
    width, height = figure.get_figwidth(), panels + margins.top + margins.bottom
    figure.set_figheight(height)
    gaps = (target.columns - 1) * margins.between
    panel_width = (width - margins.left - margins.right - gaps) / target.columns
    figure.subplots_adjust(
        left=margins.left / width,
        right=1 - margins.right / width,
        bottom=margins.bottom / height,
        top=1 - margins.top / height,
        wspace=margins.between / panel_width,
        hspace=margins.above / target.panel_height,
    )


def _measured(
    target: Sheet, key: Legend | None, x_label: str, y_label: str, strip: float
) -> Margins:
    """Return the margins that ticks, titles, labels, legend and stamp need."""
    reaches = [_outside(axes) for axes in target.panels]
    numbers = max(_reach(x, x.yaxis.get_tightbbox())[0] for x in target.panels[:: target.columns])
    words = numbers + GAP + LINE * len(y_label.split("\n"))
    left = max(words, *(reach[0] for reach in reaches[:: target.columns])) + GAP / 2
    inner = max((x[0] for i, x in enumerate(reaches) if i % target.columns), default=0.0)
    right, above = max(reach[1] for reach in reaches), max(reach[3] for reach in reaches)
    below = reaches[target.panels.index(target.corner)][2]
    legend = key.get_window_extent().height / style.DPI + GAP if key else 0.0
    return Margins(
        left=left,
        y_label=left - words,
        right=right + GAP / 2,
        top=legend + above + GAP,
        bottom=below + LINE * len(x_label.split("\n")) + strip + GAP,
        above=above + 2 * GAP,
        between=inner + right + GAP * (3 if inner else 1),
    )


def _outside(axes: Axes) -> tuple[float, float, float, float]:
    """Return how many inches ticks, title and notes reach out: left, right, below, above."""
    boxes = [axis.get_tightbbox() for axis in (axes.xaxis, axes.yaxis)]
    boxes += [text.get_window_extent() for text in (axes.title, *axes.texts) if text.get_text()]
    return _reach(axes, *boxes)


def _reach(axes: Axes, *boxes: Bbox | None) -> tuple[float, float, float, float]:
    inner = axes.get_window_extent()
    outer = Bbox.union([inner, *(box for box in boxes if box is not None)])
    reach = (inner.x0 - outer.x0, outer.x1 - inner.x1, inner.y0 - outer.y0, outer.y1 - inner.y1)
    left, right, below, above = (max(pixels, 0) / style.DPI for pixels in reach)
    return left, right, below, above


def _untouch(target: Sheet, *, names: bool) -> None:
    if not _touching(target.corner):
        return
    if names:
        room = target.corner.get_window_extent().width / style.DPI
        letters = max(int(room / len(target.corner.get_xticks()) / LETTER), 8)
        shown = [label.get_text() for label in target.corner.get_xticklabels()]
        wrapped = [filled(x, letters) for x in shown]
        target.corner.set_xticks(target.corner.get_xticks(), wrapped)
        if _touching(target.corner):
            target.corner.set_xticks(target.corner.get_xticks(), shown)
            _turn(target)
    else:
        _thin(target.corner)


def _boxes(axes: Axes) -> list[Bbox]:
    return [x.get_window_extent().padded(0.02 * style.DPI) for x in axes.get_xticklabels()]


def _touching(axes: Axes) -> bool:
    return any(left.overlaps(right) for left, right in pairwise(_boxes(axes)))


def _turn(target: Sheet) -> None:
    for label in (label for axes in target.panels for label in axes.get_xticklabels()):
        label.set(rotation=30, ha="right", rotation_mode="anchor")


def _thin(axes: Axes) -> None:
    """Keep the last label, the first, and of the others those with room."""
    boxes, kept = _boxes(axes), list[int]()
    for index in dict.fromkeys([len(boxes) - 1, 0, *range(len(boxes))]):
        if not any(boxes[index].overlaps(boxes[other]) for other in kept):
            kept.append(index)
    texts = [x.get_text() if i in kept else "" for i, x in enumerate(axes.get_xticklabels())]
    axes.set_xticks(axes.get_xticks(), texts)
