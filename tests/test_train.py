"""A run from its specification to its record."""

import dataclasses
import json
import math

import pytest
import torch

from bench import BenchError, data, models, recipe, records, spec, train

MACHINE = {
    "device": "cpu",
    "engine": "opacus",
    "physical_batch": 16,
    "threads": 1,
    "runs_per_gpu": 1,
    "checkpoint_minutes": 5,
}


@pytest.fixture
def tiny(shipped):
    """The first run of quick on 60 random images, 5 steps, and those images."""
    run = spec.resolve(shipped)["quick"].runs[0]
    recipe = run.recipe | {"batch_size": 12, "steps": 5, "evaluate_every": 2}
    torch.manual_seed(0)
    images, labels = torch.randint(0, 256, (80, 1, 16, 16), dtype=torch.uint8), torch.randint(0, 10, (80,))
    dataset = data.Dataset(
        name="digits", label="Noise", official=False, digest="0", classes=10, mean=(0.5,), std=(0.3,),
        train_images=images[:60], train_labels=labels[:60], test_images=images[60:], test_labels=labels[60:],
    )  # fmt: skip
    return dataclasses.replace(run, recipe=recipe), dataset


def numbers(record: dict) -> str:
    """All of a record but time and machine."""
    return json.dumps({key: record[key] for key in ("status", "result", "curve", "scale_mixing", "privacy")})


def test_record(tiny, tmp_path):
    run, dataset = tiny
    record = train.train(run, dataset, 1.5, MACHINE)
    assert record["status"] == "completed"
    assert [point["step"] for point in record["curve"]] == [2, 4, 5]
    assert record["result"]["accuracy"] == record["curve"][-1]["accuracy"]
    assert record["result"]["best_epoch_accuracy"] == max(point["accuracy"] for point in record["curve"])
    assert record["privacy"]["sample_rate"] == 12 / 60
    assert record["privacy"]["epsilon_pld"] < record["privacy"]["epsilon_rdp"] == record["curve"][-1]["epsilon_rdp"]
    assert [row["block"] for row in record["scale_mixing"]] == ["res1", "res2"]
    records.write(record | {"provenance": {}}, tmp_path / "record.json")
    assert records.matches(records.read(tmp_path / "record.json"), run)


def test_the_same_seed_gives_the_same_record_and_another_does_not(tiny):
    run, dataset = tiny
    first = numbers(train.train(run, dataset, 1.5, MACHINE))
    assert numbers(train.train(run, dataset, 1.5, MACHINE)) == first
    assert numbers(train.train(dataclasses.replace(run, seed=1), dataset, 1.5, MACHINE)) != first


def test_the_physical_batch_changes_rounding_only(tiny):
    run, dataset = tiny
    losses = [
        [point["test_loss"] for point in train.train(run, dataset, 1.5, MACHINE | {"physical_batch": physical})["curve"]]
        for physical in (1, 7, 64)
    ]
    # float32 sums in another order: 2^-24 relative a sum, amplified by at most some hundreds over 5 NAdam steps
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-4)


def test_variants_see_equal_batches(tiny, shipped, monkeypatch):
    run, dataset = tiny
    seen: dict[str, list] = {}
    real = train.poisson_batch
    for variant in ("baseline", "scalenorm"):
        draws = seen.setdefault(variant, [])
        monkeypatch.setattr(train, "poisson_batch", lambda *a, draws=draws: draws.append(real(*a)) or draws[-1])
        chosen = dataclasses.replace(run, variant=variant, model=spec.model_of(shipped, run.arch, variant))
        train.train(chosen, dataset, 1.5, MACHINE)
    assert len(seen["baseline"]) == 5
    assert all(torch.equal(a, b) for a, b in zip(*seen.values(), strict=True))


def test_empty_batches_are_steps(tiny):
    run, dataset = tiny
    run = dataclasses.replace(run, recipe=run.recipe | {"batch_size": 1e-9})
    record = train.train(run, dataset, 1.5, MACHINE)
    assert record["privacy"]["steps"] == 5
    assert record["cost"]["images_per_second"] == 0


def test_epsilon_inf_has_no_noise_and_no_clipping(tiny):
    run, dataset = tiny
    record = train.train(dataclasses.replace(run, epsilon=math.inf), dataset, 0.0, MACHINE)
    assert record["privacy"]["clip_norm"] == record["privacy"]["epsilon_rdp"] == math.inf
    assert record["machine"]["engine"] == "not-private"


def test_batch_norm_trains_without_privacy_and_is_not_admitted_with_it(tiny, shipped):
    run, dataset = tiny
    run = dataclasses.replace(run, variant="batch", model=spec.model_of(shipped, run.arch, "batch"), epsilon=math.inf)
    assert train.train(run, dataset, 0.0, MACHINE)["status"] == "completed"
    with pytest.raises(BenchError, match="not admitted to private training"):
        train.train(dataclasses.replace(run, epsilon=8.0), dataset, 1.0, MACHINE)


@pytest.mark.parametrize("epsilon", [8.0, math.inf])
def test_divergence_is_a_result(tiny, epsilon):
    run, dataset = tiny
    recipe = run.recipe | {"optimizer": {"name": "sgd", "lr": 1e38}}
    record = train.train(
        dataclasses.replace(run, recipe=recipe, epsilon=epsilon), dataset, 1.5 if epsilon == 8 else 0.0, MACHINE
    )
    assert record["status"] == "diverged"
    assert record["result"]["reason"].startswith("step ")
    assert record["result"]["accuracy"] is None
    assert 1 <= record["privacy"]["steps"] <= 5


def test_schedules(tiny):
    run, dataset = tiny
    losses = {}
    for schedule in ("constant", "cosine", "plateau-on-test-loss"):
        chosen = dataclasses.replace(run, recipe=run.recipe | {"schedule": schedule})
        record = train.train(chosen, dataset, 1.5, MACHINE)
        losses[schedule] = record["result"]["loss"]
        assert record["result"]["test_split_steers"] == (schedule == "plateau-on-test-loss")
    assert losses["cosine"] != losses["constant"]
    # five steps with three evaluations never exhaust a patience of three
    assert losses["plateau-on-test-loss"] == losses["constant"]


def test_plateau_schedule_halves_as_the_authors_did(tiny):
    run, _ = tiny
    chosen = dataclasses.replace(run, recipe=run.recipe | {"schedule": "plateau-on-test-loss"})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    scheduler = recipe.make_schedule(chosen, optimizer)
    for _ in range(6):
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_noise_of_published_and_calibrated_budgets(shipped):
    studies = spec.resolve(shipped)
    published = next(run for run in studies["claim-as-published"].runs if run.epsilon == 3)
    found = recipe.noise_of(published, 50_000)
    assert found["noise_multiplier"] == 1.6986083984375
    assert found["epsilon_rdp"] == pytest.approx(2.8947, abs=1e-4)
    calibrated = next(run for run in studies["quick"].runs if run.epsilon == 3)
    found = recipe.noise_of(calibrated, 1437)
    assert found["epsilon_rdp"] == pytest.approx(3, abs=1e-4)
    assert found["epsilon_rdp"] <= 3


def test_a_batch_larger_than_the_data_is_refused(shipped):
    with pytest.raises(BenchError, match="batch_size 192 exceeds the 100 training samples"):
        recipe.sample_rate(shipped["recipes"]["digits"], 100)


def test_cuda_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BenchError, match="sees no CUDA GPU"):
        train.device_of(MACHINE | {"device": "cuda"})


def test_evaluate_counts_every_test_image(tiny, monkeypatch):
    run, dataset = tiny
    network = models.build(run.model, 1, 10)
    whole = train.evaluate(network, dataset)
    monkeypatch.setattr(train, "TEST_BATCH", 7)
    assert train.evaluate(network, dataset) == pytest.approx(whole)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_cuda_run_is_close_to_the_cpu_run_without_noise(tiny):
    """Noise generators differ between devices; weights and batches do not."""
    run, dataset = tiny
    losses = [train.train(run, dataset, 0.0, MACHINE | {"device": d})["result"]["loss"] for d in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
