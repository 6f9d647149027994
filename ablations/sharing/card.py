"""The model card of a shared encoder: what it is, what it has seen, how good it was, its limits.

Every number comes from the study's table or the stage's record.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablations.plan import Plan, PlannedTrial
from ablations.results import arm_name
from ablations.table import TrialTable
from ablations.vault import Vault
from melssl.artifacts import FACTS
from melssl.prepared import Prepared
from melssl.sharing import CONFIG, MODEL, ONNX, Shared
from melssl.spec import RunSpec

POOLS = {
    "train": "the training {units} of that fold",
    "train+test": "all {units}, also those it was tested on (without labels)",
    "external": "the training {units} of that fold, and a second cohort",
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a card is about."""

    planned: PlannedTrial
    plan: Plan
    table: TrialTable
    key: str
    shared: Shared

    @property
    def spec(self) -> RunSpec:
        """The encoder's run."""
        return self.planned.trial.spec

    @property
    def prepared(self) -> Prepared:
        """Cohort and folds that it was pretrained with."""
        return self.plan.preparations.of(self.spec)


def card(subject: Subject, vault: Vault, *, onnx: float | None) -> str:
    """Return the card as Markdown, with the header that model hubs read."""
    spec, shared = subject.spec, subject.shared
    tags = ["medical-imaging", "self-supervised-learning", spec.method.name]
    library = "timm" if shared.by_timm else "melssl"
    header = ["---", f"library_name: {library}", "tags:", *(f"- {tag}" for tag in tags), "---"]
    parts = [
        "\n".join(header),
        f"# {spec.method.label}, {spec.backbone.label}, {subject.prepared.cohort.name}",
        f"An encoder of {spec.image_px} px images to {shared.width} numbers"
        f" ({shared.n_weights:,} weights), from the study `{subject.plan.study.name}` of melssl:"
        f" {subject.plan.study.question}",
        "## Load it",
        _loading(subject, onnx),
        "## What it has seen",
        _listed(_seen(subject, vault)),
        "## How it was trained",
        _settings(subject),
        "## How good it was",
        *_scores(subject),
        "## Meant for",
        _listed(_use(subject)),
        "## Limits",
        _listed(_limits(subject)),
        "## Where it comes from",
        _listed(_origin(subject)),
    ]
    return "\n\n".join(parts) + "\n"


def _loading(subject: Subject, onnx: float | None) -> str:
    ours = "from melssl.sharing import load_encoder"
    lines = (
        ["import timm", 'encoder = timm.create_model("local-dir:FOLDER", pretrained=True).eval()']
        if subject.shared.by_timm
        else [ours, 'encoder = load_encoder("FOLDER")']
    )
    code = "\n".join(["```python", *lines, "embeddings = encoder(images)", "```"])
    shape = ", ".join(map(str, subject.spec.frame.shape))
    told = [
        code,
        f"`images` are float (B, {shape}), in 0..1, less the mean and divided by the"
        f" deviation in `{CONFIG}`; a whole image is cut to its central square and resized.",
    ]
    if not subject.shared.by_timm:
        told.append("timm has no such net, so melssl must be installed.")
    if onnx is not None:
        told.append(
            f"`{ONNX}` takes `images` of any number and gives `embeddings`; they differ from the"
            f" above by {onnx:.1g} of the largest."
        )
    return "\n\n".join(told)


def _seen(subject: Subject, vault: Vault) -> Iterator[str]:
    spec, prepared = subject.spec, subject.prepared
    cohort = prepared.cohort
    units = f"{cohort.patient_unit}s"
    n_known = cohort.frame["patient_id"].nunique()
    sizes = f"{len(cohort)} images of {n_known} {units}"
    yield f"Cohort: {cohort.name}, {sizes}, digest {cohort.digest}."
    if not spec.method_class.trains:
        yield "None of it: its weights were not trained on this cohort."
        return
    n_train = len(prepared.learned_from(spec))
    pool = POOLS[spec.pool].format(units=units)
    yield f"Fold {spec.fold} of {spec.folds.n_folds}: pretraining saw {pool} ({n_train} {units})."
    facts = json.loads(vault.text("pretrain", subject.key, FACTS))
    if "images_seen" in facts:
        yield f"Images passed in training: {int(facts['images_seen']):,}."
    yield "Every id that it saw is in `seen.txt`."
    labels = "those of the budget" if spec.method_class.uses_labels else "none"
    yield f"Labels seen: {labels}. Weights at the start: {spec.init or 'random'}."
    kinds = [alert["kind"] for alert in facts.get("alerts", ())]
    if "alerts" in facts:
        yield f"Watchdog of its training: {', '.join(kinds) or 'no alert'}."


def _settings(subject: Subject) -> str:
    spec = subject.spec
    levels = [(name, str(value)) for name, value in subject.planned.trial.cell.levels]
    levels = [(f"factor {name}", value) for name, value in levels if value != "None"]
    rows = [(f"factor {k.removeprefix('factor ')}", v) for k, v in levels]
    for part in ("method", "backbone", "pretraining", "views"):
        plain = getattr(spec, part).plain()
        rows += [(f"{part}.{name}", json.dumps(value)) for name, value in plain.items()]
    body = [f"| `{name}` | {value} |" for name, value in rows]
    return "\n".join(["| setting | value |", "| :-- | :-- |", *body])


def _scores(subject: Subject) -> Iterator[str]:
    table, cell = subject.table, subject.planned.trial.cell
    info, arm = table.info, arm_name(cell)
    metric = info.metric(info.main_metric)
    cells = table.cells[table.cells["metric"] == metric.name]
    mine = cells[[_arm_of(name) == arm for name in cells["cell"]]]
    yield (
        f"{metric.label} of {subject.spec.protocol.label} on this arm's encoders, mean over"
        f" {len(info.folds)} folds (of which this is one), with 95 % intervals; Δ is the paired"
        f" difference to the control, `{info.control}`."
    )
    rows = [
        f"| {100 * row['label_fraction']:g} % | {_ends(row, 'estimate', 'low', 'high')}"
        f" | {_ends(row, 'difference', 'difference_low', 'difference_high', sign='+')} |"
        for row in mine.to_dict("records")
    ]
    yield "\n".join(["| labels | score | Δ |", "| --: | --: | --: |", *rows])
    other = table.unseen[(table.unseen["metric"] == metric.name)]
    other = other[other["cell"] == cell.name]
    for row in other.to_dict("records"):
        yield (
            f"On {row['unseen']} ({row['n_images']} images of {row['n_patients']} {row['unit']}s,"
            f" nothing learned from them), with the largest budget of {info.cohort['name']}:"
            f" {_ends(row, 'estimate', 'low', 'high')};"
            f" Δ {_ends(row, 'difference', 'difference_low', 'difference_high', sign='+')}."
        )


def _arm_of(cell: str) -> str:
    return ",".join(part for part in cell.split(",") if not part.startswith("label_fraction="))


def _ends(row: Mapping[Hashable, Any], *names: str, sign: str = "") -> str:
    values = [float(row[name]) for name in names]
    if np.isnan(values[0]):
        return "–"
    middle, *ends = (f"{value:{sign}.3f}" for value in values)
    return middle if np.isnan(values[1]) else f"{middle} [{', '.join(ends)}]"


def _use(subject: Subject) -> Iterator[str]:
    yield "Research on how much pretraining helps, and as a start for models of like images."
    yield "Features for a probe, or weights to fine-tune, on images as described above."
    yield "Not a medical device: it gives no diagnosis, and nothing here was tried on patients."


def _limits(subject: Subject) -> Iterator[str]:
    info, unit = subject.table.info, subject.prepared.cohort.patient_unit
    if unit != "patient":
        yield f"{unit.capitalize()}s stand in for patients, whom the files do not name."
    yield "Do not test it on images that it has seen: compare with `seen.txt`, and look for copies."
    yield "Images of one cohort say little of another camera, clinic or skin."
    for name, items in (("draw of labels", info.draws), ("training seed", info.seeds)):
        if len(items) == 1:
            yield f"There was one {name}: what another would change is in no interval."
    told = (line.removeprefix("audit: ") for line in info.audit)
    yield from (f"Leak audit: {line}" for line in told if not line.startswith(" "))


def _origin(subject: Subject) -> Iterator[str]:
    origin = subject.table.info.origin
    yield f"`{MODEL}`: SHA-256 `{subject.shared.sha256}`."
    yield f"Stage `pretrain/{subject.key}`, study key `{origin['study_key']}`."
    kept = [name for name in ("torch", "timm", "lightly", "python", "machine") if name in origin]
    yield f"Commit {origin['commit']}, {', '.join(f'{name} {origin[name]}' for name in kept)}."


def _listed(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
