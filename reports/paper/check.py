"""Checks a finished paper: sections, length, floats and references, nothing that sticks out."""

from __future__ import annotations

import re
from pathlib import Path

from reports.paper.document import MARK

WANTED = (
    *("Introduction", "Related work", "Method", "Experiments", "Discussion"),
    "Conclusion and future work",
)
MOST_PAGES, LEAST_REFERENCES = 5, 10
OVERFULL_PT = 5.0


def faults(source: Path) -> list[str]:
    """Return what is wrong with a compiled LaTeX paper; its .aux and .log lie beside it."""
    text = source.read_text(encoding="utf-8")
    aux = source.with_suffix(".aux").read_text(encoding="utf-8", errors="replace")
    log = source.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
    return [
        *_sections(text),
        *_length(aux),
        *_floats(text),
        *_references(text, aux, log),
        *_overfull(log),
    ]


def places(text: str) -> int:
    """Return how many places are left for a person to write."""
    return len(re.findall(rf"\\authorplace\{{|{MARK}:", text.split(r"\begin{document}")[-1]))


def _sections(text: str) -> list[str]:
    found = re.findall(r"\\section\{(.*?)\}", text)
    missing = [f"section {name!r} is missing" for name in WANTED if name not in found]
    return missing + ([] if r"\begin{abstract}" in text else ["the abstract is missing"])


def _length(aux: str) -> list[str]:
    found = re.search(r"\\newlabel\{end-of-text\}\{\{.*?\}\{(\d+)\}", aux)
    if found is None:
        return ["the end of the text has no page: compile again"]
    n = int(found[1])
    told = f"the text ends on page {n}, at most {MOST_PAGES} are allowed"
    return [told] if n > MOST_PAGES else []


def _floats(text: str) -> list[str]:
    labels = set(re.findall(r"\\label\{((?:fig|tab):[^}]+)\}", text))
    used = set(re.findall(r"\\ref\{((?:fig|tab):[^}]+)\}", text))
    return [f"{name} is nowhere referred to" for name in sorted(labels - used)] + [
        f"{name} is referred to and not there" for name in sorted(used - labels)
    ]


def _references(text: str, aux: str, log: str) -> list[str]:
    undefined = re.findall(r"(?:Reference|Citation) [`'](.*?)'.*? undefined", log)
    cited = {key for keys in re.findall(r"\\cite[pt]?\{([^}]+)\}", text) for key in keys.split(",")}
    few = len({key.strip() for key in cited}) < LEAST_REFERENCES
    return [f"{name} is undefined" for name in dict.fromkeys(undefined)] + (
        [f"fewer than {LEAST_REFERENCES} references are cited"] if few else []
    )


def _overfull(log: str) -> list[str]:
    found = re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\) (.*)", log)
    return [f"sticks out by {pt} pt: {where}" for pt, where in found if float(pt) > OVERFULL_PT]
