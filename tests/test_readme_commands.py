"""Every command that README.md and docs/ show resolves; blocks under `<!-- runs -->` are run.

A fenced sh block may have a comment on the line above it: `<!-- runs -->` has it executed as
written; `<!-- needs data -->`, or nothing, has its commands resolved only: the make target exists,
the script takes the options, the MLflow entry point takes the parameters.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"(?:^<!-- *(?P<mark>.*?) *-->\n)?^```sh\n(?P<text>.*?)^```$", re.M | re.S)
MARKS = {"runs", "needs data", None}
ELSEWHERE = {
    "mkdir",
    "chgrp",
    "chmod",
    "git",
    "cd",
    "conda",
    "pip",
    "export",
    ".",
    "source",
    "ls",
    "open",
    "tar",
    "unzip",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, how it is marked, what it says."""

    place: str
    mark: str | None
    text: str

    def commands(self) -> list[list[str]]:
        joined = self.text.replace("\\\n", " ")
        lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
        return [command for line in lines for command in _split(line) if command]


def _split(words: list[str]) -> list[list[str]]:
    """Split a line at && and take assignments such as A=b away from the front."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", ";", "|"):
            commands.append([])
        elif commands[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
            commands[-1].append(word)
    return commands


def blocks() -> list[Block]:
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text() if path.is_file() else ""
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start("text"))
            place = f"{path.relative_to(ROOT)}:{line}"
            found.append(Block(place, block["mark"], block["text"]))
    return found


BLOCKS = blocks()


def shell(folder: Path) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MELSSL_OUT": str(folder / "outputs"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@cache
def options(*start: str) -> frozenset[str]:
    """Return the long options that a command's --help names."""
    done = subprocess.run([*start, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(start)} --help: {done.stderr}"
    return frozenset(re.findall(r"--[a-z][a-z-]*", done.stdout))


def resolve(command: list[str]) -> None:
    """Fail unless the command exists and takes what it is given."""
    name = Path(command[0]).name
    if name == "make":
        dry = subprocess.run(["make", "-n", *command[1:]], cwd=ROOT, capture_output=True, text=True)
        assert dry.returncode == 0, dry.stderr
    elif name.startswith("python"):
        _resolve_python(command[1:])
    elif name == "mlflow":
        _resolve_mlflow(command[1:])
    else:
        assert name in ELSEWHERE, f"no idea how to check {shlex.join(command)}"


def _resolve_python(arguments: list[str]) -> None:
    first_option = next(
        (n for n, word in enumerate(arguments) if word.startswith("--")), len(arguments)
    )
    given = {word.partition("=")[0] for word in arguments if word.startswith("--")} - {"--help"}
    start = arguments[:first_option]
    # -m module subcommand [action]; positional values are not checked
    length = (4 if start[2:3] == ["vault"] else 3) if start[0] == "-m" else 1
    known = options(sys.executable, *start[:length])
    assert given <= known, f"{shlex.join(arguments)}: no option {sorted(given - known)}"


def _resolve_mlflow(arguments: list[str]) -> None:
    if arguments[0] != "run":
        given = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        assert given <= options(str(BIN / "mlflow"), arguments[0])
        return
    entries = yaml.safe_load((ROOT / "mlproject").read_text())["entry_points"]
    named = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    assert set(named) <= {"-e", "-P", "--env-manager", "--experiment-name"}, named
    entry = entries[named.get("-e", "main")]
    module, *sub = re.findall(r"python -m ([\w.]+(?: run)?)", entry["command"])[0].split()
    taken = {name.replace("_", "-") for name in entry.get("parameters", {})}
    taken |= {name[2:] for name in options(sys.executable, "-m", module, *sub)}
    parameters = [v for k, v in pairwise(arguments) if k == "-P"]
    given = {text.partition("=")[0].replace("_", "-") for text in parameters}
    assert given <= taken, f"{shlex.join(arguments)}: no parameter {sorted(given - taken)}"


def test_the_readme_shows_the_two_commands_and_the_promised_ones() -> None:
    shown = [shlex.join(command) for block in BLOCKS for command in block.commands()]
    readme = "\n".join(shown)
    for promised in (
        "make demo",
        "make test",
        "mlflow run . -e ablate -P factor=mask_ratio",
        "python study/label_fraction.py",
        "python reports/make_figures.py",
    ):
        assert promised in readme, f"README.md does not show: {promised}"


def test_every_mark_is_a_known_one_and_something_is_run() -> None:
    marks = {block.mark for block in BLOCKS}
    assert marks <= MARKS, f"{marks - MARKS}: expected <!-- runs --> or <!-- needs data -->"
    assert "runs" in marks


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_every_command_shown_exists_and_takes_its_options(block: Block) -> None:
    for command in block.commands():
        resolve(command)


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in BLOCKS if b.mark == "runs"], ids=lambda b: b.place)
def test_a_block_marked_runs_runs_as_written(block: Block, tmp_path: Path) -> None:
    assert ["make", "test"] not in block.commands(), "the tests would start themselves"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=ROOT,
        env=shell(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize(
    "wrong",
    [
        "make dmeo",
        "python reports/make_figures.py --stduy x",
        "mlflow run . -e ablate -P fcator=x",
        "mlflow run . -e ablat",
        "curl x",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(wrong: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        resolve(shlex.split(wrong))
