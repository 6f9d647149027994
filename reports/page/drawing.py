"""A drawn figure as inline SVG: each point says its value, each arm's marks can be taken away."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.numbers import printed

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
MOST_BYTES = 1_500_000  # of a figure as SVG: thousands of points are a picture
REFERENCE = re.compile(r'(\bid="|href="#|url\(#)')
FONT = "font-family: 'DejaVu Sans', Verdana, sans-serif"


def to_svg(figure: Figure, name: str, arms: Mapping[str, int]) -> str | None:
    """Return a figure as an SVG element; None where it would be too large.

    ``arms`` maps the colour of an arm, which no other arm has, to its number: what is drawn in it
    bears the class ``arm-<number>``. Names inside are made unlike those of other figures.
    """
    spoken = dict(_marked(figure, arms))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify": True}):
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    if len(file.getvalue()) > MOST_BYTES:
        return None
    for prefix, space in (("", SVG), ("xlink", LINK)):
        ElementTree.register_namespace(prefix, space)
    root = ElementTree.fromstring(file.getvalue())
    for group in root.iter(f"{{{SVG}}}g"):
        key = group.get("id", "")
        if found := re.match(r"arm-\d+", key):
            group.set("class", found[0])
        if key in spoken:
            _speak(group, spoken[key])
    root.attrib.pop("height", None)
    root.attrib.pop("width", None)
    root.set("style", FONT)
    text = ElementTree.tostring(root, encoding="unicode")
    return REFERENCE.sub(rf"\g<1>{name}-", text)


def _marked(figure: Figure, arms: Mapping[str, int]) -> Iterator[tuple[str, list[str]]]:
    """Name the marks of every axes; yield a name and what each of its points has to say."""
    for number, axes in enumerate(figure.axes):
        artists: list[Artist] = [*axes.lines, *axes.collections, *axes.patches]
        for place, artist in enumerate(artists):
            arm = arms.get(_colour(artist), None)
            key = f"{'mark' if arm is None else f'arm-{arm}'}-{number}-{place}"
            artist.set_gid(key)
            if isinstance(artist, Line2D) and artist.get_marker() not in ("", "None", ".", None):
                yield key, _values(axes, artist)


def _colour(artist: Artist) -> str:
    if isinstance(artist, Line2D):
        return to_hex(artist.get_color())
    for getter in ("get_edgecolor", "get_facecolor"):
        colours = np.atleast_2d(getattr(artist, getter, lambda: [])())
        if colours.size and colours[0][-1] > 0:
            return to_hex(colours[0][:3])
    return ""


def _values(axes: Axes, line: Line2D) -> list[str]:
    """Return, for each point that is drawn, its places on both axes, and its interval."""
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    spans = [
        segment
        for collection in axes.collections
        if isinstance(collection, LineCollection) and _colour(collection) == _colour(line)
        for segment in collection.get_segments()
        if len(segment) == 2
    ]
    here = np.isfinite(x) & np.isfinite(y)
    return [_value(axes, place, spans) for place in zip(x[here], y[here], strict=True)]


def _value(axes: Axes, place: tuple[float, float], spans: list[np.ndarray]) -> str:
    both = (_named(axes, "x", place[0]), _named(axes, "y", place[1]))
    for along in (1, 0):  # an interval stands upright in a curve, and lies in a forest
        for span in spans:
            apart, ends = span[:, 1 - along], sorted(span[:, along])
            if np.allclose(apart, place[1 - along]) and ends[0] <= place[along] <= ends[1]:
                value = f"{place[along]:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"
                return printed(f"{both[1 - along]}: {value}")
    return printed(": ".join(both))


def _named(axes: Axes, side: str, value: float) -> str:
    """Return a place in words where the axis names places, else as a number."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    ticks, labels = axis.get_majorticklocs(), [t.get_text() for t in axis.get_majorticklabels()]
    words = any(re.search(r"[^\d.\s−-]", label) for label in labels)
    if not words or len(ticks) != len(labels) or not len(ticks):
        return f"{value:.3g}"
    log = axis.get_scale() == "log"
    distance = np.abs(np.log(ticks / value) if log else np.asarray(ticks) - value)
    return labels[int(np.argmin(distance))].split("\n")[0]


def _speak(group: ElementTree.Element, words: list[str]) -> None:
    """Give each point of a group its words, if there are as many points."""
    points = list(chain(group.iter(f"{{{SVG}}}use")))
    if len(points) != len(words):
        return
    for point, text in zip(points, words, strict=True):
        title = ElementTree.SubElement(point, f"{{{SVG}}}title")
        title.text = text
