"""Cells and trials: crossing, the control beside every level, and no trial twice."""

from __future__ import annotations

import pytest

from ablations.design import Study
from ablations.factors import FACTORS
from melssl.errors import SpecError
from melssl.settings import with_overrides
from melssl.spec import RunSpec

MAE = RunSpec.parse({"method": "mae", "backbone": "small_vit", "folds": {"n_folds": 3}})


def study(**changes: object) -> Study:
    return Study.parse({"name": "s", "baseline": MAE.plain(), "levels": {}} | changes)


def test_a_control_stands_once_beside_all_levels_that_mean_nothing_to_it() -> None:
    cells = study(levels={"mask_ratio": (0.5, 0.75), "label_fraction": (0.1, 1.0)}).cells()
    names = [cell.name for cell in cells]
    assert len(names) == 6
    assert names[0] == "method=no_pretext,label_fraction=0.1"
    assert "method=mae,label_fraction=1.0,mask_ratio=0.75" in names


def test_a_level_changes_its_own_setting_and_nothing_else() -> None:
    cells = study(levels={"mask_ratio": (0.5, 0.75)}, control=None).cells()
    first, second = (cell.spec.plain() for cell in cells)
    assert {k for k in first if first[k] != second[k]} == {"method"}
    assert second["method"] == first["method"] | {"mask_ratio": 0.75}


def test_the_full_budget_has_one_draw() -> None:
    trials = list(study(levels={"label_fraction": (0.5, 1.0)}, n_draws=4, n_seeds=2).trials())
    count = {f: sum(t.spec.budget.fraction == f for t in trials) for f in (0.5, 1.0)}
    assert count == {0.5: 2 * 3 * 4 * 2, 1.0: 2 * 3 * 1 * 2}


def test_every_method_sees_the_same_budgets() -> None:
    trials = list(study(levels={"label_fraction": (0.5,)}, n_draws=2).trials())
    places = {}
    for trial in trials:
        places.setdefault(trial.spec.method.name, set()).add((trial.fold, trial.draw, trial.seed))
    assert places["mae"] == places["no_pretext"]


def test_repeated_folds_are_dealt_anew_and_counted_on() -> None:
    trials = list(study(n_repeats=2).trials())
    deals = {t.fold: (t.spec.folds.seed, t.spec.fold) for t in trials}
    assert deals == {0: (0, 0), 1: (0, 1), 2: (0, 2), 3: (1, 0), 4: (1, 1), 5: (1, 2)}


def test_metadata_stands_once_beside_all_levels_of_what_sees_images() -> None:
    made = study(
        levels={"mask_ratio": (0.5, 0.75), "backbone": ("small_vit", "vit")},
        references=("metadata_clinical",),
        n_seeds=2,
    )
    names = [c.name for c in made.cells() if c.spec.method.name == "metadata_clinical"]
    assert names == ["method=metadata_clinical,label_fraction=1.0"]
    trials = [t for t in made.trials() if t.cell.name == names[0]]
    assert len(trials) == 3, "no seed changes what has no weights"


def test_seeds_as_a_factor_replace_repeats() -> None:
    trials = list(study(levels={"seed": (3, 4)}, n_seeds=5).trials())
    assert {t.spec.seed for t in trials} == {3, 4}
    assert len(trials) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ({"mask_ration": (0.5,)}, "did you mean 'mask_ratio'"),
        ({"mask_ratio": (0.5, 0.5)}, "distinct"),
        ({"mask_ratio": ()}, "distinct"),
    ],
)
def test_bad_levels_are_refused(levels: dict[str, tuple[float, ...]], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        study(levels=levels)


def test_a_factor_without_meaning_to_a_pretext_method_is_refused() -> None:
    with pytest.raises(SpecError, match="means nothing to method 'mae'"):
        study(levels={"temperature": (0.1, 0.2)}).cells()


def test_a_level_out_of_range_is_refused() -> None:
    with pytest.raises(SpecError, match="mask_ratio"):
        study(levels={"mask_ratio": (1.5,)}).cells()


@pytest.mark.parametrize("name", [name for name, factor in FACTORS.items() if factor.values])
def test_every_factor_runs_from_its_home_with_its_own_values(name: str) -> None:
    factor = FACTORS[name]
    home = factor.home(RunSpec())
    cells = study(baseline=home.plain(), levels={name: factor.values}).cells()
    own = [cell for cell in cells if dict(cell.levels)[name] is not None]
    assert {dict(cell.levels)[name] for cell in own} >= set(factor.values)
    assert all(factor.parse(str(value)) == value for value in factor.values)


def test_the_key_of_a_study_ignores_its_name_and_the_folder_of_its_files() -> None:
    here, there = (
        MAE.replace(cohort={"source": "ham10000", "root": root}).plain()
        for root in ("here", "elsewhere")
    )
    first = study(baseline=here, levels={"mask_ratio": (0.5,)})
    assert first.key == study(name="t", baseline=there, levels={"mask_ratio": (0.5,)}).key
    assert first.key != study(baseline=here, levels={"mask_ratio": (0.6,)}).key


def test_an_override_of_the_protocol_holds_for_every_protocol_that_knows_it() -> None:
    overrides = ("protocol=fine_tune", "protocol.training.epochs=3", "protocol.frozen_share=0.5")
    baseline = with_overrides(RunSpec(), overrides)
    levels = {"protocol": ("fine_tune", "partial_fine_tune", "patient_set", "linear_probe")}
    study = Study(name="s", baseline=baseline, levels=levels, control=None, overrides=overrides)
    judged = [cell.spec.protocol for cell in study.cells()]
    assert [protocol.name for protocol in judged] == list(levels["protocol"])
    lengths = [spec and spec.epochs for spec in (p.training_spec() for p in judged)]
    assert lengths == [3, 3, 3, None]
    assert [getattr(p, "frozen_share", None) for p in judged] == [0.5, 0.5, None, None]
