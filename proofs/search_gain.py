"""Does a search beat the default settings, and random search? Judged on outer test patients.

    python -m proofs.search_gain             # about three quarters of an hour of a core
    python -m proofs.search_gain --trials 2 --deals 1 --folds 2 --draws 1 --epochs 1 --patients 60

On the made cohort, with the default settings of everything but size and length: for every outer
fold of every deal of the folds, TPE and random search, with as many suggestions each, choose
settings by inner folds of the label budget alone. Then the default, TPE's best and random search's
best are trained on the outer fold with several draws of the budget, and scored on its test
patients, whom no search has seen. Intervals of the mean differences are those of the corrected
resampled t over outer folds (Nadeau and Bengio 2003), as docs/statistics.md has them. Everything
goes through a vault: with --out, a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from ablations.design import Study
from ablations.options import RunOptions
from ablations.plan import make_plan
from ablations.preparations import Preparations
from ablations.run import runtime_of, surviving
from ablations.searching.command import run_search
from ablations.searching.design import Tuning, make_search
from ablations.searching.evidence import missing, scores
from ablations.vault import Vault
from ablations.workers import Job
from melssl.spec import RunSpec
from proofs.table import markdown, tell

SAMPLERS = ("tpe", "random")
DEFAULT = "default"
FRACTION, INNER_FOLDS = 0.5, 3


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is searched and judged."""

    n_trials: int
    n_deals: int
    n_folds: int
    n_draws: int
    epochs: int
    n_patients: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--trials", type=int, default=14, help="suggestions of each search")
    parser.add_argument("--deals", type=int, default=2, help="times that outer folds are dealt")
    parser.add_argument("--folds", type=int, default=5, help="outer folds")
    parser.add_argument("--draws", type=int, default=3, help="draws of the budget that judge")
    parser.add_argument("--epochs", type=int, default=4, help="of pretraining")
    parser.add_argument("--patients", type=int, default=400, help="of the made cohort")
    parser.add_argument("--out", type=Path, help="folder to go on in; default: a temporary one")
    args = parser.parse_args(arguments)
    size = Size(
        n_trials=args.trials,
        n_deals=args.deals,
        n_folds=args.folds,
        n_draws=args.draws,
        epochs=args.epochs,
        n_patients=args.patients,
    )
    with tempfile.TemporaryDirectory() as temporary:
        out = (args.out or Path(temporary)).resolve()
        os.environ["MELSSL_OUT"] = str(out)
        print(_report(judged(size, out), size))
    return 0


def judged(size: Size, out: Path) -> np.ndarray:
    """Return the test score of default, TPE and random search at every outer fold, (folds, 3)."""
    began, rows = time.perf_counter(), []
    for deal in range(size.n_deals):
        for fold in range(size.n_folds):
            specs = [
                baseline(size, deal, fold),
                *(_chosen(s, size, deal, fold, out) for s in SAMPLERS),
            ]
            rows.append([_tested(spec.replace(fold=fold), size, out) for spec in specs])
            told = ", ".join(f"{score:.4f}" for score in rows[-1])
            tell(f"deal {deal}, outer fold {fold}: {told}", began)
    return np.array(rows)


def baseline(size: Size, deal: int, fold: int) -> RunSpec:
    """Return the default settings, for a small net on small images and a short training.

    Every outer fold has a seed of its own: with one for all, a sampler would suggest the same in
    each, and the folds would not show how much chance suggestions bring.
    """
    return RunSpec.parse(
        {
            "cohort": {"source": "synthetic", "n_patients": size.n_patients},
            "image_px": 32,
            "backbone": {"family": "small_cnn", "first_width": 8},
            "folds": {"n_folds": size.n_folds, "seed": deal},
            "budget": {"fraction": FRACTION},
            "pretraining": {"epochs": size.epochs, "batch_size": 64},
            "seed": deal * size.n_folds + fold,
        }
    )


def _chosen(sampler: str, size: Size, deal: int, fold: int, out: Path) -> RunSpec:
    """Return the settings that a search chooses within an outer fold."""
    study = Study(
        name=f"{sampler}-{deal}-{fold}",
        baseline=baseline(size, deal, fold),
        levels={"label_fraction": (FRACTION,)},
    )
    tuning = {"fraction": FRACTION, "outer_fold": fold, "n_trials": size.n_trials}
    how = {"sampler": sampler, "inner_folds": INNER_FOLDS}
    search = make_search(study, Tuning.parse(tuning | how))
    spec = run_search(search, _options(out)).findings.best_spec()
    return baseline(size, deal, fold) if spec is None else spec


def _tested(spec: RunSpec, size: Size, out: Path) -> float:
    """Return the mean test score of settings on their outer fold over draws of the budget."""
    study = Study(
        name="test",
        baseline=spec,
        levels={"label_fraction": (FRACTION,)},
        control=None,
        n_draws=size.n_draws,
    )
    options, vault = _options(out), Vault(out / "vault")
    plan = make_plan(study, Preparations(vault.root), vault)
    planned = [p for p in plan.trials if p.trial.fold == spec.fold]
    if stages := missing(planned, vault):
        job = Job(stages=stages, vault=vault.root, runtime=runtime_of(options))
        for _ in surviving([job], vault, options):
            pass
    return float(np.mean(scores(planned, vault)))


def _options(out: Path) -> RunOptions:
    return RunOptions(
        backend="sequential",
        workers=1,
        threads=1,
        device="cpu",
        n_devices=1,
        tracking_uri=f"sqlite:///{out / 'mlflow.db'}",
        vault=out / "vault",
    )


def interval(differences: np.ndarray, test_train_ratio: float) -> tuple[float, float]:
    """Return the 95 % interval of the corrected resampled t; infinite for one fold."""
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return -np.inf, np.inf
    scale = np.sqrt((1 / n + test_train_ratio) * differences.var(ddof=1))
    reach = float(stdtrit(n - 1, 0.975) * scale)
    return mean - reach, mean + reach


def _report(found: np.ndarray, size: Size) -> str:
    ratio = 1 / max(size.n_folds - 1, 1)
    pairs = {
        "TPE minus default": (1, 0),
        "random minus default": (2, 0),
        "TPE minus random": (1, 2),
    }
    rows = []
    for name, (one, other) in pairs.items():
        differences = found[:, one] - found[:, other]
        low, high = interval(differences, ratio)
        better = f"{(differences > 0).sum()} of {len(differences)}"
        rows.append((name, f"{differences.mean():+.4f}", f"[{low:+.4f}, {high:+.4f}]", better))
    means = dict(zip((DEFAULT, *SAMPLERS), found.mean(axis=0), strict=True))
    told = ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
    head = ("test ROC AUC", "difference", "95 % interval", "folds where better")
    return f"{told}; {size.n_trials} suggestions each\n\n{markdown(head, rows)}"


if __name__ == "__main__":
    raise SystemExit(main())
