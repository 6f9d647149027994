"""Results: which trials are paired, which pairs are fair, and who is compared with nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ablations.design import Study
from ablations.finished import Finished, Pair
from ablations.plan import Plan
from ablations.results import Results, read_results
from ablations.vault import Vault
from melssl.errors import ArtifactError
from melssl.runs import Run
from melssl.spec import RunSpec

ARM = "method=simclr,label_fraction=0.3"


def changed(trial: Finished, **spec: object) -> Finished:
    """Return the trial as if it had run another spec."""
    own = trial.planned.trial
    other = replace(own, run=Run.of(own.spec.replace(**spec)))
    return replace(trial, planned=replace(trial.planned, trial=other))


def test_arms_are_compared_with_the_control_of_the_same_budget(results: Results) -> None:
    assert results.compared == {
        f"method=simclr,label_fraction={share}": f"method=no_pretext,label_fraction={share}"
        for share in (0.3, 0.6, 1.0)
    }
    assert list(results.arms) == ["method=no_pretext", "method=simclr"]
    assert [cell.name for cell in results.largest] == [
        "method=no_pretext,label_fraction=1.0",
        "method=simclr,label_fraction=1.0",
    ]


def test_a_pair_shares_fold_draw_seed_and_labels(results: Results) -> None:
    assert len(results.pairs[ARM]) == 3 * 3 * 2
    assert all(pair.own.place == pair.control.place for pair in results.pairs[ARM])
    assert all(pair.own.labels == pair.control.labels for pair in results.pairs[ARM])


def test_a_lost_trial_takes_its_pair_along_and_no_other(results: Results) -> None:
    lost = results.by_cell["method=no_pretext,label_fraction=0.3"][4]
    rest = Results(plan=results.plan, finished=[t for t in results.finished if t is not lost])
    assert len(rest.pairs[ARM]) == 17
    assert lost.place not in {pair.own.place for pair in rest.pairs[ARM]}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"backbone": "small_vit"}, "backbone"),
        ({"image_px": 48}, "image_px"),
        ({"protocol": "knn"}, "protocol"),
        ({"seed": 5}, "seed"),
    ],
)
def test_arms_that_differ_in_more_than_pretraining_are_refused(
    results: Results, change: dict[str, object], part: str
) -> None:
    pair = results.pairs[ARM][0]
    with pytest.raises(ArtifactError, match=rf"{ARM}: trial {pair.own.planned.key}.* in {part}"):
        Pair(changed(pair.own, **change), pair.control)


def test_method_and_schedule_of_pretraining_may_differ(results: Results) -> None:
    pair = results.pairs[ARM][0]
    longer = pair.own.planned.trial.spec.pretraining.replace(epochs=9)
    assert Pair(changed(pair.own, pretraining=longer), pair.control).control is pair.control


def test_budgets_with_other_labels_are_refused(results: Results) -> None:
    pair = results.pairs[ARM][0]
    with pytest.raises(ArtifactError, match="other labels"):
        Pair(replace(pair.own, labels="elsewhere"), pair.control)


def test_methods_that_see_no_image_are_references_and_compared_with_nobody(
    pretend: Callable[[Study], tuple[Plan, Vault]],
) -> None:
    base = {"cohort": {"source": "synthetic", "n_patients": 30, "image_px": 32}, "image_px": 32}
    study = Study(
        name="references",
        baseline=RunSpec.parse(base | {"folds": {"n_folds": 2}}),
        levels={"label_fraction": (1.0,)},
        references=("metadata_clinical",),
    )
    results = read_results(*pretend(study))
    assert results.references == ("metadata_clinical",)
    assert list(results.compared) == ["method=simclr,label_fraction=1.0"]
    assert len(results.by_cell["method=metadata_clinical,label_fraction=1.0"]) == 2
