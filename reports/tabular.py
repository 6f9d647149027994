"""Printed tables: booktabs LaTeX, Markdown, HTML, Typst and plain text from one grid."""

from __future__ import annotations

from html import escape
from itertools import zip_longest

from reports.exhibit import Entry, Grid

_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"\textperiodcentered{}",
    "Δ": r"$\Delta$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "±": r"$\pm$",
}


def escaped(text: str) -> str:
    """Return text that LaTeX prints as it stands."""
    return "".join(_TEX.get(sign, sign) for sign in text).replace("[", "{[}").replace("]", "{]}")


def to_latex(grid: Grid, caption: str, name: str) -> str:
    """Return a ``table*`` environment that needs only the booktabs package.

    The first sentence of the caption is the table's title; the others stand below its rows, for
    journals set titles of tables in capitals.
    """
    title, stop, more = caption.partition(". ")
    columns = "l" * grid.n_labels + "r" * (len(grid.heads) - grid.n_labels)
    columns = columns[:-1] + r"p{0.45\linewidth}" if grid.prose else columns
    body = [line for row in grid.rows for line in [*_tex_lines(row), r"\addlinespace"]][:-1]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table*}[t]",
            r"\centering",
            rf"\caption{{{escaped(title + stop.strip())}}}",
            rf"\label{{tab:{name}}}",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{4pt}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *_tex_lines(grid.heads),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\smallskip {escaped(note)}" for note in (*grid.notes, more) if note),
            r"\end{table*}",
            "",
        ]
    )


def _tex_lines(row: tuple[Entry, ...]) -> list[str]:
    printed = []
    for depth, fields in enumerate(zip_longest(*(entry.lines for entry in row), fillvalue="")):
        texts = [
            _tex_field(text, entry.bold and depth == 0, depth > 0)
            for text, entry in zip(fields, row, strict=True)
        ]
        printed.append(" & ".join(texts) + r" \\")
    return printed


def _tex_field(text: str, is_bold: bool, is_small: bool) -> str:
    if not text:
        return ""
    if is_bold:
        return rf"\textbf{{{escaped(text)}}}"
    return rf"{{\scriptsize {escaped(text)}}}" if is_small else escaped(text)


def to_markdown(grid: Grid, caption: str) -> str:
    """Return a pipe table with the caption below it."""
    aligned = [":--" if i < grid.n_labels else "--:" for i in range(len(grid.heads))]
    lines = [_md_row(grid.heads), "| " + " | ".join(aligned) + " |"]
    lines += [_md_row(row) for row in grid.rows]
    notes = [line for note in grid.notes for line in (note, "")]
    return "\n".join([*lines, "", *notes, caption, ""])


def _md_row(row: tuple[Entry, ...]) -> str:
    return "| " + " | ".join(_md_field(entry) for entry in row) + " |"


def _md_field(entry: Entry) -> str:
    first, *more = (line.replace("|", "\\|") for line in entry.lines)
    return "<br>".join([f"**{first}**" if entry.bold else first, *more])


def to_html(grid: Grid) -> str:
    """Return a table element, notes below its rows; the caption is the page's."""
    rows = ["".join(f"<th>{_html_field(entry)}</th>" for entry in grid.heads)]
    for row in grid.rows:
        kinds = ["th" if i < grid.n_labels else "td" for i in range(len(row))]
        pairs = zip(kinds, row, strict=True)
        rows.append("".join(f"<{kind}>{_html_field(entry)}</{kind}>" for kind, entry in pairs))
    body = "\n".join(f"<tr>{row}</tr>" for row in rows[1:])
    notes = "".join(f"<p>{escape(note)}</p>" for note in grid.notes)
    return f"<table>\n<thead><tr>{rows[0]}</tr></thead>\n<tbody>\n{body}\n</tbody></table>{notes}\n"


def _html_field(entry: Entry) -> str:
    first, *more = (escape(line) for line in entry.lines)
    return "<br>".join([f"<b>{first}</b>" if entry.bold else first, *more])


def to_typst(grid: Grid) -> str:
    """Return a Typst table in code, for use inside a figure."""
    sides = ", ".join("left" if i < grid.n_labels else "right" for i in range(len(grid.heads)))
    fields = [_typst_field(entry) for row in (grid.heads, *grid.rows) for entry in row]
    head, body = fields[: len(grid.heads)], fields[len(grid.heads) :]
    rules = "stroke: none, inset: 3pt"
    return (
        f"table(columns: {len(grid.heads)}, align: ({sides}), {rules}, table.hline(), "
        f"{', '.join(head)}, table.hline(), {', '.join(body)}, table.hline())"
    )


def _typst_field(entry: Entry) -> str:
    first, *more = (typst_escaped(line) for line in entry.lines)
    return "[" + " \\ ".join([f"*{first}*" if entry.bold and first else first, *more]) + "]"


def typst_escaped(text: str) -> str:
    """Return text that Typst prints as it stands."""
    return "".join(f"\\{sign}" if sign in "#$*_@<>`[]\\~=+-/" else sign for sign in text)


def to_text(grid: Grid) -> str:
    """Return columns for a terminal: names left, numbers right, the lines of a field below it."""
    lines: list[tuple[str, ...]] = []
    for row in (grid.heads, *grid.rows):
        lines += zip_longest(*(entry.lines for entry in row), fillvalue="")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ["<" if i < grid.n_labels else ">" for i in range(len(widths))]
    return "\n".join(
        "  ".join(
            f"{text:{side}{width}}" for text, side, width in zip(line, aligned, widths, strict=True)
        ).rstrip()
        for line in lines
    )
