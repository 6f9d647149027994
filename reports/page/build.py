"""Makes the page of a collected study: what was asked, the answers, every figure and table."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ablations.table import TrialTable
from reports import style, tabular
from reports.build import summary
from reports.cells import main_metric, units
from reports.exhibit import Exhibit, FigureExhibit, TableExhibit
from reports.exhibits import exhibits_of
from reports.page.drawing import to_svg
from reports.paper import findings
from reports.paper.said import Said
from reports.series import method_look, method_name

HERE = Path(__file__).parent
MOST_ROWS = 200  # of a figure's numbers on the page; the file that goes with them has all
MOST_LETTERS = 200  # of a field that can be read
MOST_FILE = 400_000  # bytes of such a file inside the page
PIXELS = 170  # per inch, of what is too large as SVG


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What can be taken away: its number, printed name and colour."""

    number: int
    name: str
    colour: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """A figure or table on the page."""

    name: str
    title: str
    is_figure: bool
    caption: str
    shown: Markup
    numbers: Markup
    file: str
    n_rows: int


def page(table: TrialTable) -> str:
    """Return the page: HTML that needs no other file and no network."""
    arms = arms_of(table)
    items = _items(table, {arm.colour: arm.number for arm in arms})
    shelf = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    return shelf.get_template("page.html").render(
        info=table.info,
        title=table.info.question or table.info.name,
        found=style.found(table.info),
        metric=None if len(table.suggestions) else main_metric(table.info),
        units=units(table.info),
        answers=answers(table),
        arms=arms,
        figures=[item for item in items if item.is_figure],
        tables=[item for item in items if not item.is_figure],
        most=MOST_ROWS,
        look=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        acts=Markup((HERE / "page.js").read_text(encoding="utf-8")),
    )


def answers(table: TrialTable) -> list[str]:
    """Return what the study's tests allow to be said, in sentences."""
    if len(table.suggestions):
        return [summary(table)]
    said = Said(table.info)
    told = [*findings.extremes(table, said), findings.tally(table, said)]
    told += [*findings.each_arm(table, said), *findings.saved(table, said)]
    return [*told, *findings.references(table, said), *_elsewhere(table, said)]


def arms_of(table: TrialTable) -> list[Arm]:
    """Return the methods that have a colour of their own, in the order of the legend."""
    if len(table.suggestions):
        return []
    info = table.info
    colours = {
        str(method): style.look(method_look(info, method)).colour.lower()
        for method in info.factor("method").values
    }
    times = Counter(colours.values())
    own = [method for method, colour in colours.items() if times[colour] == 1]
    return [
        Arm(number=number, name=method_name(info, method), colour=colours[method])
        for number, method in enumerate(own)
        if method not in info.references
    ]


def _elsewhere(table: TrialTable, said: Said) -> list[str]:
    """Return a sentence per unseen cohort on each arm at all labels, with its difference."""
    rows = table.unseen[table.unseen["metric"] == table.info.main_metric]
    rows = rows[rows["ensemble"].notna() & rows["difference"].notna()]
    told = []
    for _, row in rows.iterrows():
        ends = row.rename({"difference_low": "l", "difference_high": "h"})
        gain = said.ends(ends, ("difference", "l", "h"), "{:+.3f}", "unseen")
        method = method_name(table.info, row["method"])
        told.append(
            f"On {row['unseen']}, from which nothing was learned, {method} reached"
            f" {said.score(row, 'unseen')}, a difference to the control of {gain}."
        )
    return told


def _items(table: TrialTable, arms: dict[str, int]) -> list[Item]:
    found, counts = list[Item](), Counter[bool]()
    for exhibit in exhibits_of(table.info):
        if exhibit.refusal(table) is None:
            is_figure = isinstance(exhibit, FigureExhibit)
            counts[is_figure] += 1
            word = "Figure" if is_figure else "Table"
            found.append(_item(exhibit, table, arms, f"{word} {counts[is_figure]}"))
    return found


def _item(exhibit: Exhibit, table: TrialTable, arms: dict[str, int], title: str) -> Item:
    frame = exhibit.frame(table)
    caption = exhibit.caption(frame, table.info)
    shown = ""
    if isinstance(exhibit, TableExhibit):
        grid = exhibit.grid(frame, table.info)
        shown = tabular.to_html(grid)
        shown = f'<div class="prose">{shown}</div>' if grid.prose else shown
    elif isinstance(exhibit, FigureExhibit):
        shown = _drawn(exhibit, frame, table, arms)
    csv = frame.to_csv(index=False, lineterminator="\n").encode()
    return Item(
        name=exhibit.name,
        title=title,
        is_figure=isinstance(exhibit, FigureExhibit),
        caption=caption,
        shown=Markup(shown),
        numbers=Markup(_numbers(frame)),
        file=base64.b64encode(csv).decode() if len(csv) <= MOST_FILE else "",
        n_rows=len(frame),
    )


def _drawn(
    exhibit: FigureExhibit, frame: pd.DataFrame, table: TrialTable, arms: dict[str, int]
) -> str:
    with style.ink():
        figure = exhibit.draw(frame, table.info, "double")
        svg = to_svg(figure, exhibit.name, arms)
        if svg is not None:
            return svg
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=PIXELS, metadata={"Software": None})
    picture = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{picture}">'


def _numbers(frame: pd.DataFrame) -> str:
    """Return the first rows of a frame as a table, numbers to four digits; pictures are no text."""
    rows = frame.head(MOST_ROWS)
    long = [name for name in rows if rows[name].astype(str).str.len().max() > MOST_LETTERS]
    shown: str = rows.drop(columns=long).to_html(
        index=False, border=0, na_rep="", float_format=lambda x: f"{x:.4g}"
    )
    return shown


def write(table: TrialTable, path: Path) -> int:
    """Write the page and return its size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(table), encoding="utf-8")
    return path.stat().st_size
