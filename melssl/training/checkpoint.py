"""Checkpoints: one safetensors file, written whole or not at all; nothing in it can run code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from melssl.errors import ArtifactError
from melssl.files import publish, sync
from melssl.settings import Json


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Json]) -> None:
    """Write tensors and JSON facts into one safetensors file, atomically."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    ready = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    save_file(ready, part, metadata={"facts": json.dumps(facts)})
    sync(part)
    publish(part, path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """Read what ``save_tensors`` wrote.

    Raises:
        ArtifactError: the file is missing, truncated or not of this kind.

    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"checkpoint {path}: cannot be read ({error}); delete it and run again"
        ) from None


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def training_state(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """Flatten weights, buffers and optimiser state into tensors and JSON scalars."""
    tensors = {f"module/{name}": value for name, value in module.state_dict().items()}
    scalars: dict[str, Json] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                scalars[f"{index}/{name}"] = value
    return tensors, scalars


def restore_training_state(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Json],
) -> None:
    """Put back what ``training_state`` flattened."""
    module.load_state_dict(below("module/", tensors))
    state: dict[int, dict[str, Tensor | Json]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, entry = name.split("/", 2)
            state.setdefault(int(index), {})[entry] = tensor
    for name, value in scalars.items():
        index, entry = name.split("/", 1)
        state.setdefault(int(index), {})[entry] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
