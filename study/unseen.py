r"""Does it hold elsewhere? The arms of a finished study on another, labelled cohort.

Every finished trial scores the cohort, from which nothing is learned (external validation). Scores,
paired differences to the control and their intervals over its patients become a figure and a table
of the study. Patients whom the audit links to the study's cohort are left out and listed. Example:

    python study/unseen.py --study label_fraction-ham10000 \
        --test-source csv_folder --test-root ~/isic2017 \
        --test-set image_column=file --test-set label_column=melanoma --test-set positive=1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ablations.options import add_run_options, exit_code, run_options
from ablations.unseen.options import add_unseen_options, unseen_from

EXHIBITS = ("unseen", "unseen_table")


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the cohort and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--study", default="", help="its name; default: the latest")
    add_unseen_options(parser, turns="none")
    add_run_options(parser)
    args = parser.parse_args(arguments)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    from ablations.commands import load_study
    from ablations.unseen.commands import ask_and_collect
    from reports.build import listing
    from reports.command import make_report_files

    study = load_study(args.study)
    unseen = unseen_from(args, study.baseline.cohort.plain(), "leave_out")
    result = ask_and_collect(study, unseen, run_options(args))
    can = [name for name, refusal in listing(result.table) if refusal is None]
    for path in make_report_files(result.folder, only=[name for name in EXHIBITS if name in can]):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
