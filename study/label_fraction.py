"""How many labels does pretraining save? Pretrained against not, at several label budgets.

Runs what is missing, collects the table, draws figures and tables, prints a summary. Among the
figures are pictures of what the encoders learnt, which show patients. Stop it at any time; the same
command goes on. Examples:

    python study/label_fraction.py
    python study/label_fraction.py --source ham10000 --data-root ~/HAM10000 --fractions 1%,10%,100%
    python study/label_fraction.py --method simclr,mae --set backbone=small_vit
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ablations.options import (
    add_run_options,
    add_study_options,
    exit_code,
    run_options,
    study_from,
)

FACTOR = "label_fraction"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_study_options(parser, factor=False)
    add_run_options(parser)
    parser.add_argument("--no-pictures", action="store_true", help="show no patient's image")
    args = parser.parse_args(arguments)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    from ablations.commands import run_study
    from ablations.ledger import ui_command
    from ablations.pictures import keep_pictures
    from reports.build import summary
    from reports.command import make_report_files

    study, options = study_from(args, FACTOR), run_options(args)
    result = run_study(study, options)
    info = result.table.info
    if info.n_finished:
        if not args.no_pictures:
            keep_pictures(study, options)
        files = make_report_files(result.folder, pictures=not args.no_pictures)
        print(f"{len(files)} files in {result.folder / 'figures'} and {result.folder / 'tables'}")
        print(summary(result.table))
    print(f"{info.n_finished} of {info.n_planned} trials; look at the runs with:")
    print(f"  {ui_command(result.tracking_uri)}")
    return 0 if info.n_finished == info.n_planned else 1


if __name__ == "__main__":
    sys.exit(main())
