"""Bits of single test images, in a record and back."""

import json

import numpy as np
import pytest

from bench import BenchError
from bench.evidence import images
from tests.factory import record_of


@pytest.fixture
def record(quick):
    return record_of(next(iter(quick.values())), accuracy=70.0)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 360, 10_000])
def test_what_is_packed_is_unpacked(record, size):
    correct = np.random.default_rng(size).random(size) < 0.6
    record["result"]["correct"] = images.pack(correct.tolist())
    record["data"]["test_size"] = size
    found = images.unpack(json.loads(json.dumps(record)))
    assert found.dtype == bool
    assert found.tolist() == correct.tolist()


def test_ten_thousand_images_are_less_than_two_kilobytes():
    assert len(images.pack([True] * 10_000)) == 1668


def test_a_run_without_bits_has_none(record):
    for result in (record["result"] | {"correct": None}, {"accuracy": 70.0}):
        assert images.unpack(record | {"result": result}) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("AAAA", "3 bytes for 360 test images"), ("AA", "damaged"), ("%%%%", "damaged"), (5, "damaged")],
)
def test_damaged_bits_are_refused(record, text, expected):
    record["result"]["correct"] = text
    with pytest.raises(BenchError, match=rf"seed0: result\.correct: .*{expected}"):
        images.unpack(record)
