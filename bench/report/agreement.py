"""Whether the runs here agree with the committed ones: a sentence for the first screen, and what it rests on."""

import pandas as pd

from bench.evidence.compare import FALSE_ALARMS, beside
from bench.evidence.summary import ARM
from bench.report.words import count, plural

COLUMNS = ("arm", "what", "here", "reference", "note")  # of a difference, as `compare` gives it


def agreement(runs: pd.DataFrame, reference: pd.DataFrame) -> dict | None:
    """What `compare` finds between tables of runs, here and committed; None where one of them is empty.

    `sentence` answers, `differs` says whether anything does, `once_in` so many times by accident at most;
    `different`, `untested` and the numbers `only_here` and `only_reference` of arms are the details.
    """
    if runs.empty or reference.empty:
        return None
    found = beside(runs, reference)
    if found is None:
        none = {"differs": False, "once_in": round(1 / FALSE_ALARMS), "different": [], "untested": [], "arms": 0}
        rest = {"only_here": _arms(runs), "only_reference": _arms(reference)}
        return {"sentence": "None of your runs has a committed counterpart yet."} | none | rest
    return {
        "sentence": _sentence(found),
        "differs": bool(found["different"]),
        "once_in": round(1 / FALSE_ALARMS),
        "different": [dict(zip(COLUMNS, row, strict=True)) for row in found["different"]],
        "untested": found["untested"],
        "arms": found["arms"],
        "only_here": len(found["only_first"]),
        "only_reference": len(found["only_second"]),
    }


def _arms(runs: pd.DataFrame) -> int:
    return len(runs[ARM].drop_duplicates())


def _sentence(found: dict) -> str:
    """'Your runs agree with the committed ones: 16 arms were compared, none differs.'"""
    arms, different = found["arms"], len(found["different"])
    compared = f"{count(arms, 'arm was', 'arms were')} compared"
    if different:
        differences = count(different, "difference was", "differences were")
        return f"Your runs do not all agree with the committed ones: {compared}, {differences} found."
    if len(found["untested"]) == arms:
        return f"Your runs cannot be told from the committed ones yet: {compared}, all with too few seeds to test accuracies."
    rest = len(found["untested"])
    few = f" ({rest} {plural(rest, 'has', 'have')} too few seeds yet to test accuracies)" if rest else ""
    return f"Your runs agree with the committed ones: {compared}, none differs{few}."
