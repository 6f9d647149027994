"""Exports an encoder of a study: its weights, a configuration, a model card, what it has seen."""

from __future__ import annotations

import shutil
from pathlib import Path

from ablations.commands import collect_again, study_folder
from ablations.design import Cell, Study
from ablations.options import RunOptions
from ablations.plan import Plan, PlannedTrial, make_plan
from ablations.preparations import Preparations
from ablations.results import arm_name, size_order
from ablations.sharing.card import Subject, card
from ablations.table import TableError, TrialTable
from ablations.vault import Vault
from melssl.artifacts import WEIGHTS
from melssl.errors import ArtifactError, SpecError, nearest
from melssl.sharing import ONNX, write_encoder, write_onnx

SEEN, CARD = "seen.txt", "README.md"
POOL = "pool.txt"


def export_encoder(
    study: Study, folder: Path, options: RunOptions, arm: str, fold: int, *, onnx: bool
) -> list[str]:
    """Write an arm's encoder of one fold into ``folder``; return lines on what was written.

    Raises:
        SpecError: no such arm or fold, or several arms and none is named.
        ArtifactError: the encoder is not trained yet, or the folder holds something else.

    """
    if folder.exists() and any(folder.iterdir()) and not (folder / CARD).exists():
        raise ArtifactError(f"{folder}: holds other files; name a new folder")
    vault = Vault(options.vault)
    plan = make_plan(study, Preparations(vault.root, decode=False), vault)
    planned = _chosen(plan, arm, fold)
    key = next((s.key for s in planned.stages if s.kind == "pretrain"), None)
    if key is None or not vault.has("pretrain", key):
        raise ArtifactError(
            f"{arm_name(planned.trial.cell)}, fold {fold}: its encoder is not trained yet; run the"
            f" study: python -m ablations run --name {study.name} ..."
        )
    source = vault.whole("pretrain", key)
    shared = write_encoder(planned.trial.spec, source / WEIGHTS, folder)
    differs = write_onnx(folder) if onnx else None
    if (source / POOL).exists():
        shutil.copyfile(source / POOL, folder / SEEN)
    subject = Subject(
        planned=planned, plan=plan, table=_table(study, options), key=key, shared=shared
    )
    (folder / CARD).write_text(card(subject, vault, onnx=differs), encoding="utf-8")
    by = "timm and melssl" if shared.by_timm else "melssl (timm has no such net)"
    told = [f"{folder}: encoder of {arm_name(planned.trial.cell)}, fold {fold}, loads with {by}"]
    if differs is not None:
        told.append(f"{folder / ONNX}: differs from it by {differs:.1g} of the embeddings' scale")
    return [*told, f"{folder / CARD}: read it before you share it"]


def _chosen(plan: Plan, arm: str, fold: int) -> PlannedTrial:
    """Return the first trial of an arm and fold, at its largest budget."""
    by_arm: dict[str, Cell] = {}
    for cell in sorted((t.trial.cell for t in plan.trials), key=size_order):
        if cell.spec.method_class.sees == "images":
            by_arm[arm_name(cell)] = cell
    pretrained = [name for name, cell in by_arm.items() if cell.method != plan.study.control]
    if not arm and len(pretrained) != 1:
        raise SpecError(f"--arm: expected the name of one of several: {', '.join(by_arm)}")
    name = arm or pretrained[0]
    if name not in by_arm:
        raise SpecError(f"--arm {name!r} is unknown; {nearest(name, by_arm)}")
    wanted = by_arm[name].name
    found = [t for t in plan.trials if t.trial.cell.name == wanted and t.trial.fold == fold]
    if not found:
        raise SpecError(f"--fold {fold}: {name} has none; folds are counted from 0")
    return found[0]


def _table(study: Study, options: RunOptions) -> TrialTable:
    try:
        return TrialTable.load(study_folder(study.name) / "table")
    except TableError:
        return collect_again(study, options).table
