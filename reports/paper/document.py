"""The paper's text: sections filled from a study, as Markdown of one target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ablations.table import FactorInfo, TrialTable
from reports import captions
from reports.cells import counted, label, others, planned_cells, samples, units
from reports.paper import findings
from reports.paper.floats import Floats, Target, printed
from reports.paper.said import Said

HERE = Path(__file__).parent
SECTIONS = ("introduction", "related", "method", "experiments", "discussion", "conclusion")
MARK = "AUTHOR"
POOLS = {
    "train": "the training {units}",
    "train+test": "the training and the test {units}",
    "external": "other {units}",
}


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Title, abstract and body in Markdown of a target, its floats, and the numbers it says."""

    title: str
    abstract: str
    body: str
    floats: Floats
    said: Said


def written(table: TrialTable, floats: Floats) -> Paper:
    """Fill the sections from a study; what only a person can say is left as a marked place."""
    said = Said(table.info)
    words = _words(table, floats, said)
    shelf = Environment(
        loader=FileSystemLoader(HERE / "sections"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown; the writer of each target escapes
    )
    parts = [shelf.get_template(f"{name}.md").render(words) for name in SECTIONS[:3]]
    # the experiments point at what nobody else has pointed at, so they come last
    late = {name: shelf.get_template(f"{name}.md") for name in SECTIONS[4:]}
    tail = [template.render(words) for template in late.values()]
    shelf.get_template("experiments.md").render(words | {"rest": ""})
    rest = _rest(floats)
    parts.append(shelf.get_template("experiments.md").render(words | {"rest": rest}))
    abstract = shelf.get_template("abstract.md").render(words)
    return Paper(
        title=f"{table.info.question.rstrip('?')}? A study on {_cohort_name(table)}",
        abstract=" ".join(abstract.split()),
        body="\n\n".join([*parts, *tail]),
        floats=floats,
        said=said,
    )


def all_floats(floats: Floats) -> str:
    """Return every float as the target writes it, in order."""
    return printed(floats.every.values(), floats.target)


def _words(table: TrialTable, floats: Floats, said: Said) -> dict[str, object]:
    info, key = table.info, key_factor(table)
    return {
        "info": info,
        "units": units(info),
        "metric": said.metric(),
        "cohort": _cohort(table, said),
        "cohort_name": _cohort_name(table),
        "arms": _arms(table),
        "design": _design(table, said),
        "repeats": _repeats(table, said),
        "audit": _audit(table),
        "pool": POOLS[info.pool].format(units=units(info)),
        "methods": _methods(table),
        "judging": _judging(table),
        "extremes": list(findings.extremes(table, said)),
        "tally": findings.tally(table, said),
        "each_arm": list(findings.each_arm(table, said)),
        "saved": list(findings.saved(table, said)),
        "key": key,
        "key_levels": list(findings.levels(table, key.name, said)) if key else [],
        "key_exhibit": f"factor_{key.name.replace('.', '_')}" if key else "",
        "references": list(findings.references(table, said)),
        "limits": _limits(table, said),
        "open": _open(table),
        "conclusion": _conclusion(table, said),
        "ref": floats.ref,
        "refs": floats.refs,
        "has": floats.has,
        "author": lambda what: _author(what, floats.target),
        "capital": lambda text: text[:1].upper() + text[1:],
        "rest": "",
    }


def key_factor(table: TrialTable) -> FactorInfo | None:
    """Return the first factor with several levels beside method and label fraction, if any."""
    cells = planned_cells(table)
    several = [name for name in others(table.info) if len(set(cells[name].dropna())) > 1]
    return table.info.factor(several[0]) if several else None


def _author(what: str, target: Target) -> str:
    if target == "latex":
        return rf"`\authorplace{{{what}}}`{{=latex}}"
    if target == "html":
        return f"`<mark>{MARK}: {what}</mark>`{{=html}}"
    return f"`#highlight[{MARK}: {what}]`{{=typst}}"


def _cohort_name(table: TrialTable) -> str:
    return str(table.info.cohort.get("name", table.info.origin["cohort"]))


def _cohort(table: TrialTable, said: Said) -> str:
    info, known = table.info, table.info.cohort
    n = [said.count(float(known["images"]), "study")] if "images" in known else []
    parts = [f"{x} {samples(info)}" for x in n]
    if units(info) in known:
        parts.append(f"of {said.count(float(known[units(info)]), 'study')} {units(info)}")
    if "positives" in known:
        rare = str(known.get("classes", "")).split(", ")[-1]
        parts.append(f"({said.count(float(known['positives']), 'study')} {rare})")
    return f"the cohort {_cohort_name(table)}: {' '.join(parts)}" if parts else _cohort_name(table)


def _arms(table: TrialTable) -> str:
    info = table.info
    beside = {info.control, *info.references}
    names = [label(info, "method", x) for x in info.factor("method").values if x not in beside]
    told = f"{findings.listed(names)} {'is' if len(names) == 1 else 'are'} compared with "
    return told + (
        f"the same network without pretraining ({captions.control(info)})."
        if info.control
        else "each other; there is no control."
    )


def _design(table: TrialTable, said: Said) -> str:
    info = table.info
    sizes = [float(str(x)) for x in info.factor("label_fraction").values]
    told = findings.listed([said.size(x, "study") for x in sizes])
    of = "" if counted(info) else "of the "
    return f"Labels of {told} {of}training {units(info)} are used."


def _repeats(table: TrialTable, said: Said) -> str:
    info = table.info
    counts = [("fold", len(info.folds)), ("draw", len(info.draws)), ("seed", len(info.seeds))]
    parts = [f"{said.count(n, 'study')} {name}{'s' * (n != 1)}" for name, n in counts]
    done, planned = said.count(info.n_finished, "study"), said.count(info.n_planned, "study")
    return f"There are {findings.listed(parts)}; {done} of {planned} trials are finished."


def _audit(table: TrialTable) -> str:
    if not table.info.audit:
        return ""
    return (
        "Before anything was trained, all files were compared by bytes and looks, and what shows"
        " the same picture was joined or reported."
    )


def _methods(table: TrialTable) -> list[str]:
    shown = [str(name) for name in table.info.factor("method").values]
    files = {name: HERE / "methods" / f"{name}.md" for name in shown}
    return [
        path.read_text().strip()
        if path.is_file()
        else f"**{label(table.info, 'method', name)}**: {MARK}: describe it."
        for name, path in files.items()
    ]


def _judging(table: TrialTable) -> str:
    info = table.info
    if info.has("protocol"):
        names = [level.label for level in info.factor("protocol").levels]
        return f"Encoders are judged by {findings.listed(names)}."
    told = info.settings.get("protocol.name", "")
    name = str(told).replace("_", " ")
    return f"Encoders are judged by {name}." if name else "One protocol judges all encoders."


def _limits(table: TrialTable, said: Said) -> list[str]:
    info = table.info
    told = []
    if units(info) != "patients":
        told.append(
            f"{units(info).capitalize()} stand in for patients, whom the files do not name."
        )
    for name, items in (("draw of labels", info.draws), ("training seed", info.seeds)):
        if len(items) == 1:
            told.append(f"There is one {name}: what another would change is in no interval.")
    if info.n_finished < info.n_planned:
        lost = said.count(info.n_planned - info.n_finished, "study")
        told.append(f"{lost} trials have no result and are missing from the means.")
    if info.pool != "train":
        told.append("Pretraining saw images beyond the training side.")
    told.append("Images of one cohort say nothing of another camera, clinic or skin.")
    return told


def _open(table: TrialTable) -> list[str]:
    told = ["other cohorts", "longer pretraining and larger images"]
    return [*told, "more training seeds"] if len(table.info.seeds) == 1 else told


def _conclusion(table: TrialTable, said: Said) -> str:
    sentences = list(findings.extremes(table, said))
    if not sentences:
        return "no arm was compared with a control."
    first, *more = sentences
    return " ".join([first[0].lower() + first[1:], *more])


def _rest(floats: Floats) -> str:
    """Return a sentence that points at every float that no other sentence points at."""
    left = [(one.name, floats.ref(one.name)) for one in floats.unreferenced()]
    told = [f"{name.replace('_', ' ')} ({ref})" for name, ref in left]
    return f"{findings.listed(told)}." if told else ""
