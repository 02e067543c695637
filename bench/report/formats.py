"""Numbers as a reader sees them. What was not measured, None or NaN, is a dash."""

import math
from decimal import Decimal

import pandas as pd

MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """'91.39', '-0.42' with a true minus, with `sign` also '+0.42'; never '-0.00'.

    Rounded in decimals, half to even, what a table's file has of it: the same beside the table and from memory.
    """
    if pd.isna(value):
        return NOTHING
    if isinstance(value, float) and math.isfinite(value):
        value = Decimal(f"{value:.10g}")
    value = round(value, digits) or 0
    return f"{value:{'+' if sign and value else ''},.{digits}f}".replace("-", MINUS)


def interval(row: dict, prefix: str = "", sign: bool = False) -> str:
    """'[90.10, 92.60]' from the columns <prefix>low and <prefix>high of `row`."""
    low, high = (row[f"{prefix}{end}"] for end in ("low", "high"))
    return NOTHING if pd.isna(low) else f"[{number(low, sign=sign)}, {number(high, sign=sign)}]"


def bounds(row: dict, prefix: str = "", sign: bool = False) -> str:
    """The interval behind a value, with a space before it; empty where there is none, of a single run, say."""
    return "" if pd.isna(row[f"{prefix}low"]) else f" {interval(row, prefix, sign)}"


def significant(value: float | str | None, digits: int = 3) -> str:
    """'2.67', '3.00', '12,346', '1e-5' with one digit; infinity is a sign."""
    if pd.isna(value):
        return NOTHING
    value = float(value)
    if math.isinf(value):
        return "∞"
    value = float(f"{value:.{digits - 1}e}") if abs(value) < 10**digits else round(value)
    if abs(value) >= 10**digits:
        return f"{value:,.0f}".replace("-", MINUS)
    text = f"{value:.{digits - 1}e}" if 0 < abs(value) < 1e-3 else f"{value:#.{digits}g}".rstrip(".")
    return text.replace("e-0", "e-").replace("-", MINUS)


def duration(seconds: float) -> str:
    """'11 s', '7 min' or '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def listing(items) -> str:
    """'a, b and c'."""
    *most, last = [str(item) for item in items] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last
