"""The command line that figures and tables share; imports nothing heavy before it has parsed."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reports.studies import NoStudyError, find_study, named

if TYPE_CHECKING:
    from ablations.table import TrialTable


def make_report_files(
    study_dir: Path,
    figures: Path | None = None,
    tables: Path | None = None,
    only: Sequence[str] = (),
    metric: str | None = None,
    *,
    pictures: bool = True,
) -> list[Path]:
    """Write figures and tables of the study in ``study_dir`` and return their files.

    Folders default to ``figures`` and ``tables`` inside the study. ``metric`` shows another metric
    than the study's main one, by default in a subfolder of that name. Without ``pictures`` no
    patient's image is drawn.

    Raises:
        TableError: the table is missing or damaged, or ``only`` or ``metric`` names nothing known.
    """
    from reports.build import Target, write

    place = metric or "."
    target = Target(
        figures=figures or study_dir / "figures" / place,
        tables=tables or study_dir / "tables" / place,
    )
    return list(write(load_table(study_dir, metric, pictures=pictures), target, only))


def load_table(
    study_dir: Path,
    metric: str | None = None,
    *,
    pictures: bool = True,
    watts: float | None = None,
) -> TrialTable:
    """Return a study's table, by default with the pictures that lie beside it.

    ``watts`` is the power of one worker, from which the table of compute estimates energy.

    Raises:
        TableError: the table is missing or damaged, or there is no such metric.
    """
    from ablations.table import TrialTable

    table = TrialTable.load(study_dir / "table")
    table = table.with_pictures(study_dir / "pictures") if pictures else table
    table = dataclasses.replace(table, watts=watts)
    return table.with_main_metric(metric) if metric else table


def main(what: str, arguments: Sequence[str] | None = None) -> int:
    """Run the command for ``what``, figures or tables, and return the exit code."""
    options = _parser(what).parse_args(arguments)
    try:
        study = find_study(options.study)
    except NoStudyError as error:
        return _fail(error)

    from ablations.table import TableError

    try:
        for line in _run(what, study, options):
            print(line, flush=True)
    except TableError as error:
        return _fail(error)
    return 0


def _parser(what: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f"Write the {what} of a collected study.")
    add = parser.add_argument
    add("--study", metavar="NAME_OR_DIR", help="default: the study that was collected last")
    add("--out", metavar="DIR", type=named, help=f"folder of the {what}; default: <study>/{what}")
    add("--only", metavar="NAME", action="append", default=[], help="one exhibit; repeatable")
    add("--metric", metavar="NAME", help="show this metric; default: the study's main one")
    add("--no-pictures", action="store_true", help="draw no patient's image")
    add("--watts", metavar="W", type=float, help="power of a worker: adds an estimate of energy")
    add("--list", action="store_true", help="say what the study can have; write nothing")
    return parser


def _run(what: str, study: Path, options: argparse.Namespace) -> Iterator[str]:
    from reports.build import Target, listing, summary, write
    from reports.processes import processors

    table = load_table(study, options.metric, pictures=not options.no_pictures, watts=options.watts)
    if options.list:
        for name, reason in listing(table):
            yield f"{name:24} {reason or 'yes'}"
        return
    place = options.metric or "."
    figures, tables = study / "figures" / place, study / "tables" / place
    if what == "figures":
        target = Target(figures=options.out or figures, tables=tables)
    else:
        target = Target(figures=None, tables=options.out or tables)
    for path in write(table, target, options.only, processors()):
        yield str(path)
    if table.gallery_fault:
        yield f"no pictures of encoders: {table.gallery_fault}"
    yield ""
    yield summary(table)


def _fail(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 1
