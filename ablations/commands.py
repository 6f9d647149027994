"""The commands of the harness: plan, run, status, collect and ledger, each a function."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ablations.changes import change_lines
from ablations.cost import Estimate, estimate
from ablations.describe import cost_lines, plan_lines, snapshot_of
from ablations.design import Study
from ablations.estimates import Reckoning, accuracy_lines
from ablations.keeping.users import remember
from ablations.ledger import Ledger, ParentRun, default_uri
from ablations.mirror import Mirror
from ablations.options import RunOptions, outputs
from ablations.plan import Plan, PlannedTrial, check_study, looked_up, make_plan, uncollected
from ablations.preparations import Preparations
from ablations.records import cell_metrics, record_of
from ablations.run import run_plan
from ablations.snapshot import Snapshot, basis_of
from ablations.status import STUDY, alert_lines, failure_lines, status_lines, study_path
from ablations.table import TrialTable
from ablations.unseen.asked import known_unseen
from ablations.vault import Vault
from ablations.workers import Outcome
from melssl.artifacts import FACTS
from melssl.audit.report import write_report
from melssl.errors import ArtifactError
from melssl.files import write_atomically
from melssl.kept import verify_pixels

AUDIT = "audit"


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """Where a study's table lies, and where its runs are tracked."""

    folder: Path
    table: TrialTable
    tracking_uri: str


def study_folder(name: str) -> Path:
    """Return the folder of a study by name."""
    return outputs() / "studies" / name


def load_study(name: str) -> Study:
    """Return a study that was started here, by name; without a name the latest.

    Raises:
        SpecError: there is no such study.

    """
    path = study_path(name)
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the study again") from None
    return Study.parse(data)


def show_plan(study: Study, options: RunOptions, against: str | None = None) -> None:
    """Print what a study needs and what it costs; nothing is decoded or trained.

    ``against`` names a study that was started here; an empty name is the study's own.
    """
    vault = Vault(options.vault)
    plan = make_plan(study, Preparations(vault.root, decode=False), vault)
    _priced(plan, vault, options)
    if against is not None:
        name = against or study.name
        snapshot = Snapshot.load(study_folder(name))
        ran = snapshot.keys if snapshot else None
        _print(change_lines(plan, load_study(name), ran, vault))


def show_status(study: Study, options: RunOptions) -> None:
    """Print how far a study is, and leave a snapshot, so that the next status needs no plan."""
    vault = Vault(options.vault)
    plan = make_plan(study, Preparations(vault.root, decode=False), vault)
    _print(status_lines(_remembered(plan, vault), vault))


def run_study(study: Study, options: RunOptions) -> StudyResult:
    """Run what a study lacks, collect its table, and mirror its trials to MLflow."""
    vault = Vault(options.vault)
    plan = _ready(study, options, vault)
    cost = _priced(plan, vault, options, _audit_lines(study))
    reckoning = Reckoning(plan, cost, options)
    ledger, beside = _ledger(study, options), options.backend != "sequential"
    mirror = Mirror(ledger, _params(study, options), _tags(study), beside=beside)
    by_key = {planned.key: planned for planned in plan.trials}

    def ended(outcome: Outcome) -> None:
        reckoning.ended(outcome)
        if outcome.kind == "adapt":
            record = record_of(by_key[outcome.key], plan, vault)
            if record is not None:
                mirror.tell(lambda parent: ledger.record(parent, record))

    status = "KILLED"
    try:
        run_plan(plan, vault, options, cost, ended, mirror.open)
        status = "FINISHED"
    finally:
        reckoning.write(vault)
        plan = looked_up(plan, vault)
        table, folder = collect_study(plan, vault)
        how = "FAILED" if status == "FINISHED" and len(table.missing) else status
        mirror.tell(lambda parent: _catch_up(ledger, parent, plan, vault))
        metrics, files = cell_metrics(table), _files(folder)
        mirror.tell(lambda parent: ledger.finish(parent, metrics, files, how))
        mirror.close()
        _print(_said_of(plan, vault))
    return StudyResult(folder=folder, table=table, tracking_uri=_uri(options))


def collect_study(plan: Plan, vault: Vault) -> tuple[TrialTable, Path]:
    """Write the table of what is finished where reports look for it; return it and the folder."""
    from ablations.collect import collect  # with the statistics: planning is spared them

    folder = study_folder(plan.study.name)
    table = collect(plan, vault, list(known_unseen(folder)))
    table.save(folder / "table")
    return table, folder


def collect_again(study: Study, options: RunOptions) -> StudyResult:
    """Collect a study's table from the vault; nothing is trained."""
    vault = Vault(options.vault)
    plan = make_plan(study, Preparations(vault.root, decode=False), vault)
    table, folder = collect_study(plan, vault)
    return StudyResult(folder=folder, table=table, tracking_uri=_uri(options))


def sync_ledger(study: Study, options: RunOptions) -> int:
    """Write to MLflow what the vault holds and MLflow lacks; return how many trials.

    Raises:
        ArtifactError: the tracking store cannot be reached.

    """
    result = collect_again(study, options)
    vault = Vault(options.vault)
    plan = make_plan(study, Preparations(vault.root, decode=False), vault)
    ledger = _ledger(study, options)
    records = (record_of(planned, plan, vault) for planned in _distinct(plan))
    written = ledger.mirror(
        (record for record in records if record is not None),
        params=_params(study, options),
        tags=_tags(study),
        metrics=cell_metrics(result.table),
        artifacts=_files(result.folder),
    )
    if ledger.trouble:
        raise ArtifactError(f"MLflow at {_uri(options)}: {ledger.trouble}")
    return written


@uncollected()
def _ready(study: Study, options: RunOptions, vault: Vault) -> Plan:
    """Check the study, remember it, and decode what it needs."""
    check_study(study, Preparations(vault.root, decode=False))
    folder = study_folder(study.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / STUDY, json.dumps(study.plain(), indent=1).encode())
    remember(vault, folder / STUDY)
    preparations = Preparations(vault.root, workers=options.workers, progress=True)
    plan = make_plan(study, preparations, vault)
    verify_pixels([preparations.of(base) for base in plan.bases])
    _remembered(plan, vault)
    _report_audit(plan, folder / AUDIT)
    return plan


def _remembered(plan: Plan, vault: Vault) -> Snapshot:
    """Leave in the study's folder what `status` needs of its plan; return it."""
    folder = study_folder(plan.study.name)
    snapshot = snapshot_of(plan, basis_of(folder / STUDY, vault.root))
    snapshot.save(folder)
    return snapshot


def _said_of(plan: Plan, vault: Vault) -> list[str]:
    """Return alerts of finished encoders, and why what failed has failed."""
    methods = snapshot_of(plan, "").methods
    done = {key: said for key, said in methods.items() if ("pretrain", key) in plan.done}
    return [*alert_lines(vault, FACTS, done), *failure_lines(vault, plan.failed)]


def _audit_lines(study: Study) -> list[str]:
    folder = study_folder(study.name) / AUDIT
    return [f"  pictures of what the audit linked: {folder}"] if folder.exists() else []


def _report_audit(plan: Plan, folder: Path) -> None:
    """Write what the audit linked, with a picture of each group; nothing where it found nothing."""
    prepared = plan.preparations.of(plan.study.baseline)
    if prepared.audit is not None and prepared.audit.groups:
        external = prepared.external.cohort.root if prepared.external else None
        root = prepared.cohort.root
        write_report(prepared.audit, folder, root, external, progress=True)


def _catch_up(ledger: Ledger, parent: ParentRun | None, plan: Plan, vault: Vault) -> None:
    """Record what ended in earlier invocations that MLflow did not see."""
    held = ledger.held()
    for planned in _distinct(plan):
        if held.get(planned.key) != "FINISHED" and ledger.trouble is None:
            record = record_of(planned, plan, vault)
            if record is not None:
                ledger.record(parent, record)


def _distinct(plan: Plan) -> Iterable[PlannedTrial]:
    return {planned.key: planned for planned in plan.trials}.values()


def _ledger(study: Study, options: RunOptions) -> Ledger:
    return Ledger(_uri(options), study.name)


def _uri(options: RunOptions) -> str:
    return options.tracking_uri or default_uri(outputs())


def _params(study: Study, options: RunOptions) -> dict[str, str]:
    levels = {f.name: ", ".join(f.show(v) for v in study.values(f)) for f in study.factors}
    return {
        "factors": ", ".join(levels),
        **{f"levels.{name}": text for name, text in levels.items()},
        "n_folds": str(study.baseline.folds.n_folds),
        "n_draws": str(study.n_draws),
        "n_seeds": str(study.n_seeds),
        "cohort": study.baseline.cohort.source,
        "overrides": " ".join(study.overrides),
        "vault": str(options.vault),
    }


def _tags(study: Study) -> dict[str, str]:
    return {"study_key": study.key, "question": study.question}


def _files(folder: Path) -> list[Path]:
    # a kill may leave parts of files, whose names begin with a dot
    return sorted(path for path in (folder / "table").iterdir() if path.name[0] != ".")


def _priced(plan: Plan, vault: Vault, options: RunOptions, *more: list[str]) -> Estimate:
    """Print a plan at once, and then what it costs, for that may have to be measured."""
    _print(plan_lines(plan), *more)
    cost = estimate(plan, vault, options.threads)
    _print(cost_lines(plan, cost, options), accuracy_lines(vault))
    return cost


def _print(*parts: list[str]) -> None:
    for part in parts:
        for line in part:
            print(line, flush=True)
