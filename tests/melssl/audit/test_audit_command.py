"""python -m melssl audit: what it prints, where it writes, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from melssl.__main__ import main


def _pixels(seed: int) -> Image.Image:
    """A soft picture without symmetry, so that each of its orientations is another one."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8))
    return coarse.resize((160, 120), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(3))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with four images of three patients, nothing alike; outputs go beside it."""
    monkeypatch.setenv("MELSSL_OUT", str(tmp_path / "out"))
    folder = tmp_path / "data"
    folder.mkdir()
    rows = ["image,person,grade,part"]
    for i, (person, part) in enumerate((("P1", "t"), ("P1", "t"), ("P2", "t"), ("P3", "v"))):
        _pixels(i).save(folder / f"i{i}.png")
        rows.append(f"i{i}.png,{person},{i % 2},{part}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


def _audit(root: Path, *more: str) -> int:
    options = ("--set", "patient_column=person", "--workers", "1")
    start = ("audit", "--source", "csv_folder", "--data-root", str(root))
    return main([*start, *options, *more])


def test_a_clean_cohort_exits_with_0_and_leaves_a_report(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _audit(root, "--images", "bytes", "--set", "split_column=part") == 0
    report = root.parent / "out/audits/csv_folder/summary.md"
    assert "no two patients are linked" in report.read_text()
    assert f"report: {report}" in capsys.readouterr().out


def test_a_turned_copy_under_another_patient_is_found_and_exits_with_1(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = Image.open(root / "i0.png").transpose(Image.Transpose.ROTATE_90)
    turned.save(root / "i3.jpg", quality=90)
    table = (root / "index.csv").read_text()
    (root / "index.csv").write_text(table.replace("i3.png", "i3.jpg"))
    folder = root.parent / "elsewhere"
    assert _audit(root, "--out", str(folder)) == 1
    assert "P1 + P3 (near)" in capsys.readouterr().out
    assert json.loads((folder / "audit.json").read_text())["units"] == {
        "P1": "P1+P3",
        "P3": "P1+P3",
    }
    assert (folder / "pictures/group_001.png").exists()


def test_an_official_split_that_shares_a_patient_exits_with_1(root: Path) -> None:
    text = (root / "index.csv").read_text()
    (root / "index.csv").write_text(text.replace("i1.png,P1,1,t", "i1.png,P1,1,v"))
    assert _audit(root, "--images", "off", "--set", "split_column=part") == 1
    assert _audit(root, "--images", "off") == 0


def test_an_external_cohort_is_compared(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = root.parent / "more" / "any"
    more.mkdir(parents=True)
    (more / "x.png").write_bytes((root / "i2.png").read_bytes())
    _pixels(9).save(more / "y.png")
    options = ("--external-source", "image_folder", "--external-root", str(more.parent))
    assert _audit(root, "--images", "bytes", *options) == 1
    assert "group 1: P2 + external:any/x.png (bytes)" in capsys.readouterr().out
    pattern = ("--external-set", "patient_pattern=^([xy])")
    assert _audit(root, "--images", "bytes", *options, *pattern) == 1
    assert "group 1: P2 + external:x (bytes)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--set", "patient_colum=x"), "did you mean 'patient_column'"),
        (("--workers", "0"), "expected a whole number from 1"),
        (("--external-root", "."), "need --external-source"),
        (("--similarity", "3"), "similarity"),
        (("--external-source", "ham1000"), "did you mean 'ham10000'"),
    ],
)
def test_a_mistake_exits_with_2_and_says_what_to_do(
    options: tuple[str, ...], text: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _audit(root, *options) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("audit",), ("audit", "--source", "x", "--imag", "off")])
def test_the_command_line_is_strict(options: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2
