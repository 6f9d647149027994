"""Pictures beside a study: drawn where they belong to it, left out where not or not wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from ablations.table import TrialTable
from reports import style
from reports.build import Target, listing, write
from reports.command import load_table, make_report_files
from reports.exhibits.embedding_map import EmbeddingMap
from reports.exhibits.pictures import Pictures, shared_once, with_arms
from reports.tiles import draw_tiles

Make = Callable[..., TrialTable]
Look = Callable[[TrialTable], TrialTable]


@pytest.fixture(scope="module")
def table(make_table: Make, pictured: Look) -> TrialTable:
    return pictured(make_table(fractions=(0.1, 1.0), draws=1))


def test_every_tile_names_its_arm_and_the_weights_that_made_it(table: TrialTable) -> None:
    frame = Pictures(kind="grad_cam").frame(table)
    assert list(dict.fromkeys(frame["panel"])) == ["no pretraining (control)", "SimCLR"]
    assert table.gallery is not None
    assert set(frame["weights"]) == set(table.gallery.encoders["weights"])
    for stamp, weights in zip(frame["stamp"], frame["weights"], strict=True):
        assert stamp == f"weights {weights[:12]}"


def test_the_image_itself_is_drawn_once(table: TrialTable) -> None:
    assert table.gallery is not None
    rows = with_arms(table.gallery.kinds["grad_cam"], table)
    once = shared_once(rows)
    given = once[~once["by_weights"]]
    assert len(given) == 6 < len(rows[~rows["by_weights"]])
    assert once["by_weights"].sum() == rows["by_weights"].sum()


def test_arms_that_saw_the_same_views_share_a_block_with_both_stamps(table: TrialTable) -> None:
    frame = Pictures(kind="views").frame(table)
    assert set(frame["panel"]) == {"no pretraining (control); SimCLR"}
    (stamp,) = set(frame["stamp"])
    assert stamp == "weights 0a0a0a0a0a0a; 1a1a1a1a1a1a"


def test_pictures_of_other_encoders_are_refused(table: TrialTable) -> None:
    assert table.gallery is not None
    encoders = table.gallery.encoders.replace({"encoder": {"000": "older"}})
    kinds = {k: f.replace({"encoder": {"000": "older"}}) for k, f in table.gallery.kinds.items()}
    stale = replace(table, gallery=replace(table.gallery, encoders=encoders, kinds=kinds))
    reason = Pictures(kind="views").refusal(stale)
    assert reason is not None
    assert "of other encoders" in reason


@pytest.mark.parametrize(("rows_alike", "n_drawn"), [(True, 2), (False, 4)])
def test_samples_are_left_out_before_tiles_are_narrower_than_their_numbers(
    table: TrialTable, rows_alike: bool, n_drawn: int
) -> None:
    tile = Pictures(kind="grad_cam").frame(table).iloc[0].to_dict()
    tiles = [
        tile | {"panel": f"arm {arm}", "row": row, "column": column, "value": 0.5, "heat": ""}
        for arm in range(6)
        for row in range(4)
        for column in range(8)
    ]
    with style.ink():
        figure = draw_tiles(pd.DataFrame(tiles), table.info, "double", rows_alike=rows_alike)
    assert len(figure.axes[0].images) == 6 * n_drawn * 8


def test_a_map_is_refused_where_nothing_could_be_coloured_apart(table: TrialTable) -> None:
    assert table.gallery is not None
    points = table.gallery.kinds["embedding_map"]
    alike = points.assign(outcome="volume", camera="one", patient=points["sample_id"])
    kinds = table.gallery.kinds | {"embedding_map": alike}
    plain = replace(table, gallery=replace(table.gallery, kinds=kinds))
    assert EmbeddingMap().refusal(table) is None
    assert "one class" in str(EmbeddingMap().refusal(plain))


def test_damaged_pictures_leave_the_other_figures_alone(table: TrialTable, tmp_path: Path) -> None:
    assert table.gallery is not None
    table.save(tmp_path / "table")
    table.gallery.save(tmp_path / "pictures")
    (tmp_path / "pictures" / "views.csv").write_text("encoder\n")
    loaded = load_table(tmp_path)
    can = dict(listing(loaded))
    assert "differs from its digest" in loaded.gallery_fault
    assert can["views"] == loaded.gallery_fault
    assert can["label_curve"] is None


def test_without_pictures_no_patient_is_drawn_and_earlier_files_go(
    table: TrialTable, tmp_path: Path
) -> None:
    assert table.gallery is not None
    table.save(tmp_path / "table")
    table.gallery.save(tmp_path / "pictures")
    files = make_report_files(tmp_path, only=["grad_cam"])
    assert {path.name for path in files} >= {"grad_cam_single.pdf", "grad_cam.csv"}
    plain = load_table(tmp_path, pictures=False)
    assert dict(listing(plain))["grad_cam"] is not None
    next(write(plain, Target(figures=tmp_path / "figures", tables=None)))  # before any is drawn
    assert not list((tmp_path / "figures").glob("grad_cam*"))
