"""The promised commands: from the root and from their own folder, quick to help, clear to fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.table import TrialTable
from reports.make_figures import main, make_report_files
from reports.studies import NoStudyError, find_study, named

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(
    tmp_path: Path, make_table: Callable[..., TrialTable], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return the folder of the only collected study."""
    monkeypatch.setenv("MELSSL_OUT", str(tmp_path / "out"))
    folder = tmp_path / "out" / "studies" / "tiny"
    make_table(fractions=(0.1,), folds=1, draws=1).save(folder / "table")
    return folder


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, env=os.environ
    )


@pytest.mark.parametrize("script", ["make_figures.py", "make_tables.py"])
def test_the_script_runs_from_its_own_folder(study: Path, script: str) -> None:
    done = run([script, "--only", "main_table"], ROOT / "reports")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert str(study / "tables" / "main_table.tex") in done.stdout
    assert "2 of 2 trials" in done.stdout


def test_the_script_runs_from_the_root(study: Path) -> None:
    done = run(["reports/make_figures.py", "--list"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "label_curve" in done.stdout
    assert not (study / "figures").exists()


@pytest.mark.parametrize("script", ["make_figures", "make_tables"])
def test_help_needs_no_heavy_library(script: str) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['{script}.py', '--help']\n"
        f"try: runpy.run_path('{script}.py', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'pandas', 'numpy', 'matplotlib', 'torch', 'melssl'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = run(["-c", code], ROOT / "reports")
    assert done.returncode == 0, done.stderr
    assert "--study" in done.stdout


def test_without_a_study_the_command_says_what_to_run_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MELSSL_OUT", str(tmp_path))
    assert main("figures", []) == 1
    assert "`make demo` or `python -m ablations run` first" in capsys.readouterr().err


def test_a_damaged_table_ends_in_a_message_not_a_traceback(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study / "table" / "cells.csv").write_text("cell\n")
    assert main("tables", []) == 1
    assert "cells.csv is not the file that study.json describes" in capsys.readouterr().err


def test_figures_go_to_out_and_tables_stay_with_the_study(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "paper"
    assert main("figures", ["--study", "tiny", "--out", str(out), "--only", "factor_method"]) == 0
    assert (out / "factor_method_single.pdf").is_file()
    assert not (study / "figures").exists()


def test_another_metric_has_its_own_folder(study: Path) -> None:
    files = make_report_files(study, only=["main_table"], metric="brier")
    assert {path.parent for path in files} == {study / "tables" / "brier"}


def test_the_last_collected_study_is_found_and_every_other_by_name_or_folder(
    study: Path, make_table: Callable[..., TrialTable]
) -> None:
    newer = study.with_name("another")
    make_table(fractions=(0.1,), folds=1, draws=1).save(newer / "table")
    os.utime(newer / "table" / "study.json", (2e9, 2e9))
    assert find_study(None) == newer
    for name in ("tiny", str(study), str(study / "table")):
        assert find_study(name) == study
    with pytest.raises(NoStudyError, match=r"found: tiny, another"):
        find_study("tinny")


def test_the_home_folder_may_be_written_where_reports_go() -> None:
    assert named("~/page.html") == Path.home() / "page.html"
    assert named("~no body") == Path("~no body")
