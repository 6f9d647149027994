"""The pool's size: nested shares of its patients, whoever is labelled, and a key of its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from melssl.errors import SpecError
from melssl.pool import pool
from melssl.prepared import Prepared
from melssl.spec import RunSpec, differing
from melssl.stages import stages


def seen(spec: RunSpec, tiny: Prepared) -> set[str]:
    return set(pool(spec, tiny).patients)


@pytest.mark.parametrize("which", ["train", "train+test"])
def test_a_smaller_pool_lies_in_a_larger_one(
    which: str, tiny_spec: RunSpec, tiny: Prepared
) -> None:
    spec = tiny_spec.replace(pool=which)
    sizes = [seen(spec.replace(pool_size=share), tiny) for share in (0.1, 0.5, 0.75, 1.0)]
    assert all(small < large for small, large in pairwise(sizes))
    whole = len(sizes[-1])
    assert [len(s) for s in sizes] == [int(share * whole + 0.5) for share in (0.1, 0.5, 0.75, 1)]


def test_all_images_of_a_patient_are_in_the_pool_or_none(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    rows = pool(tiny_spec.replace(pool_size=0.5), tiny).rows
    of = tiny.cohort.frame["patient_id"]
    mine = set(of.iloc[rows])
    assert set(np.flatnonzero(of.isin(mine))) == set(rows)


def test_who_is_in_a_smaller_pool_depends_on_the_fold_and_on_no_label(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    spec = tiny_spec.replace(pool="train+test", pool_size=0.5)
    frame = tiny.cohort.frame
    flipped = replace(tiny, cohort=replace(tiny.cohort, frame=frame.assign(target=0)))
    assert seen(spec, tiny) == seen(spec, flipped)
    assert seen(spec, tiny) == seen(spec.replace(seed=5, method="mae"), tiny)
    assert seen(spec, tiny) != seen(spec.replace(fold=1), tiny)


def test_a_pool_of_nobody_is_refused(tiny_spec: RunSpec, tiny: Prepared) -> None:
    with pytest.raises(SpecError, match="the smallest is"):
        pool(tiny_spec.replace(pool_size=0.001), tiny)


def test_the_size_of_the_pool_is_pretrainings_and_the_control_has_none(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    small = tiny_spec.replace(pool_size=0.5)
    assert stages(small, tiny)[0].key != stages(tiny_spec, tiny)[0].key
    assert differing(small, tiny_spec) == {"pretraining"}
    control, other = (s.replace(method="no_pretext") for s in (small, tiny_spec))
    assert stages(control, tiny)[-1].key == stages(other, tiny)[-1].key
    assert differing(control, other) == frozenset()


def test_the_control_of_equal_compute_takes_what_the_smaller_pool_would(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    whole = tiny_spec.replace(method="supervised", budget={"fraction": 0.5})
    half = whole.replace(pool_size=0.5)
    first, second = pool(whole, tiny), pool(half, tiny)
    assert set(first.sample_ids) == set(second.sample_ids), "the budget's labels"
    assert second.training.min_steps < first.training.min_steps
