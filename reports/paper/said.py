"""Numbers of sentences: each is printed by one hand, and kept with the frame it came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from ablations.table import StudyInfo
from reports.cells import counted, label, main_metric, units
from reports.numbers import GAIN, SCORE, number, p_value, printed

THIN = "\u00a0"  # a number and its per cent sign stay on one line


@dataclass
class Said:
    """Prints numbers and remembers them: what a paper says can be looked up in ``frame``."""

    info: StudyInfo
    rows: list[dict[str, object]] = field(default_factory=list)

    def number(self, value: float, form: str, source: str, beyond: float = 0) -> str:
        """Return a number as text; ``beyond`` 1 is read ">", -1 is read "<"."""
        text = printed(number(value, form, beyond)).replace(" %", f"{THIN}%")
        self.rows.append({"text": text, "value": value, "source": source})
        return text

    def count(self, value: float, source: str) -> str:
        """Return a whole number with a comma at thousands."""
        text = f"{value:,.0f}"
        self.rows.append({"text": text, "value": value, "source": source})
        return text

    def share(self, value: float, source: str) -> str:
        """Return ``5 %`` of a share in 0..1."""
        text = f"{100 * value:g}{THIN}%"
        self.rows.append({"text": text, "value": value, "source": source})
        return text

    def size(self, size: float, source: str) -> str:
        """Return a label budget: ``5 %``, or where budgets are numbers ``6`` and ``all``."""
        if counted(self.info):
            return "all" if size == 1 else self.count(size, source)
        return self.share(size, source)

    def budgets(self, told: str) -> str:
        """Return sizes as a sentence has them: ``5 % of the labels``, ``6 labelled volumes``."""
        return f"{told} " + (
            f"labelled {units(self.info)}" if counted(self.info) else "of the labels"
        )

    def budget(self, size: float, source: str) -> str:
        """Return one label budget as a sentence has it."""
        return self.budgets(self.size(size, source))

    def level(self, factor: str, value: object) -> str:
        """Return the printed name of a factor's level, which may be a number."""
        return self.name(label(self.info, factor, value))

    def name(self, text: str) -> str:
        """Return a name that the study gives, which may hold numbers."""
        self.rows.append({"text": text, "value": None, "source": "study"})
        return text

    def p(self, value: float, source: str) -> str:
        """Return ``p = 0.007`` or ``p < 0.001``."""
        text = p_value(value)
        self.rows.append({"text": text.removeprefix("< "), "value": value, "source": source})
        return f"p {text}" if text.startswith("<") else f"p = {text}"

    def score(self, row: pd.Series, source: str) -> str:
        """Return a score with its interval: ``0.859 [0.846, 0.871]``."""
        return self.ends(row, ("estimate", "low", "high"), SCORE, source)

    def gain(self, row: pd.Series, source: str) -> str:
        """Return a difference with its sign and interval."""
        return self.ends(row, ("difference", "low", "high"), GAIN, source)

    def ends(self, row: pd.Series, names: tuple[str, str, str], form: str, source: str) -> str:
        """Return a value, and its interval where there is one."""
        middle, low, high = (
            self.number(row[name], form, source, row.get(f"{name}_beyond", 0))
            if pd.notna(row[name])
            else ""
            for name in names
        )
        return f"{middle} [{low}, {high}]" if low and high else middle

    def metric(self) -> str:
        """Return the printed name of the main metric."""
        return main_metric(self.info).label

    def frame(self) -> pd.DataFrame:
        """Return what was said, in order: ``text, value, source``."""
        return pd.DataFrame(self.rows, columns=["text", "value", "source"])
