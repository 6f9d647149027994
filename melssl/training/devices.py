"""Runtime: where a stage runs. Nothing here may change what it computes, so nothing enters a key.

One process per device, gradients averaged by DistributedDataParallel; with one device no process is
started and nothing is wrapped. Plain torch rather than a framework: the loop is the only place that
would use it, frozen dataclasses pass through untouched, and a worker starts seconds sooner.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVarTuple

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from melssl.errors import SpecError
from melssl.settings import Settings
from melssl.training.shared_norm import share_batch_norms

Arguments = TypeVarTuple("Arguments")
PR_SET_PDEATHSIG = 1


class Runtime(Settings):
    """Device, threads and how often to save. Recorded beside a result, never hashed into it."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:1")
    n_devices: int = Field(1, ge=1, description="processes of one training, one device each")
    threads: int = Field(1, ge=1, description="CPU threads of each process")
    checkpoint_seconds: float = Field(60.0, ge=0)
    watch: Literal["warn", "stop", "off"] = Field(
        "warn", description="what an alert of the watchdog does to a pretraining"
    )

    def device_kind(self) -> str:
        """Return ``cpu`` or ``cuda``; ``auto`` takes a GPU where there is one.

        Raises:
            SpecError: more devices than there are, or a GPU where there is none.

        """
        kind = self.device.partition(":")[0]
        if kind == "auto":
            kind = "cuda" if torch.cuda.is_available() else "cpu"
        if kind not in ("cpu", "cuda"):
            raise SpecError(f"device {self.device!r}: expected auto, cpu, cuda or cuda:N")
        if kind == "cuda" and torch.cuda.device_count() < self.n_devices:
            raise SpecError(
                f"device {self.device!r} x {self.n_devices}: this machine has "
                f"{torch.cuda.device_count()} GPUs; use device=cpu or fewer devices"
            )
        return kind


@dataclass(frozen=True)
class Rank:
    """One process of a training: its index among ``size`` and its device."""

    index: int
    size: int
    device: torch.device

    def share(self, n: int) -> slice:
        """Return this process's part of a batch of ``n``.

        Raises:
            SpecError: they would not be equal, as gathering and averaging need.

        """
        if n % self.size:
            raise SpecError(
                f"a batch of {n} cannot be shared evenly by {self.size} devices; choose a"
                " batch_size that is a multiple of them, not above the pool"
            )
        return slice(self.index * n // self.size, (self.index + 1) * n // self.size)

    def mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean of each scalar over all processes."""
        if self.size == 1:
            return values
        stacked = torch.stack([value.to(self.device).double() for value in values.values()])
        dist.all_reduce(stacked)
        return dict(zip(values, (stacked / self.size).unbind(), strict=True))

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return ``module`` so that its gradients and batch statistics are those of all processes.

        Statistics of one process only would tell a contrastive method which views belong together.
        """
        if self.size == 1:
            return module
        share_batch_norms(module)
        return nn.parallel.DistributedDataParallel(module)


def on_devices(
    runtime: Runtime,
    function: Callable[[Rank, *Arguments], None],
    *args: *Arguments,
) -> None:
    """Run ``function(rank, *args)`` on every device and wait; results go to disk, from rank 0."""
    kind = runtime.device_kind()
    if runtime.n_devices == 1:
        device = torch.device(runtime.device if runtime.device != "auto" else kind)
        settle(runtime)
        function(Rank(0, 1, device), *args)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        start_processes(  # type: ignore[no-untyped-call]
            _process,
            args=(runtime, kind, meeting, function, args),
            nprocs=runtime.n_devices,
            start_method="spawn",
        )


def channels_last(module: nn.Module) -> nn.Module:
    """Return the module, its weights of four dimensions laid out with the channels last.

    Convolutions of images are faster so, on CPUs and GPUs alike; other layers do not care.
    """
    for weight in (*module.parameters(), *module.buffers()):
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return module


def visible_devices(runtime: Runtime) -> list[dict[str, str]]:
    """Return the environments of as many trainings as this machine's GPUs hold side by side.

    Where the runtime names one GPU, all share it and nothing is hidden.
    """
    if ":" in runtime.device:
        return [{}]
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    all_of_them = named.split(",") if named else [str(n) for n in range(torch.cuda.device_count())]
    n = runtime.n_devices
    groups = [all_of_them[first : first + n] for first in range(0, len(all_of_them) - n + 1, n)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups]


def die_with_parent(parent: int) -> None:
    """Let this process be killed when the one that started it, ``parent``, is gone.

    Linux sees to it at once, whatever this process is at; elsewhere a thread looks every second.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:  # it was gone before
            os.kill(os.getpid(), signal.SIGKILL)
        return
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def settle(runtime: Runtime) -> None:
    """Set threads and determinism of this process."""
    torch.set_num_threads(runtime.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # else every new tensor is first filled with NaN, a tenth of a step; nothing here reads one
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def _process(
    index: int,
    runtime: Runtime,
    kind: str,
    meeting: str,
    function: Callable[..., None],
    args: tuple[object, ...],
) -> None:
    die_with_parent(os.getppid())
    settle(runtime)
    device = torch.device("cpu") if kind == "cpu" else torch.device("cuda", index)
    if kind == "cuda":
        torch.cuda.set_device(device)
    size = runtime.n_devices
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting, rank=index, world_size=size)
    try:
        function(Rank(index, size, device), *args)
        dist.barrier()
    finally:
        dist.destroy_process_group()
