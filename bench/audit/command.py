"""What `bench audit` does: games in processes of their own, a table on the terminal and in a file, an exit code."""

import itertools
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench import terminal
from bench.audit import table
from bench.audit.audit import HONEST, Audit, audit
from bench.audit.sabotage import SABOTAGES
from bench.dp.gradients import ENGINES
from bench.evidence import records, tables


def run(config: Path, seeds: int, sabotage: int, engine: str | None, device: str, cores: int, out: Path) -> int:
    """Audits honest engines over `seeds` seeds and each sabotage over `sabotage`; 1 where one alarms or is missed.

    Games have no part in `config`: what they audit is the code.
    """
    engines = [engine] if engine else list(ENGINES)
    games = [(name, HONEST, seed) for name in engines for seed in honest_seeds(name, seeds)]
    games += itertools.product(engines, SABOTAGES, range(sabotage))
    found = _play([(*game, device) for game in games], cores)
    for one in (one for one in found if seeds == 1 and one.case == HONEST):
        print(*table.details(one), "", sep="\n")
    made = table.table(found)
    records.write_text(tables.text(made), out)
    print(*table.lines(made), sep="\n")
    bad = made[made["verdict"].isin(table.BAD)]
    for row in bad.to_dict("records"):
        print(f"{row['engine']}, {row['case']}: {row['verdict']} ({row['alarms']} alarms in {row['seeds']} games)")
    return 1 if len(bad) else 0


def honest_seeds(engine: str, seeds: int) -> range:
    """Others for every engine: the noise of a seed is the same in all of them."""
    first = list(ENGINES).index(engine) * seeds
    return range(first, first + seeds)


def _play(games: list[tuple[str, str, int, str]], cores: int) -> list[Audit]:
    if cores == 1:
        return _watched(itertools.starmap(audit, games), len(games))
    # spawned, since a process that has started torch's threads cannot be forked
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        return _watched(pool.map(audit, *zip(*games, strict=True)), len(games))


def _watched(played: Iterable[Audit], total: int) -> list[Audit]:
    found = []
    terminal.say_for_now(f"game 1 of {total}")
    for one in played:
        found.append(one)
        terminal.say_for_now(f"game {len(found) + 1} of {total}" if len(found) < total else "")
    return found
