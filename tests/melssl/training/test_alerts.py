"""Alerts from made logs, one thing wrong at a time."""

from __future__ import annotations

import pytest

from melssl.training.alerts import Normal, alerts_in


def curve(values: list[float], per_epoch: int = 50) -> list[tuple[int, float]]:
    return [(per_epoch * (i + 1), value) for i, value in enumerate(values)]


FALLING = [5 * 0.9**i for i in range(12)]
JUDGE = Normal(width=100, total_steps=600, chance=0.25)


@pytest.mark.parametrize(
    ("curves", "expected"),
    [
        ({"loss": curve(FALLING)}, []),
        ({"loss": curve([5.0, 4.0, 21.0])}, [("blow_up", 150)]),
        ({"loss": curve([0.02, 0.01, 0.5, 0.4])}, []),  # small, and no harm
        ({"loss": curve([-0.1, -0.8, 3.5])}, [("blow_up", 150)]),
        ({"loss": curve([5.0] * 12)}, [("stall", 300)]),
        ({"loss": curve([1.05] + [1.0] * 11)}, [("stall", 350)]),
        ({"loss": curve([1.5, 1.1] + [0.9] * 10)}, []),  # converged
        ({"accuracy": curve([0.25, 0.26] * 6)}, [("at_chance", 300)]),
        ({"accuracy": curve([0.25] * 4 + [0.3, 0.4, 0.5, 0.6])}, []),
        ({"accuracy": curve([0.9, 0.999, 0.999, 0.9, 0.9])}, []),
        ({"accuracy": curve([0.9, 0.997, 0.999, 0.998])}, [("solved", 200)]),
        ({"spread": [(0, 0.05), *curve([0.06, 0.01, 0.06, 0.01, 0.01])]}, [("collapse", 250)]),
        ({"spread": [(0, 0.05), (10, 0.001), (20, 0.001), *curve([0.06, 0.06])]}, []),
        ({"spread": [(0, 0.012), *curve([0.011] * 5)]}, []),  # never was higher
        ({"effective_rank": [(0, 60.0), *curve([20.0, 4.0, 4.0])]}, [("rank_collapse", 150)]),
        ({"effective_rank": [(0, 9.0), *curve([2.0, 2.0])]}, []),
    ],
)
def test_a_log_is_judged_point_by_point(
    curves: dict[str, list[tuple[int, float]]], expected: list[tuple[str, int]]
) -> None:
    assert [(alert.kind, alert.step) for alert in alerts_in(curves, JUDGE)] == expected


def test_what_a_method_does_not_claim_is_not_asked_of_it() -> None:
    curves = {
        "accuracy": curve([1.0] * 12),
        "effective_rank": [(0, 60.0), *curve([2.0] * 12)],
    }
    labelled = Normal(width=100, total_steps=600, labelled=True)
    assert alerts_in(curves, labelled) == ()


def test_a_large_common_offset_is_no_collapse_where_embeddings_are_not_compared() -> None:
    curves = {"spread": [(0, 0.04), *curve([0.009] * 5)]}
    (alert,) = alerts_in(curves, JUDGE)
    assert alert.kind == "collapse"
    assert alerts_in(curves, Normal(width=100, total_steps=600, compares=False)) == ()
