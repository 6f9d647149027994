"""Numbers as they are printed: rounded, with intervals, bounds, and a dash where there is none."""

from __future__ import annotations

from reports.cells import is_empty

DASH = "–"
SCORE, GAIN, RATIO, COUNT, SHARE = "{:.3f}", "{:+.3f}", "{:.2f}", "{:.0f}", "{:.0%}"


def number(value: float, form: str, beyond: float = 0) -> str:
    """Return a number, a dash where there is none; ``beyond`` 1 is read ">", -1 is read "<"."""
    if is_empty(value):
        return DASH
    sign = "" if is_empty(beyond) or not beyond else "> " if beyond > 0 else "< "
    return sign + form.format(value).replace("%", " %")


def interval(
    low: float, high: float, form: str, low_beyond: float = 0, high_beyond: float = 0
) -> str:
    """Return ``[low, high]``, or nothing where there is no interval."""
    if is_empty(low) or is_empty(high):
        return ""
    return f"[{number(low, form, low_beyond)}, {number(high, form, high_beyond)}]"


def p_value(value: float) -> str:
    """Return a p-value or a probability with three digits; what would round to 0 is a bound."""
    return "< 0.001" if value < 0.0005 else number(value, SCORE)


def tested(row_count: float, planned: float) -> str:
    """Return ``24 of 25``."""
    return f"{number(row_count, COUNT)} of {number(planned, COUNT)}"


def printed(text: str) -> str:
    """Return a number's text with a true minus sign."""
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Return ``45 s``, ``12 min``, ``3.5 h``; a dash where it is unknown."""
    if is_empty(seconds):
        return DASH
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
