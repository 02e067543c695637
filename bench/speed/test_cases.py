"""The cases of the speed table under pytest-benchmark: `python -m pytest bench/speed --csv FILE`, as rule `speed` does.

A round times all engines of a case, interleaved; what each of them took is in `extra_info` and, row by row, in FILE.
"""

import pytest
import torch

from bench.speed import __main__ as script
from bench.speed import table

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("case", table.CASES[DEVICE.type], ids=str)
def test_case(benchmark, request, case):
    out, threads = request.config.getoption("--csv"), request.config.getoption("--threads")
    known = script.read(out) if out else []
    if any(script.of_case(row, case, table.device_name(DEVICE), threads) for row in known):
        pytest.skip(f"known: {out} has it")
    found = benchmark.pedantic(table.rows_of, (case, DEVICE, threads), rounds=1)
    assert {"not-private", "fast"} <= {row["engine"] for row in found}
    benchmark.extra_info["rows"] = found
    if out:
        script.write(known + found, out)
