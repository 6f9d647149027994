"""Origin: commit, libraries and machine, recorded beside every result and in no key."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from ablations.options import ROOT

if TYPE_CHECKING:
    from melssl.settings import Json

LIBRARIES = ("torch", "torchvision", "timm", "lightly", "numpy", "scikit-learn", "pandas")


@cache
def commit() -> str:
    """Return the short commit of the source tree, with ``+`` where it has changes."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


@cache
def libraries() -> dict[str, str]:
    """Return the versions of the libraries that numbers may depend on."""
    return {name: version(name) for name in LIBRARIES}


def environment() -> dict[str, Json]:
    """Return all of it as JSON-ready data."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "libraries": dict(libraries()),
    }


@cache
def fingerprint() -> str:
    """Return what identifies this process's melssl: its sources, Python and libraries."""
    told = hashlib.sha256(platform.python_version().encode())
    for name, number in libraries().items():
        told.update(f"{name}={number}\n".encode())
    for path in sorted(
        path for wing in ("melssl", "ablations") for path in (ROOT / wing).rglob("*.py")
    ):
        told.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return told.hexdigest()[:12]
