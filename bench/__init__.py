"""ScaleNorm Bench: does one more normalisation layer behind the residual sum help under DP-SGD?"""

from pathlib import Path

# Bumped when numbers may change; part of every run's identity, so a bump re-trains everything.
RESULTS_VERSION = 2

ROOT = Path(__file__).resolve().parents[1]


class BenchError(Exception):
    """A refusal that a user can act on: its text names the place, the value and the way out."""
