"""Targets of a paper: IEEE LaTeX, one HTML page, Typst; and what makes PDFs of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from html import escape
from pathlib import Path

import pypandoc

from reports.paper.document import Paper, all_floats
from reports.tabular import escaped, typst_escaped

HERE = Path(__file__).parent
BIBLIOGRAPHY = HERE / "references.bib"
FROM = "markdown-auto_identifiers-smart"
# one date for all: the same study gives the same bytes
STILL = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}


class CompileError(Exception):
    """TeX refused the paper; the message holds the lines that say why."""


def to_latex(paper: Paper) -> str:
    """Return a document for IEEEtran; figures lie in ``figures/``, references in a .bib beside."""
    return _filled(
        "paper.tex",
        title=escaped(paper.title),
        abstract=_converted(paper.abstract, "latex", "--natbib"),
        body=_converted(paper.body, "latex", "--natbib"),
        floats=all_floats(paper.floats),
    )


def to_html(paper: Paper) -> str:
    """Return one page that opens from disk: pictures, formulas and references are in it."""
    cited = ("--mathml", "--citeproc", f"--bibliography={BIBLIOGRAPHY}")
    return _filled(
        "page.html",
        title=escape(paper.title),
        abstract=_converted(paper.abstract, "html", "--mathml"),
        body=_converted(f"{paper.body}\n\n# References\n\n::: {{#refs}}\n:::\n", "html", *cited),
        floats=all_floats(paper.floats),
    )


def to_typst(paper: Paper) -> str:
    """Return a document for Typst, in two columns."""
    return _filled(
        "paper.typ",
        title=typst_escaped(paper.title),
        abstract=_converted(paper.abstract, "typst"),
        body=_converted(paper.body, "typst"),
        floats=all_floats(paper.floats),
    )


def has_tex() -> bool:
    """Say whether TeX with IEEEtran is at hand."""
    if shutil.which("latexmk") is None or shutil.which("kpsewhich") is None:
        return False
    found = subprocess.run(
        ("kpsewhich", "IEEEtran.cls"), capture_output=True, text=True, check=False
    )
    return bool(found.stdout.strip())


def compile_latex(source: Path) -> Path:
    """Compile ``source`` with latexmk and return the PDF beside it.

    Raises:
        CompileError: TeX stopped; its complaint is in the message and in the log.

    """
    command = ("latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", source.name)
    done = subprocess.run(
        command,
        cwd=source.parent,
        env=os.environ | STILL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.startswith(("!", "l."))]
        said = "\n".join(lines[:10]) or done.stdout[-800:]
        raise CompileError(f"{source}: TeX stopped; see {source.with_suffix('.log')}\n{said}")
    return source.with_suffix(".pdf")


def compile_typst(source: Path) -> Path:
    """Compile ``source`` with Typst and return the PDF beside it.

    Raises:
        CompileError: Typst stopped.

    """
    import typst

    pdf = source.with_suffix(".pdf")
    try:
        # typst 0.15 fails on the tags of floats over both columns
        typst.compile(str(source), output=str(pdf), timestamp=0, pdf_tags=False)
    except RuntimeError as error:
        raise CompileError(f"{source}: Typst stopped\n{error}") from None
    return pdf


def _converted(text: str, target: str, *options: str) -> str:
    converted: str = pypandoc.convert_text(
        text, target, format=FROM, extra_args=["--wrap=preserve", *options]
    )
    return converted


def _filled(template: str, **parts: str) -> str:
    text = (HERE / template).read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"%%{name}%%", part)
    return text
