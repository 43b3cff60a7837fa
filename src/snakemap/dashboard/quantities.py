"""Numbers with their units as text: the same as ``quantity.js``, held to it by one table in the tests."""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import ROUND_HALF_UP, Context, Decimal

__all__ = ["counted", "quantity", "takes_prefix", "unit_text"]

UNIT_MAX = 24
TEXT_MAX = 1_000

PREFIXES = {"f": -15, "p": -12, "n": -9, "µ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
SYMBOLS = {power: prefix for prefix, power in PREFIXES.items()}
SMALLEST = min(SYMBOLS)

BASES = {**dict.fromkeys(("A", "V", "W", "Hz", "eV", "Pa", "T", "J", "N", "C", "F", "Ω"), 15), "m": 3}
BASES |= {"s": 0, "K": 0, "rad": 0}
"""The largest power of ten of a prefix before each unit: kiloseconds and megametres are not in use."""

COUNTED = ("", "count", "counts", "ct", "cts", "photons")
"""Units of counts, beside none at all."""

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
FOUR_DIGITS = Context(prec=4, rounding=ROUND_HALF_UP)
ONE_DECIMAL = Context(prec=40, rounding=ROUND_HALF_UP)

Parts = tuple[str, int, int]


def unit_text(unit: object) -> str:
    """Return a unit from a document as text of bounded length, without control characters.

    >>> unit_text(" arb.\\tunit "), unit_text(None), unit_text("x" * 30)
    ('arb. unit', '', 'xxxxxxxxxxxxxxxxxxxxxxx…')
    """
    text = re.sub(r"\s+", " ", str(unit if unit is not None else "")[:TEXT_MAX]).strip()
    text = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(one) in HIDDEN else one for one in text)
    return f"{text[: UNIT_MAX - 1]}…" if len(text) > UNIT_MAX else text


def counted(unit: str) -> bool:
    """Return whether values in a unit are counts, of which every digit is shown."""
    return unit in COUNTED


def takes_prefix(unit: str) -> bool:
    """Return whether a unit takes SI prefixes, or has one.

    >>> [takes_prefix(unit) for unit in ("A", "nA", "", "mm/s", "min")]
    [True, True, False, False, False]
    """
    return _parts(unit) is not None


def quantity(value: float | None, unit: str = "") -> str:
    """Return a value with its unit: four significant digits, with an SI prefix where the unit takes one.

    Counts, and whole numbers in other units, keep all digits. Only zero is written as 0; None and NaN are a dash.

    >>> quantity(1.235e-10, "A"), quantity(7e287, "A"), quantity(0.0002, "mm/s"), quantity(1234567.0)
    ('123.5 pA', '7.000e+287 A', '2.000e-4 mm/s', '1,234,567')
    """
    if value is None or math.isnan(value):
        return "–"
    name = unit_text(unit)
    tail, size, sign = f" {name}" if name else "", abs(float(value)), "-" if value < 0 else ""
    if size == 0:
        return f"0{tail}"
    if math.isinf(size):
        return f"{sign}∞{tail}"
    parts = _parts(name)
    if parts is None:
        return f"{sign}{_unprefixed(size, whole=counted(name))}{tail}"
    return f"{sign}{_prefixed(size, parts) or f'{_scientific(*_digits(size))}{tail}'}"


def _parts(name: str) -> Parts | None:
    """Return the base unit, its power of ten, and the largest one that is used; None for a unit that takes no prefix.

    >>> _parts("A"), _parts("um"), _parts("mm/s"), _parts("min")
    (('A', 0, 15), ('m', -6, 3), None, None)
    """
    if name in BASES:
        return name, 0, BASES[name]
    prefix = "µ" if name[:1] in ("u", "μ") else name[:1]
    base, power = name[1:], PREFIXES.get(prefix)
    if not name or power is None or base not in BASES or power > BASES[base]:
        return None
    return base, power, BASES[base]


def _digits(size: float) -> tuple[str, int]:
    """Return the first four digits of a positive number, and the power of ten of the first."""
    rounded = FOUR_DIGITS.create_decimal_from_float(size)
    digits = "".join(map(str, rounded.as_tuple().digits))
    return digits.ljust(4, "0")[:4], rounded.adjusted()


def _pointed(digits: str, point: int) -> str:
    """Return digits with a decimal point after so many of them."""
    if point <= 0:
        return f"0.{'0' * -point}{digits}"
    return f"{int(digits.ljust(point, '0')):,}" if point >= len(digits) else f"{digits[:point]}.{digits[point:]}"


def _scientific(digits: str, power: int) -> str:
    return f"{digits[0]}.{digits[1:]}e{power:+d}"


def _prefixed(size: float, parts: Parts) -> str:
    """Return a positive number with prefix and unit; empty where no prefix is in use."""
    base, of_unit, largest = parts
    digits, power = _digits(size)
    full = power + of_unit
    group = min(3 * (full // 3), largest)
    if group < SMALLEST or full - group > 5:
        return ""
    return f"{_pointed(digits, full - group + 1)} {SYMBOLS[group]}{base}"


def _unprefixed(size: float, *, whole: bool) -> str:
    """Return a positive number whose unit takes no prefix."""
    if size.is_integer() and size < 1e15:
        return f"{int(size):,}"
    digits, power = _digits(size)
    if power < -3 or power > 14 or (power > 5 and not whole):
        return _scientific(digits, power)
    if power < 3 or not whole:
        return _pointed(digits, power + 1)
    return f"{ONE_DECIMAL.quantize(Decimal(size), Decimal('0.1')):,}"
