"""Stages and their keys: what is shared, what must not be, and who may see what."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from melssl.artifacts import BUDGET, CURVES, EMBEDDINGS, PREDICTIONS, SCORES, WEIGHTS, Place
from melssl.data.sources.ham10000 import Ham10000
from melssl.encoders import build_backbone
from melssl.errors import ArtifactError, SpecError
from melssl.evaluation.predictions import Predictions
from melssl.methods.weights import load_whole
from melssl.pipeline import execute
from melssl.pool import pool
from melssl.prepared import Prepared
from melssl.settings import with_overrides
from melssl.spec import RunSpec
from melssl.stages import stages
from melssl.training.checkpoint import below, load_tensors


def key(spec: RunSpec, prepared: Prepared, kind: str = "pretrain") -> str:
    return next(stage.key for stage in stages(spec, prepared) if stage.kind == kind)


@pytest.mark.parametrize(
    "override",
    ["budget.fraction=0.5", "budget.draw=3", "protocol=knn", "protocol.strength=2", "seed=0"],
)
def test_pretraining_is_shared_by_what_does_not_concern_it(
    override: str, tiny_spec: RunSpec, tiny: Prepared
) -> None:
    other = with_overrides(tiny_spec, [override])
    assert key(tiny_spec, tiny) == key(other, tiny)


@pytest.mark.parametrize(
    "override",
    [
        "fold=1",
        "seed=1",
        "pool=train+test",
        "views=imagenet",
        "image_px=16",
        "method.temperature=0.5",
        "pretraining.epochs=2",
        "backbone.first_width=16",
    ],
)
def test_pretraining_is_not_shared_by_what_concerns_it(
    override: str, tiny_spec: RunSpec, tiny: Prepared
) -> None:
    other = with_overrides(tiny_spec, [override])
    assert key(tiny_spec, tiny) != key(other, tiny)


def test_one_control_serves_all_folds_and_every_schedule(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    control = tiny_spec.replace(method="no_pretext")
    others = [
        with_overrides(control, [text])
        for text in ("fold=1", "pretraining.epochs=9", "views=imagenet")
    ]
    assert {key(other, tiny) for other in others} == {key(control, tiny)}


@pytest.mark.parametrize("override", ["budget.draw=1", "fold=1", "protocol=knn", "seed=1"])
def test_a_trial_depends_on_its_budget_fold_protocol_and_seed(
    override: str, tiny_spec: RunSpec, tiny: Prepared
) -> None:
    other = with_overrides(tiny_spec, [override])
    assert key(tiny_spec, tiny, "adapt") != key(other, tiny, "adapt")


def test_where_the_files_lie_is_in_no_key(tiny_spec: RunSpec, tiny: Prepared) -> None:
    here, there = (
        [stage.key for stage in stages(tiny_spec.replace(cohort=Ham10000(root=root)), tiny)]
        for root in (Path("here"), Path("elsewhere"))
    )
    assert here == there


def test_arms_differ_in_the_method_only(tiny_spec: RunSpec) -> None:
    pretrained, control = tiny_spec.plain(), tiny_spec.replace(method="no_pretext").plain()
    assert {name for name in pretrained if pretrained[name] != control[name]} == {"method"}


def test_arms_start_from_the_same_backbone(tiny_spec: RunSpec) -> None:
    control = build_backbone(tiny_spec.replace(method="no_pretext"))
    load_whole(build_backbone(tiny_spec), control.state_dict(), "control")
    theirs = control.state_dict()
    assert all((v == theirs[k]).all() for k, v in build_backbone(tiny_spec).state_dict().items())


def test_the_pool_holds_training_patients_only(tiny_spec: RunSpec, tiny: Prepared) -> None:
    patients = tiny.cohort.frame["patient_id"].to_numpy(object)
    seen = set(patients[pool(tiny_spec, tiny).rows])
    assert seen == tiny.fold(tiny_spec).train
    assert not seen & tiny.fold(tiny_spec).test
    assert len(pool(tiny_spec.replace(pool="train+test"), tiny).rows) == len(tiny.cohort)


def test_a_fold_that_does_not_exist_is_an_error(tiny_spec: RunSpec, tiny: Prepared) -> None:
    with pytest.raises(SpecError, match=r"folds 0\.\.1"):
        tiny.fold(tiny_spec.replace(fold=2))


def run_all(spec: RunSpec, prepared: Prepared, root: Path) -> dict[str, Path]:
    done: dict[str, Path] = {}
    for stage in stages(spec, prepared):
        out = root / stage.kind
        out.mkdir(parents=True)
        execute(stage, prepared, Place(inputs=dict(done), out=out, work=root))
        done[stage.kind] = out
    return done


@pytest.fixture(scope="module")
def finished(
    tiny_spec: RunSpec, tiny: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    return run_all(tiny_spec, tiny, tmp_path_factory.mktemp("run"))


def test_a_checkpoint_records_the_samples_it_saw(
    finished: dict[str, Path], tiny_spec: RunSpec, tiny: Prepared
) -> None:
    seen = (finished["pretrain"] / "pool.txt").read_text().split()
    frame = tiny.cohort.frame.set_index("sample_id")
    assert set(frame.loc[seen, "patient_id"]) == tiny.fold(tiny_spec).train


def test_the_stored_weights_hold_the_whole_trained_backbone(
    finished: dict[str, Path], tiny_spec: RunSpec
) -> None:
    tensors, facts = load_tensors(finished["pretrain"] / WEIGHTS)
    backbone = build_backbone(tiny_spec)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    load_whole(backbone, below("backbone.", tensors), "stored")
    assert any((before[k] != v).any() for k, v in backbone.state_dict().items())
    assert RunSpec.parse(facts["spec"]) == tiny_spec


def test_every_sample_is_embedded(finished: dict[str, Path], tiny: Prepared) -> None:
    embeddings = np.load(finished["embed"] / EMBEDDINGS)
    assert embeddings.shape == (len(tiny.cohort), 16)
    assert np.isfinite(embeddings).all()


def test_predictions_cover_the_test_patients_and_nobody_else(
    finished: dict[str, Path], tiny_spec: RunSpec, tiny: Prepared
) -> None:
    predictions = Predictions.load(finished["adapt"] / PREDICTIONS)
    assert set(predictions.patient_id) == tiny.fold(tiny_spec).test
    scores = json.loads((finished["adapt"] / SCORES).read_text())
    assert 0 <= scores["roc_auc"] <= 1
    budget = json.loads((finished["adapt"] / BUDGET).read_text())
    assert budget["n_patients"] == len(tiny.fold(tiny_spec).train)


def test_fine_tuning_runs_from_the_pretrained_weights(
    tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    spec = with_overrides(
        tiny_spec.replace(protocol="fine_tune"),
        ["protocol.training.epochs=2", "protocol.training.min_steps=2"],
    )
    done = run_all(spec, tiny, tmp_path)
    assert set(done) == {"pretrain", "adapt"}
    assert json.loads((done["adapt"] / CURVES).read_text())["loss"]


def test_embeddings_of_another_cohort_are_refused(
    finished: dict[str, Path], tiny_spec: RunSpec, tiny: Prepared, tmp_path: Path
) -> None:
    (tmp_path / "embed").mkdir()
    np.save(tmp_path / "embed" / EMBEDDINGS, np.zeros((3, 16)))
    adapt = stages(tiny_spec, tiny)[-1]
    place = Place(inputs={"embed": tmp_path / "embed"}, out=tmp_path, work=tmp_path)
    with pytest.raises(ArtifactError, match="3 embeddings"):
        execute(adapt, tiny, place)
