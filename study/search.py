"""Which settings suit a label budget? Optuna, on inner folds of one outer fold's training patients.

The outer fold's test patients are seen by nothing here, and by default no label outside the budget
is either. Stop it at any time; the same command goes on, until --n-trials have ended. Examples:

    python study/search.py --fraction 10% --n-trials 20
    python study/search.py --method mae --set backbone=small_vit --space method.mask_ratio=0.3:0.9
    python study/search.py --space "pretraining.lr=log:3e-4:1e-2,views=medical|imagenet"
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ablations.factors import LABEL_FRACTION
from ablations.options import (
    add_run_options,
    add_study_options,
    exit_code,
    run_options,
    study_from,
)
from melssl.errors import SpecError

if TYPE_CHECKING:
    from ablations.search import Search
    from ablations.search_command import SearchResult

KEPT = ("method", "source", "data_root", "preset", "folds", "seeds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the search and return the exit code."""
    args = _parser().parse_args(arguments)
    return exit_code(lambda: _run(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    group = parser.add_argument_group("search")
    group.add_argument("--fraction", default="10%", help="the label budget (default: 10%%)")
    group.add_argument("--outer-fold", default="0", help="whose test patients stay unseen (0)")
    group.add_argument("--inner-folds", default="3", help="folds that judge a suggestion (3)")
    group.add_argument(
        "--labels",
        default="budget",
        help="budget: judge by the budget's labels alone (default); all: by those of all training "
        "patients, which a user with such a budget would not have",
    )
    group.add_argument("--n-trials", default="20", help="suggestions in total (default: 20)")
    group.add_argument(
        "--space",
        default="",
        help="setting=low:high, setting=log:low:high or setting=a|b|c, separated by commas "
        "(default: learning rate, weight decay, and the method's temperature or mask ratio)",
    )
    add_study_options(parser, factor=False)
    add_run_options(parser)
    return parser


def _search_from(args: argparse.Namespace) -> Search:
    from ablations.search import Tuning, make_search

    beside = args.control != "no_pretext" or args.baselines
    if args.fractions or args.repeats or "," in args.method or beside:
        raise SpecError(
            "a search has one budget, one deal of folds, one method and nothing beside it: use"
            " --fraction 10% and --method NAME, without --fractions, --repeats, --control and"
            " --baselines"
        )
    try:
        fraction = LABEL_FRACTION.parse(args.fraction)
    except ValueError:
        raise SpecError(f"--fraction {args.fraction!r}: expected 0.1 or 10%") from None
    tuning = Tuning.parse(
        {
            "fraction": fraction,
            "outer_fold": args.outer_fold,
            "inner_folds": args.inner_folds,
            "labels": args.labels,
            "n_trials": args.n_trials,
            "space": args.space,
        }
    )
    if tuning.labels == "budget" and not args.draws:
        args.draws = "1"  # each further draw hides other labels, and pretrains anew
    study = study_from(args, LABEL_FRACTION.name)
    if not args.name:
        size = f"{tuning.fraction:.4g}-fold{tuning.outer_fold}"
        parts = ("search", study.baseline.method.name, study.baseline.cohort.source, args.preset)
        study = study.replace(name="-".join([*filter(None, parts), size]))
    return make_search(study, tuning)


def _run(args: argparse.Namespace) -> int:
    from ablations.ledger import ui_command
    from ablations.search_command import run_search

    result = run_search(_search_from(args), run_options(args))
    counts = ", ".join(f"{n} {name}" for name, n in result.findings.counts().items() if n)
    print(f"{counts}; trials in {result.table}")
    print(f"runs: {ui_command(result.tracking_uri)}")
    if result.findings.best is None:
        print("no trial is complete: see the reasons above; wider or other values may help")
        return 1
    print(_best(args, result))
    return 0


def _best(args: argparse.Namespace, result: SearchResult) -> str:
    """Say what was best and how to use it, and for whom it was chosen."""
    found, within = result.findings, result.findings.search.within
    assert found.best is not None
    given = [(f"--{name.replace('_', '-')}", getattr(args, name)) for name in KEPT]
    given += [("--fractions", args.fraction), *(("--set", text) for text in args.overrides)]
    options = shlex.join(word for name, value in given if value for word in (name, value))
    return (
        f"best: trial {found.best.number}, {found.best.value:.4f}:\n"
        f"  {found.best_line}\n"
        f"  python study/label_fraction.py {options} {found.best_line}\n"
        f"chosen without the test patients of outer fold {within.fold} of {within.folds.n_folds}; "
        "those of the other folds were among its patients,\n"
        "so a score on them with these settings is optimistic: search each outer fold to report one"
    )


if __name__ == "__main__":
    sys.exit(main())
