"""Frames of curves, ranks, folds and time: they agree with the frames that were there before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ablations.collect import collect
from ablations.comparisons import comparisons_frame
from ablations.design import Study
from ablations.parts import parts_frame
from ablations.plan import Plan
from ablations.predicted import Predicted
from ablations.ranks import pairs_frame, ranks_frame
from ablations.results import Results
from ablations.spent import spent_frame
from ablations.sweeps import sweeps_frame
from ablations.table import SCHEMAS, TrialTable
from ablations.vault import Vault
from melssl.spec import RunSpec

ARM = "method=simclr,label_fraction=1.0"
CONTROL = ARM.replace("simclr", "no_pretext")


@pytest.fixture(scope="module")
def three(pretend: Callable[[Study], tuple[Plan, Vault]]) -> TrialTable:
    """Return the table of three arms on three folds at one budget."""
    study = Study(
        name="three",
        baseline=RunSpec.parse(
            {
                "cohort": {"source": "synthetic", "n_patients": 60, "image_px": 32},
                "image_px": 32,
                "folds": {"n_folds": 3},
            }
        ),
        levels={"method": ("simclr", "byol"), "label_fraction": (1.0,)},
    )
    return collect(*pretend(study))


def test_curves_average_trials_and_lie_within_their_bands(
    results: Results, pretended: tuple[Plan, Vault]
) -> None:
    frame = sweeps_frame(results, Predicted(pretended[1]))
    assert set(frame["cell"]) == {ARM, CONTROL}
    own = frame[frame["cell"] == ARM].set_index("curve")
    area = np.trapezoid(own.loc["roc", "estimate"], own.loc["roc", "at"])
    scores = [trial.score("roc_auc") for trial in results.by_cell[ARM]]
    assert area == pytest.approx(np.mean(scores), abs=0.02)
    labelled = results.prepared.cohort.labelled
    share = (labelled["target"] == 1).mean()
    assert own.loc["benefit_of_all", "estimate"].iloc[0] == pytest.approx(share, abs=0.02)
    inside = frame.dropna()
    assert (inside["low"] <= inside["high"]).all()
    held = (inside["low"] - 0.02 <= inside["estimate"]) & (inside["estimate"] <= inside["high"])
    assert held.mean() > 0.95


def test_a_pair_is_tested_as_the_comparison_of_the_same_arms(results: Results) -> None:
    pairs = pairs_frame(results).set_index(["cell", "other"])
    compared = comparisons_frame(results, 0.01).set_index(["cell", "metric"])
    for share in ("0.3", "1.0"):
        arm, control = (name.replace("=1.0", f"={share}") for name in (ARM, CONTROL))
        pair, row = pairs.loc[(control, arm)], compared.loc[(arm, "roc_auc")]
        assert pair["difference"] == pytest.approx(-row["difference"])
        ends = [-pair["high"], -pair["low"]]
        np.testing.assert_allclose(ends, row[["low", "high"]].astype(float), atol=1e-6)
        assert pair["n_pairs"] == row["n_pairs"]
        assert (np.isnan(pair["p"]), np.isnan(row["p"])) in ((True, True), (False, False))
    assert len(pairs) == 2  # the least and the largest budget


def test_two_arms_are_compared_and_not_ranked(results: Results) -> None:
    ranks = ranks_frame(results)
    refused = ranks.drop_duplicates("label_fraction").set_index("label_fraction")["refused"]
    assert refused[1.0].startswith("2 arms have no ranking")
    assert "label budgets" in refused[0.3]
    assert ranks.groupby("label_fraction")["mean_rank"].sum().eq(3).all()


def test_three_arms_are_ranked_over_folds_and_all_pairs_tested(three: TrialTable) -> None:
    ranks = three.ranks.set_index("method")
    trials = three.trials[three.trials["metric"] == "roc_auc"]
    by_fold = trials.pivot_table(index="fold", columns="method", values="score")
    expected = by_fold.rank(axis=1, ascending=False).mean()
    for method, rank in expected.items():
        assert ranks.loc[method, "mean_rank"] == pytest.approx(rank)
    assert set(ranks["n_folds"]) == {3}
    assert ranks["critical_difference"].iloc[0] == pytest.approx(1.91, abs=0.01)
    assert len(three.pairs) == 3
    tested = three.pairs.dropna(subset=["p"])
    assert (tested["p_holm"] >= tested["p"]).all()


def test_folds_that_were_dealt_twice_are_no_blocks(
    pretend: Callable[[Study], tuple[Plan, Vault]],
) -> None:
    spec = {"cohort": {"source": "synthetic", "n_patients": 40, "image_px": 32}, "image_px": 32}
    study = Study(
        name="twice",
        baseline=RunSpec.parse(spec | {"folds": {"n_folds": 2}}),
        levels={"label_fraction": (1.0,)},
        n_repeats=2,
    )
    table = collect(*pretend(study))
    assert table.ranks["refused"].str.contains("dealt 2 times").all()


def test_parts_count_each_patient_once(results: Results) -> None:
    parts = parts_frame(results)
    whole = parts[parts["part"] == "all"].iloc[0]
    tested = parts[parts["part"] == "test"]
    for name in ("n_images", "n_patients", "n_positives"):
        assert tested[name].sum() == whole[name]
    both = parts[parts["fold"] == 0][["n_images"]].sum()
    assert both.iloc[0] == whole["n_images"]


def test_time_is_counted_once_for_a_stage_that_arms_share(
    results: Results, pretended: tuple[Plan, Vault]
) -> None:
    frame = spent_frame(results, pretended[1])
    whole = frame[frame["cell"].isna()].set_index("kind")
    arms = frame[frame["cell"].notna()]
    assert whole.loc["adapt", "n_stages"] == len(results.finished)
    assert whole.loc["adapt", "n_stages"] == arms[arms["kind"] == "adapt"]["n_stages"].sum()
    seconds = sum(trial.seconds for trial in results.finished)
    assert whole.loc["adapt", "seconds"] == pytest.approx(seconds)
    assert set(arms["cell"]) == {ARM, CONTROL}


def test_a_table_from_before_the_newer_frames_is_read_without_them(
    three: TrialTable, tmp_path: Path
) -> None:
    three.save(tmp_path)
    path = tmp_path / "study.json"
    study = json.loads(path.read_text())
    later = [name for name, schema in SCHEMAS.items() if schema.later]
    for name in later:
        (tmp_path / f"{name}.csv").unlink()
        del study["frames"][f"{name}.csv"]
    path.write_text(json.dumps(study))
    old = TrialTable.load(tmp_path)
    assert all(getattr(old, name).empty for name in later)
    assert len(old.cells) == len(three.cells)
