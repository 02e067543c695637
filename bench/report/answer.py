"""The first screen: what is known about the question, where, how surely, and what is not; from the effects, in sentences."""

from collections import Counter

from bench.evidence.claims import CONTRADICTED, NOT_RESOLVED, NOT_TESTED, SUPPORTED
from bench.plan.claims import LESS
from bench.report.formats import NOTHING, bounds, listing, number
from bench.report.words import NOT_PRIVATE, count, plural

NO_PAIRS = "Nothing is known yet: no pair of private runs, with and without the layer, has finished."
VERDICTS = (SUPPORTED, CONTRADICTED, NOT_RESOLVED, NOT_TESTED)
OURS = "this suite"  # in the source of a claim that nobody published
ALONE = {
    "gain": "it helps",
    "loss": "it harms",
    "no gain of one point": "a gain of one point is excluded and none is shown",
    "too few pairs": "too few pairs to tell one point from none",
}


def place(effect: dict) -> str:
    """'Digits, resnet9-w8, ε = 8'."""
    budget = f"ε = {effect['epsilon']}" if effect["private"] else NOT_PRIVATE
    return f"{_task(effect)}, {budget}"


def _task(effect: dict) -> str:
    recipe = "" if effect["alone"] else f", recipe {effect['recipe']}"
    return f"{effect['dataset'].split(' (scikit')[0]}, {effect['arch']}{recipe}"


def sentences(effects: list[dict], claims: list[dict]) -> list[str]:
    """The answer: what the settings say together, what became of the claims, what the gain depends on, each task by itself.

    `effects` are `evidence.effects.ours`, `claims` rows of the table of claims.
    """
    private = [effect for effect in effects if effect["private"]]
    tasks = dict.fromkeys(map(_task, effects))
    together = _together(private) if private else NO_PAIRS
    said = [together, _verdicts(claims), _depends(claims), *(_by_task(task, effects) for task in tasks)]
    return [sentence for sentence in said if sentence]


def _together(effects: list[dict]) -> str:
    """'ScaleNorm helps in 3 of 6 settings that were tried here, harms in none; 3 are open.'; half a study decides nothing."""
    half = sum(map(_unfinished, effects))
    found = Counter(effect["finding"] for effect in effects if not _unfinished(effect))
    tried = count(len(effects), "setting that was", "settings that were")
    rest = len(effects) - found["gain"] - found["loss"]
    told = f"ScaleNorm helps in {found['gain']} of {tried} tried here, harms in {found['loss'] or 'none'}"
    unfinished = f", {half} with runs missing" if half else ""
    return f"{told}; {rest} {plural(rest, 'is', 'are')} open{unfinished}." if rest else f"{told}."


def _verdicts(claims: list[dict]) -> str:
    """'Of 4 published claims 4 are not tested. Of 2 claims of this suite's own 2 are supported.', and those contradicted."""
    ours = [claim for claim in claims if OURS in claim["source"]]
    theirs = [claim for claim in claims if OURS not in claim["source"]]
    told = [f"Of {count(len(theirs), 'published claim', 'published claims')} {_counted(theirs)}."] if theirs else []
    told += [f"Of {count(len(ours), 'claim', 'claims')} of this suite's own {_counted(ours)}."] if ours else []
    return " ".join(told + [_contradicted(claim) for claim in claims if claim["verdict"] == CONTRADICTED])


def _counted(claims: list[dict]) -> str:
    found = Counter(claim["verdict"] for claim in claims)
    return listing([f"{found[word]} {plural(found[word], 'is', 'are')} {word}" for word in VERDICTS if found[word]])


def _contradicted(claim: dict) -> str:
    return f"Contradicted on {claim['dataset']}, {_points(claim)}: {claim['statement']}"


def _depends(claims: list[dict]) -> str:
    """The decided claims that hold two gains against each other: where the layer brings more, where less. '' without any."""
    found = [claim for claim in claims if LESS in claim["contrast"] and claim["verdict"] in (SUPPORTED, CONTRADICTED)]
    return " ".join(f"{claim['statement'].rstrip('.')}: {claim['verdict']}, {_points(claim)}." for claim in found)


def _points(claim: dict) -> str:
    pairs = count(int(claim["difference_n"]), "pair", "pairs")
    return f"{number(claim['difference'], sign=True)} points{bounds(claim, 'difference_', sign=True)} over {pairs}"


def _by_task(task: str, effects: list[dict]) -> str:
    """'Digits, resnet9-w8 (38,322 parameters, 80 steps): at ε = 1 it helps, +2.27 points over 30 pairs; ...'"""
    mine = sorted((effect for effect in effects if _task(effect) == task), key=lambda effect: float(effect["epsilon"]))
    size = f"{int(mine[0]['parameters']):,} parameters, {mine[0]['steps']:,} steps"
    return f"{task} ({size}): {'; '.join(map(_finding, mine))}."


def _finding(effect: dict) -> str:
    unfinished = _unfinished(effect)
    of = f"{effect['pairs']} of " if unfinished else ""
    pairs = f"over {of}{count(effect['planned'] if unfinished else effect['pairs'], 'pair', 'pairs')}"
    so_far = " so far" if unfinished and effect["finding"] != "too few pairs" else ""
    points = f"{number(effect['difference'], sign=True)} points{bounds(effect, sign=True)} {pairs}"
    head = f"at ε = {effect['epsilon']}" if effect["private"] else "without privacy"
    if effect["finding"] in ALONE:
        return f"{head} {ALONE[effect['finding']]}{so_far}, {points}"
    return f"{head} not resolved{so_far}, {points}: a gain above {number(effect['high'], sign=True)} is excluded"


def _unfinished(effect: dict) -> bool:
    return effect["pairs"] < effect["planned"]


def rows(effects: list[dict], published: list[dict]) -> list[dict]:
    """The table behind the forest plot: whose, where, points, low, high, pairs or n, and what it says."""
    mine = [
        {"whose": "this suite", "where": place(e), "study": e["study"], "pairs": str(e["pairs"]), "finding": e["finding"]}
        | {key: e[key] for key in ("difference", "low", "high")}
        for e in effects
    ]
    theirs = [
        {
            "whose": "published",
            "where": f"{e['row']['dataset']}, {_model(e)}, ε = {float(e['row']['epsilon']):g}",
            "study": e["row"]["source_key"],
            "pairs": f"{e['row']['n'] or '1'} each, unpaired" if e["low"] == e["low"] else NOTHING,
            "finding": "best epoch on the test split" if e["row"]["score"] == "best-epoch" else "single values",
        }
        | {key: e[key] for key in ("difference", "low", "high")}
        for e in published
    ]
    return mine + theirs


def _model(effect: dict) -> str:
    model = effect["against"]["model"]
    return f"{model}, views" if "self-aug" in effect["row"]["id"] else model
