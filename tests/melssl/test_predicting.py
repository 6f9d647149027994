"""An unseen cohort under the heads of a study: shown as it should be, scored as a test fold is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from melssl.artifacts import FACTS, PREDICTIONS, SCORES, VIEWS, Place
from melssl.data.images import TurnedImages
from melssl.errors import CohortError
from melssl.evaluation.predictions import Predictions
from melssl.pipeline import execute
from melssl.prepared import Prepared, Work
from melssl.settings import with_overrides
from melssl.spec import RunSpec
from melssl.stages import Kind, Stage, predicting, stages
from melssl.unseen import ORIENTATIONS, Unseen, with_unseen

TUNED = (
    *("protocol=fine_tune", "protocol.threshold_folds=0"),
    *("protocol.training.epochs=1", "protocol.training.min_steps=1"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unseen")


def asked(spec: RunSpec, prepared: Prepared, cache: Path, **settings: object) -> Prepared:
    unseen = Unseen.parse({"name": "other", **settings})
    work = Work(cache=cache, decode=True, workers=1, progress=False)
    return with_unseen(prepared, spec, unseen, work)


def run(stage: Stage, prepared: Prepared, folder: Path) -> Path:
    places: dict[Kind, Path] = {kind: folder / key for kind, key in stage.needs}
    place = Place(inputs=places, out=folder / stage.key, work=folder / f"work-{stage.key}")
    place.out.mkdir()
    place.work.mkdir()
    execute(stage, prepared, place)
    return place.out


@pytest.mark.parametrize("overrides", [("protocol=linear_probe",), TUNED])
def test_the_images_of_a_test_fold_score_as_in_the_trial_when_they_are_asked_for_again(
    overrides: tuple[str, ...], tiny_spec: RunSpec, tiny: Prepared, cache: Path, tmp_path: Path
) -> None:
    spec = with_overrides(tiny_spec, ["method=no_pretext", *overrides])
    cohort = spec.cohort.plain()
    both = asked(spec, tiny, cache, cohort=cohort, turns="flips", linked="keep")
    chain = stages(spec, both)
    own = Unseen.parse({"name": "other", "cohort": cohort, "turns": "flips", "linked": "keep"})
    for stage in chain:
        trial = run(stage, both, tmp_path)
    out = run(predicting(chain, own, both), both, tmp_path)
    with np.load(out / VIEWS) as file:
        ids, views = list(file["sample_id"]), file["probability"]
    expected = Predictions.load(trial / PREDICTIONS)
    rows = [ids.index(name) for name in expected.sample_id]
    assert views.shape == (4, len(tiny.cohort), 2)
    assert views[0][rows] == pytest.approx(expected.probability, abs=1e-5)
    assert not np.allclose(views[0], views[1])
    assert views.sum(axis=2) == pytest.approx(1)
    assert json.loads((out / FACTS).read_text())["head_differs"] < 1e-5
    labelled = Predictions.load(out / PREDICTIONS)
    assert labelled.probability == pytest.approx(views.mean(axis=0))
    assert json.loads((out / SCORES).read_text())["roc_auc"] > 0


def test_patients_of_the_study_are_left_out_of_an_unseen_cohort(
    tiny_spec: RunSpec, tiny: Prepared, cache: Path
) -> None:
    cohort = tiny_spec.cohort.plain()
    with pytest.raises(CohortError, match="no rows"):
        asked(tiny_spec, tiny, cache, cohort=cohort)
    kept = asked(tiny_spec, tiny, cache, cohort=cohort, linked="keep").unseen
    assert kept is not None
    assert set(kept.linked) == set(tiny.cohort.frame["sample_id"])


def test_a_prediction_is_known_by_the_cohort_and_the_views_and_leaves_other_keys_alone(
    tiny_spec: RunSpec, tiny: Prepared, cache: Path
) -> None:
    cohorts = [tiny_spec.cohort.plain() | {"n_patients": 6, "cohort_seed": seed} for seed in (5, 6)]
    keys = set()
    for cohort in cohorts:
        for turns in ("none", "all"):
            prepared = asked(tiny_spec, tiny, cache, cohort=cohort, linked="keep")
            unseen = Unseen.parse({"name": "x", "cohort": cohort, "turns": turns})
            chain = stages(tiny_spec, prepared)
            assert chain == stages(tiny_spec, tiny)
            keys.add(predicting(chain, unseen, prepared).key)
    assert len(keys) == 4


class Numbered:
    """Images whose rows can be told by their pixels."""

    def __init__(self, tiny: Prepared) -> None:
        self.frame = tiny.images().frame

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        plane = torch.arange(self.frame.side_px**2, dtype=torch.uint8).reshape(self.frame.sides)
        return torch.stack([(plane + int(row)).expand(3, -1, -1) for row in rows])


def test_eight_orientations_are_all_that_a_square_has_and_keep_to_their_row(
    tiny: Prepared,
) -> None:
    images = Numbered(tiny)
    turned = TurnedImages(images, 3, ORIENTATIONS["all"])
    found = turned.batch(np.arange(24))
    assert torch.equal(found[:3], images.batch(np.arange(3)))
    assert torch.equal(found[3 + 1], torch.rot90(images.batch(np.array([1]))[0], 1, (1, 2)))
    assert torch.equal(found[4 * 3], images.batch(np.array([0]))[0].flip(2))
    for row in range(3):
        seen = {view.numpy().tobytes() for view in found[row::3]}
        assert len(seen) == 8
        values = {tuple(view.flatten().sort().values.tolist()) for view in found[row::3]}
        assert len(values) == 1
