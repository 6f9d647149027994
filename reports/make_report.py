"""The paper of a collected study: ``python reports/make_report.py [--study NAME]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path; the packages lie one above it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from reports.studies import NoStudyError, find_study, named

FORMATS = ("pdf", "html", "tex")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the paper and return 0, 1 where the check found a fault, 2 where it cannot be made."""
    options = _parser().parse_args(arguments)
    try:
        study = find_study(options.study)
    except NoStudyError as error:
        print(error, file=sys.stderr)
        return 2

    from ablations.table import TableError
    from reports.command import load_table
    from reports.paper.build import make
    from reports.paper.targets import CompileError
    from reports.processes import processors

    folder = options.out or study / "report"
    try:
        table = load_table(study, pictures=not options.no_pictures, watts=options.watts)
        report = make(table, folder, options.format or FORMATS, processors())
    except (TableError, CompileError) as error:
        print(error, file=sys.stderr)
        return 2
    for path in report.files:
        print(path)
    if report.engine != "TeX":
        print("no TeX with IEEEtran here: the PDF was set by Typst, in two columns; for IEEEtran"
              " install texlive-publishers and latexmk, and run this again")  # fmt: skip
    print(f"{report.n_places} places are left for you to write: look for AUTHOR in paper.tex")
    for fault in report.faults:
        print(f"check: {fault}", file=sys.stderr)
    return 1 if report.faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Write the paper of a collected study.")
    add = parser.add_argument
    add("--study", metavar="NAME_OR_DIR", help="default: the study that was collected last")
    add("--out", metavar="DIR", type=named, help="folder of the paper; default: <study>/report")
    add("--format", choices=FORMATS, action="append", help="repeatable; default: all")
    add("--no-pictures", action="store_true", help="show no patient's image")
    add("--watts", metavar="W", type=float, help="power of a worker: adds an estimate of energy")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
