"""CONTRIBUTING says how a method is added: one file and one entry. This does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREES = ("melssl", "ablations", "tests/melssl/methods")


def test_a_method_added_as_contributing_says_keeps_the_contract_and_can_be_planned(
    tmp_path: Path,
) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"<!-- (\S+) -->\n```python\n(.*?)```", text, re.DOTALL)
    ((path, source),) = blocks
    for tree in TREES:
        shutil.copytree(ROOT / tree, tmp_path / tree, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / path).write_text(source)
    entry = re.search(r'^    "mean_colour": MeanColour,$', text, re.MULTILINE)
    assert entry is not None
    listing = tmp_path / "melssl/methods/__init__.py"
    before = listing.read_text()
    importing = "from melssl.methods.mean_colour import MeanColour\n\nMETHODS"
    after = before.replace("\nMETHODS", importing, 1)
    listing.write_text(re.sub(r"\n}\n", f"\n{entry[0]}\n}}\n", after, count=1))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "MELSSL_OUT": str(tmp_path / "out")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    contract = "tests/melssl/methods/test_method_contract.py"
    told = run("-m", "pytest", "-q", "-k", "mean_colour", contract)
    assert len(re.findall(r"\.", told.splitlines()[0])) >= 15, told
    plan = run("-m", "ablations", "plan", "--factor", "method", "--values", "mean_colour",
               "--preset", "smoke", "--set", "backbone=small_cnn")  # fmt: skip
    assert "mean_colour" in plan or "mean colour" in plan, plan
