"""The study that is timed is the one that is asked for, and a loop over its cells agrees."""

from __future__ import annotations

from pathlib import Path

from benchmarks import whole_study
from benchmarks.whole_study import Size, answer

SMALL = Size(
    ratios=(0.75,), fractions=(1.0,), n_folds=2, n_draws=1, n_patients=30, epochs=1, n_anew=2
)


def test_cells_trained_from_the_start_give_the_studys_predictions(tmp_path: Path) -> None:
    told = answer(tmp_path, SMALL)
    assert any("2 of them gave the study's predictions bit for bit" in note for note in told.notes)
    assert told.rows[0].case == "4 trials, 2 pretrainings"
    assert [target.bound for target in told.targets] == [10.0, 0.02]


def test_the_study_of_the_page_has_390_trials_and_15_pretrainings() -> None:
    trials = [trial for study in whole_study.Size().studies() for trial in study.trials()]
    assert len(trials) == 2 * 5 * 3 * (4 * 3 + 1)
    assert len({(t.spec.method.plain()["mask_ratio"], t.fold) for t in trials}) == 15
