"""Estimates: kept beside what came of them, and told with the next plan."""

from __future__ import annotations

from collections.abc import Callable

from ablations.cost import Estimate
from ablations.estimates import JOURNAL, Reckoning, accuracy_lines
from ablations.options import RunOptions
from ablations.plan import Plan
from ablations.vault import Vault
from ablations.workers import Outcome


def seconds_of(vault: Vault, key: str) -> float:
    return float(str(vault.record("adapt", key)["seconds"]))


def test_a_plan_says_how_far_off_earlier_estimates_were(
    pretended: tuple[Plan, Vault], options: Callable[..., RunOptions]
) -> None:
    plan, vault = pretended
    assert accuracy_lines(vault) == []
    keys = [stage.key for stage in plan.all_of("adapt")][:4]
    twice = {key: 2 * seconds_of(vault, key) for key in keys}
    cost = Estimate(seconds={"adapt": sum(twice.values())}, basis={}, per_stage=twice)
    reckoning = Reckoning(plan, cost, options())
    reckoning.ended(Outcome(kind="adapt", key=keys[0], seconds=1.0, reason="it failed"))
    reckoning.write(vault)
    assert accuracy_lines(vault) == [], "nothing has ended well"
    for key in keys[:3]:
        reckoning.ended(Outcome(kind="adapt", key=key, seconds=0.0, reason=None))
    reckoning.write(vault)
    assert accuracy_lines(vault) == ["  earlier estimates were 2 of what the stages took (1 study)"]
    reckoning.ended(Outcome(kind="adapt", key=keys[3], seconds=0.0, reason=None))
    reckoning.write(vault)
    (line,) = accuracy_lines(vault)
    assert "of the time that passed" in line, "all that was to do is done"


def test_a_torn_line_of_the_journal_costs_itself_only(
    pretended: tuple[Plan, Vault], options: Callable[..., RunOptions]
) -> None:
    plan, vault = pretended
    key = plan.all_of("adapt")[0].key
    half = {key: 0.5 * seconds_of(vault, key)}
    (vault.root / JOURNAL).write_text('{"study": "torn", "thou\n')
    reckoning = Reckoning(plan, Estimate(seconds={}, basis={}, per_stage=half), options())
    reckoning.ended(Outcome(kind="adapt", key=key, seconds=0.0, reason=None))
    reckoning.write(vault)
    (line,) = accuracy_lines(vault)
    assert line.startswith("  earlier estimates were 0.5 of what the stages took")
