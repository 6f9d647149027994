"""Keys: those of a hundred thousand runs, made from shared parts, are those of each run alone."""

from __future__ import annotations

from itertools import product

import pytest

from melssl.evaluation.protocols.linear_probe import LinearProbe
from melssl.payloads import Parts, Payload, said
from melssl.prepared import Prepared
from melssl.runs import Run
from melssl.settings import digest, with_overrides
from melssl.spec import STAGE_VERSIONS, RunSpec
from melssl.stages import LENGTH, Chains, stages, trunk

Told = list[tuple[str, Payload]]
VIT = ["backbone=small_vit", "method=mae"]
STABLE = [
    *("pretraining.schedule=stable_decay", "pretraining.warmup_epochs=0.5"),
    *("pretraining.epochs=4", "pretraining.batch_size=4", "pretraining.decay_share=0.4"),
]
VARIED = {
    "baseline": [],
    "mask ratio": [*VIT, "method.mask_ratio=0.5"],
    "control": ["method=no_pretext"],
    "labels": ["method=supervised", "budget.fraction=0.5"],
    "metadata": ["method=metadata_clinical", "protocol=knn", "seed=3"],
    "no embeddings": ["protocol=fine_tune", "views=imagenet"],
    "layers": ["protocol=layer_probe", "protocol.layer=1"],
    "part of a pool": ["pool_size=0.5", "pool=train+test"],
    "trunk": STABLE,
    "other start": [*STABLE, "seed=7", "fold=1", "budget.draw=2", "budget.fraction=0.4"],
}


def plainly(spec: RunSpec, prepared: Prepared) -> Told:
    """Return kind and payload of each stage of a run, whole and from its spec alone."""
    method = spec.method_class
    pixels: Payload = {"cohort": prepared.cohort.digest, "store": [spec.store_side, spec.fit]}
    fold: Payload = {"folds": prepared.folds.digest, "fold": spec.fold}
    if method.sees == "metadata":
        spec = spec.replace(protocol=LinearProbe(), seed=0)
        table: Payload = {"cohort": prepared.cohort.digest, "method": spec.method.keyed()}
        chain = [whole("embed", table, [])]
    else:
        chain = [whole("pretrain", pretraining(spec, pixels, fold), [])]
        if spec.protocol.reads != "weights":
            chain.append(whole("embed", pixels | spec.protocol.encoded(), chain))
    judging = {"budget": spec.budget.keyed(), "protocol": spec.protocol.keyed(), "seed": spec.seed}
    return [*chain, whole("adapt", pixels | fold | judging, chain)]


def pretraining(spec: RunSpec, pixels: Payload, fold: Payload) -> Payload:
    own: Payload = {
        "backbone": spec.backbone.keyed(),
        "image_px": spec.image_px,
        "method": spec.method.keyed(),
        "seed": spec.seed,
    }
    if not spec.method_class.trains:
        return own
    own |= pixels | fold
    own |= {"pool": spec.pool, "views": spec.views.keyed()}
    own |= {"pretraining": spec.pretraining.keyed()}
    own |= {"pool_size": spec.pool_size} if spec.pool_size != 1 else {}
    return own | ({"budget": spec.budget.keyed()} if spec.method_class.uses_labels else {})


def whole(kind: str, payload: Payload, before: Told) -> tuple[str, Payload]:
    needs = [[name, digest(told)] for name, told in before[-1:]]
    head = {"stage": kind, "numbers_version": STAGE_VERSIONS[kind], "needs": needs}
    return kind, head | payload


@pytest.mark.parametrize("name", VARIED)
def test_stages_of_many_runs_are_those_of_each_alone(
    name: str, tiny_spec: RunSpec, tiny: Prepared
) -> None:
    base = with_overrides(tiny_spec, VARIED[name])
    chains = Chains(base, tiny)
    for fold, draw, seed in product((0, 1), (0, 5), (0, 3)):
        run = Run(base=base, fold=fold, draw=draw, seed=seed)
        spec = base.replace(fold=fold, budget=base.budget.replace(draw=draw), seed=seed)
        assert run.spec == spec
        found, expected = chains.at(run), plainly(spec, tiny)
        assert [(stage.kind, stage.payload) for stage in found] == expected
        assert [stage.key for stage in found] == [digest(payload) for _, payload in expected]
        assert [stage.key for stage in stages(spec, tiny)] == [stage.key for stage in found]
        needs = [list(map(list, stage.needs)) for stage in found]
        assert needs == [payload["needs"] for _, payload in expected]
        last = spec.replace(protocol=LinearProbe(), seed=0) if name == "metadata" else spec
        assert found[-1].spec == last


def test_a_trunk_is_keyed_by_the_pretraining_less_its_length(
    tiny_spec: RunSpec, tiny: Prepared
) -> None:
    base = with_overrides(tiny_spec, VARIED["trunk"])
    pretrain = Chains(base, tiny).at(Run(base=base, fold=1, draw=4, seed=2))[0]
    found = trunk(pretrain, tiny)
    assert found is not None
    payload = pretrain.payload
    assert isinstance(payload["pretraining"], dict)
    schedule = {k: v for k, v in payload["pretraining"].items() if k not in LENGTH}
    own = {"stage": "trunk", "pretraining": schedule, "end_step": found.end_step}
    assert found.payload == payload | own
    assert found.key == digest(payload | own)


def test_what_many_stages_share_is_held_once(tiny_spec: RunSpec, tiny: Prepared) -> None:
    chains = Chains(tiny_spec, tiny)
    first, second = (chains.at(Run(base=tiny_spec, fold=0, draw=draw, seed=0)) for draw in (0, 1))
    assert [a is b for a, b in zip(first, second, strict=True)] == [True, True, False]
    assert first[-1].parts.parts[0] is second[-1].parts.parts[0]


def test_a_payload_in_parts_has_the_digest_of_the_whole() -> None:
    whole: Payload = {"b": [1, 2.5], "a": {"y": None, "x": "ä"}, "c": True}
    parts = Parts((said({"b": 0, "c": True}), said({"a": whole["a"], "b": whole["b"]})))
    assert parts.key == Parts.of(whole).key == digest(whole)
    assert parts.payload == whole
