"""Writes what a study's table gives: figures, tables, their frames and captions."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.table import TableError, TrialTable
from reports import savings, style, tabular
from reports.arms import arm_names, lines
from reports.cells import LOST, label, main_metric, others, samples, varying
from reports.exhibit import Entry, Exhibit, FigureExhibit, Grid, TableExhibit
from reports.exhibits import exhibits_of
from reports.exhibits.main_table import MainTable
from reports.numbers import COUNT, GAIN, SCORE, SHARE, interval, number
from reports.processes import written
from reports.series import method_name

MOST_ARMS = 6
FIGURE_FILES = tuple(f"_{width}.{kind}" for width in style.WIDTHS for kind in ("pdf", "png"))


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where files go: one folder for figures, one for tables; None leaves that kind out."""

    figures: Path | None
    tables: Path | None

    def folder(self, exhibit: Exhibit) -> Path | None:
        """Return the folder of an exhibit's kind."""
        return self.figures if isinstance(exhibit, FigureExhibit) else self.tables


def listing(table: TrialTable) -> Iterator[tuple[str, str | None]]:
    """Yield the name of every exhibit and why the study cannot have it, or None."""
    for exhibit in exhibits_of(table.info):
        yield exhibit.name, exhibit.refusal(table)


def write(
    table: TrialTable, target: Target, only: Sequence[str] = (), workers: int = 1
) -> Iterator[Path]:
    """Write every exhibit that the study can have (or those named) and yield its files.

    Files of an exhibit that the study cannot have any more are removed: a table of missing trials
    must not outlive them.

    Raises:
        TableError: a name is unknown, or the study cannot have an exhibit that was named.
    """
    exhibits = {exhibit.name: exhibit for exhibit in exhibits_of(table.info)}
    for name in only:
        _check_named(name, exhibits, table)
    jobs = []
    for exhibit in (exhibits[name] for name in only or exhibits):
        folder = target.folder(exhibit)
        if folder is None:
            continue
        if exhibit.refusal(table) is not None:
            _remove(folder, exhibit.name)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        jobs.append((exhibit, folder))

    def write_one(exhibit: Exhibit, folder: Path) -> Iterator[Path]:
        return _write_one(exhibit, table, folder)

    yield from written(write_one, jobs, workers)


def _check_named(name: str, exhibits: dict[str, Exhibit], table: TrialTable) -> None:
    if name not in exhibits:
        close = difflib.get_close_matches(name, exhibits, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise TableError(f"no exhibit {name!r}; {hint}known: {', '.join(exhibits)}")
    reason = exhibits[name].refusal(table)
    if reason is not None:
        raise TableError(f"study {table.info.name!r} cannot have {name!r}: {reason}")


def _write_one(exhibit: Exhibit, table: TrialTable, folder: Path) -> Iterator[Path]:
    frame = exhibit.frame(table)
    caption = exhibit.caption(frame, table.info)
    data = folder / f"{exhibit.name}.csv"
    frame.to_csv(data, index=False, lineterminator="\n")
    yield data
    if isinstance(exhibit, TableExhibit):
        grid = exhibit.grid(frame, table.info)
        yield _text(folder / f"{exhibit.name}.tex", tabular.to_latex(grid, caption, exhibit.name))
        yield _text(folder / f"{exhibit.name}.md", tabular.to_markdown(grid, caption))
        page = f"{tabular.to_html(grid)}<p>{escape(caption)}</p>\n"
        yield _text(folder / f"{exhibit.name}.html", page)
    elif isinstance(exhibit, FigureExhibit):
        yield _text(folder / f"{exhibit.name}.txt", caption + "\n")
        yield from _pictures(exhibit, frame, table, folder)


def _pictures(
    exhibit: FigureExhibit, frame: pd.DataFrame, table: TrialTable, folder: Path
) -> Iterator[Path]:
    # No dates and no versions: the same table gives the same bytes.
    plain = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    for width in style.WIDTHS:
        with style.ink():
            figure = exhibit.draw(frame, table.info, width)
            for kind, metadata in plain.items():
                path = folder / f"{exhibit.name}_{width}.{kind}"
                figure.savefig(path, dpi=style.DPI, metadata=metadata)
                yield path


def _text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _remove(folder: Path, name: str) -> None:
    for ending in (".csv", ".tex", ".md", ".html", ".txt", *FIGURE_FILES):
        (folder / f"{name}{ending}").unlink(missing_ok=True)


def summary(table: TrialTable) -> str:
    """Return the cells of the main metric for a terminal, one line each."""
    if len(table.suggestions):
        return _found(table)
    info, frame = table.info, MainTable().frame(table)
    factors = ["method", *varying(frame, others(info)), "label_fraction"]
    titles = [info.factor(name).label for name in factors[:-1]]
    heads = [*titles, "labels", samples(info), main_metric(info).label, "difference", "trials"]
    rows = []
    for row in frame.to_dict("records"):
        names = [method_name(info, row["method"])]
        names += [label(info, factor, row[factor]) for factor in factors[1:]]
        rows.append(tuple(Entry(lines=(field,)) for field in [*names, *_numbers(row)]))
    grid = Grid(
        heads=tuple(Entry(lines=(head,)) for head in heads),
        rows=tuple(rows),
        n_labels=len(factors) - 1,
    )
    return f"{info.name}: {style.found(info)}\n{tabular.to_text(grid)}{_saved(table)}"


def _found(table: TrialTable) -> str:
    """Return what became of a search's suggestions, and the best score, in one line."""
    ended = table.suggestions
    counts = ended["state"].value_counts()
    told = ", ".join(f"{counts[state]} {state}" for state in counts.index)
    best = number(ended["best"].iloc[-1], SCORE)
    return f"{table.info.name}: {told}; best {main_metric(table.info).label} {best}"


def _saved(table: TrialTable) -> str:
    """Return one line on the labels saved, or nothing where they were not measured."""
    if savings.measured(table, savings.MATCH).empty:
        return ""
    rows = savings.savings_by_arm(table)
    title = "\nlabels to match the control's best (share saved): "
    if len(rows) > MOST_ARMS:
        return f"{title}{len(rows)} arms, see labels_saved"
    return title + "; ".join(
        f"{name} {lines(row, savings.MATCH, COUNT)[0]} ({lines(row, savings.SHARE, SHARE)[0]})"
        for name, row in zip(arm_names(rows, table.info), rows.to_dict("records"), strict=True)
    )


def _numbers(row: Mapping[Hashable, Any]) -> list[str]:
    images = "–" if pd.isna(row["n_images"]) else f"{row['n_images']:.0f}"
    trials = f"{row['n_trials']}/{row['n_planned']}"
    if row["status"] == LOST:
        return [images, "missing", "", trials]
    score = f"{row['estimate']:.3f} {interval(row['low'], row['high'], SCORE)}"
    if pd.isna(row["difference"]):
        return [images, score, "", trials]
    gain = interval(row["difference_low"], row["difference_high"], GAIN)
    return [images, score, f"{row['difference']:+.3f} {gain}", trials]
