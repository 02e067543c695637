"""Figures that are drawn while the rest of the page is made: here, or of many runs in a process a core."""

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial

MANY = 1500  # runs whose figures take longer to draw than processes to start
MOST = 8  # processes: each takes seconds of processor time and 150 MB before it draws anything


class Figure:
    """What a function of figures.py draws, when somebody asks: its SVG in a template and as text, false where it is empty."""

    def __init__(self, drawn: Callable[[], str]):
        self._drawn = drawn

    @cached_property
    def _svg(self) -> str:
        return self._drawn()

    def __html__(self) -> str:
        return self._svg

    __str__ = __html__

    def __bool__(self) -> bool:
        return bool(self._svg)


Draw = Callable[..., Figure]


@contextmanager
def drawing(runs: int) -> Iterator[Draw]:
    """`draw(function, *arguments)` of a page about so many runs."""
    processes = min(_cores(), MOST)
    if processes == 1 or runs <= MANY:
        yield lambda function, *arguments: Figure(partial(function, *arguments))
        return
    # spawned, since a process that has started torch's threads cannot be forked
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=gc.disable) as pool:
        yield lambda function, *arguments: Figure(pool.submit(function, *arguments).result)


def _cores() -> int:
    """Those of this process, or what its job was given of them: Snakemake tells a job in the variable that OpenMP reads."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(given)) if given.isdecimal() and int(given) else cores
