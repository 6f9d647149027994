"""One contract over every exhibit and many shapes of study."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from ablations.table import TrialTable
from reports import style, tabular
from reports.exhibit import FigureExhibit, TableExhibit
from reports.exhibits import EXHIBITS, exhibits_of

MASKED = {"methods": ("no_pretext", "mae"), "factors": {"mask_ratio": 4}}
STUDIES: Mapping[str, Mapping[str, object]] = {
    "two methods": {},
    "seven methods, a cell and a trial missing": {
        "methods": ("no_pretext", "simclr", "mae", "dino", "byol", "rotation", "vicreg"),
        "lost_cells": (12,),
        "lost_trials": (100,),
    },
    "mask ratio, control missing": {
        **MASKED,
        "fractions": (0.01, 0.1, 1.0),
        "lost_cells": (2, 5),
        "lost_trials": (20,),
    },
    "one of everything": {"methods": ("mae",), "fractions": (0.1,), "folds": 1, "control": None},
    "one fraction, no interval": {
        "methods": ("no_pretext", "simclr", "mae"),
        "fractions": (0.1,),
        "folds": 1,
        "with_intervals": False,
        "higher_is_better": False,
    },
    "protocols, seven budgets": {
        "fractions": (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0),
        "factors": {"protocol": 3},
    },
    "names on the axis": {"fractions": (0.1, 1.0), "factors": {"backbone": 4}, "lost_cells": (2,)},
}


@dataclass(frozen=True)
class Page:
    """A drawn exhibit and what it was drawn from."""

    exhibit: FigureExhibit
    frame: pd.DataFrame
    table: TrialTable
    figure: Figure


@pytest.fixture(scope="module", params=list(STUDIES))
def table(request: pytest.FixtureRequest, make_table: Callable[..., TrialTable]) -> TrialTable:
    return make_table(**STUDIES[request.param])


@pytest.fixture(scope="module", params=list(style.WIDTHS))
def pages(request: pytest.FixtureRequest, table: TrialTable) -> list[Page]:
    """Return every figure of a study at one width, drawn once for all tests."""
    made = []
    for exhibit in exhibits_of(table.info):
        if isinstance(exhibit, FigureExhibit) and exhibit.needs(table) is None:
            frame = exhibit.frame(table)
            figure = drawn(exhibit, frame, table, request.param)
            figure.draw_without_rendering()
            made.append(Page(exhibit, frame, table, figure))
    return made


def drawn(exhibit: FigureExhibit, frame: pd.DataFrame, table: TrialTable, width: str) -> Figure:
    with style.ink():
        return exhibit.draw(frame, table.info, width)


def pixels(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw", dpi=40)
    return buffer.getvalue()


def texts(figure: Figure) -> list[Text]:
    """Return every text that is printed, tick labels inside the view too."""
    found = [*figure.texts, *(text for key in figure.legends for text in key.get_texts())]
    for axes in figure.axes:
        found += [*axes.texts, axes.title]
        for ticks, (low, high) in (
            (axes.xaxis.get_major_ticks(), axes.get_xlim()),
            (axes.yaxis.get_major_ticks(), axes.get_ylim()),
        ):
            found += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def test_every_text_of_a_figure_is_on_the_page(pages: list[Page]) -> None:
    for page in pages:
        paper = page.figure.bbox.padded(1)
        for text in texts(page.figure):
            box = text.get_window_extent()
            inside = (
                paper.x0 <= box.x0,
                box.x1 <= paper.x1,
                paper.y0 <= box.y0,
                box.y1 <= paper.y1,
            )
            assert all(inside), f"{page.exhibit.name}: {text.get_text()!r} {inside}"


def test_no_two_texts_of_a_figure_overlap(pages: list[Page]) -> None:
    for page in pages:
        upright = [text for text in texts(page.figure) if text.get_rotation() in (0, 90)]
        boxes = [(text.get_text(), text.get_window_extent().padded(-2)) for text in upright]
        for index, (name, box) in enumerate(boxes):
            clash = [other for other, beside in boxes[:index] if box.overlaps(beside)]
            assert not clash, f"{page.exhibit.name}: {name!r} overlaps {clash}"


def test_every_figure_is_stamped_with_its_origin(pages: list[Page]) -> None:
    for page in pages:
        info = page.table.info
        stamp = " ".join(text.get_text() for text in page.figure.texts)
        assert f"{info.n_finished} of {info.n_planned} trials" in stamp
        for key in ("study_key", "commit", "numbers_version", "cohort_digest"):
            assert str(info.origin[key])[:12] in stamp


def test_every_panel_of_a_figure_shows_something(pages: list[Page]) -> None:
    for page in pages:
        for axes in page.figure.axes:
            assert any(len(line.get_xdata()) for line in axes.lines), page.exhibit.name


@pytest.mark.parametrize("study", ["mask ratio, control missing", "one fraction, no interval"])
def test_a_figure_is_drawn_from_its_saved_frame_alone(
    study: str, make_table: Callable[..., TrialTable], tmp_path: Path
) -> None:
    table = make_table(**STUDIES[study])
    for exhibit in exhibits_of(table.info):
        if isinstance(exhibit, FigureExhibit) and exhibit.needs(table) is None:
            frame = exhibit.frame(table)
            frame.to_csv(tmp_path / "frame.csv", index=False)
            saved = pd.read_csv(tmp_path / "frame.csv")
            direct, again = (drawn(exhibit, rows, table, "single") for rows in (frame, saved))
            assert pixels(again) == pixels(direct), exhibit.name


def test_every_number_of_a_printed_table_is_in_its_frame(table: TrialTable) -> None:
    exhibit = next(e for e in exhibits_of(table.info) if e.name == "main_table")
    assert isinstance(exhibit, TableExhibit)
    frame = exhibit.frame(table)
    scores = ["estimate", "low", "high", "difference", "difference_low", "difference_high"]
    known = {f"{value:.3f}" for value in frame[scores].to_numpy().flat}
    printed = tabular.to_markdown(exhibit.grid(frame, table.info), "").replace("−", "-")
    numbers = set(re.findall(r"-?\d+\.\d{3}", printed))
    assert numbers <= known
    assert len(numbers) > 0
    counts = set(re.findall(r"(\d+) of (\d+) trials", printed))
    pairs = zip(frame["n_trials"].astype(str), frame["n_planned"].astype(str), strict=True)
    assert counts <= set(pairs)


def test_every_cell_without_a_result_is_printed_as_missing(table: TrialTable) -> None:
    exhibit = next(e for e in exhibits_of(table.info) if e.name == "main_table")
    assert isinstance(exhibit, TableExhibit)
    frame = exhibit.frame(table)
    printed = tabular.to_markdown(exhibit.grid(frame, table.info), "")
    lost = set(table.missing["cell"]) - set(table.cells["cell"])
    assert set(frame.loc[frame["estimate"].isna(), "cell"]) == lost
    assert printed.count("missing<br>0 of") == len(lost)


def test_latex_is_balanced_and_every_row_has_every_column(table: TrialTable) -> None:
    for exhibit in exhibits_of(table.info):
        if not isinstance(exhibit, TableExhibit) or exhibit.needs(table) is not None:
            continue
        grid = exhibit.grid(exhibit.frame(table), table.info)
        lines = tabular.to_latex(grid, "a_b 5 % & c", exhibit.name).splitlines()
        bare = re.sub(r"\\[{}]", "", "\n".join(lines))
        assert bare.count("{") == bare.count("}")
        rows = [line for line in lines if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(grid.heads) - 1}
        assert not any(re.search(r"(?<!\\)[%_#]", line) for line in lines[1:] if "tab:" not in line)


def test_every_caption_says_how_many_trials_were_found_and_where_from(table: TrialTable) -> None:
    for exhibit in exhibits_of(table.info):
        if exhibit.needs(table) is None:
            caption = exhibit.caption(exhibit.frame(table), table.info)
            assert f"{table.info.n_finished} of {table.info.n_planned}" in caption
            assert str(table.info.origin["study_key"])[:12] in caption


def test_every_exhibit_is_drawn_for_some_study(make_table: Callable[..., TrialTable]) -> None:
    seen = {
        type(exhibit)
        for study in STUDIES.values()
        for table in [make_table(**study)]
        for exhibit in exhibits_of(table.info)
        if exhibit.needs(table) is None
    }
    assert seen == set(EXHIBITS)
