"""Many audits in one table, a row an engine and case: what was claimed, what was seen, how often it alarmed."""

from collections import Counter
from statistics import fmean, median

import pandas as pd
from scipy import stats

from bench.audit.audit import HONEST, Audit
from bench.audit.direct import FALSE_ALARMS, Finding

CAUGHT, MISSED, PASSED, ALARM = "caught", "missed", "passed", "alarm"
BAD = (MISSED, ALARM)
COLUMNS = (
    "engine", "device", "case", "seeds", "alarms", "verdict", "test", "claimed", "audited",
    "noise", "shift", "epsilon", "epsilon_counted", "epsilon_mu_gdp", "epsilon_steinke", "epsilon_clopper_pearson",
)  # fmt: skip


def table(audits: list[Audit]) -> pd.DataFrame:
    """COLUMNS, a row for all audits of an engine and case, in the order in which these come first.

    `test` is the one that alarmed in most seeds, the clearest of several, or the noise where none did, `claimed` and
    `audited` are its means over the seeds; `noise` and `shift` likewise, in units of what is claimed. The epsilons: the
    record's, the one of the steps that were counted, and medians of the lower bounds.
    """
    groups: dict[tuple, list[Audit]] = {}
    for audit in audits:
        groups.setdefault((audit.engine, audit.case), []).append(audit)
    return pd.DataFrame([_row(engine, case, group) for (engine, case), group in groups.items()], columns=list(COLUMNS))


def _row(engine: str, case: str, group: list[Audit]) -> dict:
    alarms = sum(bool(audit.alarms) for audit in group)
    test = _telling(group)
    row = {"engine": engine, "device": group[0].device, "case": case, "seeds": len(group), "alarms": alarms}
    row |= {"verdict": verdict(case, alarms, len(group)), "test": test}
    row |= {key: fmean(getattr(finding, key) for finding in _all(group, test)) for key in ("claimed", "audited")}
    for key, name in (("noise", "noise"), ("shift", "shift of present canaries"), ("epsilon_counted", "epsilon, counted")):
        row[key] = fmean(finding.audited for finding in _all(group, name))
    row["epsilon"] = fmean(audit.epsilon for audit in group)
    for name in group[0].epsilons:
        row[f"epsilon_{name.replace('-', '_')}"] = median(audit.epsilons[name] for audit in group)
    return row


def verdict(case: str, alarms: int, seeds: int) -> str:
    """A sabotage is caught in every seed or missed; honest engines alarm where so many alarms are less likely than 1 %."""
    if case != HONEST:
        return CAUGHT if alarms == seeds else MISSED
    return PASSED if stats.binom.sf(alarms - 1, seeds, FALSE_ALARMS) > FALSE_ALARMS else ALARM


def _telling(group: list[Audit]) -> str:
    counts = Counter(finding.name for audit in group for finding in audit.alarms)
    if not counts:
        return "noise"
    return max(counts, key=lambda name: (counts[name], -median(finding.p for finding in _all(group, name))))


def _all(group: list[Audit], name: str) -> list[Finding]:
    return [audit.finding(name) for audit in group]


def lines(found: pd.DataFrame) -> list[str]:
    """The table within 80 columns."""
    made = []
    for engine, rows in found.groupby("engine", sort=False):
        made += ["", f"engine {engine}", f"{'case':<32}{'clearest test':<26}{'claimed':>10}{'seen':>10}"]
        for row in rows.to_dict("records"):
            made.append(f"{row['case']:<32}{row['test']:<26}{row['claimed']:>10.4g}{row['audited']:>10.4g}")
            made.append(f"    {row['verdict']}, {row['alarms']} of {row['seeds']}; {_epsilons(row)}")
    return made[1:]


def _epsilons(row: dict) -> str:
    return f"epsilon {row['epsilon']:.3g} claimed, {row['epsilon_counted']:.3g} counted, at least {row['epsilon_mu_gdp']:.3g}"


def details(audit: Audit) -> list[str]:
    """Every finding of one audit, within 80 columns."""
    level = FALSE_ALARMS / len(audit.findings)
    made = [
        f"engine {audit.engine}, {audit.case}, seed {audit.seed}",
        f"{'test':<32}{'claimed':>10}{'seen':>10}{'p':>12}  verdict",
    ]
    for finding in audit.findings:
        word = "ok" if finding.p >= level else ALARM
        made.append(f"{finding.name:<32}{finding.claimed:>10.4f}{finding.audited:>10.4f}{finding.p:>12.2g}  {word}")
    bounds = ", ".join(f"{value:.2f} ({name})" for name, value in audit.epsilons.items())
    return [*made, f"epsilon {audit.epsilon:.2f} is claimed; lower bounds at 95 %:", f"    {bounds}"]
