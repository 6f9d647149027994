"""Averages: what is redrawn, how far it spreads, and what arms and budgets share."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ablations.averages import average, difference, standard_errors, weights
from ablations.finished import Finished, Pair
from ablations.results import Results
from melssl.judging import RESAMPLES

ARM = "method=simclr,label_fraction=0.3"
CONTROL = "method=no_pretext,label_fraction=0.3"
WHOLE = "method=simclr,label_fraction=1.0"


def grid(n_folds: int, n_draws: int, n_seeds: int) -> tuple[tuple[int, int, int], ...]:
    return tuple(product(range(n_folds), range(n_draws), range(n_seeds)))


def without_patients(trials: list[Finished]) -> list[Finished]:
    """Return the trials as if every redraw of the patients gave the score itself."""
    flat = np.ones(RESAMPLES.n)
    return [replace(t, replicates={"roc_auc": flat * t.scores["roc_auc"]}) for t in trials]


def test_one_draw_and_one_seed_leave_the_patient_bootstrap_as_it_is(results: Results) -> None:
    trials = [trial for trial in results.by_cell[WHOLE] if trial.place[2] == 0]
    found = average(trials, "roc_auc")
    patients = np.mean([trial.replicates["roc_auc"] for trial in trials], axis=0)
    np.testing.assert_allclose(found.replicates, patients, atol=1e-6)
    assert found.estimate == pytest.approx(np.mean([t.scores["roc_auc"] for t in trials]))


def test_a_replicate_is_the_mean_over_trials_weighted_by_draw_and_seed(results: Results) -> None:
    trials = results.by_cell[ARM]
    shares = weights(tuple(trial.place for trial in trials)).both
    by_hand = sum(w * t.replicates["roc_auc"] for w, t in zip(shares, trials, strict=True))
    np.testing.assert_allclose(average(trials, "roc_auc").replicates, by_hand, atol=1e-9)
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    assert shares.mean() == pytest.approx(1 / 18)


def test_redrawn_draws_spread_the_mean_as_their_variance_says(results: Results) -> None:
    trials = [t for t in without_patients(results.by_cell[ARM]) if t.place[2] == 0]
    scores = np.array([t.scores["roc_auc"] for t in trials]).reshape(3, 3)  # folds x draws
    expected = np.sqrt((scores.var(axis=1, ddof=1) / 3).sum()) / 3
    assert average(trials, "roc_auc").standard_error == pytest.approx(expected, rel=0.06)


def test_redrawn_seeds_spread_the_mean_as_their_variance_says(results: Results) -> None:
    trials = without_patients(results.by_cell[WHOLE])
    scores = np.array([t.scores["roc_auc"] for t in trials]).reshape(3, 2).mean(axis=0)
    expected = np.sqrt(scores.var(ddof=1) / 2)
    assert average(trials, "roc_auc").standard_error == pytest.approx(expected, rel=0.06)


def test_draws_are_redrawn_fold_by_fold_and_seeds_for_all_folds() -> None:
    places = grid(2, 4, 4)
    shares = weights(places)
    draws, seeds = (side.reshape(2, 4, 4, -1) for side in (shares.draws, shares.seeds))
    assert np.array_equal(seeds[0, 0], seeds[1, 3])
    assert np.array_equal(draws[0, :, 0], draws[0, :, 1])
    assert not np.array_equal(draws[0], draws[1])
    apart = np.corrcoef(draws[0, 0, 0], draws[1, 0, 0])[0, 1]
    assert abs(apart) < 0.1


def test_weights_follow_the_place_and_not_the_order_or_the_cell() -> None:
    places = grid(3, 2, 2)
    back = weights(places[::-1]).both[::-1]
    assert np.array_equal(weights(places).both, back)


def test_folds_with_other_numbers_of_draws_still_share_out_the_whole() -> None:
    shares = weights(((0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 0, 0)))
    np.testing.assert_allclose(shares.both.sum(axis=0), 1)
    np.testing.assert_allclose(shares.both[3], 0.25)  # a single draw always counts once


def test_a_paired_difference_is_that_of_the_two_averages_and_spread_for_training(
    results: Results,
) -> None:
    gain = difference(results.pairs[ARM], "roc_auc", 0.3, 0.5)
    apart = average(results.by_cell[ARM], "roc_auc").minus(
        average(results.by_cell[CONTROL], "roc_auc")
    )
    assert gain.estimate == pytest.approx(apart.estimate)
    spread = np.sqrt(_training_variance(results, 0.3) / np.var(apart.replicates, ddof=1) + 1)
    assert spread > 1.02
    expected = apart.estimate + spread * (apart.replicates - apart.estimate)
    np.testing.assert_allclose(gain.replicates, expected, atol=1e-6)


def _training_variance(results: Results, share: float) -> float:
    """Return s^2 f / (1 - f) by hand: variance between draws within folds, seeds averaged."""
    by_draw: dict[tuple[int, int], list[float]] = {}
    for pair in results.pairs[ARM]:
        gain = pair.own.score("roc_auc") - pair.control.score("roc_auc")
        by_draw.setdefault(pair.own.place[:2], []).append(gain)
    by_fold = [[np.mean(by_draw[fold, draw]) for draw in range(3)] for fold in range(3)]
    between = np.mean([np.var(draws, ddof=1) for draws in by_fold])
    return float(between) * share / (1 - share) * (1 / 1.5)


def test_with_all_labels_the_margin_is_a_share_of_the_patients_variance(results: Results) -> None:
    cell = "method=simclr,label_fraction=1.0"
    pairs = results.pairs[cell]
    stored = [p.own.replicates["roc_auc"] - p.control.replicates["roc_auc"] for p in pairs]
    gain = results.gain(cell, "roc_auc")
    plain = average(results.by_cell[cell], "roc_auc").minus(
        average(results.by_cell["method=no_pretext,label_fraction=1.0"], "roc_auc")
    )
    patients = np.var(np.mean(stored, axis=0), ddof=1)
    expected = np.var(plain.replicates, ddof=1) + patients * results.test_train_ratio
    assert np.var(gain.replicates, ddof=1) == pytest.approx(expected, rel=1e-3)


def test_what_moves_both_sides_does_not_move_their_difference(results: Results) -> None:
    pairs = [Pair(_better(pair.control, pair.own), pair.control) for pair in results.pairs[ARM]]
    gain = difference(pairs, "roc_auc", 0.3, 0.5)
    assert gain.estimate == pytest.approx(0.1)
    np.testing.assert_allclose(gain.replicates, 0.1, atol=1e-6)


def _better(control: Finished, own: Finished) -> Finished:
    """Return the arm's trial with the control's scores and replicates, a tenth higher."""
    return replace(
        own,
        scores={name: score + 0.1 for name, score in control.scores.items()},
        replicates={name: scores + np.float32(0.1) for name, scores in control.replicates.items()},
    )


def test_standard_errors_are_unknown_with_one_draw_or_one_seed(results: Results) -> None:
    alone = [trial for trial in results.by_cell[WHOLE] if trial.place[2] == 0]
    found = standard_errors(alone, "roc_auc")
    assert np.isnan([found.draws, found.seeds]).all()
    assert found.patients == pytest.approx(average(alone, "roc_auc").standard_error)
    whole = standard_errors(results.by_cell[ARM], "roc_auc")
    assert min(whole.patients, whole.draws, whole.seeds) > 0


def test_a_metric_without_stored_replicates_has_an_estimate_and_no_interval(
    results: Results,
) -> None:
    found = average(results.by_cell[ARM], "ece")
    assert found.estimate > 0
    assert np.isnan([found.interval.low, found.interval.high]).all()
