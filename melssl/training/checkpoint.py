"""Checkpoints: one safetensors file, written whole or not at all; nothing in it can run code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from melssl.errors import ArtifactError
from melssl.files import part_of, publish, sync
from melssl.settings import Json

SAID = "melssl"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Json]) -> None:
    """Write tensors and JSON facts into one safetensors file, atomically."""
    part = part_of(path)
    ready = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    # one entry: the file's bytes would depend on the order of several, which is left to chance
    said = json.dumps({"facts": facts, "sha256": tensor_digest(ready)})
    try:
        save_file(ready, part, metadata={SAID: said})
        sync(part)
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """Read what ``save_tensors`` wrote.

    Raises:
        ArtifactError: the file is missing, truncated or not of this kind.

    """
    try:
        with safe_open(path, framework="pt") as file:
            said = _said(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if said.get("sha256") not in (None, tensor_digest(tensors)):
            raise ValueError("its tensors differ from their digest")
        return tensors, said["facts"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"checkpoint {path}: cannot be read ({error}); delete it and run again"
        ) from None


def _said(metadata: Mapping[str, str]) -> dict[str, Any]:
    if SAID in metadata:
        return dict(json.loads(metadata[SAID]))
    return {"facts": json.loads(metadata["facts"])}  # of an earlier version, without a digest


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors, names and values, in the order of their names."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        state.update(name.encode())
        state.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


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
