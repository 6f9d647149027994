"""The long proofs run, in little, and what they simulate is what they say."""

from __future__ import annotations

import numpy as np
import pytest

from melssl.evaluation.metrics import METRICS
from melssl.seeding import Seed
from melssl.spec import RunSpec
from melssl.statistics.differences import corrected_t
from proofs import (
    bootstrap_speed,
    coverage,
    false_positives,
    ranking,
    search_gain,
    unseen_differences,
)
from proofs.cross_validation import Design, compared
from proofs.made_cohorts import made_arms, made_cohort, made_folds, multiplicities

FEW = ["--replicates", "2", "--cores", "1"]


def test_false_positives_prints_a_rate_of_every_test_in_every_scenario(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert false_positives.main([*FEW, "--patients", "60"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 10
    assert {line.count("|") for line in lines} == {len(false_positives.SCENARIOS) + 3}
    assert sum(false_positives.PRINTED in line for line in lines) == 1


def test_the_ranking_proof_prints_a_rate_of_every_test_in_every_scenario(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "RESAMPLES", 50)
    assert ranking.main([*FEW, "--patients", "60", "--arms", "3"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    assert {line.count("|") for line in lines} == {len(ranking.SCENARIOS) + 2}


def test_the_proof_of_unseen_cohorts_prints_a_rate_of_every_interval_in_every_scenario(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert unseen_differences.main([*FEW, "--patients", "60", "--unseen", "40"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    assert {line.count("|") for line in lines} == {len(unseen_differences.SCENARIOS) + 2}


def test_coverage_prints_a_line_per_interval(capsys: pytest.CaptureFixture[str]) -> None:
    assert coverage.main([*FEW, "--positives", "30"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 30")]
    assert len(lines) == 7 + 4


def test_the_speed_proof_scores_what_the_obvious_way_scores() -> None:
    predictions = bootstrap_speed.made_predictions(0)
    assert (len(predictions.target), len(predictions.patients)) == (33_000, 2_056)
    assert predictions.target.sum() == 581
    for name, obvious in bootstrap_speed.OBVIOUS.items():
        ours = METRICS[name](predictions)
        assert obvious(predictions.target, predictions.score) == pytest.approx(ours, abs=1e-3)


def test_one_seed_gives_one_set_of_p_values() -> None:
    scenario = false_positives.SCENARIOS[-1]
    first, again, other = (
        false_positives.p_values(i, scenario=scenario, n_patients=60, seed=Seed(0))
        for i in (0, 0, 1)
    )
    assert first == again != other


def test_the_made_truths_of_the_coverage_proof_are_those_of_a_large_cohort() -> None:
    large = coverage.made_predictions(60_000, np.random.default_rng(0))
    assert METRICS["roc_auc"](large) == pytest.approx(coverage.true_auc(), abs=0.004)
    precision = METRICS["average_precision"](large)
    assert precision == pytest.approx(coverage.true_average_precision(), abs=0.008)


def test_replicates_lie_about_the_difference_and_one_draw_leaves_nothing_to_redraw() -> None:
    rng = np.random.default_rng(0)
    cohort = made_cohort(400, rng)
    features = made_arms(cohort, "own features", rng)
    found = compared(cohort, features, "own features", Design(n_repeats=2), 400, rng)
    assert found.differences.shape == (10, 1)
    assert np.nanmean(found.by_patient) == pytest.approx(found.differences.mean(), abs=0.01)
    assert found.by_both == pytest.approx(found.by_patient, abs=1e-6, nan_ok=True)


def test_made_folds_part_the_patients_and_share_out_the_positive_ones() -> None:
    cohort = made_cohort(100, np.random.default_rng(0))
    fold = made_folds(cohort, 5, np.random.default_rng(1))
    assert np.ptp(np.bincount(fold[cohort.positive])) <= 1
    assert 0.12 < cohort.target.mean() < 0.22


def test_the_quick_multiplicities_are_poisson_with_mean_and_variance_one() -> None:
    drawn = multiplicities((400, 500), np.random.default_rng(0)).astype(np.float64)
    assert drawn.mean() == pytest.approx(1, abs=0.01)
    assert drawn.var() == pytest.approx(1, abs=0.02)


def test_the_interval_of_a_search_gain_ends_where_the_corrected_t_says_five_per_cent() -> None:
    gains = np.random.default_rng(0).normal(0.05, 0.04, 6)
    low, high = search_gain.interval(gains, 0.5)
    assert low < gains.mean() < high
    for end in (low, high):
        assert corrected_t(gains - end, 0.5).p == pytest.approx(0.05)


def test_the_default_that_a_search_must_beat_is_that_of_every_setting() -> None:
    size = search_gain.Size(n_trials=1, n_deals=1, n_folds=3, n_draws=1, epochs=4, n_patients=60)
    spec, default = search_gain.baseline(size, deal=1, fold=0), RunSpec()
    assert (spec.method, spec.protocol, spec.views) == (
        default.method,
        default.protocol,
        default.views,
    )
    assert spec.pretraining == default.pretraining.replace(epochs=4, batch_size=64)
    assert spec.folds.seed == 1
    seeds = {search_gain.baseline(size, deal, fold).seed for deal in range(2) for fold in range(3)}
    assert len(seeds) == 6
