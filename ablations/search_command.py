"""The search command: prepares, hunts, mirrors to MLflow, and leaves a table of trials."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import optuna

from ablations.bounded import locked
from ablations.collect import MAIN_METRIC
from ablations.commands import study_folder
from ablations.cost import estimate
from ablations.describe import duration
from ablations.findings import Findings, opening_lines
from ablations.ledger import Ledger, ParentRun, default_uri
from ablations.options import RunOptions, outputs
from ablations.plan import make_plan
from ablations.preparations import Preparations
from ablations.search import Hunt, Search, checked_folds
from ablations.suggestions import ended, open_study
from ablations.vault import Vault
from melssl.errors import ArtifactError
from melssl.evaluation.metrics import METRICS
from melssl.files import write_atomically
from melssl.seeding import Seed

JOURNAL, LOCK, DESCRIPTION, PARENT = "search.journal", "search.lock", "search.json", "mlflow"


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What was found, where its table lies, and where its runs are tracked."""

    findings: Findings
    table: Path
    tracking_uri: str


def run_search(search: Search, options: RunOptions) -> SearchResult:
    """Go on with a search until ``n_trials`` have ended, in this and in earlier processes.

    Raises:
        SplitError: the budget holds too few patients for the inner folds.
        ArtifactError: another process is at this search, or its journal is damaged.

    """
    vault, folder = Vault(options.vault), study_folder(search.name)
    checked_folds(search, Preparations(vault.root, decode=False), vault)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / LOCK, 0.5):
            return _run(search, options, vault, folder)
    except TimeoutError:
        raise ArtifactError(
            f"{folder / LOCK}: another process is at this search; wait for it, or give this one "
            "another --name"
        ) from None


def _run(search: Search, options: RunOptions, vault: Vault, folder: Path) -> SearchResult:
    preparations = Preparations(vault.root, workers=options.workers, progress=True)
    key = search.key(preparations)
    _describe(search, folder / DESCRIPTION)
    seed = Seed(search.baseline.seed).child("search")
    higher = METRICS[MAIN_METRIC].higher_is_better
    study = open_study(folder / JOURNAL, key, seed, maximize=higher)
    _open(search, study, preparations, options)
    uri = options.tracking_uri or default_uri(outputs())
    ledger = Ledger(uri, search.name)
    parent = _parent(ledger, study, uri, search)
    hunt = Hunt(search, study, preparations, options)
    status = "KILLED"
    try:
        for trial in hunt.trials():
            findings = _findings(search, key, study)
            print(findings.line(trial), flush=True)
            findings.save(folder)
            ledger.record(parent, findings.record(trial))
        status = "FINISHED"
    finally:
        findings = _findings(search, key, study)
        table = findings.save(folder)
        _catch_up(ledger, parent, findings)
        status = "FAILED" if status == "FINISHED" and findings.best is None else status
        ledger.finish(parent, _metrics(findings), [table], status)
    return SearchResult(findings=findings, table=table, tracking_uri=uri)


def _describe(search: Search, path: Path) -> None:
    """Write what is searched; say so where a search of that name had other settings."""
    plain = search.plain()
    before = json.loads(path.read_text()) if path.exists() else plain
    if before | {"n_trials": 0} != plain | {"n_trials": 0}:
        print(
            f"note: the last search named {search.name} had other settings. This one begins anew "
            "and replaces its table; its trials stay in the journal. Use --name to keep both."
        )
    write_atomically(path, json.dumps(plain, indent=1).encode())


def _open(
    search: Search, study: optuna.Study, preparations: Preparations, options: RunOptions
) -> None:
    """Print what is about to run and what a trial costs at most."""
    notes = preparations.of(search.studies(search.baseline)[0].baseline).cohort.notes
    n_ended = len(ended(study))
    for line in opening_lines(search, notes, n_ended):
        print(line, flush=True)
    left = search.n_trials - n_ended
    if left > 0:
        vault = Vault(options.vault)
        plans = [make_plan(s, preparations, vault) for s in search.studies(search.baseline)]
        seconds = sum(estimate(plan, vault, options.threads).total for plan in plans)
        if seconds:
            whole = seconds * -(-left // options.workers)
            print(f"  cost     about {duration(seconds)} a trial, {duration(whole)} for {left} on")
            print(f"           {options.workers} worker(s); less for what is pruned or known")


def _findings(search: Search, key: str, study: optuna.Study) -> Findings:
    return Findings(search=search, key=key, trials=tuple(ended(study)))


def _parent(ledger: Ledger, study: optuna.Study, uri: str, search: Search) -> ParentRun | None:
    """Return the search's one parent run, unless its store is gone or ``mlflow run`` made one."""
    known = study.user_attrs.get(PARENT, {})
    if known.get("uri") == uri and "MLFLOW_RUN_ID" not in os.environ and ledger.held():
        return ParentRun(run_id=known["run"], experiment_id=known["home"], ours=True)
    params = {
        "space": ", ".join(map(str, search.space)),
        "method": search.baseline.method.name,
        "cohort": search.baseline.cohort.source,
        "fraction": f"{(search.within.budget or search.baseline.budget).fraction:g}",
        "labels": "budget" if search.within.budget else "all",
        "outer_fold": str(search.within.fold),
        "inner_folds": str(search.baseline.folds.n_folds),
        "n_draws": str(search.n_draws),
        "n_seeds": str(search.n_seeds),
    }
    parent = ledger.parent(params, {"search_key": study.study_name})
    if parent is not None:
        place = {"uri": uri, "run": parent.run_id, "home": parent.experiment_id}
        study.set_user_attr(PARENT, place)
    return parent


def _catch_up(ledger: Ledger, parent: ParentRun | None, findings: Findings) -> None:
    """Record what ended in earlier processes and MLflow did not see."""
    held = ledger.held()
    for trial in findings.trials:
        record = findings.record(trial)
        if not record.told_by(held.get(record.key)):
            ledger.record(parent, record)


def _metrics(findings: Findings) -> dict[str, float]:
    best = {f"best_{MAIN_METRIC}": findings.best.value} if findings.best else {}
    return best | {f"n_{name}": float(n) for name, n in findings.counts().items()}
