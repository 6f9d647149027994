"""Settings, specs and seeds: typed, checked, and the same for ever."""

from __future__ import annotations

import numpy as np
import pytest

from melssl.errors import SpecError
from melssl.seeding import Seed
from melssl.settings import digest, with_overrides
from melssl.spec import RunSpec


def test_a_spec_survives_json() -> None:
    spec = RunSpec.parse({"method": "mae", "backbone": "small_vit", "protocol": "fine_tune"})
    assert RunSpec.parse(spec.plain()) == spec


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("pretraining.epoch=3", "did you mean 'epochs'"),
        ("methd=mae", "did you mean 'method'"),
        ("method=simclrr", "did you mean 'simclr'"),
        ("protocol=linear", "linear_probe"),
        ("views=medcal", "did you mean 'medical'"),
        ("cohort.n_patient=3", "did you mean 'n_patients'"),
        ("method.name.x=1", "has no fields"),
        ("pretraining.epochs", "expected key=value"),
        ("pretraining.epochs=many", "pretraining.epochs"),
        ("pretraining.lr=-1", "greater than 0"),
        ("budget.fraction=1.5", "less than or equal to 1"),
        ("method=simclear", "method 'simclear' is unknown; did you mean 'simclr'"),
        ("protocol=3", "protocol: expected a name or a mapping"),
    ],
)
def test_a_bad_override_is_an_error_that_helps(override: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        with_overrides(RunSpec(), [override])


def test_an_absent_part_comes_to_be_with_its_first_setting() -> None:
    overrides = ["external.source=synthetic", "external.n_patients=40"]
    external = with_overrides(RunSpec(), overrides).external
    assert external is not None
    assert (external.source, external.plain()["n_patients"]) == ("synthetic", 40)


def test_all_faults_come_in_one_list() -> None:
    with pytest.raises(SpecError) as error:
        RunSpec.parse({"image_px": 1, "seed": "x", "fould": 2})
    assert all(name in str(error.value) for name in ("image_px", "seed", "did you mean 'fold'"))


def test_overrides_are_typed() -> None:
    spec = with_overrides(RunSpec(), ["pretraining.clip_norm=1.5", "method.temperature=0.1"])
    assert spec.pretraining.clip_norm == 1.5
    assert spec.method.plain()["temperature"] == 0.1


def test_an_override_sees_what_the_one_before_has_made() -> None:
    spec = with_overrides(RunSpec(), ["backbone=small_vit", "backbone.patch_px=6"])
    assert spec.backbone.plain()["patch_px"] == 6


def test_a_copy_is_checked_too() -> None:
    with pytest.raises(SpecError, match="did you mean 'epochs'"):
        RunSpec().pretraining.replace(epoch=3)
    with pytest.raises(SpecError, match="epochs"):
        RunSpec().pretraining.replace(epochs=0)


def test_a_digest_ignores_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_streams_depend_on_their_name_and_on_nothing_else() -> None:
    seed = Seed(7)
    assert seed.child("a", 1) == seed.child("a").child(1)
    assert seed.child("a", 1).value != seed.child("a", "1").value
    assert seed.child("a").value != Seed(8).child("a").value
    assert Seed(0).child("budget", 1, 2).value == 3061051992147714421


def test_a_rank_depends_on_the_name_and_not_on_its_place() -> None:
    names = [f"p{i}" for i in range(50)]
    ranks = dict(zip(names, Seed(0).ranks(names), strict=True))
    back = dict(zip(names[::-1], Seed(0).ranks(names[::-1]), strict=True))
    assert ranks == back
    assert len(set(ranks.values())) == 50


def test_numpy_and_torch_streams_repeat() -> None:
    seed = Seed(3).child("x")
    np.testing.assert_array_equal(seed.numpy().random(3), seed.numpy().random(3))
    assert seed.torch().initial_seed() == seed.value
