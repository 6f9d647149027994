"""The paper: every number was kept, wording follows the tests, the check finds what is wrong."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ablations.bounded import locked
from ablations.table import TrialTable
from melssl.methods import METHODS
from reports import make_report
from reports.build import Target, write
from reports.paper import check, document, findings, targets
from reports.paper.floats import Floats, floats_of
from reports.paper.said import Said

MakeTable = Callable[..., TrialTable]
NUMBER = re.compile(r"(?<![\w.])[−+]?\d[\d,]*(?:\.\d+)?")


@pytest.fixture(scope="module")
def table(make_table: MakeTable) -> TrialTable:
    """Return a study with a key factor, a control and a reference."""
    return make_table(
        methods=("no_pretext", "simclr", "mae", "metadata_all"),
        fractions=(0.1, 1.0),
        factors={"mask_ratio": 2},
    )


@pytest.fixture(scope="module")
def figures(table: TrialTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw the figures once for all processes that run tests beside each other."""
    together = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    base = tmp_path_factory.getbasetemp()
    root = base.parent / f"paper-{together}" if together else base / "paper"
    root.mkdir(exist_ok=True)
    with locked(root / "lock", seconds=600):
        if not (root / "done").exists():
            list(write(table, Target(figures=root / "figures", tables=None)))
            (root / "done").touch()
    return root / "figures"


@pytest.fixture(scope="module")
def paper(table: TrialTable, figures: Path) -> document.Paper:
    return document.written(table, floats_of(table, figures, "latex"))


def test_every_number_of_a_sentence_was_kept_with_its_frame(paper: document.Paper) -> None:
    prose = re.sub(r"\$\$.*?\$\$|\$.*?\$|`[^`]*`|\[@[^\]]*\]", " ", paper.body, flags=re.S)
    prose = re.sub(r"MoCo v\d", " ", prose)  # the name of a method
    known = {n for text in paper.said.frame()["text"] for n in NUMBER.findall(text)}
    found = set(NUMBER.findall(f"{prose} {paper.abstract}"))
    assert found
    assert found <= known, found - known


def test_what_is_kept_is_what_the_frames_hold(table: TrialTable, paper: document.Paper) -> None:
    kept = paper.said.frame()
    cells = table.cells[table.cells["metric"] == table.info.main_metric]
    scores = kept[(kept["source"] == "cells") & kept["text"].str.fullmatch(r"0\.\d{3}")]
    held = pd.concat([cells[name] for name in ("estimate", "low", "high")]).round(9)
    assert len(scores)
    assert set(scores["value"].round(9)) <= set(held)


def _row(**given: object) -> pd.Series:
    usual = {"difference": 0.03, "low": 0.02, "high": 0.04, "p_holm": 0.01, "detectable": 0.02}
    row = pd.Series(usual | given)
    row["gain"] = row["difference"]
    return row


@pytest.mark.parametrize(
    ("given", "wording"),
    [
        ({}, "exceeded the control by +0.030 [+0.020, +0.040] (p = 0.010 after Holm)"),
        ({"difference": -0.03, "low": -0.04, "high": -0.02}, "fell below the control by −0.030"),
        ({"p_holm": 0.0001}, "(p < 0.001 after Holm)"),
        (
            {"difference": 0.01, "low": -0.01, "high": 0.03, "p_holm": 0.4},
            "no difference larger than 0.030 could be shown; 0.020 would have been found",
        ),
        (
            {"difference": 0.001, "low": -0.005, "high": 0.007, "p_holm": 0.8},
            "equalled the control within 0.01 (+0.001 [−0.005, +0.007])",
        ),
        (
            {"low": float("nan"), "high": float("nan"), "p_holm": float("nan")},
            "differed from the control by +0.030, without an interval and therefore untested",
        ),
    ],
)
def test_a_verdict_says_what_the_test_allows(
    given: dict[str, object], wording: str, table: TrialTable
) -> None:
    assert wording in findings.verdict(_row(**given), Said(table.info))


def test_where_lower_is_better_a_gain_is_a_fall(make_table: MakeTable) -> None:
    table = make_table(fractions=(0.1, 1.0), higher_is_better=False)
    rows = findings.comparisons(table)
    assert (rows["gain"] == -rows["difference"]).all()


def test_every_float_is_pointed_at_in_every_target(table: TrialTable, figures: Path) -> None:
    for target in ("latex", "html", "typst"):
        made = document.written(table, floats_of(table, figures, target))
        assert made.floats.unreferenced() == []
        assert len(made.floats.every) > 8


def test_every_method_that_may_stand_in_a_study_is_described(tmp_path: Path) -> None:
    cards = {path.stem for path in (document.HERE / "methods").glob("*.md")}
    assert cards == set(METHODS)
    cited = {
        key
        for path in document.HERE.glob("*/*.md")
        for key in re.findall(r"@(\w+)", path.read_text())
    }
    known = set(re.findall(r"@\w+\{(\w+),", targets.BIBLIOGRAPHY.read_text()))
    assert cited <= known, cited - known


def test_the_page_opens_without_a_network(table: TrialTable, figures: Path) -> None:
    page = targets.to_html(document.written(table, floats_of(table, figures, "html")))
    anchors = set(re.findall(r'href="#((?:fig|tab):[^"]+)"', page))
    assert anchors
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))
    assert not re.search(r'(?:src|href)="https?:', page.split("<h1>References")[0])
    assert "<math" in page
    assert "%%" not in page


def test_typst_sets_a_paper_where_no_tex_is(table: TrialTable, figures: Path) -> None:
    source = figures.parent / "typst.typ"
    source.write_text(targets.to_typst(document.written(table, floats_of(table, figures, "typst"))))
    shutil.copyfile(targets.BIBLIOGRAPHY, figures.parent / "references.bib")
    assert targets.compile_typst(source).read_bytes().startswith(b"%PDF")


@pytest.mark.skipif(not targets.has_tex(), reason="no TeX with IEEEtran here; Typst is tested")
def test_the_paper_compiles_to_the_same_bytes_and_the_check_is_green(
    paper: document.Paper, figures: Path
) -> None:
    source = figures.parent / "paper.tex"
    source.write_text(targets.to_latex(paper))
    shutil.copyfile(targets.BIBLIOGRAPHY, figures.parent / "references.bib")
    first = targets.compile_latex(source).read_bytes()
    assert check.faults(source) == []
    for ending in (".pdf", ".aux", ".bbl", ".fdb_latexmk"):
        source.with_suffix(ending).unlink()
    assert targets.compile_latex(source).read_bytes() == first


def test_the_command_writes_a_paper_and_says_what_is_left_to_write(
    make_table: MakeTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = make_table(methods=("mae",), fractions=(0.1,), folds=1, control=None)
    small.save(tmp_path / "study" / "table")
    monkeypatch.setattr(targets, "has_tex", lambda: False)
    assert make_report.main(["--study", str(tmp_path / "study")]) == 0
    said = capsys.readouterr().out
    assert "set by Typst" in said
    assert "look for AUTHOR" in said
    names = {path.name for path in (tmp_path / "study" / "report").iterdir()}
    assert {"paper.tex", "paper.typ", "paper.pdf", "paper.html", "said.csv"} <= names
    assert make_report.main(["--study", str(tmp_path / "none")]) == 2


def test_what_tex_complains_of_is_told(tmp_path: Path) -> None:
    source = tmp_path / "paper.typ"
    source.write_text("#nonsense(")
    with pytest.raises(targets.CompileError, match="Typst stopped"):
        targets.compile_typst(source)


GOOD = (
    r"\begin{document}\begin{abstract}\end{abstract}"
    + "".join(rf"\section{{{name}}}" for name in check.WANTED)
    + r"\ref{fig:a}\label{fig:a}\cite{a,b,c,d,e,f,g,h,i,j}"
)
AUX = r"\newlabel{end-of-text}{{6}{5}{}{section.6}{}}"


@pytest.mark.parametrize(
    ("text", "aux", "log", "fault"),
    [
        (GOOD, AUX, "", None),
        (GOOD.replace("Discussion", "Talk"), AUX, "", "section 'Discussion' is missing"),
        (GOOD, AUX.replace("{5}", "{6}"), "", "the text ends on page 6, at most 5 are allowed"),
        (GOOD, "", "", "the end of the text has no page: compile again"),
        (GOOD + r"\label{tab:b}", AUX, "", "tab:b is nowhere referred to"),
        (GOOD + r"\ref{tab:b}", AUX, "", "tab:b is referred to and not there"),
        (GOOD, AUX, "LaTeX Warning: Citation `zz' on page 1 undefined", "zz is undefined"),
        (GOOD.replace(",j", ""), AUX, "", "fewer than 10 references are cited"),
        (GOOD, AUX, r"Overfull \hbox (17.5pt too wide) in line 3", "sticks out by 17.5 pt"),
        (GOOD, AUX, r"Overfull \hbox (1.5pt too wide) in line 3", None),
        (GOOD.replace(r"\begin{abstract}", ""), AUX, "", "the abstract is missing"),
    ],
)
def test_the_check_finds(text: str, aux: str, log: str, fault: str | None, tmp_path: Path) -> None:
    source = tmp_path / "paper.tex"
    for ending, content in ((".tex", text), (".aux", aux), (".log", log)):
        source.with_suffix(ending).write_text(content)
    found = check.faults(source)
    assert (fault is None and not found) or (fault is not None and fault in "\n".join(found))


def test_what_a_person_must_write_is_marked_and_counted(paper: document.Paper) -> None:
    assert check.places(targets.to_latex(paper)) >= 5
    said = re.findall(r"\\authorplace\{(.*?)\}", paper.body)
    assert any("clinic" in what for what in said)


def test_an_unfinished_study_says_so_among_its_limits(make_table: MakeTable) -> None:
    table = make_table(fractions=(0.1, 1.0), lost_trials=(0,), seeds=1)
    table = dataclasses.replace(table, info=dataclasses.replace(table.info, pool="train+test"))
    body = document.written(table, Floats(every={}, target="latex")).body
    assert "1 trials have no result" in body
    assert "the training and the test lesions" in body
