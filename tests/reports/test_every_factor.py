"""Every factor of the list has its figure, without a line of code that knows it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ablations.factor import Factor
from ablations.factors import FACTORS, LABEL_FRACTION, METHOD
from ablations.table import FactorInfo, LevelInfo, TrialTable
from reports import style
from reports.exhibits import exhibits_of
from reports.exhibits.factor_curve import FactorCurve
from reports.exhibits.label_curve import LabelCurve
from reports.exhibits.main_table import MainTable

MakeTable = Callable[..., TrialTable]
FURTHER = [factor for factor in FACTORS.values() if factor not in (METHOD, LABEL_FRACTION)]


def described(factor: Factor) -> FactorInfo:
    """Return a factor as a table describes it; one without levels of its own has two made ones."""
    values = factor.values or ("random", "/weights/first.safetensors")
    levels = tuple(LevelInfo(value=value, label=factor.show(value)) for value in values)
    return FactorInfo(name=factor.name, label=factor.label, scale=factor.scale, levels=levels)


@pytest.mark.parametrize("factor", FURTHER, ids=lambda factor: factor.name)
def test_a_factor_has_a_curve_with_a_point_per_level(factor: Factor, make_table: MakeTable) -> None:
    info = described(factor)
    table = make_table(
        methods=("no_pretext", "mae"),
        fractions=(0.1, 1.0),
        folds=1,
        draws=1,
        steps=2,
        further=(info,),
        with_intervals=False,
    )
    curve = FactorCurve(factor.name)
    assert curve in exhibits_of(table.info)
    assert curve.refusal(table) is None
    frame = curve.frame(table)
    pretrained = frame[(frame["role"] == "line") & (frame["method"] == "mae")]
    assert set(pretrained[factor.name]) == set(info.values)
    with style.ink():
        figure = curve.draw(frame, table.info, "single")
    points = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "", "x")]
    assert sum(len(line.get_xdata()) for line in points) >= 2 * len(info.values)
    printed = MainTable().grid(MainTable().frame(table), table.info)
    assert info.label in {line for head in printed.heads for line in head.lines}


def test_methods_and_label_fractions_are_in_the_curve_of_labels(make_table: MakeTable) -> None:
    frame = LabelCurve().frame(make_table(fractions=(0.1, 1.0), folds=1))
    assert set(frame["method"].dropna()) == {"no_pretext", "simclr"}
    assert set(frame["label_fraction"].dropna()) == {0.1, 1.0}


def test_a_curve_over_layers_has_that_of_random_weights_beside_it(make_table: MakeTable) -> None:
    layer = described(FACTORS["layer"])
    table = make_table(methods=("no_pretext", "mae"), fractions=(0.1,), folds=1, further=(layer,))
    frame = FactorCurve("layer").frame(table)
    by_method = frame[frame["role"] == "line"].groupby("method")["x"].apply(list)
    assert by_method["no_pretext"] == by_method["mae"] == [1.0, 2.0, 3.0, 4.0]
    looks = frame.drop_duplicates("method").set_index("method")["look"]
    assert looks["no_pretext"] == "control"
