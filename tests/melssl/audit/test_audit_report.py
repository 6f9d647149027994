"""The report of an audit: every link in a table, every group in a picture, plain sentences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import melssl.audit.report
from melssl.audit.audit import Audit, AuditSpec, audit
from melssl.audit.contact_sheet import ALARM, NOTHING, TILE_PX, contact_sheet
from melssl.audit.report import write_report
from melssl.data.cohort import Cohort

Made = Callable[..., Cohort]  # the fixture of conftest.py
BYTES = AuditSpec(images="bytes")
ROWS = [
    *[("a", "P1", 0, 1, "train"), ("b", "P2", 1, 1, "test"), ("c", "P3", 0, 2, "train")],
    *[("d", "P3", 0, 3, "test"), ("e", "P4", 0, 4, "train"), ("f", "P4", 0, 4, "train")],
]


def _report(cohort: Cohort, folder: Path, spec: AuditSpec = BYTES) -> Audit:
    found = audit(cohort, spec)
    write_report(found, folder, cohort.root, progress=False)
    return found


def test_every_link_has_its_row_with_both_sides(made: Made, tmp_path: Path) -> None:
    _report(made(*ROWS), tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/groups.csv", keep_default_na=False)
    assert table["group"].tolist() == [1, 2]
    assert table["kind"].tolist() == ["bytes", "patient"]
    first = table.iloc[0]
    assert (first["sample_a"], first["sample_b"]) == ("a", "b")
    assert (first["patient_a"], first["patient_b"]) == ("P1", "P2")
    assert (first["label_a"], first["label_b"]) == ("benign", "melanoma")
    assert (first["split_a"], first["split_b"]) == ("train", "test")
    assert (first["path_a"], first["cohort_b"]) == ("a.png", "cohort")
    within = pd.read_csv(tmp_path / "out/redundant.csv")
    assert within[["sample_a", "sample_b"]].to_numpy().tolist() == [["e", "f"]]


def test_the_saved_audit_lies_beside_its_tables(made: Made, tmp_path: Path) -> None:
    found = _report(made(*ROWS), tmp_path)
    assert Audit.load(tmp_path / "audit.json") == found


def test_the_summary_says_what_was_found_and_what_follows(made: Made, tmp_path: Path) -> None:
    _report(made(*ROWS), tmp_path)
    text = (tmp_path / "summary.md").read_text()
    for part in (
        "6 samples of 4 patients compared by the bytes of 6 files",
        "2 patients are merged into 1 (1 byte-identical pair)",
        "  - group 1: P1 + P2 (bytes)",
        "| bytes | files that hold the same bytes | 2 | 1 |",
        "2 groups straddle official splits (test, train)",
        "a (P1) is benign, b (P2) is melanoma: one picture by bytes",
        "become one before folds",
    ):
        assert part in text


def test_a_summary_without_merging_says_that_a_study_refuses(made: Made, tmp_path: Path) -> None:
    _report(made(*ROWS), tmp_path, BYTES.replace(merge=False))
    text = (tmp_path / "summary.md").read_text()
    assert "a study refuses to start" in text
    assert "become one before folds" not in text


def test_a_clean_cohort_has_a_report_that_says_so(made: Made, tmp_path: Path) -> None:
    _report(made(("a", "P1", 0, 1), ("b", "P2", 1, 2)), tmp_path)
    assert "Nothing has to be merged" in (tmp_path / "summary.md").read_text()
    assert len(pd.read_csv(tmp_path / "groups.csv")) == 0
    assert list((tmp_path / "pictures").iterdir()) == []


def test_each_group_has_a_picture_and_an_older_ones_are_gone(made: Made, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/group_007.png").write_bytes(b"of an earlier audit")
    _report(made(*ROWS), tmp_path)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["group_001.png", "group_002.png"]


def test_a_capped_report_says_what_it_does_not_show(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(melssl.audit.report, "MOST_GROUPS", 1)
    _report(made(*ROWS), tmp_path)
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert "the first 1 of 2 groups" in (tmp_path / "summary.md").read_text()


def test_an_external_file_is_looked_for_in_its_own_folder(made: Made, tmp_path: Path) -> None:
    cohort, others = made(("a", "P1", 0, 1)), made(("x", "Q", -1, 1), name="other")
    found = audit(cohort, BYTES, others)
    write_report(found, tmp_path / "out", cohort.root, others.root, progress=False)
    sheet = Image.open(tmp_path / "out/pictures/group_001.png")
    tiles = [sheet.crop((x, 40, x + 100, 140)) for x in (40, 40 + TILE_PX + 10)]
    assert tiles[0].tobytes() == tiles[1].tobytes()
    assert "external" in (tmp_path / "out/groups.csv").read_text()


def test_a_sheet_shows_pictures_greys_what_is_missing_and_marks_conflicts(
    made: Made, tmp_path: Path
) -> None:
    cohort = made(*ROWS)
    group = audit(cohort, BYTES).groups[0]
    files = [cohort.root / "a.png", cohort.root / "not there.png"]
    sheet = contact_sheet("title", group.members, files, group.links)
    colours = {colour for _, colour in sheet.getcolors(1 << 20) or []}
    assert Image.new("RGB", (1, 1), NOTHING).getpixel((0, 0)) in colours
    assert Image.new("RGB", (1, 1), ALARM).getpixel((0, 0)) in colours
    assert sheet.width == 10 + 3 * (TILE_PX + 10)


def test_a_damaged_file_does_not_stop_a_sheet(made: Made) -> None:
    cohort = made(*ROWS)
    group = audit(cohort, BYTES).groups[0]
    (cohort.root / "a.png").write_bytes(b"no picture")
    files = [cohort.root / member.path for member in group.members]
    assert contact_sheet("title", group.members, files, group.links).height > TILE_PX
