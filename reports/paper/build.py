"""Makes the paper of a collected study: figures, text, references, PDF and one HTML page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablations.table import TrialTable
from reports.build import Target as Folders
from reports.build import write
from reports.paper import check, targets
from reports.paper.document import written
from reports.paper.floats import floats_of


@dataclass(frozen=True, kw_only=True)
class Report:
    """Files of a paper, what the check found, places left to a person, and how it was made."""

    files: tuple[Path, ...]
    faults: tuple[str, ...]
    n_places: int
    engine: str


def make(table: TrialTable, folder: Path, formats: Sequence[str], workers: int = 1) -> Report:
    """Write ``paper.tex`` and ``said.csv`` into ``folder``, and of ``formats`` pdf and html.

    ``workers`` processes draw the figures.

    Where no TeX is, the PDF is set by Typst instead, and the check of TeX's log is not made.

    Raises:
        CompileError: TeX or Typst stopped.

    """
    figures = folder / "figures"
    list(write(table, Folders(figures=figures, tables=folder / "tables"), workers=workers))
    shutil.copyfile(targets.BIBLIOGRAPHY, folder / "references.bib")
    files, found, engine = [], [], "TeX" if targets.has_tex() else "Typst"
    paper = written(table, floats_of(table, figures, "latex"))
    paper.said.frame().to_csv(folder / "said.csv", index=False, lineterminator="\n")
    source = _text(folder / "paper.tex", targets.to_latex(paper))
    files += [source, folder / "said.csv"]
    if "pdf" in formats and engine == "TeX":
        files.append(targets.compile_latex(source))
        found = check.faults(source)
    elif "pdf" in formats:
        in_typst = written(table, floats_of(table, figures, "typst"))
        typ = _text(folder / "paper.typ", targets.to_typst(in_typst))
        files += [typ, targets.compile_typst(typ)]
    if "html" in formats:
        page = targets.to_html(written(table, floats_of(table, figures, "html")))
        files.append(_text(folder / "paper.html", page))
    n_places = check.places(source.read_text(encoding="utf-8"))
    return Report(files=tuple(files), faults=tuple(found), n_places=n_places, engine=engine)


def _text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
