"""The search command: hunts, mirrors to MLflow, leaves tables and the best as a preset."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import optuna

from ablations.bounded import locked
from ablations.collect import MAIN_METRIC
from ablations.commands import study_folder
from ablations.cost import estimate
from ablations.keeping.users import remember
from ablations.ledger import Ledger, ParentRun, default_uri
from ablations.options import RunOptions, outputs
from ablations.plan import make_plan
from ablations.preparations import Preparations
from ablations.searching.board import Board, place_of
from ablations.searching.crew import LOCK, TURN_SECONDS
from ablations.searching.design import Search, checked_folds
from ablations.searching.exhibited import search_table
from ablations.searching.findings import Findings, mean_of, opening_lines
from ablations.searching.hunt import Hunt
from ablations.searching.storage import open_study
from ablations.status import duration
from ablations.vault import Vault
from melssl.files import write_atomically

DESCRIPTION, PARENT = "search.json", "mlflow"


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What was found, where its files lie, and where its runs are tracked."""

    findings: Findings
    table: Path
    preset: Path | None
    tracking_uri: str


def run_search(
    search: Search, options: RunOptions, *, storage: str = "", round_size: int = 0
) -> SearchResult:
    """Go on with a search until ``n_trials`` have ended, in this and in other processes.

    ``storage`` is the address of a database, without which a journal in the search's folder is
    used; ``round_size`` is how many suggestions are drawn together, by default one per worker.

    Raises:
        SplitError: the budget holds too few patients for the inner folds.
        ArtifactError: the journal is damaged, or the database not reached.

    """
    vault, folder = Vault(options.vault), study_folder(search.name)
    checked_folds(search, Preparations(vault.root, decode=False), vault)
    folder.mkdir(parents=True, exist_ok=True)
    preparations = Preparations(vault.root, workers=options.workers, progress=True)
    key = search.key(preparations)
    with locked(folder / LOCK, TURN_SECONDS):
        _describe(search, folder / DESCRIPTION)
        remember(vault, folder / DESCRIPTION)
        study = open_study(folder, storage, key, search.directions)
    _open(search, study, preparations, options)
    uri = options.tracking_uri or default_uri(outputs())
    ledger = Ledger(uri, search.name)
    parent = _parent(ledger, study, uri, search)
    hunt = Hunt(search, study, preparations, options, folder, round_size or options.workers)
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
        table, preset = findings.save(folder), findings.save_preset(folder)
        search_table(findings, preparations.of(search.studies(search.baseline)[0].baseline)).save(
            folder / "table"
        )
        _catch_up(ledger, parent, findings)
        status = "FAILED" if status == "FINISHED" and findings.best is None else status
        ledger.finish(parent, _metrics(findings), [p for p in (table, preset) if p], status)
    return SearchResult(findings=findings, table=table, preset=preset, tracking_uri=uri)


def _describe(search: Search, path: Path) -> None:
    """Write what is searched; say so where a search of that name had other settings."""
    plain, before = search.plain(), None
    with suppress(OSError, ValueError):
        before = json.loads(path.read_text())
    if before is not None and before | {"n_trials": 0} != plain | {"n_trials": 0}:
        print(
            f"note: the last search named {search.name} had other settings. This one begins anew "
            "and replaces its table; its trials stay in the storage. Use --name to keep both."
        )
    write_atomically(path, json.dumps(plain, indent=1).encode())


def _open(
    search: Search, study: optuna.Study, preparations: Preparations, options: RunOptions
) -> None:
    """Print what is about to run and what a trial costs at most."""
    notes = preparations.of(search.studies(search.baseline)[0].baseline).cohort.notes
    n_ended = len(Board(study.get_trials(deepcopy=False)).ended())
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
    ended = Board(study.get_trials(deepcopy=False)).ended()
    return Findings(search=search, key=key, trials=tuple(ended))


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
        "inner_folds": str(search.n_folds),
        "n_draws": str(search.n_draws),
        "n_seeds": str(search.n_seeds),
        **{name: str(value) for name, value in search.way.plain().items()},
    }
    parent = ledger.parent(params, {"search_key": study.study_name})
    if parent is not None:
        place = {"uri": uri, "run": parent.run_id, "home": parent.experiment_id}
        study.set_user_attr(PARENT, place)
    return parent


def _catch_up(ledger: Ledger, parent: ParentRun | None, findings: Findings) -> None:
    """Record what ended in other processes and MLflow did not see."""
    held = ledger.held()
    for trial in findings.trials:
        record = findings.record(trial)
        if not record.told_by(held.get(record.key)):
            ledger.record(parent, record)


def _metrics(findings: Findings) -> dict[str, float]:
    best = findings.best
    found = {f"best_{MAIN_METRIC}": mean_of(best), "best_trial": place_of(best)} if best else {}
    return found | {f"n_{name}": float(n) for name, n in findings.counts().items()}
