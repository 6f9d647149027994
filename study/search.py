"""Which settings suit a label budget? Optuna, on inner folds of one outer fold's training patients.

The outer fold's test patients are seen by nothing here, and by default no label outside the budget
is either. Stop it at any time; the same command goes on, until --n-trials have ended. Started
several times, all work at one search. docs/search.md tells what each option is for. Examples:

    python study/search.py --fraction 10% --n-trials 20
    python study/search.py --method mae --set backbone=small_vit --space method.mask_ratio=0.3:0.9
    python study/search.py --space "pretraining.lr=log:3e-4:1e-2,views=medical|imagenet"
    python study/search.py --rungs 2 --pruner halving  # see docs/search.md for its schedule
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
    from ablations.searching.command import SearchResult
    from ablations.searching.design import Search, Tuning


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
        "(default: what pretraining, method and protocol declare)",
    )
    group.add_argument("--sampler", default="tpe", help="tpe (default) or random")
    group.add_argument(
        "--pruner",
        default="",
        help="after each inner fold: median (default), wilcoxon, none; at rungs: halving",
    )
    group.add_argument(
        "--rungs", default="0", help="shorter pretrainings that judge first; 2: 1/9 and 1/3 (0)"
    )
    group.add_argument(
        "--against", default="none", help="second objective: images or seconds (default: none)"
    )
    group.add_argument(
        "--constrain",
        default="collapse",
        help="collapse: an encoder that collapsed is not the best (default); or none",
    )
    group.add_argument(
        "--round", default="0", help="suggestions drawn together (default: one per worker)"
    )
    group.add_argument(
        "--storage",
        default="",
        help="database for several hosts, postgresql+psycopg://user@host/name (default: a journal"
        " file, for processes of one host)",
    )
    add_study_options(parser, factor=False)
    add_run_options(parser)
    return parser


def _search_from(args: argparse.Namespace) -> tuple[Search, Tuning]:
    from ablations.searching.design import Tuning, make_search

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
            "sampler": args.sampler,
            "pruner": args.pruner or None,
            "rungs": args.rungs,
            "against": args.against,
            "constrain": args.constrain,
            "round_size": args.round,
        }
    )
    if tuning.labels == "budget" and not args.draws:
        args.draws = "1"  # each further draw hides other labels, and pretrains anew
    study = study_from(args, LABEL_FRACTION.name)
    if not args.name:
        size = f"{tuning.fraction:.4g}-fold{tuning.outer_fold}"
        preset = Path(args.preset).stem
        parts = ("search", study.baseline.method.name, study.baseline.cohort.source, preset)
        study = study.replace(name="-".join([*filter(None, parts), size]))
    return make_search(study, tuning), tuning


def _run(args: argparse.Namespace) -> int:
    from ablations.ledger import ui_command
    from ablations.searching.command import run_search

    search, tuning = _search_from(args)
    options = run_options(args)
    result = run_search(search, options, storage=args.storage, round_size=tuning.round_size)
    counts = ", ".join(f"{n} {name}" for name, n in result.findings.counts().items() if n)
    print(f"{counts}; trials in {result.table}")
    print(f"figures: python reports/make_figures.py --study {search.name}")
    print(f"runs:    {ui_command(result.tracking_uri)}")
    if result.findings.best is None:
        print("no trial is complete without a collapse: see above; wider or other values may help")
        return 1
    print(_best(result))
    return 0


def _front(result: SearchResult) -> str:
    """Name what nothing beats in score without more compute, where both count."""
    from ablations.searching.board import place_of
    from ablations.searching.findings import mean_of

    against = result.findings.search.way.against
    if against == "none":
        return ""
    front = sorted(result.findings.front, key=lambda trial: float(trial.values[1]))
    lines = [
        f"  trial {place_of(t)}: {mean_of(t):.4f} for {t.values[1]:.0f} {against}" for t in front
    ]
    return "\n".join(["the front, cheapest first:", *lines, ""])


def _best(result: SearchResult) -> str:
    """Say what was best and how to use it, and for whom it was chosen."""
    from ablations.searching.board import place_of
    from ablations.searching.findings import mean_of

    found, within = result.findings, result.findings.search.within
    assert found.best is not None
    return (
        f"{_front(result)}best: trial {place_of(found.best)}, {mean_of(found.best):.4f}:\n"
        f"  {found.best_line}\n"
        f"  python study/label_fraction.py --preset {shlex.quote(str(result.preset))}\n"
        f"chosen without the test patients of outer fold {within.fold} of {within.folds.n_folds}; "
        "those of the other folds were among its patients,\n"
        "so a score on them with these settings is optimistic: search each outer fold to report one"
    )


if __name__ == "__main__":
    sys.exit(main())
