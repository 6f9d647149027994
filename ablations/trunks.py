"""Trunks: pretrainings of several lengths share their constant part, and each step is done once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ablations.preparations import Preparations
from ablations.vault import Vault
from melssl.stages import Stage, family_of, trunk

Chain = tuple[Stage, ...]
Ends = dict[str, dict[int, str]]  # family -> the steps where trunks end -> their keys


def with_trunks(
    chains: Sequence[Chain], preparations: Preparations, vault: Vault
) -> Sequence[Chain]:
    """Return the stages of each trial with a trunk before every pretraining that shares one.

    A trunk goes on from the longest shorter one of its family, of this study or in the vault.
    """
    own = _own(chains, preparations)
    if not own:
        return chains
    ends = _stored(vault)
    for stage in own.values():
        ends.setdefault(stage.family, {})[_end(stage)] = stage.key
    joined = {key: _joined(stage, ends[stage.family]) for key, stage in own.items()}
    return [_grown(chain, joined) for chain in chains]


def in_order(trunks: Iterable[Stage]) -> list[Chain]:
    """Return the trunks of each family, the shortest first: a job of one worker."""
    families: dict[str, list[Stage]] = {}
    for stage in trunks:
        families.setdefault(stage.family, []).append(stage)
    return [tuple(sorted(stages, key=_end)) for stages in families.values()]


def _own(chains: Sequence[Chain], preparations: Preparations) -> dict[str, Stage]:
    """Return the trunk of each pretraining that has one, by the pretraining's key."""
    pretrains = {s.key: s for chain in chains for s in chain if s.kind == "pretrain"}
    found = {key: trunk(s, preparations.of(s.spec)) for key, s in pretrains.items()}
    return {key: stage for key, stage in found.items() if stage is not None}


def _stored(vault: Vault) -> Ends:
    """Return where the finished trunks of earlier studies end."""
    ends: Ends = {}
    for key in sorted(vault.finished("trunk")):
        payload = vault.record("trunk", key)["payload"]
        assert isinstance(payload, dict)
        ends.setdefault(family_of(payload), {})[int(str(payload["end_step"]))] = key
    return ends


def _joined(stage: Stage, ends: Mapping[int, str]) -> Stage:
    shorter = [end for end in ends if end < _end(stage)]
    return stage.after(ends[max(shorter)], max(shorter)) if shorter else stage


def _grown(chain: Chain, trunks: Mapping[str, Stage]) -> Chain:
    first, *rest = chain
    if first.kind != "pretrain" or first.key not in trunks:
        return chain
    before = trunks[first.key]
    return (before, first.after(before.key, _end(before)), *rest)


def _end(stage: Stage) -> int:
    assert stage.end_step is not None
    return stage.end_step
