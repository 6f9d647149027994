"""The walls between the four wings, read from the imports; docs/architecture.md draws them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WINGS = ("melssl", "ablations", "study", "reports")
PLOTTING = {"matplotlib", "seaborn", "plotly", "bokeh"}
HEAVY = {
    *("torch", "torchvision", "timm", "lightly", "lightning_fabric", "pytorch_lightning", "monai"),
    *("mlflow", "optuna", "pandas", "pyarrow", "scipy", "sklearn", "matplotlib", "seaborn"),
}
# From the top down; an upper layer may import a lower one, or its own where that makes no circle.
LAYERS = (
    {"__main__", "workload"},
    {"pipeline", "predicting", "sharing", "pictures"},
    {"judging"},
    {"encoders", "artifacts"},
    {"stages", "pool"},
    {"prepared", "runs", "kept", "unseen"},
    {"spec"},
    {"audit", "evaluation", "methods", "splits"},
    {"training", "data"},
    {
        *("backbones", "statistics", "payloads", "seeding", "settings", "space", "frame"),
        *("files", "userpath", "errors"),
    },
)
DOORS = {  # all that the harness may know of the core
    *("melssl.spec", "melssl.prepared", "melssl.stages", "melssl.pipeline", "melssl.workload"),
    *("melssl.runs", "melssl.artifacts", "melssl.judging", "melssl.kept"),
    *("melssl.errors", "melssl.settings", "melssl.seeding", "melssl.space", "melssl.frame"),
    *("melssl.unseen", "melssl.sharing", "melssl.pictures", "melssl.pictures.subject"),
    "melssl.evaluation.predictions",
    "melssl.evaluation.metrics",
    "melssl.evaluation.uncertainty",
    *("melssl.evaluation.pooling", "melssl.evaluation.reliability", "melssl.evaluation.subgroups"),
    *("melssl.evaluation.sweeps", "melssl.evaluation.mask_scores"),
    *("melssl.statistics.interval", "melssl.statistics.differences", "melssl.statistics.delong"),
    *("melssl.statistics.levels", "melssl.statistics.labels_saved"),
    *("melssl.statistics.training_sets", "melssl.statistics.ranking"),
    "melssl.audit.report",
    "melssl.methods.base",  # whose embeddings are compared: what a search calls collapsed
    "melssl.training.alerts",  # and how far it may go
    "melssl.methods.metadata",  # which cohorts can have a metadata-only arm
    "melssl.encoders",  # which backbone serves the method that a factor brings
    "melssl.training.devices",  # Runtime: where a stage runs
    *("melssl.files", "melssl.userpath"),
}
LISTS = {  # folder: names of the base classes whose last descendants its `__init__` must name
    "melssl/data/sources": {"SourceConfig"},
    "melssl/backbones": {"BackboneConfig"},
    "melssl/methods": {"Method"},
    "melssl/evaluation/protocols": {"Protocol"},
    "reports/exhibits": {"Exhibit", "FigureExhibit", "TableExhibit"},
}
COMMANDS = (
    *("melssl/__main__.py", "ablations/__main__.py"),
    *("study/label_fraction.py", "study/search.py", "study/cluster.py"),
    *("study/submission.py", "study/unseen.py", "reports/make_page.py"),
    *("reports/make_figures.py", "reports/make_tables.py", "reports/make_report.py"),
)


@dataclass(frozen=True)
class Import:
    """One import: who, what, and when it happens."""

    source: str
    target: str
    line: int
    late: bool  # inside a function: not on the way to --help
    for_types: bool  # under TYPE_CHECKING: never executed

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"

    def within(self, *packages: str) -> bool:
        """Say whether the target is one of the packages or lies in one."""
        return any(self.target == p or self.target.startswith(f"{p}.") for p in packages)


@cache
def modules() -> dict[str, Path]:
    """Return every module of the four wings by its dotted name."""
    found = {}
    for path in sorted(p for wing in WINGS for p in (ROOT / wing).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(
        found
        for name, path in modules().items()
        for found in _imports(name, ast.parse(path.read_text()), late=False, for_types=False)
    )


def _imports(source: str, node: ast.AST, *, late: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for target in _targets(source, child):
                yield Import(source, target, child.lineno, late, for_types)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(source, child, late=late, for_types=True)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(source, child, late=late or inside, for_types=for_types)


def _targets(source: str, node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, f"{source}:{node.lineno}: write the full name of what is imported"
    base = node.module or ""
    inner = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in modules() else base for name in inner]


def of(wing: str) -> list[Import]:
    return [i for i in all_imports() if i.source == wing or i.source.startswith(f"{wing}.")]


def show(offences: list[Import]) -> str:
    return "\n".join(map(str, offences))


def test_all_four_wings_are_read() -> None:
    counts = {wing: sum(name.split(".")[0] == wing for name in modules()) for wing in WINGS}
    assert min(counts.values()) >= 2, counts
    assert len(all_imports()) > 200


def test_the_core_knows_no_study_no_ledger_and_no_picture() -> None:
    offences = [i for i in of("melssl") if i.within(*WINGS[1:], "mlflow", *PLOTTING)]
    assert not offences, show(offences)


def test_mlflow_is_imported_in_the_ledger_alone() -> None:
    users = {i.source for i in all_imports() if i.within("mlflow")}
    assert users == {"ablations.ledger"}


def test_torch_is_imported_in_the_core_alone() -> None:
    kin = ("torch", "torchvision", "timm", "lightly", "lightning_fabric", "safetensors")
    offences = [i for wing in WINGS[1:] for i in of(wing) if i.within(*kin)]
    assert not offences, show(offences)


def test_the_harness_enters_the_core_through_its_doors() -> None:
    ours = [i for i in of("ablations") if i.within(*WINGS)]
    offences = [i for i in ours if not i.within("ablations") and i.target not in DOORS]
    assert not offences, show(offences)


def test_reports_read_the_trial_table_and_nothing_else_of_ours() -> None:
    ours = [i for i in of("reports") if i.within(*WINGS)]
    offences = [i for i in ours if not i.within("reports") and i.target != "ablations.table"]
    assert not offences, show(offences)


def test_a_study_enters_the_core_through_its_doors_and_nobody_imports_a_study() -> None:
    inward = [i for i in of("study") if i.within("melssl") and i.target not in DOORS]
    outward = [i for wing in WINGS if wing != "study" for i in of(wing) if i.within("study")]
    assert not inward + outward, show(inward + outward)


def test_imports_inside_the_core_point_downwards() -> None:
    level = {name: depth for depth, names in enumerate(LAYERS) for name in names}
    inside = [i for i in of("melssl") if i.within("melssl") and "." in i.target]
    names = {part.split(".")[1] for i in inside for part in (i.source, i.target) if "." in part}
    assert names <= set(level), f"give a layer to {names - set(level)}"
    offences = [i for i in inside if level[i.source.split(".")[1]] > level[i.target.split(".")[1]]]
    assert not offences, show(offences)


def test_no_file_stands_in_a_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for found in all_imports():
        if found.target in graph:
            graph[found.source].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_heavy_is_imported_on_the_way_to_help(command: str) -> None:
    start = command.removesuffix(".py").replace("/", ".")
    assert start in modules(), f"{command} is promised and missing"
    now: dict[str, list[Import]] = {name: [] for name in modules()}
    for found in all_imports():
        if not found.late and not found.for_types:
            now[found.source].append(found)
    reached, waiting, offences = set(), [start], []
    while waiting:
        name = waiting.pop()
        if name in reached or name not in now:
            continue
        reached.add(name)
        waiting += [name.rpartition(".")[0], *(i.target for i in now[name])]
        offences += [i for i in now[name] if i.within(*HEAVY)]
    assert not offences, show(offences)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_takes_less_than_a_second_from_the_root_and_from_its_own_folder(command: str) -> None:
    path = ROOT / command
    ways = [(ROOT, [command]), (path.parent, [path.name])]
    if path.name == "__main__.py":
        ways = [(ROOT, ["-m", path.parent.name])]
    for folder, start in ways:
        before = sum(os.times()[2:4])  # processor time of children: a busy machine does not count
        shown = subprocess.run(
            [sys.executable, *start, "--help"], cwd=folder, capture_output=True, text=True
        )
        assert shown.returncode == 0, shown.stderr
        assert "usage:" in shown.stdout
        assert sum(os.times()[2:4]) - before < 1.0


@pytest.mark.parametrize("folder", LISTS)
def test_no_sibling_is_left_out_of_its_list(folder: str) -> None:
    bases: dict[str, set[str]] = {}
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {ast.unparse(base).partition("[")[0] for base in node.bases}
    kin = set(LISTS[folder])
    while grown := {name for name, parents in bases.items() if parents & kin} - kin:
        kin |= grown
    parents = set().union(*bases.values())
    members = kin - parents - LISTS[folder]
    init = ast.parse((ROOT / folder / "__init__.py").read_text())
    named = {node.id for node in ast.walk(init) if isinstance(node, ast.Name)}
    assert len(members) >= 2, members
    assert members <= named, f"{folder}/__init__.py does not list {sorted(members - named)}"


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: no list of tracked files")
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_tracked_file_names_a_registry_host_or_a_path_of_one_machine() -> None:
    # Each in two halves, so that this file does not offend.
    hosts = (r"py" r"pi\.org", r"python" r"hosted\.org", r"ana" r"conda\.org", r"torch\.org/whl")
    folder = r"(?<![\w.)}>*])/(?:work|farm|root|home/\w+)/"  # at the start of a path only
    forbidden = re.compile("|".join((*hosts, folder)).encode())
    offences = [
        f"{path.relative_to(ROOT)}: {found.group().decode()}"
        for path in tracked_files()
        if (found := forbidden.search(path.read_bytes())) is not None
    ]
    assert not offences, "\n".join(offences)


def test_the_first_line_of_every_file_says_what_lives_there() -> None:
    python = [path for path in tracked_files() if path.suffix == ".py"]
    dumb = [p for p in python if not p.read_text().startswith(('"""', 'r"""'))]
    assert not dumb, "\n".join(str(path.relative_to(ROOT)) for path in dumb)
