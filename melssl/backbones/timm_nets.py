"""What all timm models share: being made for an image size, and their stages."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache

import timm
import torch
from timm.layers import set_fused_attn
from timm.models._manipulate import group_with_matcher
from torch import nn

from melssl.errors import BackboneError

UNGROUPED = "(in no group)"
NONE: Mapping[str, int] = {}
USUAL_GROUPS = {  # for the few models that do not say how they divide
    "stem": r"^stem|^patch_embed|^pos_embed|^cls_token",
    "stages": r"^(?:stages|blocks|transformers)\.(\d+)",
}


def make_net(
    model: str, drop_path: float, chosen: Mapping[str, int], offered: Mapping[str, int] = NONE
) -> nn.Module:
    """Return a randomly initialised timm model without its classifier.

    It gets every option that was ``chosen``, and those ``offered`` that it knows.

    Raises:
        BackboneError: timm has no such model, or it does not know something that was chosen.

    """
    known = inspect.signature(timm_class(model).__init__).parameters
    options = dict(chosen) | {name: value for name, value in offered.items() if name in known}
    rate = {"drop_path_rate": drop_path} if drop_path or "drop_path_rate" in known else {}
    unknown = [name for name in (*chosen, *rate) if name not in known]
    if unknown:
        raise BackboneError(
            f"timm's {model} knows no {', '.join(unknown)}; leave it at its default, "
            "or use another backbone"
        )
    plain_attention_on_cpu()
    net: nn.Module = timm.create_model(model, num_classes=0, **rate, **options)
    return net


def plain_attention_on_cpu() -> None:
    """Let attention be made of plain products where there is no GPU."""
    # the fused kernel's backward is up to five times slower than plain products on a CPU
    set_fused_attn(enable=torch.cuda.is_available())


@cache
def timm_class(model: str) -> type[nn.Module]:
    """Return the class of a timm model; draws no random numbers.

    Raises:
        BackboneError: timm has no such model.

    """
    if not timm.is_model(model):
        raise BackboneError(
            f"timm {timm.__version__} has no model {model!r}; "
            f"close: {', '.join(timm.list_models(f'*{model[:8]}*')[:8]) or 'none'}"
        )
    with torch.device("meta"):
        return type(timm.create_model(model))


def stages_of(net: nn.Module) -> list[nn.Module]:
    """Return a timm model's stem and its stages or blocks, which together hold all its weights.

    What leads to the first of them (positions, tokens) belongs to the stem; what follows the last
    (a norm, a last convolution) belongs to the last.
    """
    names = [name for name, _ in net.named_parameters()]
    groups = getattr(net, "group_matcher", lambda coarse: USUAL_GROUPS)(coarse=True)
    numbered = group_with_matcher(((n, None) for n in (*names, UNGROUPED)), groups, reverse=True)
    last = numbered[UNGROUPED] - 1
    stage = {name: min(numbered[name], last) for name in names}
    parts: list[list[nn.Module]] = [[] for _ in range(last + 1)]
    _deal(net, "", stage, parts)
    return [part[0] if len(part) == 1 else nn.ModuleList(part) for part in parts]


def _deal(
    module: nn.Module, prefix: str, stage: Mapping[str, int], parts: list[list[nn.Module]]
) -> None:
    """Give each stage the largest modules of which it holds all weights."""
    inside = {stage[prefix + name] for name, _ in module.named_parameters()}
    if len(inside) == 1:
        parts[inside.pop()].append(module)
        return
    for name, weight in module.named_parameters(recurse=False):
        parts[stage[prefix + name]].append(nn.ParameterList([weight]))
    for name, child in module.named_children():
        if any(True for _ in child.parameters()):
            _deal(child, f"{prefix}{name}.", stage, parts)
