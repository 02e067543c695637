"""How counts, names and labels of the tables stand in a sentence. The sentences themselves are in workflow/report."""

from collections.abc import Iterable

import pandas as pd

from bench.report.formats import listing, number

NOT_PRIVATE = "not private"
STEERS = "the test split steers the schedule"


def nominal(row: dict) -> bool:
    """Whether a table's row names a finite epsilon that its runs do not keep: it is then marked as not private."""
    return row["epsilon"] != "inf" and not row["private"]


def plural(n: int | str, one: str, many: str) -> str:
    return one if str(n) == "1" else many


def count(n: int | str, one: str, many: str) -> str:
    """'1 run' or '3 runs'; of a number written out also '1 point' and '0.5 points'."""
    return f"{n} {plural(n, one, many)}"


def epsilon(text: str) -> str:
    """The epsilon of a table, 'inf' as its sign."""
    return "∞" if text == "inf" else text


def seeds(numbers: list[int]) -> str:
    """'0 to 7' where sorted `numbers` are consecutive and more than two, otherwise all of them: '34, 50 and 113'."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return listing(numbers)


def mean_sd(row: dict) -> str:
    """'91.39 ± 0.42' of a row of the summary; one run has no standard deviation."""
    return f"{number(row['mean'])} ± {number(row['sd'])}" if row["n"] > 1 else number(row["mean"])


def unique(items: Iterable) -> list:
    """The different items in order of appearance."""
    return list(dict.fromkeys(items))


def origins(committed: bool) -> dict[str, str]:
    """What the page calls where runs come from: those it is about, and the committed ones beside them."""
    return {"here": "our reference" if committed else "this report", "reference": "our reference"}


def badges(datasets: Iterable[str], official: set[str], rows: Iterable[dict]) -> list[dict]:
    """{text, warn} for every dataset, a warning unless it is official, and for `rows` whose schedule watches the test split.

    A dataset that is not known, empty or NaN, has no badge.
    """
    made = [_data_badge(label, label in official) for label in datasets if pd.notna(label) and label]
    return made + ([{"text": STEERS, "warn": True}] if steers(rows) else [])


def _data_badge(label: str, official: bool) -> dict:
    return {"text": label if official else f"{label}: not the official data", "warn": not official}


def steers(rows: Iterable[dict]) -> bool:
    """Whether a schedule of these rows of the summary watches the test split."""
    return any(row["test_split_steers"] for row in rows)
