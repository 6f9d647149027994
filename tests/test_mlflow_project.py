"""The promised `mlflow run . -e ablate -P factor=mask_ratio`, run for real."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MLFLOW = Path(sys.executable).parent / "mlflow"
ABLATE = shlex.split("run . -e ablate -P factor=mask_ratio -P preset=smoke -P values=0.5,0.75")
FINISHED = "select count(*) from runs where status = 'FINISHED'"
COMMANDS = {  # entry point: what its parameters are handed to
    "main": ("-m", "study.label_fraction"),
    "label_fraction": ("-m", "study.label_fraction"),
    "ablate": ("-m", "ablations", "run"),
    "search": ("-m", "study.search"),
    "submission": ("-m", "study.submission"),
}


@dataclass(frozen=True)
class Machine:
    """A home, a tracking store and an output folder of a test's own; no conda, no pyenv."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        paths = [p for p in os.environ["PATH"].split(os.pathsep) if not managers(p)]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        return clean | {
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "PATH": os.pathsep.join((str(MLFLOW.parent), *paths)),
            "MELSSL_OUT": str(self.folder / "outputs"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            "MLFLOW_ENV_ROOT": str(self.folder / ".mlflow" / "envs"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def mlflow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(MLFLOW, *arguments, environment=self.environment)

    def rows(self, query: str) -> list[tuple[str, ...]]:
        with sqlite3.connect(self.folder / "mlflow.db") as store:
            return store.execute(query).fetchall()


def managers(folder: str) -> str | None:
    return shutil.which("pyenv", path=folder) or shutil.which("conda", path=folder)


def run(
    *command: Path | str, environment: Mapping[str, str], cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    text = [str(part) for part in command]
    return subprocess.run(text, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine on which the set-up step was done, and nothing else."""
    if not (ROOT / ".venv" / "bin" / "activate").is_file():
        pytest.skip("no .venv to hand over to: run `make environment`")
    machine = Machine(tmp_path_factory.mktemp("machine"))
    (machine.folder / "tmp").mkdir()
    tool = ROOT / "tools" / "mlflow_environment.py"
    done = run(sys.executable, tool, environment=machine.environment)
    assert done.returncode == 0, done.stderr
    return machine


def left_behind() -> set[str]:
    outputs = ROOT / "outputs"
    inner = {path.name for path in outputs.iterdir()} if outputs.is_dir() else set()
    return inner | {name for name in ("mlruns", "mlflow.db") if (ROOT / name).exists()}


@pytest.mark.slow
def test_the_bare_command_leaves_nested_runs_and_figures_and_the_local_manager_a_page(
    machine: Machine,
) -> None:
    # one test: processes that run tests side by side would each make the study anew
    bare = machine.mlflow(*ABLATE)
    assert bare.returncode == 0, bare.stdout[-3000:] + bare.stderr[-3000:]
    assert re.search(r"Environment \S*\.mlflow/envs/mlflow-\w+ already exists", bare.stderr)
    parents = machine.rows(
        "select run_uuid from tags where key = 'mlflow.project.entryPoint' and value = 'ablate'"
    )
    assert len(parents) == 1, "the run that MLflow opened must be the parent, not a second one"
    scored = machine.rows(
        "select distinct t.run_uuid from tags t join metrics m on m.run_uuid = t.run_uuid "
        f"where t.key = 'mlflow.parentRunId' and t.value = '{parents[0][0]}'"
    )
    assert len(scored) >= 2
    assert machine.rows("select distinct status from runs") == [("FINISHED",)]
    outputs = machine.folder / "outputs"
    assert list(outputs.rglob("*.pdf")), sorted(p.name for p in outputs.rglob("*"))

    before, runs_before = left_behind(), machine.rows(FINISHED)
    again = machine.mlflow("run", ".", "-e", "page", "--env-manager", "local")
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert machine.rows(FINISHED) > runs_before
    assert list(outputs.rglob("*.html"))
    assert left_behind() == before, "nothing may be written into the clone"


@pytest.mark.slow
def test_an_undeclared_parameter_is_refused_before_anything_runs(machine: Machine) -> None:
    refused = machine.mlflow(*ABLATE, "-P", "fractoins=0.1", "--env-manager", "local")
    assert refused.returncode != 0
    assert "fractoins" in (refused.stdout + refused.stderr).split("in run with ID")[-1]
    assert machine.rows("select 1 from runs where status = 'FAILED'")


def test_the_project_file_names_the_promised_entry_points_and_no_environment() -> None:
    project = yaml.safe_load((ROOT / "mlproject").read_text())
    assert {"main", "ablate", "label_fraction", "search", "figures"} <= set(project["entry_points"])
    assert not {"conda_env", "python_env", "docker_env"} & set(project)


@pytest.mark.parametrize("entry", COMMANDS)
def test_every_project_parameter_is_an_option_of_its_command(entry: str) -> None:
    declared = yaml.safe_load((ROOT / "mlproject").read_text())["entry_points"][entry]
    usage = run(sys.executable, *COMMANDS[entry], "--help", environment=os.environ)
    assert usage.returncode == 0, usage.stderr
    options = set(re.findall(r"--[a-z-]+", usage.stdout))
    handed = set(re.findall(r"(--[a-z-]+) \{", declared["command"]))
    assert handed == {"--" + name.replace("_", "-") for name in declared["parameters"]}
    assert handed <= options, handed - options
    assert " ".join(COMMANDS[entry]) in declared["command"]


def test_conda_pins_what_pyproject_asks_for_as_the_lock_does() -> None:
    pins = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {
        line.removesuffix("\\").strip()
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    from_pip = pins[-1]["pip"]
    assert set(from_pip) <= locked
    wanted = {re.match(r"[\w.-]+", text)[0] for text in project["dependencies"]}
    assert {pin.partition("==")[0] for pin in from_pip} == wanted
    assert re.fullmatch(r"python=3\.11\.\d+", pins[0]), "MLflow wants an exact version"


def test_the_lock_has_a_hash_for_everything_and_names_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(blocks) > 100
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "-index" not in text


def test_the_link_follows_the_lock_and_can_be_removed(tmp_path: Path) -> None:
    clone = tmp_path / "a clone"
    (clone / "tools").mkdir(parents=True)
    tool = shutil.copy(ROOT / "tools" / "mlflow_environment.py", clone / "tools")
    lock = clone / "requirements.lock"
    lock.write_text("numpy==2.4.0\n")
    envs = tmp_path / "envs"
    other = envs / "mlflow-of-someone-else" / "bin" / "activate"
    other.parent.mkdir(parents=True)
    other.write_text("echo not ours\n")
    environment = Machine(tmp_path).environment | {"MLFLOW_ENV_ROOT": str(envs)}

    def link(*arguments: str) -> set[str]:
        done = run(sys.executable, tool, *arguments, environment=environment)
        assert done.returncode == 0, done.stderr
        return {path.name for path in envs.iterdir()} - {"mlflow-of-someone-else"}

    first = link()
    assert link() == first
    lock.write_text("numpy==2.4.1\n")
    second = link()
    assert len(first) == len(second) == 1
    assert first != second
    broken = run("bash", "-c", f"source {envs}/{next(iter(second))}/bin/activate && echo went on",
                 environment=environment)  # fmt: skip
    assert "run make there first" in broken.stderr
    assert broken.stdout == ""
    assert link("--remove") == set()
    assert not (clone / "python_env.yaml").exists()
    assert other.exists()
