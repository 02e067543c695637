import csv
from pathlib import Path

import pytest

COLUMNS = ["device", "threads", "arch", "variant", "width", "physical_batch", "views", "precision", "engine"]
COLUMNS += ["img_per_s", "ratio_to_nonprivate", "peak_mb"]


def pytest_addoption(parser):
    parser.addoption("--csv", type=Path, default=None, help="write the speed table here")
    parser.addoption("--threads", type=int, default=2, help="CPU threads")


@pytest.fixture(scope="session")
def rows(request):
    """The rows of the speed table; written whole when the session ends well."""
    found: list[dict] = []
    yield found
    path = request.config.getoption("--csv")
    if path and found and not request.session.testsfailed:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(found)
        partial.replace(path)
