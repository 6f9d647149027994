"""Embeddings in two dimensions: the same points coloured by outcome, patient and camera."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.table import StudyInfo, TrialTable
from reports import captions, layout, style
from reports.cells import units
from reports.exhibit import FigureExhibit
from reports.exhibits.pictures import missing, with_arms
from reports.headings import draw_heading, height_of
from reports.layout import GAP, LINE

KIND, OTHERS, MOST = "embedding_map", "others", "most"
PROJECTIONS = {"pca": "PCA", "tsne": "t-SNE"}
COLOURINGS = ("outcome", "patient", "camera")
MOST_NAMED = 5
EDGE, PAGE = 0.06, 8.0  # inches
MOST_TALL = {"single": 1.35, "double": 2.4}  # a map of one column is to fit half a page


@dataclass(frozen=True)
class EmbeddingMap(FigureExhibit):
    """Test images at their place in one projection, a row per arm, a column per colouring."""

    projection: str = "pca"

    @property
    def name(self) -> str:
        """Stem of the files."""
        return f"embedding_{self.projection}"

    @classmethod
    def each(cls, info: StudyInfo) -> Sequence[Self]:
        """Return one exhibit per projection."""
        return tuple(map(cls, PROJECTIONS))

    def needs(self, table: TrialTable) -> str | None:
        """Projected embeddings of this study, and groups to colour them by."""
        if reason := missing(table, KIND):
            return reason
        return None if self._colourings(table) else "one class, one camera and nobody with two"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return ``panel, stamp, colouring, group, look, x, y``: every point once per colouring.

        Groups beyond the five largest are one, and so are patients with one image; a group of more
        than half the points is drawn in grey.
        """
        return pd.concat(self._colourings(table), ignore_index=True)

    def _colourings(self, table: TrialTable) -> list[pd.DataFrame]:
        """Return the points once per colouring that has two groups."""
        assert table.gallery is not None
        points = with_arms(table.gallery.kinds[KIND], table)
        points = points[points["projection"] == PROJECTIONS[self.projection]]
        one = units(table.info).removesuffix("s")
        called = {name: one if name == "patient" else name for name in COLOURINGS}
        return [rows for name in COLOURINGS for rows in _coloured(points, name, called[name])]

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw a row of maps per arm."""
        figure = Figure(figsize=(style.WIDTHS[width], 1), dpi=style.DPI)
        FigureCanvasAgg(figure)
        panels = list(dict.fromkeys(frame["panel"]))
        columns = list(dict.fromkeys(frame["colouring"]))
        foot = layout.stamp(figure, info) + GAP
        keys = max(frame.groupby("colouring")["group"].nunique()) * LINE + GAP
        side = (style.WIDTHS[width] - 2 * EDGE - (len(columns) - 1) * GAP) / len(columns)
        stamps = frame.drop_duplicates("panel").set_index("panel")["stamp"].astype(str)
        heads = [height_of(name, stamps[name], style.WIDTHS[width]) + 2 * GAP for name in panels]
        top = LINE + GAP
        room = (PAGE - top - keys - foot - sum(heads)) / len(panels)
        tall = min(side, room, MOST_TALL[width])
        tops = top + np.cumsum([0.0, *(head + tall for head in heads)])
        height = float(tops[-1]) + keys + foot
        figure.set_figheight(height)
        for panel, at in zip(panels, tops, strict=False):
            draw_heading(figure, panel, stamps[panel], float(at) + GAP)
        for index, colouring in enumerate(columns):
            left = EDGE + index * (side + GAP)
            inside = frame[frame["colouring"] == colouring]
            figure.text(
                *((left + side / 2) / figure.get_figwidth(), 1 - GAP / 2 / height, colouring),
                ha="center",
                va="top",
            )
            for panel, end in zip(panels, tops[1:], strict=True):
                axes = figure.add_axes(_share((left, height - float(end), side, tall), figure))
                _draw_points(axes, inside[inside["panel"] == panel])
            _draw_key(figure, inside, (left, foot + keys))
        return figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what is projected, and who is coloured."""
        how = {
            "pca": "their first two principal components",
            "tsne": "t-SNE of the centred embeddings at unit length (van der Maaten and Hinton "
            "2008; perplexity 30 where there are enough images)",
        }[self.projection]
        n = int(frame.groupby(["panel", "colouring"]).size().max())
        return captions.joined(
            f"Embeddings of {n} images of test {units(info)}: {how}. Every column shows "
            "the same points; groups beyond the five largest, and "
            f"{units(info)} with one image, are grey. Axes have no unit. Small, the first digits "
            "of the weights' SHA-256.",
            captions.footing(info),
        )


def _coloured(points: pd.DataFrame, name: str, called: str) -> Iterator[pd.DataFrame]:
    """Yield the points with the group and the look of each; nothing where there is one group."""
    values = points[name].astype(str)
    count = values[points["panel"] == points["panel"].iloc[0]].value_counts()
    # ties by name: the same frame gives the same picture
    count = count.sort_index().sort_values(ascending=False, kind="stable")
    named = list(count.index[count > 1] if name == "patient" else count.index)[:MOST_NAMED]
    if len(count) < 2 or not named:
        return
    if name == "outcome":
        named = named[::-1]  # the rare one in the strongest colour
    groups = {x: f"{called} {i + 1}" if name == "patient" else x for i, x in enumerate(named)}
    looks = {x: MOST if 2 * count[x] > count.sum() else str(i) for i, x in enumerate(named)}
    yield points.assign(
        colouring=called,
        group=values.map(groups).fillna(OTHERS),
        look=values.map(looks).fillna(OTHERS),
    )[["panel", "stamp", "weights", "colouring", "group", "look", "x", "y", "sample_id"]]


def _share(
    place: tuple[float, float, float, float], figure: Figure
) -> tuple[float, float, float, float]:
    width, height = figure.get_size_inches()
    left, bottom, across, up = place
    return left / width, bottom / height, across / width, up / height


def _draw_points(axes: Axes, points: pd.DataFrame) -> None:
    axes.set(xticks=[], yticks=[], xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color="0.8")
    for look, group in _in_order(points):
        style_of = _look(look)
        axes.plot(
            *(group["x"], group["y"], style_of.marker),
            color=style_of.colour,
            markersize=style_of.size,
            markeredgewidth=0,
            linestyle="none",
            rasterized=True,
        )


def _in_order(points: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the groups, those that matter most drawn last."""
    groups = {str(look): group for look, group in points.groupby("look")}
    return [(look, groups[look]) for look in sorted(groups, reverse=True)]


def _look(look: str) -> style.Look:
    if look in (OTHERS, MOST):
        return style.Look(colour="0.75" if look == OTHERS else "0.6", marker="o", size=1.6)
    made = style.look(f"method:{(3, 0, 2, 1, 4)[int(look)]}")
    return style.Look(colour=made.colour, marker=made.marker, size=2.6)


def _draw_key(figure: Figure, points: pd.DataFrame, corner: tuple[float, float]) -> None:
    pairs = points[["look", "group"]].astype(str).drop_duplicates().sort_values("look")
    handles = [
        Line2D(
            [],
            [],
            color=_look(look).colour,
            marker=_look(look).marker,
            linestyle="none",
            markersize=4,
            label=group,
        )
        for look, group in pairs.itertuples(index=False)
    ]
    width, height = figure.get_size_inches()
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(corner[0] / width, corner[1] / height),
        labelspacing=0.2,
        handletextpad=0.2,
    )
