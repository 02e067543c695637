"""Do two tables of runs agree within seed noise?

What is fixed by the recipe must be equal. Accuracies are tested arm by arm, and by the mean over all arms of a recipe, which
sees what moves all of them a little. The null hypothesis is that the seeds of both tables are draws of one distribution. Two
t tests share an arm's error (Bonferroni):

- unpaired, with the variance pooled over both tables, which the null hypothesis makes equal. Where the tables share seeds its
  rate only falls, because runs of one seed do not anticorrelate;
- paired by seed, where at least three seeds are common: the stronger one where equal seeds give nearly equal runs, as they do
  on machines of one type.

Holm's procedure over all these keeps the chance that one or more of them differ by accident at or below FALSE_ALARMS for the
whole table, however the arms depend on each other (they share seeds). tests/test_compare.py measures that rate by simulation,
and the power: of twelve arms, one that is shifted by 3 standard deviations over 8 seeds is found 8 times in 10 (1 where
equal seeds give nearly equal runs; 12 with 3 seeds: three seeds verify little but what is fixed).

Accuracies are counts of test images, so a standard deviation over few seeds can be zero by accident. It is taken as at least
one image, and means that lie within one image of each other agree. Both can only lower the rate.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from bench import BenchError
from bench.evidence.stats import holm
from bench.evidence.summary import ARM

FALSE_ALARMS = 0.01  # chance that tables which agree are said to differ, anywhere
EXACT = ("sample_rate", "steps", "delta", "clip_norm", "train_size", "test_size", "parameters", "dataset_digest")
CALIBRATED = ("noise_multiplier", "epsilon_rdp", "epsilon_pld")
# column -> relative tolerance; `calibrate` finds sigma to 1e-6, and epsilon moves up to a few times as much as sigma
FIXED = dict.fromkeys(EXACT, 1e-6) | dict.fromkeys(CALIBRATED, 1e-5)
MIN_PAIRS = 3


def unpaired(first: np.ndarray, second: np.ndarray, floor: float) -> np.ndarray:
    """p values of equal means for arms `first` (..., n) and `second` (..., m), n + m > 2: Student's t, pooled variance.

    `floor` is the least standard deviation that is believed, in the units of the values.
    """
    n, m = first.shape[-1], second.shape[-1]
    freedom = n + m - 2
    squares = sum(((x - x.mean(-1, keepdims=True)) ** 2).sum(-1) for x in (first, second))
    sd = np.maximum(np.sqrt(squares / freedom), floor)
    difference = np.abs(first.mean(-1) - second.mean(-1))
    return 2 * stats.t.sf(difference / (sd * math.sqrt(1 / n + 1 / m)), freedom)


def paired(differences: np.ndarray, floor: float) -> np.ndarray:
    """p values of mean zero for `differences` (..., n), n > 1, of runs with equal seeds: Student's t, `floor` as above."""
    n = differences.shape[-1]
    sd = np.maximum(differences.std(-1, ddof=1), floor)
    return 2 * stats.t.sf(np.abs(differences.mean(-1)) / (sd / math.sqrt(n)), n - 1)


def p_values(first: np.ndarray, second: np.ndarray, common: int, image: float) -> np.ndarray:
    """p values of agreement for arms `first` (..., n) and `second` (..., m) in points, n + m > 2.

    The leading `common` values of both belong to the same seeds, in the same order. `image` is what one test image is
    worth, 100 / test size.
    """
    p = unpaired(first, second, image)
    if common >= MIN_PAIRS:
        p = np.minimum(1, 2 * np.minimum(p, paired(first[..., :common] - second[..., :common], image)))
    return np.where(np.abs(first.mean(-1) - second.mean(-1)) <= image * (1 + 1e-9), 1.0, p)


def compare(first: pd.DataFrame, second: pd.DataFrame) -> dict:
    """What differs between two tables of runs, as `columns.frame` gives them.

    Returns `arms`, the number of common ones; `different`, rows (arm, what, first, second, note) as text; `untested`, arms
    with too few runs to test their accuracies; `only_first` and `only_second`, arms of one table, which are no
    differences. Diverged runs are left out, but an arm all of whose runs diverged in one table only is different.
    BenchError where a table lacks a column, or no arm is common.
    """
    _check(first, second)
    left, right = (dict(list(table.groupby(ARM, sort=False))) for table in (first, second))
    common = [arm for arm in left if arm in right]
    if not common:
        raise BenchError("the tables have no arm (recipe, arch, variant, epsilon) in common, so there is nothing to compare")
    different, untested = [], []
    tested: dict[str, tuple] = {}  # what -> accuracies of both tables by seed, points of one test image
    for arm in common:
        name = name_of(arm)
        a, b = (rows[rows["status"] == "completed"] for rows in (left[arm], right[arm]))
        if a.empty or b.empty:
            texts = [f"{len(done)} of {len(all_)} completed" for done, all_ in ((a, left[arm]), (b, right[arm]))]
            if len(a) or len(b):
                different.append((name, "diverged", *texts, ""))
            else:
                untested.append(name)
            continue
        different += [
            (name, column, *texts, "") for column in FIXED if (texts := _unequal(a[column], b[column], FIXED[column]))
        ]
        if len(a) + len(b) < 3:
            untested.append(name)
        else:
            x, y = (rows.set_index("seed")["accuracy"].astype(float).sort_index() for rows in (a, b))
            tested[name] = x, y, 100 / a["test_size"].iloc[0]
    tested |= _together(tested)
    adjusted = holm([_p_value(*values) for values in tested.values()])
    for (name, (x, y, _)), p in zip(tested.items(), adjusted, strict=True):
        if p < FALSE_ALARMS:
            texts = [f"{values.mean():.2f} (n = {len(values)})" for values in (x, y)]
            note = f"{x.mean() - y.mean():+.2f} points, adjusted p = {p:.2g}"
            different.append((name, "accuracy, %", *texts, note))
    return {
        "arms": len(common),
        "different": different,
        "untested": untested,
        "only_first": [arm for arm in left if arm not in right],
        "only_second": [arm for arm in right if arm not in left],
    }


def name_of(arm: Sequence[str]) -> str:
    """What an arm is called here, of the values of ARM: 'digits/resnet9-w8/scalenorm/eps8'."""
    return f"{'/'.join(arm[:3])}/eps{arm[3]}"


def beside(first: pd.DataFrame, second: pd.DataFrame) -> dict | None:
    """`compare`, and None where no arm is common."""
    arms = [set(map(tuple, table[ARM].to_numpy())) if len(table) else set() for table in (first, second)]
    return compare(first, second) if arms[0] & arms[1] else None


def _check(first: pd.DataFrame, second: pd.DataFrame) -> None:
    for what, table in (("first", first), ("second", second)):
        missing = [name for name in (*ARM, "seed", "status", "accuracy", *FIXED) if name not in table]
        if missing:
            raise BenchError(f"the {what} table has no column {missing[0]}; make it again with `python -m bench summarise`")
        twice = table[table.duplicated([*ARM, "seed"])]
        if len(twice):
            raise BenchError(f"the {what} table has a run twice: {'/'.join(map(str, twice[[*ARM, 'seed']].iloc[0]))}")


def _together(tested: dict[str, tuple]) -> dict[str, tuple]:
    """Like `tested`, a row a recipe of several arms: the mean over its arms, by the seeds that all of them have."""
    recipes: dict[str, list] = {}
    for name, values in tested.items():
        recipes.setdefault(name.split("/")[0], []).append(values)
    rows = {}
    for recipe, arms in recipes.items():
        x, y = (pd.concat([arm[side] for arm in arms], axis=1, join="inner").mean(axis=1) for side in (0, 1))
        if len(arms) > 1 and len(x) and len(y) and len(x) + len(y) > 2:
            rows[f"{recipe}, mean over {len(arms)} arms"] = x, y, arms[0][2]
    return rows


def _p_value(x: pd.Series, y: pd.Series, image: float) -> float:
    common = x.index.intersection(y.index)
    first, second = (np.concatenate([values[common], values.drop(common)]) for values in (x, y))
    return float(p_values(first, second, len(common), image))


def _unequal(a: pd.Series, b: pd.Series, tolerance: float) -> tuple[str, str] | None:
    """The different values of each of two columns as text, None where all of both are equal."""
    values = pd.concat([a, b])
    if pd.api.types.is_numeric_dtype(values):
        equal = bool(np.isclose(values, values.iloc[0], rtol=tolerance, atol=0, equal_nan=True).all())
    else:
        equal = bool((values == values.iloc[0]).all())
    return None if equal else tuple(", ".join(dict.fromkeys(map(_short, column))) for column in (a, b))


def _short(value) -> str:
    return value[:12] if isinstance(value, str) else f"{value:.10g}"
