"""One contract over every exhibit and many shapes of study."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from ablations.table import TrialTable
from reports import style, tabular
from reports.exhibit import FigureExhibit, TableExhibit
from reports.exhibits import EXHIBITS, exhibits_of

MASKED = {"methods": ("no_pretext", "mae"), "factors": {"mask_ratio": 3}}
STUDIES: Mapping[str, Mapping[str, object]] = {
    "two methods and two references": {
        "methods": ("no_pretext", "simclr", "metadata_clinical", "metadata_all"),
        "seeds": 2,
        "prevalence": 0.4,
    },
    "seven methods, a cell and a trial missing": {
        "methods": (
            *("no_pretext", "simclr", "mae", "dino", "byol", "rotation", "vicreg"),
            "metadata_clinical",
        ),
        "lost_cells": (12, 14),
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
        "factors": {"protocol": 2},
        "folds": 2,
    },
    "two further factors": {
        "methods": ("no_pretext", "mae", "metadata_clinical"),
        "factors": {"protocol": 2, "pretrain_epochs": 2},
        "fractions": (0.1, 1.0),
        "folds": 1,
        "draws": 1,
    },
    "names on the axis, masks, numbers of volumes": {
        "fractions": (6, 24),
        "factors": {"backbone": 4},
        "lost_cells": (2,),
        "structures": ("anterior", "posterior"),
    },
}


PICTURED = ("two methods and two references",)
SEARCH = "a search"


@dataclass(frozen=True)
class Page:
    """A drawn exhibit and what it was drawn from."""

    exhibit: FigureExhibit
    frame: pd.DataFrame
    table: TrialTable
    figure: Figure


Studies = Mapping[str, TrialTable]


@pytest.fixture(scope="module")
def studies(
    make_table: Callable[..., TrialTable],
    search_table: TrialTable,
    pictured: Callable[[TrialTable], TrialTable],
) -> Studies:
    """Return the table of every study, made once."""
    made = {name: make_table(**made) for name, made in STUDIES.items()}
    looked = {name: pictured(made[name]) for name in PICTURED}
    return made | looked | {SEARCH: search_table}


@pytest.fixture(scope="module", params=[*STUDIES, SEARCH])
def table(request: pytest.FixtureRequest, studies: Studies) -> TrialTable:
    return studies[request.param]


@pytest.fixture(scope="module", params=list(style.WIDTHS))
def pages(request: pytest.FixtureRequest, table: TrialTable) -> list[Page]:
    """Return every figure of a study at one width, drawn once for all tests."""
    made = []
    for exhibit in exhibits_of(table.info):
        if isinstance(exhibit, FigureExhibit) and exhibit.refusal(table) is None:
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


NUMBER = re.compile(r"(?<![\w.])[−+]?\d+(?:\.\d+)?(?![\w.])")


def known_numbers(frame: pd.DataFrame) -> set[str]:
    """Return every number of a frame in every way that a table rounds it."""
    values = frame.select_dtypes(["number", "bool"]).to_numpy(float).ravel()
    values = np.unique(values[np.isfinite(values)])
    forms = ("{:.0f}", "{:.1f}", "{:.2f}", "{:.3f}", "{:.4f}", "{:+.3f}")
    known = {form.format(value).replace("-", "−") for value in values for form in forms}
    known |= {f"{100 * value:.{n}f}".replace("-", "−") for value in values for n in (0, 1)}
    times = frame.filter(like="seconds").to_numpy(float).ravel()
    known |= {f"{x / 60:.0f}" for x in times} | {f"{x / 3600:.1f}" for x in times}
    words = frame.select_dtypes(exclude=["number", "bool"]).astype(object).to_numpy().ravel()
    known |= {n for text in set(words) if isinstance(text, str) for n in NUMBER.findall(text)}
    return known | {"0.001"}  # the bound of a p-value


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
            has_lines = any(len(line.get_xdata()) for line in axes.lines)
            assert has_lines or axes.patches or axes.images, page.exhibit.name


@pytest.mark.parametrize(
    "study", ["two methods and two references", "one fraction, no interval", SEARCH]
)
def test_a_figure_is_drawn_from_its_saved_frame_alone(
    study: str, studies: Studies, tmp_path: Path
) -> None:
    table = studies[study]
    for exhibit in exhibits_of(table.info):
        if isinstance(exhibit, FigureExhibit) and exhibit.refusal(table) is None:
            frame = exhibit.frame(table)
            frame.to_csv(tmp_path / "frame.csv", index=False)
            saved = pd.read_csv(tmp_path / "frame.csv")
            direct, again = (drawn(exhibit, rows, table, "single") for rows in (frame, saved))
            assert pixels(again) == pixels(direct), exhibit.name


def test_every_number_of_a_printed_table_is_in_its_frame(table: TrialTable) -> None:
    exhibits = [e for e in exhibits_of(table.info) if e.refusal(table) is None]
    for exhibit in (e for e in exhibits if isinstance(e, TableExhibit)):
        frame = exhibit.frame(table)
        grid = exhibit.grid(frame, table.info)
        fields = [row[grid.n_labels :] or row for row in grid.rows]
        printed = [line for row in fields for entry in row for line in entry.lines]
        printed += grid.notes
        numbers = {n for line in printed for n in NUMBER.findall(line)}
        assert numbers <= known_numbers(frame), (exhibit.name, numbers - known_numbers(frame))
        assert numbers or exhibit.name == "missing", exhibit.name


def test_every_number_beside_a_forest_is_in_its_frame(pages: list[Page]) -> None:
    for page in pages:
        if page.exhibit.name in ("comparisons", "subgroups"):
            headings = set(page.frame["group"].astype(str))
            notes = [x.get_text() for axes in page.figure.axes for x in axes.texts]
            shown = [note for note in notes if note.replace("\n", " ") not in headings]
            numbers = {n for note in shown for n in NUMBER.findall(note)}
            assert numbers
            assert numbers <= known_numbers(page.frame), page.exhibit.name


# Places that arrange rows and fields, and say no number.
ARRANGED = {
    **dict.fromkeys(("comparisons", "subgroups", "camera", "search_importance"), "y"),
    "ranking": "y",
}


def drawn_numbers(page: Page, axes: Axes) -> Iterator[float]:
    """Yield what the artists of a panel draw in the units of its data."""
    arranged = "xy" if page.exhibit.name.startswith("matrix") else ARRANGED
    arranged = arranged if isinstance(arranged, str) else arranged.get(page.exhibit.name, "")
    for artist in (*axes.lines, *axes.collections, *axes.patches):
        across, up = artist.get_transform().contains_branch_seperately(axes.transData)
        points = corners(artist, axes)
        for is_data, column, name in ((across, 0, "x"), (up, 1, "y")):
            if is_data and name not in arranged and len(points):
                yield from points[:, column]


def corners(artist: Artist, axes: Axes) -> np.ndarray:
    """Return the points (n, 2) of a line, a band, a scatter or a rectangle."""
    if isinstance(artist, Line2D):
        return np.asarray(artist.get_xydata(), float)
    if isinstance(artist, PathCollection):
        return np.asarray(artist.get_offsets(), float)
    if isinstance(artist, Patch):
        return np.asarray(artist.get_patch_transform().transform(artist.get_path().vertices))
    assert isinstance(artist, Collection)
    return np.vstack([path.vertices for path in artist.get_paths()] or [np.empty((0, 2))])


def test_every_point_that_is_drawn_is_in_the_frame(pages: list[Page]) -> None:
    for page in pages:
        frame, info = page.frame, page.table.info
        held = frame.select_dtypes(["number", "bool"]).to_numpy(float).ravel()
        chance = info.metric(info.main_metric).chance or 0
        known = {f"{x:.9g}" for x in (*held, *-held, 0, 1, info.rope, -info.rope, chance)}
        for axes in page.figure.axes:
            shown = {f"{x:.9g}" for x in drawn_numbers(page, axes) if np.isfinite(x)}
            assert shown <= known, (page.exhibit.name, sorted(shown - known)[:5])


def test_every_number_that_is_written_into_a_panel_is_in_the_frame(pages: list[Page]) -> None:
    for page in pages:
        known = known_numbers(page.frame)
        for axes in page.figure.axes:
            shown = {n for text in axes.texts for n in NUMBER.findall(text.get_text())}
            assert shown <= known, (page.exhibit.name, shown - known)


@pytest.mark.parametrize("study", STUDIES)
def test_every_cell_without_a_result_is_printed_as_missing(study: str, studies: Studies) -> None:
    table = studies[study]
    exhibit = next(e for e in exhibits_of(table.info) if e.name == "main_table")
    assert isinstance(exhibit, TableExhibit)
    frame = exhibit.frame(table)
    printed = tabular.to_markdown(exhibit.grid(frame, table.info), "")
    lost = set(table.missing["cell"]) - set(table.cells["cell"])
    assert set(frame.loc[frame["estimate"].isna(), "cell"]) == lost
    assert printed.count("missing<br>0 of") == len(lost)


def test_latex_is_balanced_and_every_row_has_every_column(table: TrialTable) -> None:
    for exhibit in exhibits_of(table.info):
        if not isinstance(exhibit, TableExhibit) or exhibit.refusal(table) is not None:
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
        if exhibit.refusal(table) is None:
            caption = exhibit.caption(exhibit.frame(table), table.info)
            assert f"{table.info.n_finished} of {table.info.n_planned}" in caption
            assert str(table.info.origin["study_key"])[:12] in caption


def test_every_exhibit_is_drawn_for_some_study(studies: Studies) -> None:
    seen = {
        type(exhibit)
        for table in studies.values()
        for exhibit in exhibits_of(table.info)
        if exhibit.refusal(table) is None
    }
    assert seen == set(EXHIBITS)


def test_a_study_without_the_newer_frames_is_told_why_it_cannot_have_an_exhibit(
    studies: Studies,
) -> None:
    table = studies["one fraction, no interval"]
    reasons = {e.name: e.refusal(table) for e in exhibits_of(table.info)}
    for name in ("comparisons", "subgroups_table", "reliability", "pooled", "encoders"):
        assert reasons[name], name
    assert reasons["confounders"] == (
        "the cohort has no camera column, or one camera only, and no metadata reference ran"
    )


def test_another_metric_is_shown_or_refused_in_words(studies: Studies) -> None:
    table = studies["two methods and two references"].with_main_metric("brier")
    shown = {e.name for e in exhibits_of(table.info) if e.refusal(table) is None}
    assert {"label_curve", "gain_curve", "confounders", "calibration"} <= shown
    assert "comparisons" not in shown
    for exhibit in (e for e in exhibits_of(table.info) if e.name in shown):
        assert "ROC AUC minus" not in exhibit.caption(exhibit.frame(table), table.info)
