"""Files on disk: the same bytes every time, print sizes, embedded fonts, nothing stale."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest

from ablations.table import TableError, TrialTable
from reports.build import Target, listing, summary, write

MakeTable = Callable[..., TrialTable]


@pytest.fixture(scope="module")
def written(
    make_table: MakeTable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Path]]:
    """Return a folder with the gain curve and the main table, and the paths that were yielded."""
    folder = tmp_path_factory.mktemp("report")
    target = Target(figures=folder, tables=folder)
    return folder, list(write(make_table(), target, ["gain_curve", "main_table"]))


def test_every_file_that_is_named_was_written(written: tuple[Path, list[Path]]) -> None:
    folder, paths = written
    assert sorted(paths) == sorted(folder.iterdir())
    assert {path.name for path in paths} == {
        "gain_curve.csv",
        "gain_curve.txt",
        *(f"gain_curve_{w}.{kind}" for w in ("single", "double") for kind in ("pdf", "png")),
        *(f"main_table.{kind}" for kind in ("csv", "md", "tex", "html")),
    }


def test_the_same_table_gives_the_same_bytes_whatever_the_user_likes(
    written: tuple[Path, list[Path]], make_table: MakeTable, tmp_path: Path
) -> None:
    target = Target(figures=tmp_path, tables=tmp_path)
    with mpl.rc_context({"font.size": 20, "pdf.fonttype": 3, "axes.grid": False}):
        paths = list(write(make_table(), target, ["gain_curve", "main_table"]))
    for path in paths:
        assert path.read_bytes() == (written[0] / path.name).read_bytes(), path.name


@pytest.mark.parametrize(("width", "inches"), [("single", 3.5), ("double", 7.16)])
def test_figures_have_the_width_of_a_column(
    written: tuple[Path, list[Path]], width: str, inches: float
) -> None:
    pdf = (written[0] / f"gain_curve_{width}.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * inches, abs=0.01)
    png = (written[0] / f"gain_curve_{width}.png").read_bytes()
    assert struct.unpack(">I", png[16:20])[0] == round(300 * inches)


def test_fonts_are_embedded_as_outlines_and_no_date_is_written(
    written: tuple[Path, list[Path]],
) -> None:
    pdf = (written[0] / "gain_curve_single.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf


def test_the_frame_beside_a_table_holds_unrounded_scores(
    written: tuple[Path, list[Path]], make_table: MakeTable
) -> None:
    saved = pd.read_csv(written[0] / "main_table.csv").set_index("cell")["estimate"]
    cells = make_table().cells
    own = cells[cells["metric"] == "auc"].set_index("cell")["estimate"]
    pd.testing.assert_series_equal(saved.sort_index(), own.sort_index(), check_exact=True)


def test_a_table_of_missing_trials_does_not_outlive_them(
    make_table: MakeTable, tmp_path: Path
) -> None:
    target = Target(figures=None, tables=tmp_path)
    list(write(make_table(lost_trials=(3,)), target))
    assert "NotFiniteError" in (tmp_path / "missing.md").read_text()
    list(write(make_table(), target))
    left = {path.name for path in tmp_path.iterdir()}
    assert {"main_table.csv", "main_table.md", "main_table.tex"} <= left
    assert not [name for name in left if name.startswith("missing")]


def test_an_unknown_exhibit_is_answered_with_the_nearest(
    make_table: MakeTable, tmp_path: Path
) -> None:
    target = Target(figures=tmp_path, tables=tmp_path)
    with pytest.raises(TableError, match="did you mean 'label_curve'"):
        list(write(make_table(), target, ["lable_curve"]))


def test_an_exhibit_that_a_study_cannot_have_is_refused_with_the_reason(
    make_table: MakeTable, tmp_path: Path
) -> None:
    table = make_table(fractions=(0.1,))
    reasons = dict(listing(table))
    assert reasons["factor_method"] is None
    assert reasons["label_curve"] == "needs two or more label fractions, the study has 1"
    with pytest.raises(TableError, match="needs two or more label fractions"):
        list(write(table, Target(figures=tmp_path, tables=tmp_path), ["label_curve"]))


def test_another_metric_is_shown_with_its_own_direction(make_table: MakeTable) -> None:
    table = make_table().with_main_metric("brier")
    assert "Brier score" in summary(table)
    with pytest.raises(TableError, match="main metric 'dice'"):
        table.with_main_metric("dice")


def test_the_summary_has_one_line_per_cell_and_names_missing_ones(make_table: MakeTable) -> None:
    table = make_table(lost_cells=(1,), factors={"mask_ratio": 2}, methods=("no_pretext", "mae"))
    lines = summary(table).splitlines()
    assert lines[0] == "label_fraction: 84 of 90 trials"
    assert len(lines) == 2 + 15 + 1
    assert sum("missing" in line and "0/6" in line for line in lines) == 1
