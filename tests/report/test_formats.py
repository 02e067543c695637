"""Numbers as a reader sees them."""

import math

import numpy as np
import pytest

from bench.report.formats import MINUS, NOTHING, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.mean([64.52 - 65.04, 65.21 - 65.28]), f"{MINUS}0.30"),  # -0.295, and 3e-15 beside it
        (-0.295, f"{MINUS}0.30"),
        (2.675, "2.68"),  # in binary a little less
        (2.665, "2.66"),  # half to even
        (-0.001, "0.00"),
        (12345.678, "12,345.68"),
        (3, "3.00"),
        (math.nan, NOTHING),
        (None, NOTHING),
        (math.inf, "inf"),
    ],
)
def test_numbers_are_rounded_as_decimals(value, text):
    assert number(value) == text


def test_a_sign_and_other_digits():
    assert (number(0.42, sign=True), number(0.0, sign=True), number(39842, 0)) == ("+0.42", "0.00", "39,842")
