"""What the figures show, before it is drawn."""

from bench.evidence import columns
from bench.report import figures
from tests.factory import record_of


def test_pairs_are_of_one_seed_and_equal_data(quick):
    made = [record_of(run, 70.0 + run.seed + (run.variant == "scalenorm")) for run in quick.values() if run.epsilon == 8]
    for record in made:
        if record["run"]["id"].endswith("scalenorm/eps8/seed2"):
            record["data"]["digest"] = "e" * 64
    pairs = figures.paired_seeds(columns.frame(made))
    found = pairs[pairs["variant"] == "scalenorm"]
    assert (found["seed"].tolist(), found["value"].tolist()) == ([0, 1], [1.0, 1.0])
    assert len(pairs) == 3 * 3 - 1
