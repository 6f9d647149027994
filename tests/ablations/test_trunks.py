"""A study of lengths: every step of a trunk once, in order, and each length charged in full."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from ablations.collect import collect
from ablations.cost import estimate
from ablations.describe import cost_lines, plan_lines
from ablations.design import Study
from ablations.options import RunOptions
from ablations.plan import Plan, make_plan
from ablations.preparations import Preparations
from ablations.run import _encoders, run_plan
from ablations.vault import Vault
from melssl.artifacts import FACTS, WEIGHTS, Place
from melssl.pipeline import execute
from melssl.spec import RunSpec
from melssl.stages import Kind, stages
from melssl.training import loop
from melssl.training.checkpoint import load_tensors
from melssl.workload import workload

TINY = {
    "image_px": 32,
    "folds": {"n_folds": 2},
    "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
    "pretraining": {"epochs": 1, "batch_size": 32},
}
COHORT = {"source": "synthetic", "n_patients": 30, "image_px": 32}
TRAINING = {"schedule": "stable_decay", "warmup_epochs": 0.5, "decay_share": 0.4}


def lengths(*epochs: int, **training: object) -> Study:
    """Return a study of lengths on two folds."""
    plain = RunSpec.parse(TINY)
    own = plain.pretraining.replace(**{**TRAINING, **training})
    return Study(
        name="lengths",
        baseline=plain.replace(pretraining=own, cohort=COHORT),
        levels={"pretrain_epochs": epochs or (2, 4), "label_fraction": (1.0,)},
        control=None,
    )


@dataclass
class Trained:
    """A vault with a study of lengths, and the steps that were trained for it."""

    root: Path
    steps: list[int] = field(default_factory=list)

    @property
    def vault(self) -> Vault:
        return Vault(self.root)

    def run(self, study: Study) -> Plan:
        """Train what a study lacks, in this process; count every step."""
        options = RunOptions(
            backend="sequential", workers=1, threads=1, device="cpu", n_devices=1,
            tracking_uri="", vault=self.root,
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ablations.cost.calibrate", lambda *_: 0.5)
            cost = estimate(plan := plan_of(study, self.vault, decode=True), self.vault, 1)
            advance = loop._Run.advance

            def count(run: loop._Run[object], stepper: torch.nn.Module) -> None:
                self.steps.append(run.step)
                advance(run, stepper)

            patch.setattr(loop._Run, "advance", count)
            run_plan(plan, self.vault, options, cost, lambda outcome: None)
        return plan_of(study, self.vault, decode=True)

    def copied(self, root: Path) -> Trained:
        """Return the same vault, to be changed."""
        shutil.copytree(self.root, root)
        return Trained(root)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return two lengths, trained from one trunk per fold."""
    made = Trained(tmp_path_factory.mktemp("lengths") / "vault")
    made.run(lengths())
    return made


def plan_of(study: Study, vault: Vault, *, decode: bool = False) -> Plan:
    return make_plan(study, Preparations(vault.root, decode=decode), vault)


def test_every_step_of_a_trunk_is_trained_once(trained: Trained) -> None:
    plan = plan_of(lengths(), trained.vault)
    assert plan.missing() == []
    batch = workload(plan.all_of("trunk")[0], plan.preparations.of(lengths().baseline)).units
    batch /= plan.all_of("trunk")[0].end_step or 1
    spent = [x for kind in ("trunk", "pretrain") for x in _facts(trained.vault, kind)]
    assert len(trained.steps) * batch == sum(fact["spent_images"] for fact in spent)
    short, long = sorted({stage.end_step or 0 for stage in plan.all_of("trunk")})
    assert [trained.steps.count(step) for step in range(short)] == [2] * short, "once per fold"
    assert trained.steps.count(long - 1) >= 2


def test_the_weights_of_a_length_are_those_of_one_training(
    trained: Trained, tmp_path: Path
) -> None:
    plan = plan_of(lengths(), trained.vault, decode=True)
    planned = next(p for p in plan.trials if p.trial.spec.pretraining.epochs == 4)
    prepared = plan.preparations.of(planned.trial.spec)
    whole = stages(planned.trial.spec, prepared)[0]
    execute(whole, prepared, Place(inputs={}, out=tmp_path, work=tmp_path))
    expected, _ = load_tensors(tmp_path / WEIGHTS)
    got, _ = load_tensors(trained.vault.folder("pretrain", whole.key) / WEIGHTS)
    assert all(torch.equal(value, got[name]) for name, value in expected.items())


def test_a_length_is_charged_alike_whether_it_shared_a_trunk_or_not(
    trained: Trained, tmp_path: Path
) -> None:
    shared = collect(plan_of(lengths(), trained.vault), trained.vault).costs
    plain = Trained(tmp_path / "vault")
    alone = collect(plain.run(lengths(schedule="cosine")), plain.vault).costs
    assert list(shared["pretrain_epochs"]) == list(alone["pretrain_epochs"]) == [2, 4]
    assert list(shared["images_seen"]) == list(alone["images_seen"])
    assert len(plain.steps) > len(trained.steps), "and yet less was trained"
    spent = [x for kind in ("trunk", "pretrain") for x in _facts(trained.vault, kind)]
    charged = 2 * shared["training_seconds"].sum()  # two folds
    assert charged > sum(fact["spent_training_seconds"] for fact in spent) > 0


def test_an_estimate_charges_a_length_in_full_and_counts_a_trunk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablations.cost.calibrate", lambda *_: 0.5)
    vault = Vault(tmp_path)
    plan, plain = plan_of(lengths(), vault), plan_of(lengths(schedule="cosine"), vault)
    cost, alone = estimate(plan, vault, 1), estimate(plain, vault, 1)
    charged = [cost.attributed(stage) for stage in plan.missing("pretrain")]
    assert charged == [alone.per_stage[stage.key] for stage in plain.missing("pretrain")]
    spent = cost.seconds["trunk"] + cost.seconds["pretrain"]
    shorter = [s for s in plan.missing("trunk") if s.first_step == 0]
    assert alone.seconds["pretrain"] - spent == sum(cost.per_stage[s.key] for s in shorter)
    options = RunOptions(
        backend="loky", workers=2, threads=1, device="cpu", n_devices=1, tracking_uri="",
        vault=tmp_path,
    )  # fmt: skip
    shown = "\n".join(plan_lines(plan) + cost_lines(plan, cost, options))
    assert "trunks     0 of 4 finished" in shown
    assert "4 encoders share trunks" in shown


def test_disk_is_foretold_from_earlier_stages_and_roughly_from_shapes_alone(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablations.cost.calibrate", lambda *_: 0.5)
    kinds: tuple[Kind, ...] = ("trunk", "pretrain", "embed", "adapt", "predict")
    taken = {
        kind: sum(
            path.stat().st_size
            for key in trained.vault.finished(kind)
            for path in trained.vault.folder(kind, key).iterdir()
        )
        for kind in kinds
    }
    other = lengths()
    other = other.replace(baseline=other.baseline.replace(seed=5))
    known = estimate(plan_of(other, trained.vault), trained.vault, 1).disk
    shapes = estimate(plan_of(other, Vault(tmp_path)), Vault(tmp_path), 1).disk
    assert known == pytest.approx(taken, rel=0.05)
    assert shapes["predict"] == taken["predict"] == 0
    assert all(0.4 < shapes[kind] / taken[kind] < 2.5 for kind in kinds[:-1]), (shapes, taken)


def test_a_trunk_comes_before_what_goes_on_from_it(tmp_path: Path) -> None:
    plan = plan_of(lengths(4, 2), Vault(tmp_path))
    first, second = _encoders(plan, {})
    assert [[s.kind for s in group] for group in first] == [["trunk", "trunk"]] * 2
    for short, long in first:
        assert long.needs == (("trunk", short.key),)
        assert long.first_step == short.end_step
    assert [[s.kind for s in group] for group in second] == [["pretrain", "embed"]] * 4


def test_a_later_study_goes_on_from_the_longest_trunk_in_the_vault(
    trained: Trained, tmp_path: Path
) -> None:
    later = trained.copied(tmp_path / "vault")
    before = max(s.end_step or 0 for s in plan_of(lengths(), later.vault).all_of("trunk"))
    plan = plan_of(lengths(6), later.vault)
    assert {stage.first_step for stage in plan.missing("trunk")} == {before}
    assert later.run(lengths(6)).missing() == []
    assert min(later.steps) == before


def test_a_finished_length_waits_for_no_trunk(trained: Trained, tmp_path: Path) -> None:
    later = trained.copied(tmp_path / "vault")
    shutil.rmtree(later.root / "stages" / "trunk")
    study = lengths()
    plan = plan_of(study.replace(levels=study.levels | {"label_fraction": (0.5, 1)}), later.vault)
    assert plan.missing("trunk") == plan.missing("pretrain") == []
    assert len(plan.missing("adapt")) == 4


def test_a_trunk_that_fails_is_the_reason_of_all_that_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError("out of memory")

    monkeypatch.setattr("melssl.pipeline.fit", broken)
    made = Trained(tmp_path / "vault")
    missing = collect(made.run(lengths()), made.vault).missing
    assert len(missing) == 4
    assert missing["reason"].str.contains("out of memory").all()


def _facts(vault: Vault, kind: Kind) -> list[dict[str, float]]:
    paths = [vault.folder(kind, key) / FACTS for key in sorted(vault.finished(kind))]
    return [json.loads(path.read_text()) for path in paths]
