"""Learning: a probe's score stands below the loss of its own method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from ablations.table import TrialTable
from reports import style
from reports.exhibits.learning import SERIES, Learning

METHODS = ("no_pretext", "simclr", "mae", "dino", "byol", "rotation", "vicreg")


def test_a_score_is_below_its_own_loss_where_the_last_row_is_short(
    make_table: Callable[..., TrialTable],
) -> None:
    made = make_table(methods=METHODS, fractions=(0.1, 1.0), folds=1, draws=1)
    looks = made.curves[made.curves["series"] == "loss"].assign(series="knn_roc_auc", value=0.6)
    table = replace(made, curves=pd.concat([made.curves, looks], ignore_index=True))
    frame = Learning().frame(table)
    with style.ink():
        figure = Learning().draw(frame, table.info, "double")
    places = {axes.get_title().replace("\n", " "): axes.get_position() for axes in figure.axes}
    methods = list(dict.fromkeys(frame["method"]))
    assert len(methods) % 4 != 0
    assert len(places) == 2 * len(methods)
    loss, score = SERIES.values()
    for method in methods:
        above, below = places[f"{method}: {loss}"], places[f"{method}: {score}"]
        assert abs(above.x0 - below.x0) < 1e-6
        assert above.y0 > below.y0
