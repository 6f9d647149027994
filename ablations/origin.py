"""Origin: commit, libraries and machine, recorded beside every result and in no key."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version

from ablations.options import ROOT
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
