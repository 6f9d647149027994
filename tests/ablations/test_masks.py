"""Studies of masks: counts as budgets, scores collected, what needs classes is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ablations.collect import collect
from ablations.design import Study, Trial
from ablations.factors import LABEL_FRACTION
from ablations.options import study_from
from ablations.plan import Plan, looked_up, make_plan
from ablations.preparations import Preparations
from ablations.results import read_results
from ablations.searching.design import Tuning, make_search
from ablations.table import TrialTable
from ablations.vault import Vault
from melssl.artifacts import BUDGET, CURVES, FACTS, MASK_SCORES, REPLICATES, SCORES
from melssl.errors import SpecError, SplitError
from melssl.evaluation.mask_scores import MEASURES, MaskScores
from melssl.evaluation.metrics import score_all
from melssl.judging import replicates
from melssl.prepared import Prepared
from melssl.seeding import Seed
from melssl.settings import digest
from melssl.spec import RunSpec
from reports.exhibits import exhibits_of

pytest.importorskip("monai", reason="the extra 'volumes' is not installed")
TINY = {
    "cohort": {"source": "synthetic_volumes", "n_patients": 16, "side_mm": 16, "cohort_seed": 5},
    "image_px": 16,
    "store_px": 24,
    "folds": {"n_folds": 2},
    "views": {"native_scale": True},
    "backbone": {"family": "small_cnn", "first_width": 8, "n_blocks": 2},
    "method": "volume_autoencoder",
    "pretraining": {"epochs": 1, "batch_size": 4},
    "protocol": "segmentation",
}


def study(**changes: object) -> Study:
    made = {
        "name": "masks",
        "baseline": RunSpec.parse(TINY),
        "levels": {"label_fraction": (4, 6, 1.0)},
        "n_draws": 2,
    }
    return Study.parse(made | changes)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Vault, TrialTable]:
    """Return a finished study that nobody trained: the arm is nearer to the true masks."""
    vault = Vault(tmp_path_factory.mktemp("masks"))
    plan = make_plan(study(), Preparations(vault.root, decode=False), vault)
    for planned in {planned.key: planned for planned in plan.trials}.values():
        prepared = plan.preparations.of(planned.trial.spec)
        pretrain = planned.stages[0]
        if not vault.has("pretrain", pretrain.key):
            vault.put(pretrain, _pretrained, {})
        vault.put(planned.stages[-1], _writer(planned.trial, prepared), {})
    plan = looked_up(plan, vault)
    return plan, vault, collect(plan, vault)


def _pretrained(folder: Path) -> None:
    curves = {name: [(0, 1.0), (5, 0.6)] for name in ("loss", "reconstruction", "contrastive")}
    (folder / CURVES).write_text(json.dumps(curves))
    (folder / FACTS).write_text(json.dumps({"seconds": 2.0, "training_seconds": 1.0}))


def _writer(trial: Trial, prepared: Prepared) -> Callable[[Path], None]:
    budget = prepared.budget(trial.spec)
    made = _scores(trial, prepared, budget.n_images)
    numbers = {
        "n_images": budget.n_images,
        "n_patients": budget.n_patients,
        "n_positives": budget.n_positives,
        "samples": digest(list(budget.sample_ids)),
    }

    def write(folder: Path) -> None:
        made.save(folder / MASK_SCORES)
        (folder / SCORES).write_text(json.dumps(score_all(made)))
        (folder / BUDGET).write_text(json.dumps(numbers))
        np.savez(folder / REPLICATES, allow_pickle=False, **replicates(made))

    return write


def _scores(trial: Trial, prepared: Prepared, n_labels: int) -> MaskScores:
    frame = prepared.cohort.frame
    test = frame[frame["patient_id"].isin(prepared.fold(trial.spec).test)]
    rng = Seed(5).child(trial.spec.method.name, *map(str, trial.place), n_labels).numpy()
    skill = 0.1 if trial.spec.method.name == "volume_autoencoder" else 0.0
    shape = (len(test), 3)
    values = dict.fromkeys(MEASURES, np.full(shape, 9.0))
    values["dice"] = np.clip(0.5 + skill + 0.01 * n_labels + 0.02 * rng.normal(size=shape), 0, 1)
    values["predicted_mm3"] = np.where(np.arange(len(test))[:, None] == 0, 0.0, np.full(shape, 9.0))
    return MaskScores(
        sample_id=test["sample_id"].to_numpy(object),
        patient_id=test["patient_id"].to_numpy(object),
        structures=prepared.cohort.structures,
        **values,
    )


def test_the_table_of_masks_has_dice_for_its_main_metric(
    collected: tuple[Plan, Vault, TrialTable],
) -> None:
    _, _, table = collected
    assert table.info.main_metric == "dice"
    names = {metric.name for metric in table.info.metrics}
    assert names == {"dice", "dice_with_background", "hausdorff_95_mm", "surface_distance_mm"}
    assert table.info.cohort["sample_unit"] == "volume"
    assert table.info.cohort["structures"] == "front, back"
    cells = table.cells[table.cells["metric"] == "dice"].set_index("cell")
    assert cells.loc["method=volume_autoencoder,label_fraction=4", "n_patients"] == 4
    assert cells.loc["method=volume_autoencoder,label_fraction=1.0", "n_patients"] == 8
    gains = cells["difference"].dropna()
    np.testing.assert_allclose(gains, 0.1, atol=0.02)
    assert (cells["low"] < cells["estimate"]).all()
    assert (cells["high"] > cells["estimate"]).all()


def test_relative_gains_are_differences_over_the_controls_scores(
    collected: tuple[Plan, Vault, TrialTable],
) -> None:
    plan, vault, table = collected
    relative = table.relative[table.relative["metric"] == "dice"]
    np.testing.assert_allclose(
        relative["estimate"], relative["arm_score"] / relative["control_score"] - 1
    )
    assert (relative["low"] < relative["estimate"]).all()
    results = read_results(plan, vault)
    one = relative.iloc[0]
    gain, base = results.gain(one["cell"], "dice"), results.control(one["cell"], "dice")
    ends = np.quantile(gain.replicates / base.replicates, [0.025, 0.975])
    np.testing.assert_allclose(one[["low", "high"]].astype(float), ends, rtol=1e-5)


def test_structures_are_scored_with_what_was_missed(
    collected: tuple[Plan, Vault, TrialTable],
) -> None:
    table = collected[2]
    found = table.structures
    assert set(found["structure"]) == {"background", "front", "back"}
    assert set(found.loc[found["structure"] == "background", "metric"]) == {"dice"}
    assert set(found["label_fraction"]) == {1.0}, "of each arm's largest budget"
    assert set(found["n_volumes"]) == {32}
    assert set(found["n_missed"]) == {2}, "one volume in each of two folds"


def test_every_exhibit_of_such_a_study_is_drawn_or_says_why_not(
    collected: tuple[Plan, Vault, TrialTable],
) -> None:
    table = collected[2]
    refused = {}
    for exhibit in exhibits_of(table.info):
        refused[exhibit.name] = exhibit.refusal(table)
        if refused[exhibit.name] is None:
            frame = exhibit.frame(table)
            assert exhibit.caption(frame, table.info)
    for name in ("label_curve", "gain_curve", "main_table", "relative_gain", "structures"):
        assert refused[name] is None, refused[name]
    for name in ("labels_saved", "comparisons", "pretext_reconstruction", "pretext_contrastive"):
        assert refused[name] is None, refused[name]
    for name in ("reliability", "calibration", "pooled", "subgroups"):
        assert refused[name], name


def test_the_share_of_a_count_is_that_of_a_folds_training_patients(
    collected: tuple[Plan, Vault, TrialTable],
) -> None:
    results = read_results(*collected[:2])
    shares = [results.share(cell) for cell in results.arms["method=volume_autoencoder"]]
    assert shares == [0.5, 0.75, 1.0]
    assert [cell.spec.budget.size for cell in results.largest] == [1.0, 1.0]


def test_a_number_of_patients_is_a_level_and_all_of_them_another() -> None:
    parsed = [LABEL_FRACTION.parse(text) for text in ("6", "24", "100%", "5%", "0.1", "1")]
    assert parsed == [6, 24, 1.0, 0.05, 0.1, 1.0]
    for wrong in ("6.5", "110%", "200%"):  # 200% are not two patients
        with pytest.raises(ValueError, match=r"up to 100% .* whole number"):
            LABEL_FRACTION.parse(wrong)
    trials = list(study().trials())
    draws = {t.cell.spec.budget.size: t.draw for t in trials}
    assert draws == {4: 1, 6: 1, 1.0: 0}, "all labels have one draw"
    with pytest.raises(SpecError, match="use one kind"):
        study(levels={"label_fraction": (6, 0.1)})


def test_more_patients_than_a_fold_has_are_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    wide = study(levels={"label_fraction": (4, 9)})
    with pytest.raises(SplitError, match="the fold has 8 labelled training patients"):
        make_plan(wide, Preparations(tmp_path, decode=False), Vault(tmp_path))


def test_masks_and_classes_do_not_stand_in_one_study_nor_metadata_beside_masks(
    tmp_path: Path,
) -> None:
    both = study(levels={"label_fraction": (4,), "protocol": ("segmentation", "linear_probe")})
    with pytest.raises(SpecError, match="segmentation says masks, linear_probe says classes"):
        make_plan(both, Preparations(tmp_path, decode=False), Vault(tmp_path))
    beside = study(references=("metadata_clinical",))
    plan = make_plan(beside, Preparations(tmp_path, decode=False), Vault(tmp_path))
    assert plan.absent == {"metadata_clinical": "a table of metadata draws no masks"}
    assert {t.trial.spec.method.name for t in plan.trials} == {"no_pretext", "volume_autoencoder"}


def test_a_search_cannot_be_judged_by_masks() -> None:
    with pytest.raises(SpecError, match="a search goes by ROC AUC, and segmentation draws masks"):
        make_search(study(levels={}), Tuning())


def test_the_preset_of_volumes_is_a_study_of_masks() -> None:
    import argparse

    from ablations.options import add_study_options

    parser = argparse.ArgumentParser()
    add_study_options(parser, factor=False)
    args = parser.parse_args(["--preset", "volumes", "--data-root", "somewhere"])
    made = study_from(args, LABEL_FRACTION.name)
    assert made.baseline.protocol.judges == "masks"
    assert made.values(LABEL_FRACTION) == (6, 12, 24, 1.0)
    assert made.baseline.frame.sides == (32, 32, 32)
