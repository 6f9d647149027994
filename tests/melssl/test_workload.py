"""What a judgement costs: units by protocol, and a rate for each that trains."""

from __future__ import annotations

import pytest

from melssl.evaluation.protocols import PROTOCOLS
from melssl.prepared import Prepared
from melssl.spec import RunSpec
from melssl.stages import Stage, stages
from melssl.workload import Workload, calibrate, workload


def judging(spec: RunSpec, prepared: Prepared, **protocol: object) -> Stage:
    return stages(spec.replace(protocol=protocol), prepared)[-1]


def load(spec: RunSpec, prepared: Prepared, **protocol: object) -> Workload:
    return workload(judging(spec, prepared, **protocol), prepared)


def test_a_training_costs_its_steps_and_a_closed_form_its_fits(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    assert load(tiny_spec, tiny, name="linear_probe").units == 1
    assert load(tiny_spec, tiny, name="pseudo_labels", rounds=3).units == 4
    training = {"epochs": 4, "min_steps": 1, "batch_size": 4}
    fold = tiny.fold(tiny_spec).train
    n_images = int(tiny.cohort.frame["patient_id"].isin(fold).sum())
    tuning = load(tiny_spec, tiny, name="fine_tune", training=training)
    assert tuning.units == 4 * (n_images // 4) * 4
    sets = load(tiny_spec, tiny, name="patient_set", training=training)
    assert sets.units == 4 * (len(fold) // 4) * 4
    thrice = load(tiny_spec, tiny, name="patient_set", training=training, threshold_folds=2)
    assert thrice.units == 3 * sets.units


def test_a_resting_encoder_costs_a_third(tiny_spec: RunSpec, tiny: Prepared) -> None:
    whole = load(tiny_spec, tiny, name="fine_tune")
    half = load(tiny_spec, tiny, name="fine_tune", frozen_share=0.5)
    assert half.units == pytest.approx(whole.units * (0.5 + 0.5 / 3))
    assert half.signature == whole.signature


def test_what_costs_otherwise_has_a_rate_of_its_own(tiny_spec: RunSpec, tiny: Prepared) -> None:
    whole = load(tiny_spec, tiny, name="fine_tune").signature
    parts = {
        load(tiny_spec, tiny, name="partial_fine_tune", last_stages=k).signature for k in (1, 2)
    }
    assert len({whole, *parts}) == 3
    embeds = {
        workload(stages(tiny_spec.replace(protocol=protocol), tiny)[1], tiny).signature
        for protocol in ("linear_probe", "knn", "layer_probe")
    }
    assert len(embeds) == 2


@pytest.mark.parametrize("name", [n for n, p in PROTOCOLS.items() if p.judges == "classes"])
def test_a_protocol_that_trains_can_be_timed(name: str, tiny_spec: RunSpec, tiny: Prepared) -> None:
    stage = judging(tiny_spec, tiny, name=name)
    seconds = calibrate(stage, tiny, threads=1)
    if stage.spec.protocol.training_spec() is None:
        assert seconds is None
    else:
        assert seconds is not None
        assert seconds > 0
