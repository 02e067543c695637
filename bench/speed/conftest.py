from pathlib import Path


def pytest_addoption(parser):
    parser.addoption("--csv", type=Path, default=None, help="the speed table: what it has is not timed again")
    parser.addoption("--threads", type=int, default=2, help="CPU threads")
