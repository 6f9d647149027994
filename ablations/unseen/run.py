"""Runs what is missing of the answers about an unseen cohort, in the study's worker processes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from tqdm import tqdm

from ablations.options import RunOptions
from ablations.run import runtime_of, surviving
from ablations.unseen.asked import Asked
from ablations.vault import Vault
from ablations.workers import Job


def answer(questions: Iterable[Asked], vault: Vault, options: RunOptions) -> list[str]:
    """Leave every missing prediction in the vault; return the reasons of those that failed.

    The trials of one encoder share a worker, which shows it the images once.

    Raises:
        KeyboardInterrupt: it was asked to stop; the same call goes on.

    """
    by_encoder: dict[tuple[str, str], list[Asked]] = {}
    for one in {one.stage.key: one for one in questions}.values():
        if not vault.has("predict", one.stage.key):
            by_encoder.setdefault(one.stage.needs[-1], []).append(one)
    groups = [tuple(one.stage for one in group) for group in by_encoder.values()]
    runtime = runtime_of(options)
    jobs = [Job(stages=stages, vault=vault.root, runtime=runtime) for stages in groups]
    total, failed = sum(map(len, groups)), list[str]()
    with (
        tqdm(desc="predictions", total=total, disable=None, leave=False) as bar,
        closing(surviving(jobs, vault, options)) as outcomes,
    ):
        for outcome in outcomes:
            bar.update()
            failed += [] if outcome.reason is None else [outcome.reason]
    return failed
