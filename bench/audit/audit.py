"""One audit: a game played honestly or under a sabotage, its findings and its verdict."""

import contextlib
from dataclasses import dataclass

from bench.audit import bounds, direct, game, watch
from bench.audit.direct import FALSE_ALARMS, Finding
from bench.audit.sabotage import sabotaged

HONEST = "honest"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What one game gave; `epsilons` are lower bounds at a confidence of 95 %."""

    engine: str
    case: str
    seed: int
    epsilon: float
    findings: list[Finding]
    epsilons: dict[str, float]
    device: str = "cpu"

    @property
    def alarms(self) -> list[Finding]:
        """The findings that refuse the claim, the clearest first."""
        level = FALSE_ALARMS / len(self.findings)
        return sorted((finding for finding in self.findings if not finding.p >= level), key=lambda finding: finding.p)

    def finding(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.name == name)


def audit(engine: str, case: str, seed: int, device: str = "cpu") -> Audit:
    """Plays the game of `seed` with `engine` on `device`, honestly or under the sabotage `case`."""
    with sabotaged(case) if case != HONEST else contextlib.nullcontext():
        seen = watch.play(game.make(seed), engine, device)
    judged, epsilons = bounds.bounds(seen)
    return Audit(
        engine=engine,
        case=case,
        seed=seed,
        epsilon=seen.privacy["epsilon_pld"],
        findings=[*direct.findings(seen), judged],
        epsilons=epsilons,
        device=device,
    )
