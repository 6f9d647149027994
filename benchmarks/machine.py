"""What a figure was measured on: machine, versions, commit, and whether it was busy."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("torch", "torchvision", "timm", "lightly", "numpy", "pillow", "scikit-learn")
BUSY_LOAD = 0.5


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Recorded beside every figure; ``load`` is the one-minute average when the run began."""

    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    libraries: dict[str, str]
    commit: str
    began: str
    load: float

    @property
    def warning(self) -> str | None:
        """Why the figures may mean little, or None."""
        if self.load <= BUSY_LOAD:
            return None
        return (
            f"the machine was busy when this began (load {self.load:.1f}, expected at most "
            f"{BUSY_LOAD}): run it again when nothing else runs"
        )


def this_machine() -> Machine:
    """Look at the machine; call it before anything is measured."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        processor=_processor(),
        cores=cores(),
        memory_gb=round(pages / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
        commit=_commit(),
        began=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        load=os.getloadavg()[0],
    )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    extras = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in facts["flags"]]
    return ", ".join([facts.get("model name", platform.machine()), *extras])


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    head = git("rev-parse", "--short=10", "HEAD") or "not a git checkout"
    return f"{head} with changes" if git("status", "--porcelain", "-uno") else head
