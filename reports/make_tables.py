"""Tables of a collected study: ``python reports/make_tables.py [--study NAME]``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path; the packages lie one above it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from reports.command import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main("tables"))
