"""Loading weights: every missing and unexpected key is reported, and a partial load fails."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import load_state_dict_from_hf
from timm.models.resnet import ResNet
from torch import Tensor, nn

from melssl.backbones.base import Backbone
from melssl.backbones.cnn import TimmCnnBackbone
from melssl.backbones.vit import VitBackbone
from melssl.errors import ArtifactError, BackboneError, listed
from melssl.settings import Json
from melssl.training.checkpoint import below

HEADS = ("fc", "head", "classifier")


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What was loaded: ``entries`` of a module, all of them, and the ``numbers`` that they hold.

    There is none for a partial load, which is an error. ``left_out`` names entries of the file that
    belong to its classifier's head, ``resampled`` those that were fitted to the image size,
    ``fresh`` those of what stands above the module and starts at random.
    """

    entries: int
    numbers: int
    left_out: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    def plain(self) -> dict[str, Json]:
        """Return what is recorded beside a result; of fewer than all entries there is none."""
        plain: dict[str, Json] = {
            "loaded": self.entries,
            "of": self.entries,
            "numbers": self.numbers,
            "left_out": list[Json](self.left_out),
            "resampled": list[Json](self.resampled),
        }
        return plain | {"fresh": list[Json](self.fresh)} if self.fresh else plain


def load_whole(module: nn.Module, weights: Mapping[str, Tensor], origin: str) -> LoadReport:
    """Load ``weights`` into ``module``; all of its parameters and buffers must be given.

    Raises:
        ArtifactError: keys are missing or unexpected, or shapes differ; all are named.

    """
    own = module.state_dict()
    faults = [f"missing: {key}" for key in own if key not in weights]
    faults += [f"unexpected: {key}" for key in weights if key not in own]
    faults += [
        f"shape of {key}: expected {tuple(own[key].shape)}, got {tuple(weights[key].shape)}"
        for key in own
        if key in weights and own[key].shape != weights[key].shape
    ]
    if faults:
        raise ArtifactError(
            f"{origin}: the weights do not fit the whole {type(module).__name__} "
            f"({len(own)} entries expected)\n{listed(faults)}"
        )
    module.load_state_dict(dict(weights))
    return LoadReport(entries=len(own), numbers=sum(t.numel() for t in own.values()))


def load_timm_weights(backbone: Backbone, file: Path | None) -> LoadReport:
    """Load timm's published weights, from a safetensors ``file`` or, if None, from its hub.

    Raises:
        BackboneError: the backbone is not a timm model with published weights.
        ArtifactError: the file cannot be read, the hub not reached, or the keys do not fit.

    """
    net = _timm_net(backbone)
    weights = _read(file) if file else _download(net)
    filtered = _for_this_size(net, weights)
    wanted = net.state_dict()
    head = {key for key in filtered if key.split(".")[0] in HEADS} - wanted.keys()
    body = {key: value for key, value in filtered.items() if key not in head}
    stem = " (a ResNet takes them with stem=standard)" if isinstance(net, ResNet) else ""
    report = load_whole(net, body, f"timm{stem}")
    refitted = (k for k in body if k in weights and weights[k].shape != body[k].shape)
    return replace(report, left_out=tuple(sorted(head)), resampled=tuple(sorted(refitted)))


def load_start(backbone: Backbone, file: Path) -> LoadReport:
    """Load what training starts from: a backbone's entries, of a method's file or alone, or timm's.

    Raises:
        ArtifactError: the file cannot be read, or does not hold the whole backbone.

    """
    weights = _read(file)
    own = below("backbone.", weights)
    if not own and weights.keys() != backbone.state_dict().keys():
        return load_timm_weights(backbone, file)
    left_out = sorted(weights.keys() - {f"backbone.{key}" for key in own}) if own else []
    return replace(load_whole(backbone, own or weights, str(file)), left_out=tuple(left_out))


def _timm_net(backbone: Backbone) -> nn.Module:
    if isinstance(backbone, VitBackbone):
        vit: nn.Module = backbone.vit
        return vit
    if isinstance(backbone, TimmCnnBackbone):
        return backbone.net
    raise BackboneError(
        f"{type(backbone).__name__} has no published weights; use the backbone cnn or vit"
    )


def _read(file: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"weights {file}: expected a safetensors file ({error}); "
            "save timm's state_dict with safetensors.torch.save_file"
        ) from None
    return weights


def _download(net: nn.Module) -> dict[str, Tensor]:
    source = getattr(net, "pretrained_cfg", {}).get("hf_hub_id")
    if not source:
        raise BackboneError("timm publishes no weights for this model; give method.file")
    try:
        weights: dict[str, Tensor] = load_state_dict_from_hf(source, weights_only=True)
    except Exception as error:
        raise ArtifactError(
            f"timm's weights {source} could not be downloaded ({type(error).__name__}: {error}); "
            "without a network give a local file: --set method.file=weights.safetensors"
        ) from error
    return weights


def _for_this_size(net: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resample positions and patches to the net's size, as timm does for its own models."""
    family = importlib.import_module(type(net).__module__)
    if not hasattr(family, "checkpoint_filter_fn"):
        return weights
    try:
        fitted: dict[str, Tensor] = family.checkpoint_filter_fn(dict(weights), net)
    except (AttributeError, KeyError, RuntimeError) as error:
        raise ArtifactError(
            f"the weights do not fit a {type(net).__name__} ({type(error).__name__}: {error}); "
            "give the file of the model that the backbone names"
        ) from error
    return fitted
