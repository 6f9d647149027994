"""Pictures: what the arms of a study have learnt, made of a few encoders, kept as plain files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ablations.design import Study
from ablations.gallery import ENCODERS, INDEX, REFUSED, Gallery
from ablations.options import RunOptions, outputs
from ablations.plan import Plan, PlannedTrial, make_plan
from ablations.preparations import Preparations
from ablations.results import Results
from ablations.vault import Vault
from melssl.artifacts import EMBEDDINGS, WEIGHTS
from melssl.errors import ArtifactError, MelsslError
from melssl.pictures import PICTURES
from melssl.pictures.subject import Subject
from melssl.prepared import Prepared
from melssl.stages import Stage

FOLDER = "pictures"
MOST_ARMS = 6


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An encoder to show: its pretraining, a trial that judges it, the cells that share it."""

    pretrain: Stage
    planned: PlannedTrial
    cells: tuple[str, ...]

    @property
    def key(self) -> str:
        """Identity of the encoder."""
        return self.pretrain.key

    def subject(self, prepared: Prepared, vault: Vault) -> Subject:
        """Return the encoder with its stored weights, and its embeddings if the vault has them."""
        embed = next((s for s in self.planned.stages if s.kind == "embed"), None)
        stored = None
        if embed is not None and vault.has("embed", embed.key):
            path = vault.whole("embed", embed.key) / EMBEDDINGS
            stored = path if path.exists() else None  # a protocol of layers leaves others
        trial = self.planned.key
        judged = vault.whole("adapt", trial) if vault.has("adapt", trial) else None
        return Subject(
            spec=self.planned.trial.spec,
            prepared=prepared,
            weights=vault.whole("pretrain", self.key) / WEIGHTS,
            embeddings=stored,
            judged=judged,
        )


def make_pictures(study: Study, options: RunOptions, most: int = MOST_ARMS) -> Path:
    """Draw the arms of a study, at most so many, and return the folder of the pictures.

    Each arm is shown by its first finished encoder (fold, then seed) at its largest label budget.

    Raises:
        ArtifactError: no encoder of the study is finished.
        GalleryError: two encoders of other weights have one and the same picture.

    """
    vault = Vault(options.vault)
    plan = make_plan(study, Preparations(vault.root, decode=False), vault)
    folder = outputs() / "studies" / study.name / FOLDER
    every = shown_of(plan)
    if not every:
        raise ArtifactError(
            f"study {study.name!r}: expected a finished encoder to show, found none; run it first:"
            " python -m ablations run"
        )
    _say(every, most)
    drawn = [_drawn(shown, plan, vault) for shown in every[:most]]
    gallery = Gallery(
        encoders=pd.DataFrame([one.about for one in drawn], columns=list(ENCODERS)),
        kinds={
            kind: pd.concat([one.frames[kind] for one in having], ignore_index=True)
            for kind in PICTURES
            if (having := [one for one in drawn if kind in one.frames])
        },
        refused=pd.DataFrame([row for one in drawn for row in one.refused], columns=list(REFUSED)),
    )
    gallery.save(folder)
    return folder


def keep_pictures(study: Study, options: RunOptions) -> None:
    """Draw the arms of a study where that was not done; say what cannot be shown, and go on."""
    try:
        if not _are_current(study, options):
            make_pictures(study, options)
    except MelsslError as error:
        print(f"no pictures of encoders: {error}", flush=True)


def _are_current(study: Study, options: RunOptions) -> bool:
    """Say whether the study's folder holds pictures of the encoders that would be shown now."""
    folder = outputs() / "studies" / study.name / FOLDER
    if not (folder / INDEX).exists():
        return False
    vault = Vault(options.vault)
    plan = make_plan(study, Preparations(vault.root, decode=False), vault)
    try:
        known = Gallery.load(folder).encoders
    except ArtifactError:
        return False
    shown = {(one.key, " ".join(one.cells)) for one in shown_of(plan)[:MOST_ARMS]}
    return set(zip(known["encoder"], known["cells"], strict=True)) == shown


def shown_of(plan: Plan) -> list[Shown]:
    """Return the encoders to show, one to an arm, the control's first; shared ones once."""
    results = Results(plan=plan, finished=())
    largest = {cell.name for cell in results.largest}
    chosen: dict[str, PlannedTrial] = {}
    for planned in sorted(plan.trials, key=lambda planned: planned.trial.place):
        name = planned.trial.cell.name
        pretrain = _pretrain(planned)
        if name in largest and pretrain and ("pretrain", pretrain.key) in plan.done:
            chosen.setdefault(name, planned)
    found: dict[str, Shown] = {}
    for name in (cell.name for cell in results.largest if cell.name in chosen):
        stage = _pretrain(chosen[name])
        assert stage is not None
        before = found[stage.key].cells if stage.key in found else ()
        first = found[stage.key].planned if stage.key in found else chosen[name]
        found[stage.key] = Shown(pretrain=stage, planned=first, cells=(*before, name))
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """The pictures of one encoder, by kind, and those that could not be made, with the reason."""

    about: tuple[object, ...]
    frames: dict[str, pd.DataFrame]
    refused: list[tuple[str, str, str]]


def _drawn(shown: Shown, plan: Plan, vault: Vault) -> _Drawn:
    started, trial = time.monotonic(), shown.planned.trial
    subject = shown.subject(plan.preparations.of(trial.spec), vault)
    frames, refused = {}, []
    for kind, draw in PICTURES.items():
        try:
            frames[kind] = draw(subject).assign(encoder=shown.key)
        except MelsslError as error:
            refused.append((kind, shown.key, str(error)))
    seconds = time.monotonic() - started
    print(f"  {shown.cells[0]}: {len(frames)} pictures, {seconds:.0f} s", flush=True)
    about = (shown.key, " ".join(shown.cells), subject.digest, trial.fold, trial.seed)
    return _Drawn(about=about, frames=frames, refused=refused)


def _say(every: Sequence[Shown], most: int) -> None:
    print(f"pictures of {min(len(every), most)} encoders, which show patients' images:", flush=True)
    for shown in every[most:]:
        print(f"  left out: {shown.cells[0]} (--most {len(every)} shows all)", flush=True)


def _pretrain(planned: PlannedTrial) -> Stage | None:
    return next((stage for stage in planned.stages if stage.kind == "pretrain"), None)


def refusals(gallery: Gallery) -> Iterator[str]:
    """Yield what could not be shown, and why, each reason once."""
    for (kind, reason), rows in gallery.refused.groupby(["kind", "reason"], sort=False):
        yield f"  no {kind} of {len(rows)}: {reason}"
