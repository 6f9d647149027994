"""What every test may use: the folder of real data, and the reason to skip where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder that holds the public data sets; tests only read it."""
    folder = Path(os.environ.get("MELSSL_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MELSSL_DATA to the folder that holds them")
    return folder
