"""Alerts of the watchdog in a study: stopped, or gone on with and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from ablations.commands import run_study
from ablations.design import Study
from ablations.options import RunOptions
from melssl.training import alerts
from melssl.training.alerts import Alert, Normal, Points

ADVICE = "nothing happens; do something"


def nothing_happens(curves: Mapping[str, Points], normal: Normal) -> Iterator[Alert]:
    yield Alert(kind="stall", step=1, advice=ADVICE)


def test_a_training_stops_if_asked_to_and_goes_on_if_not(
    tiny_study: Study,
    options: Callable[..., RunOptions],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(alerts, "RULES", (nothing_happens,))
    stopped = run_study(tiny_study, replace(options(), watch="stop")).table
    assert set(stopped.missing["method"]) == {"simclr"}
    assert stopped.missing["reason"].str.contains(f"WatchdogError: {ADVICE}").any()
    assert f"WatchdogError: {ADVICE}" in capsys.readouterr().out
    table = run_study(tiny_study, options()).table
    assert len(table.missing) == 0
    told = table.encoders.set_index("method")["alerts"]
    assert told["simclr"] == "stall in 2 of 2"
    assert told.isna()["no_pretext"]
    assert f"  2 x SimCLR: {ADVICE}" in capsys.readouterr().out
