"""What is pruned, constrained and weighed against compute, and what is found in the end."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ablations.options import add_study_options, study_from
from ablations.presets import preset
from ablations.searching.board import AFTER, SCORES, place_of
from ablations.searching.command import SearchResult
from ablations.searching.design import Search
from ablations.searching.exhibited import importances
from ablations.searching.rounds import STARTUP, Rounds
from ablations.table import TrialTable
from melssl.errors import SpecError
from melssl.settings import with_overrides
from melssl.spec import RunSpec

Hunted = Callable[..., SearchResult]
LR = "pretraining.lr=log:2e-4:1e-2"


def by_place(result: SearchResult) -> dict[int, list[list[float]]]:
    return {place_of(t): t.user_attrs[SCORES] for t in result.findings.trials}


def test_the_median_pruner_ends_what_is_worse_than_half_of_the_earlier_rounds(
    hunted: Hunted,
) -> None:
    result = hunted(n_trials=14, workers=2, sampler="random", space=LR)
    seen = by_place(result)
    assert result.findings.counts()["pruned"] > 0
    for trial in result.findings.trials:
        earlier = [seen[p][0][0] for p in range(trial.user_attrs[AFTER])]
        low = len(earlier) >= STARTUP and seen[place_of(trial)][0][0] < np.median(earlier)
        assert (trial.state.name == "PRUNED") == low
        assert len(trial.user_attrs[SCORES][0]) == (1 if low else 2)


def test_halving_keeps_a_third_at_every_rung_and_goes_on_from_the_shorter_trunk(
    hunted: Hunted,
) -> None:
    result = hunted(
        n_trials=12, sampler="random", space=LR, rungs=2, pruner="halving", **stable(epochs=9)
    )
    ladders = by_place(result)
    assert set(map(len, ladders.values())) >= {1, 3}
    table = result.findings.frame().set_index("trial")
    whole = table[table["state"] == "complete"]
    ended_first = [place for place, ladder in ladders.items() if len(ladder) == 1]
    assert ended_first, "somebody was pruned at the shortest rung"
    assert table.loc[ended_first, "images"].max() < whole["images"].min() / 4
    for place in ended_first:
        earlier = [np.mean(ladders[p][0]) for p in range(place)]
        assert np.mean(ladders[place][0]) < np.percentile(earlier, 100 - 100 / 3)


def stable(epochs: int) -> dict[str, object]:
    words = (f"pretraining.epochs={epochs}", "pretraining.schedule=stable_decay")
    return {"study": ("pretraining.warmup_epochs=0", *words)}


@pytest.fixture
def search_of(search_of: Callable[..., Search], tiny_study: object) -> Callable[..., Search]:
    """Return a maker of searches whose ``study`` may be overrides of the baseline."""

    def make(study: tuple[str, ...] = (), **changes: object) -> Search:
        baseline = with_overrides(tiny_study.baseline, study)  # type: ignore[attr-defined]
        return search_of(tiny_study.replace(baseline=baseline), **changes)  # type: ignore[attr-defined]

    return make


def test_the_wilcoxon_pruner_compares_score_by_score_with_the_best(
    search_of: Callable[..., Search], hunted: Hunted
) -> None:
    result = hunted(n_trials=2, inner_folds=5, pruner="wilcoxon", space=LR, labels="all")
    rounds = Rounds(search_of(inner_folds=5, pruner="wilcoxon", space=LR, labels="all"))
    best = max(result.findings.trials, key=lambda trial: trial.value)
    whole = best.user_attrs[SCORES][0]
    worse, mixed = [x - 0.01 * (i + 1) for i, x in enumerate(whole[:4])], whole[:4]
    assert rounds.prunes([worse], result.findings.trials)
    assert not rounds.prunes([worse[:3]], result.findings.trials), "three scores are no evidence"
    assert not rounds.prunes([mixed], result.findings.trials)


def test_what_collapsed_is_never_the_best_unless_nothing_is_asked(hunted: Hunted) -> None:
    space = "pretraining.lr=log:4.9e-3:6e-3"
    strict = hunted(n_trials=8, space=space, sampler="random").findings
    collapsed = [t for t in strict.trials if t.params["pretraining.lr"] > 5.01e-3]
    assert len(collapsed) > 0
    assert all(trial.constraints["spread"] > 0 for trial in collapsed)
    assert all(trial.constraints["effective_rank"] < 0 for trial in collapsed)
    assert strict.best is None or strict.best not in collapsed
    assert set(strict.frame()["feasible"]) >= {"no"}
    free = hunted(n_trials=2, space=space, constrain="none").findings
    assert not any(trial.constraints for trial in free.trials)


def test_compute_can_be_an_objective_and_the_front_is_what_nothing_beats(hunted: Hunted) -> None:
    space = "pretraining.epochs=1:9,pretraining.lr=log:1e-3:3e-3"
    findings = hunted(n_trials=12, space=space, against="images").findings
    assert findings.counts() == {"complete": 12, "pruned": 0, "fail": 0}
    front = sorted(findings.front, key=lambda trial: trial.values[1])
    assert 1 < len(front) < 12
    scores = [trial.values[0] for trial in front]
    assert scores == sorted(scores), "more images on the front buy a better score"
    images = {trial.params["pretraining.epochs"]: trial.values[1] for trial in findings.trials}
    assert sorted(images.values()) == [images[epochs] for epochs in sorted(images)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"against": "images", "pruner": "median"}, "two objectives"),
        ({"against": "seconds", "rungs": 1}, "two objectives"),
        ({"pruner": "wilcoxon"}, "cannot tell anything"),
        ({"pruner": "halving"}, "add --rungs"),
        ({"rungs": 3}, "cannot be divided"),
    ],
)
def test_a_way_that_cannot_be_gone_is_refused(
    changes: dict[str, object], message: str, search_of: Callable[..., Search]
) -> None:
    with pytest.raises(SpecError, match=message):
        search_of(**changes)


def test_a_suggestion_depends_on_what_ended_in_earlier_rounds_alone(
    hunted: Hunted, search_of: Callable[..., Search]
) -> None:
    trials = hunted(n_trials=12).findings.trials
    rounds = Rounds(search_of())
    assert rounds.params(10, 2, trials[:10]) == Rounds(search_of()).params(10, 2, trials[:10])
    assert rounds.params(10, 2, trials[:10]) != rounds.params(11, 2, trials[:10])
    other = [trials[9], *trials[1:9], trials[0]]
    assert rounds.params(10, 2, other) != rounds.params(10, 2, [trials[0]] * 10)
    assert rounds.params(1, 4, []) == rounds.params(1, 2, []), "a round's size moves nobody in it"


def test_the_best_is_a_preset_that_a_study_takes(
    hunted: Hunted, search_of: Callable[..., Search], out: Path
) -> None:
    result = hunted(n_trials=3)
    assert result.preset is not None
    spec, best = RunSpec.parse(preset(str(result.preset)).baseline), result.findings.best
    assert best is not None
    overrides = with_overrides(search_of().baseline, result.findings.best_overrides)
    assert spec.pretraining == overrides.pretraining
    assert spec.method == overrides.method
    assert spec.within is None
    assert (spec.folds.n_folds, spec.budget.fraction) == (2, 0.6)
    parser = argparse.ArgumentParser()
    add_study_options(parser, factor=False)
    study = study_from(parser.parse_args(["--preset", str(result.preset)]), "label_fraction")
    assert (study.baseline, study.levels["label_fraction"]) == (spec, (0.6,))
    assert study.name == "label_fraction-synthetic-tiny-best"
    with pytest.raises(SpecError, match="expected a file that a search wrote"):
        preset(str(out / "none.json"))


def test_the_table_of_a_search_is_saved_with_importances_that_add_up(
    hunted: Hunted, out: Path
) -> None:
    findings = hunted(n_trials=12, space=f"{LR},method.temperature=0.1|0.5").findings
    table = TrialTable.load(out / "studies" / "tiny" / "table")
    assert len(table.suggestions) == table.info.n_finished == 12
    assert table.suggestions["best"].dropna().is_monotonic_increasing
    shares = importances(findings)
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) == "pretraining.lr", "the other changes no score"
    assert table.searched["at"].between(0, 1).all()
    assert set(table.searched["chosen"]) >= {"0.1", "0.5"}
