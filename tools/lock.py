"""Writes requirements.lock from pyproject.toml, and the pins of conda.yaml from the lock.

The lock holds for every Python and system that pyproject allows, with a hash for every file and
without the name of any registry. `--upgrade` takes newer versions; otherwise what still fits stays.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from environment import ROOT, find_uv

LOCK = ROOT / "requirements.lock"
CONDA = ROOT / "conda.yaml"
CONDA_PYTHON = "3.11.7"  # MLflow wants it exact; the one that the tests run with
CONDA_HEAD = """\
# Written by `make lock`: what pyproject.toml asks for, as pinned in requirements.lock. For conda
# users; after `make`, MLflow uses .venv instead (tools/mlflow_environment.py).
name: melssl
channels: [conda-forge, nodefaults]
dependencies:
"""


def main(arguments: list[str]) -> int:
    """Write both files and return the exit status."""
    if arguments not in ([], ["--upgrade"]):
        print(f"lock.py: expected nothing or --upgrade, got {arguments}")
        return 2
    scope = ("--universal", "--python-version", "3.11", "--group", "dev", "--all-extras")
    plain = ("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--quiet")
    command = (find_uv(), "pip", "compile", *scope, *plain, *arguments, "pyproject.toml")
    subprocess.run((*command, "--output-file", LOCK), check=True, cwd=ROOT)
    lines = [f"python={CONDA_PYTHON}", "pip", "pip:", *(f"  - {pin}" for pin in _direct_pins())]
    CONDA.write_text(CONDA_HEAD + "".join(f"  {_item(line)}\n" for line in lines))
    return 0


def _item(line: str) -> str:
    return f"  {line}" if line.startswith(" ") else f"- {line}"


def _direct_pins() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {re.split(r"[<>=]", text, maxsplit=1)[0] for text in project["dependencies"]}
    pins = re.findall(r"^([a-z0-9.-]+)(==.*?) *\\?$", LOCK.read_text(), re.MULTILINE)
    return [name + version for name, version in pins if name in direct]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
