"""Figures and tables of a paper: which a study has, and how each target holds them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

from ablations.table import TrialTable
from reports import tabular
from reports.exhibit import Exhibit, FigureExhibit, TableExhibit
from reports.exhibits import exhibits_of
from reports.style import DPI

Target = Literal["latex", "html", "typst"]
WIDE_AT = 4.5  # inches: what is higher than this in one column goes over both


@dataclass(frozen=True, kw_only=True)
class Float:
    """A figure or table with its number among its kind, and its files."""

    name: str
    number: int
    is_figure: bool
    is_wide: bool
    caption: str
    latex: str
    html: str  # an image or a table
    typst: str  # code that is an image or a table

    @property
    def anchor(self) -> str:
        """Label of the float: ``fig:label_curve``."""
        return f"{'fig' if self.is_figure else 'tab'}:{self.name}"

    @property
    def title(self) -> str:
        """``Fig. 3`` or ``Table 2``."""
        return f"{'Fig.' if self.is_figure else 'Table'} {self.number}"


@dataclass
class Floats:
    """All floats of a study, and which of them the text has pointed at."""

    every: dict[str, Float]
    target: Target
    referenced: list[str] = field(default_factory=list)

    def has(self, *names: str) -> bool:
        """Say whether the study has all of these exhibits."""
        return set(names) <= self.every.keys()

    def ref(self, name: str) -> str:
        """Return a reference in the target's own words; nothing where there is no such float."""
        if name not in self.every:
            return ""
        if name not in self.referenced:
            self.referenced.append(name)
        return _reference(self.every[name], self.target)

    def refs(self, *names: str) -> str:
        """Return references to those of the names that exist, joined by commas."""
        return ", ".join(ref for name in names if (ref := self.ref(name)))

    def unreferenced(self) -> list[Float]:
        """Return the floats that the text has not pointed at."""
        return [one for name, one in self.every.items() if name not in self.referenced]


def floats_of(table: TrialTable, figures: Path, target: Target) -> Floats:
    """Return every exhibit that the study has; ``figures`` holds their drawn files."""
    found, counts = {}, {True: 0, False: 0}
    for exhibit in exhibits_of(table.info):
        if exhibit.needs(table) is None:
            is_figure = isinstance(exhibit, FigureExhibit)
            counts[is_figure] += 1
            found[exhibit.name] = _float(exhibit, table, figures, counts[is_figure])
    return Floats(every=found, target=target)


def _float(exhibit: Exhibit, table: TrialTable, figures: Path, number: int) -> Float:
    frame = exhibit.frame(table)
    caption = exhibit.caption(frame, table.info)
    if isinstance(exhibit, TableExhibit):
        grid = exhibit.grid(frame, table.info)
        latex, html = _fitted(tabular.to_latex(grid, caption, exhibit.name)), tabular.to_html(grid)
        typst, is_wide = tabular.to_typst(grid), True
    else:
        is_wide = _height(figures / f"{exhibit.name}_single.png") > WIDE_AT
        size = "double" if is_wide else "single"
        latex = _figure(exhibit.name, size, caption, is_wide)
        typst = f'image("figures/{exhibit.name}_{size}.pdf", width: 100%)'
        picture = base64.b64encode((figures / f"{exhibit.name}_double.png").read_bytes()).decode()
        html = f'<img alt="{escape(exhibit.name)}" src="data:image/png;base64,{picture}">'
    return Float(
        name=exhibit.name,
        number=number,
        is_figure=isinstance(exhibit, FigureExhibit),
        is_wide=is_wide,
        caption=caption,
        latex=latex,
        html=html,
        typst=typst,
    )


def _fitted(latex: str) -> str:
    """Return a table that the paper's template makes narrower where it is wider than the page."""
    latex = latex.replace(r"\begin{tabular}", r"\begin{fitted}\begin{tabular}")
    return latex.replace(r"\end{tabular}", r"\end{tabular}\end{fitted}")


def _height(png: Path) -> float:
    """Return the height of a drawn figure in inches, from the header of its PNG."""
    header = png.read_bytes()[16:24]  # IHDR: width and height, four bytes each
    return int.from_bytes(header[4:]) / DPI


def _figure(name: str, size: str, caption: str, is_wide: bool) -> str:
    star, width = ("*", r"\textwidth") if is_wide else ("", r"\columnwidth")
    return "\n".join(
        [
            rf"\begin{{figure{star}}}[!t]",
            r"\centering",
            rf"\includegraphics[width={width}]{{figures/{name}_{size}.pdf}}",
            rf"\caption{{{tabular.escaped(caption)}}}",
            rf"\label{{fig:{name}}}",
            rf"\end{{figure{star}}}",
        ]
    )


def _reference(one: Float, target: Target) -> str:
    if target == "latex":
        kind = "Fig." if one.is_figure else "Table"
        return rf"`{kind}~\ref{{{one.anchor}}}`{{=latex}}"
    if target == "html":
        return f'`<a href="#{one.anchor}">{one.title}</a>`{{=html}}'
    return f"`#link(<{one.anchor}>)[{one.title}]`{{=typst}}"


def printed(chosen: Iterable[Float], target: Target) -> str:
    """Return the floats as the target writes them."""
    return "\n\n".join(_printed(one, target) for one in chosen)


def _printed(one: Float, target: Target) -> str:
    if target == "latex":
        return one.latex
    if target == "html":
        return (
            f'<figure id="{one.anchor}">{one.html}'
            f"<figcaption><b>{one.title}.</b> {escape(one.caption)}</figcaption></figure>"
        )
    scope = "parent" if one.is_wide else "column"
    return (
        f'#figure(text(size: 7pt, {one.typst}), placement: auto, scope: "{scope}", '
        f"kind: {'image' if one.is_figure else 'table'}, "
        f"caption: [{tabular.typst_escaped(one.caption)}]) <{one.anchor}>"
    )
