"""Spread and rank by known cases."""

import numpy as np
import pytest

from melssl.statistics.diagnostics import spread_and_rank


def test_isotropic_embeddings_are_healthy_and_of_full_rank() -> None:
    found = spread_and_rank(np.random.default_rng(0).normal(size=(4000, 16)))
    assert found["spread"] == pytest.approx(found["healthy_spread"], rel=0.02)
    assert found["healthy_spread"] == pytest.approx(0.25)
    assert found["effective_rank"] == pytest.approx(16, rel=0.02)


def test_one_point_is_collapsed() -> None:
    found = spread_and_rank(np.ones((50, 8)) + 1e-9)
    assert found["spread"] == pytest.approx(0, abs=1e-6)


def test_points_on_a_line_have_rank_one() -> None:
    line = np.linspace(-1, 1, 50)[:, None] * np.array([1.0, 2.0, 3.0])
    assert spread_and_rank(line)["effective_rank"] == pytest.approx(1, abs=1e-3)
