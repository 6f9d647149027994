"""A collected study as one HTML page: ``python reports/make_page.py [--study NAME]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path; the packages lie one above it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from reports.studies import NoStudyError, find_study, named

LARGE = 10_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, say where it is and how large, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        study = find_study(options.study)
    except NoStudyError as error:
        print(error, file=sys.stderr)
        return 2

    from ablations.table import TableError
    from reports.command import load_table
    from reports.page.build import write

    path = options.out or study / "page.html"
    try:
        table = load_table(study, options.metric, pictures=not options.no_pictures)
        size = write(table, path)
    except TableError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{path}: {size / 1e6:.1f} MB, opens from disk without a network")
    if size > LARGE:
        print(f"that is more than {LARGE / 1e6:.0f} MB: too large for most mails")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Write a collected study as one HTML page.")
    add = parser.add_argument
    add("--study", metavar="NAME_OR_DIR", help="default: the study that was collected last")
    add("--out", metavar="FILE", type=named, help="the page; default: <study>/page.html")
    add("--metric", metavar="NAME", help="show this metric; default: the study's main one")
    add("--no-pictures", action="store_true", help="show no patient's image")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
