"""Which test images a run got right: one bit an image in its record, for tests that pair images. No torch."""

import base64
from collections.abc import Sequence

import numpy as np

from bench import BenchError


def pack(correct: Sequence[bool]) -> str:
    """One bit for every test image, in the order of the data set, which its digest fixes: 1,668 characters for 10,000."""
    return base64.b64encode(np.packbits(np.asarray(correct, dtype=bool)).tobytes()).decode()


def unpack(record: dict) -> np.ndarray | None:
    """Whether each test image was right at the last evaluation, bool (test size,); None for a run that has none.

    Two arrays may be compared image by image where `data.digest` of their records is the same. BenchError where the bits are
    not those of the record's test images.
    """
    text = record["result"].get("correct")
    if text is None:  # diverged, or of an older version
        return None
    size, place = record["data"]["test_size"], f"{record['run']['id']}: result.correct"
    try:
        packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (ValueError, TypeError) as error:
        raise BenchError(f"{place}: damaged ({error}); delete the record and train the run again") from None
    if len(packed) != -(-size // 8):
        raise BenchError(f"{place}: {len(packed)} bytes for {size} test images; delete the record and train the run again")
    return np.unpackbits(packed, count=size).astype(bool)
