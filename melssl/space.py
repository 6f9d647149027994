"""Space: which settings a search may vary and between what, declared beside the settings."""

from __future__ import annotations

from pydantic import Field, model_validator

from melssl.settings import Settings

DIGITS = 4


class Dimension(Settings):
    """One setting and its values: ``choices`` as text, or all numbers from ``low`` to ``high``."""

    name: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = Field(False, description="even on a logarithmic scale")
    whole: bool = Field(False, description="whole numbers only")

    @model_validator(mode="after")
    def _leaves_a_choice(self) -> Dimension:
        given: tuple[str | float, ...] = self.choices or (self.low, self.high)
        if len(set(given)) < len(given) or len(given) < 2 or self.low > self.high:
            raise ValueError(f"{self.name}: expected a range or distinct values, got {list(given)}")
        if self.log and self.low <= 0:
            raise ValueError(f"{self.name}: a log range starts above 0, got {self.low:g}")
        return self

    def below(self, part: str) -> Dimension:
        """Return the same values of the setting as a whole run names it."""
        return self.replace(name=f"{part}.{self.name}")

    def override(self, value: str | float) -> str:
        """Return the ``name=value`` that sets it, rounded so that what is printed is what ran."""
        if isinstance(value, str):
            return f"{self.name}={value}"
        return f"{self.name}={int(value) if self.whole else f'{value:.{DIGITS}g}'}"

    def ends(self) -> tuple[str, ...]:
        """Return the overrides of all choices, or of both ends of the range."""
        if self.choices:
            return tuple(self.override(choice) for choice in self.choices)
        return self.override(self.low), self.override(self.high)

    def __str__(self) -> str:
        if self.choices:
            return f"{self.name}={'|'.join(self.choices)}"
        return f"{self.name}={'log:' if self.log else ''}{self.low:g}:{self.high:g}"
