"""Asks a study's trials about an unseen cohort: what is missing is run, what is there is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ablations.commands import StudyResult, collect_again, study_folder
from ablations.design import Study
from ablations.options import RunOptions
from ablations.plan import Plan, PlannedTrial, make_plan
from ablations.preparations import Preparations
from ablations.unseen.asked import FOLDER, Asked, asked, remember_unseen
from ablations.unseen.run import answer
from ablations.vault import Vault
from melssl.errors import ArtifactError, listed
from melssl.prepared import External
from melssl.unseen import Unseen

LINKED = "linked-{}.csv"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What finished trials say of an unseen cohort."""

    plan: Plan
    cohort: External
    questions: tuple[Asked, ...]


def ask(
    study: Study,
    unseen: Unseen,
    options: RunOptions,
    wanted: Callable[[PlannedTrial], bool] = lambda _: True,
) -> Answers:
    """Let the finished trials of a study that are ``wanted`` score an unseen cohort.

    Raises:
        ArtifactError: no trial is finished, or one could not answer.

    """
    vault = Vault(options.vault)
    preparations = Preparations(vault.root, workers=options.workers, progress=True)
    plan = make_plan(study, preparations, vault)
    other = preparations.of(study.baseline, unseen).unseen
    assert other is not None
    questions = [one for one in asked(plan, unseen) if wanted(one.planned)]
    if not questions:
        raise ArtifactError(
            f"study {study.name!r}: expected finished trials that see images, found none; run it:"
            f" python -m ablations run --name {study.name} ..."
        )
    for line in cohort_lines(unseen, other):
        print(line, flush=True)
    _write_linked(study_folder(study.name), unseen, other)
    failed = answer(questions, vault, options)
    if failed:
        reasons = [" ".join(reason.split())[:300] for reason in dict.fromkeys(failed)]
        raise ArtifactError(f"{len(failed)} trials could not answer:\n{listed(reasons)}")
    return Answers(plan=plan, cohort=other, questions=tuple(questions))


def ask_and_collect(study: Study, unseen: Unseen, options: RunOptions) -> StudyResult:
    """Let all finished trials score a labelled cohort, and write the study's table anew.

    Raises:
        ArtifactError: as ``ask`` does, or the cohort has no label.

    """
    answers = ask(study, unseen, options)
    if answers.cohort.cohort.labelled.empty:
        raise ArtifactError(
            f"{unseen.name}: expected labels to score with, got none; name their column"
            " (--test-set label_column=...), or write a submission: study/submission.py"
        )
    remember_unseen(study_folder(study.name), unseen)
    return collect_again(study, options)


def cohort_lines(unseen: Unseen, other: External) -> list[str]:
    """Say what the unseen cohort is, and what the audit left of it."""
    cohort = other.cohort
    n_patients, n_known = cohort.frame["patient_id"].nunique(), len(cohort.labelled)
    outcome = f", {n_known} with a label ({', '.join(cohort.classes)})" if n_known else ""
    return [
        f"unseen {unseen.name}: {len(cohort)} images of {n_patients} {cohort.patient_unit}s"
        f"{outcome}, views: {unseen.turns}",
        *(f"  note     {note}" for note in cohort.notes),
        *(
            f"  note     {len(other.linked)} samples are of patients whom the audit finds in the"
            " study's own cohort: their scores may flatter"
            for _ in other.linked[:1]
            if unseen.linked == "keep"
        ),
    ]


def _write_linked(folder: Path, unseen: Unseen, other: External) -> None:
    path = folder / FOLDER / LINKED.format(unseen.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"sample_id": other.linked}, dtype=str)
    frame.to_csv(path, index=False, lineterminator="\n")
