"""Numbers as people read them: three digits, a unit, and one scale for figures that stand side by side."""

from __future__ import annotations

import math

_PREFIXES = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
UNKNOWN = "not known"
_SPACE = "\N{NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"


def quantity(value: float, unit: str, *, beside: float | None = None) -> str:
    """Return a value with its unit and a prefix, for example 4.21 mJ.

    Args:
        value: In the unit without a prefix.
        unit: For example J.
        beside: A value whose prefix is to be used, so that two figures can be compared at a glance.
    """
    if not math.isfinite(value):
        return UNKNOWN
    like = abs(value if beside is None else beside)
    exponent = 0 if not math.isfinite(like) or like == 0 else 3 * math.floor(round(math.log10(like), 9) / 3)
    exponent = max(min(_PREFIXES), min(max(_PREFIXES), exponent))
    return f"{digits(value / 10.0**exponent)}{_SPACE}{_PREFIXES[exponent]}{unit}"


def digits(value: float, significant: int = 3) -> str:
    """Return a number with three significant digits, never in scientific notation."""
    if not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    # Rounded first: 9.996 has one digit before the point less than what it rounds to.
    rounded = float(f"{value:.{significant - 1}e}")
    places = max(0, significant - 1 - math.floor(math.log10(abs(rounded))))
    return _signed(f"{rounded:,.{min(places, 12)}f}")


def joules(value: float, *, beside: float | None = None) -> str:
    """Return an energy."""
    return quantity(value, "J", beside=beside)


def watts(value: float, *, beside: float | None = None) -> str:
    """Return a power."""
    return quantity(value, "W", beside=beside)


def seconds(value: float, *, beside: float | None = None) -> str:
    """Return a time below a minute."""
    return quantity(value, "s", beside=beside)


def duration(value: float) -> str:
    """Return a time that may be long, for example 3 min 20 s."""
    if not math.isfinite(value) or value < 60:
        return seconds(value)
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest if not hours else 0, "s")]
    return " ".join(f"{number}{_SPACE}{unit}" for number, unit in parts if number)


def size(value: float, *, beside: float | None = None) -> str:
    """Return bytes, decimal as storage is sold."""
    return quantity(value, "B", beside=beside)


def grams(value: float, *, beside: float | None = None) -> str:
    """Return a mass."""
    return quantity(value, "g", beside=beside)


def count(value: int) -> str:
    """Return a whole number."""
    return _signed(f"{value:,}")


def plural(value: int, word: str) -> str:
    """Return a count with its word, for example 3 epochs."""
    return f"{count(value)} {word}{'' if value == 1 else 's'}"


def percent(ratio: float, places: int = 1) -> str:
    """Return a ratio in percent, for example 52.3 %."""
    return f"{_signed(f'{ratio * 100:.{places}f}')}{_SPACE}%" if math.isfinite(ratio) else UNKNOWN


def change(ratio: float, places: int = 1) -> str:
    """Return a ratio in percent with its sign, for example +1.2 %."""
    return f"{_signed(f'{ratio * 100:+.{places}f}')}{_SPACE}%" if math.isfinite(ratio) else UNKNOWN


def points(ratio: float) -> str:
    """Return a difference of two ratios in percentage points, with its sign."""
    if not math.isfinite(ratio):
        return UNKNOWN
    return f"{_signed(f'{ratio * 100:+.2f}')}{_SPACE}points"


def ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Return round numbers within a range, for an axis."""
    if not high > low:
        return (low,)
    raw = (high - low) / most
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return tuple(position * step for position in range(first, math.floor(high / step + 1e-9) + 1))


def _signed(text: str) -> str:
    """Return a number with a real minus sign, and none at a zero."""
    bare = text.lstrip("+-")
    if not bare.strip("0.,"):
        return bare
    return text.replace("-", _MINUS)
