"""Spaces: read from text, or declared beside every method and protocol that has settings."""

from __future__ import annotations

import pytest

from ablations.preparations import Preparations
from ablations.searching.space import home_of, parse_space
from melssl.encoders import served
from melssl.errors import SpecError
from melssl.evaluation.protocols import PROTOCOLS
from melssl.methods import METHODS
from melssl.settings import with_overrides
from melssl.space import Dimension
from melssl.spec import RunSpec
from melssl.stages import stages

COHORTS = {
    "image": {"source": "synthetic", "n_patients": 30, "image_px": 32},
    "volume": {"source": "synthetic_volumes", "n_patients": 30},
    "clip": {"source": "synthetic_clips", "n_patients": 30},
}
TRAINED = [name for name, method in METHODS.items() if method.trains]


def test_a_space_is_read_from_text() -> None:
    text = (
        "pretraining.lr=log:3e-4:1e-2, method.temperature=0.1|0.2|0.5,views=medical|imagenet,"
        "pretraining.epochs=5:20,pretraining.betas=[0.9,0.99]|[0.9,0.95]"
    )
    lr, temperature, views, epochs, betas = parse_space(text, RunSpec())
    assert lr == Dimension(name="pretraining.lr", low=3e-4, high=1e-2, log=True)
    assert temperature.choices == ("0.1", "0.2", "0.5")
    assert views.ends() == ("views=medical", "views=imagenet")
    assert epochs.whole
    assert epochs.ends() == ("pretraining.epochs=5", "pretraining.epochs=20")
    assert betas.choices == ("[0.9,0.99]", "[0.9,0.95]")
    assert str(lr) == "pretraining.lr=log:0.0003:0.01"
    assert lr.override(0.00123456) == "pretraining.lr=0.001235"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretraining.lrr=0.1:1", "did you mean 'lr'"),
        ("pretrainng.lr=0.1:1", "did you mean 'pretraining'"),
        ("method.mask_ratio=0.3:0.9", "no 'mask_ratio' in method"),
        ("pretraining.lr", "expected name=low:high"),
        ("pretraining.lr=1:2:3", "expected name=low:high"),
        ("pretraining.lr=log:0:1", "starts above 0|greater than 0"),
        ("pretraining.lr=0.2:0.1", "expected a range"),
        ("pretraining.lr=0.1:0.2,pretraining.lr=0.1:0.3", "twice"),
        ("pretraining.momentum=0.5:1.5", "less than 1"),
        ("pretraining.epochs=5:7.5", "whole number"),
        ("views=medical|imagenett", "did you mean 'imagenet'"),
        ("folds.n_folds=2:5", "decides what is compared"),
        ("seed=0:5", "decides what is compared"),
        ("pool=train|train+test", "decides what is compared"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_space(text, RunSpec())


def names(spec: RunSpec) -> list[str]:
    return [dimension.name for dimension in parse_space("", spec)]


def test_a_space_holds_pretraining_method_and_protocol() -> None:
    rates = ["pretraining.lr", "pretraining.weight_decay"]
    own = ["method.temperature", "method.projection_width"]
    assert names(RunSpec()) == [*rates, *own, "protocol.strength"]
    tuned = names(RunSpec().replace(protocol="fine_tune", method="no_pretext"))
    assert tuned[:2] == ["protocol.training.lr", "protocol.training.weight_decay"]
    with pytest.raises(SpecError, match="name one"):
        names(RunSpec().replace(method="metadata_clinical"))


@pytest.fixture(scope="module")
def preparations(tmp_path_factory: pytest.TempPathFactory) -> Preparations:
    """Return what a plan needs, made once."""
    return Preparations(tmp_path_factory.mktemp("prepared"), decode=False)


def check(baseline: RunSpec, preparations: Preparations, part: str) -> None:
    """Try both ends of everything that a part declares: each parses, and moves some stage's key."""
    prepared = preparations.of(baseline)
    for dimension in parse_space("", baseline):
        if dimension.name.startswith(part):
            specs = [with_overrides(baseline, [end]) for end in dimension.ends()]
            keys = {tuple(stage.key for stage in stages(spec, prepared)) for spec in specs}
            assert len(keys) == len(specs), str(dimension)


@pytest.mark.parametrize("name", TRAINED)
def test_every_setting_that_a_trained_method_declares_changes_its_pretraining(
    name: str, preparations: Preparations
) -> None:
    (medium, *_) = sorted(METHODS[name].media, key=list(COHORTS).index)
    baseline = served(RunSpec.parse({**TINY, "cohort": COHORTS[medium], "method": name}))
    assert parse_space("", baseline)
    # a head that reads the embeddings, and nothing else that could be set
    assert baseline.method.space() or name == "supervised"
    check(baseline, preparations, "method")
    assert home_of(parse_space("", baseline), baseline), "the baseline lies in its own space"


@pytest.mark.parametrize("name", [n for n, p in PROTOCOLS.items() if p.judges == "classes"])
def test_every_setting_that_a_protocol_declares_changes_its_judgement(
    name: str, preparations: Preparations
) -> None:
    baseline = RunSpec.parse({**TINY, "method": "no_pretext", "protocol": name})
    assert names(baseline)
    check(baseline, preparations, "protocol")


TINY = {"cohort": COHORTS["image"], "image_px": 32}
