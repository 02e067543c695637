"""A run from its specification to its record."""

import dataclasses
import json
import math

import pytest
import torch

from bench import BenchError, data, models
from bench.evidence import records
from bench.plan import resolve
from bench.training import loop, recipe, trainer
from bench.training.checkpoint import Checkpoint
from tests.factory import SMALL_ARCHS

MACHINE = {
    "device": "cpu",
    "engine": "opacus",
    "physical_batch": 16,
    "deterministic": False,
    "threads": 1,
    "runs_per_gpu": 1,
    "checkpoint_minutes": 5,
}


@pytest.fixture
def tiny(shipped):
    """The first run of quick on 60 random images, 5 steps, and those images."""
    run = resolve.studies_of(shipped)["quick"].runs[0]
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
    record = loop.train(run, dataset, 1.5, MACHINE)
    assert record["status"] == "completed"
    assert [point["step"] for point in record["curve"]] == [2, 4, 5]
    assert record["result"]["accuracy"] == record["curve"][-1]["accuracy"]
    assert record["result"]["best_epoch_accuracy"] == max(point["accuracy"] for point in record["curve"])
    assert record["privacy"]["sample_rate"] == 12 / 60
    assert record["privacy"]["epsilon_pld"] < record["privacy"]["epsilon_rdp"]
    assert record["curve"][-1]["epsilon_rdp"] == pytest.approx(record["privacy"]["epsilon_rdp"], rel=1e-5)  # six digits
    assert [row["block"] for row in record["scale_mixing"]] == ["res1", "res2"]
    provenance = {"commit": "unknown", "source_digest": "0", "dirty": True}
    records.write(record | {"provenance": provenance}, tmp_path / "record.json")
    assert records.matches(records.read(tmp_path / "record.json"), run)


def test_the_same_seed_gives_the_same_record_and_another_does_not(tiny):
    run, dataset = tiny
    first = numbers(loop.train(run, dataset, 1.5, MACHINE))
    assert numbers(loop.train(run, dataset, 1.5, MACHINE)) == first
    assert numbers(loop.train(dataclasses.replace(run, seed=1), dataset, 1.5, MACHINE)) != first


def test_the_physical_batch_changes_rounding_only(tiny):
    run, dataset = tiny
    losses = [
        [point["test_loss"] for point in loop.train(run, dataset, 1.5, MACHINE | {"physical_batch": physical})["curve"]]
        for physical in (1, 7, 64)
    ]
    # float32 sums in another order: 2^-24 relative a sum, amplified by at most some hundreds over 5 NAdam steps
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-4)


def test_variants_see_equal_batches(tiny, shipped, monkeypatch):
    run, dataset = tiny
    seen: dict[str, list] = {}
    real = trainer.poisson_batch
    for variant in ("baseline", "scalenorm"):
        draws = seen.setdefault(variant, [])
        monkeypatch.setattr(trainer, "poisson_batch", lambda *a, draws=draws: draws.append(real(*a)) or draws[-1])
        chosen = dataclasses.replace(run, variant=variant, model=resolve.model_of(shipped, run.arch, variant))
        loop.train(chosen, dataset, 1.5, MACHINE)
    assert len(seen["baseline"]) == 5
    assert all(torch.equal(a, b) for a, b in zip(*seen.values(), strict=True))


def test_empty_batches_are_steps(tiny):
    run, dataset = tiny
    run = dataclasses.replace(run, recipe=run.recipe | {"batch_size": 1e-7})
    record = loop.train(run, dataset, 1.5, MACHINE)
    assert record["privacy"]["steps"] == 5
    assert record["cost"]["images_per_second"] == 0


def test_epsilon_inf_has_no_noise_and_no_clipping(tiny):
    run, dataset = tiny
    record = loop.train(dataclasses.replace(run, epsilon=math.inf), dataset, 0.0, MACHINE)
    assert record["privacy"]["clip_norm"] == record["privacy"]["epsilon_rdp"] == math.inf
    assert record["machine"]["engine"] == "not-private"


def test_batch_norm_trains_without_privacy_and_is_not_admitted_with_it(tiny, shipped):
    run, dataset = tiny
    run = dataclasses.replace(run, variant="batch", model=resolve.model_of(shipped, run.arch, "batch"), epsilon=math.inf)
    assert loop.train(run, dataset, 0.0, MACHINE)["status"] == "completed"
    with pytest.raises(BenchError, match="not admitted to private training"):
        loop.train(dataclasses.replace(run, epsilon=8.0), dataset, 1.0, MACHINE)


@pytest.mark.parametrize("epsilon", [8.0, math.inf])
def test_divergence_is_a_result(tiny, epsilon):
    run, dataset = tiny
    recipe = run.recipe | {"optimizer": {"name": "sgd", "lr": 1e38}}
    record = loop.train(
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
        record = loop.train(chosen, dataset, 1.5, MACHINE)
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
    studies = resolve.studies_of(shipped)
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
    with pytest.raises(BenchError, match=r"machine\.device: cuda: .*\. Or set machine: {device: cpu} in config\.local\.yaml"):
        trainer.device_of(MACHINE | {"device": "cuda"})


def test_evaluate_counts_every_test_image(tiny, monkeypatch):
    run, dataset = tiny
    network = models.build(run.model, 1, 10)
    *whole, correct = trainer.evaluate(network, dataset)
    monkeypatch.setattr(trainer, "TEST_BATCH", 7)
    *parts, again = trainer.evaluate(network, dataset)
    assert parts == pytest.approx(whole)
    assert torch.equal(again, correct)
    with torch.no_grad():
        answers = network.eval()(dataset.normalise(dataset.test_images)).argmax(1)
    assert torch.equal(correct, answers == dataset.test_labels)  # in the order of the data set


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=pytest.mark.long) if "50" in arch else arch for arch in SMALL_ARCHS]
)
def test_every_variant_trains_on_every_family(tiny, shipped, arch):
    run, dataset = tiny
    # a stem that keeps the pixels: a norm over one value a channel would leave nothing of 16 x 16 images
    stem = {"stem": "cifar"} if "stem" in SMALL_ARCHS[arch] else {}
    shipped["archs"][arch] = SMALL_ARCHS[arch] | stem
    for variant in shipped["variants"]:
        model = resolve.model_of(shipped, arch, variant)
        epsilon = math.inf if model.mixes_samples else 8.0
        chosen = dataclasses.replace(run, variant=variant, model=model, epsilon=epsilon)
        made = trainer.Trainer(chosen, dataset, 1.5 if epsilon == 8 else 0.0, MACHINE | {"engine": "fast"})
        before = [p.detach().clone() for p in made.network.parameters()]
        made.take_step()
        made.take_step()
        assert all(not torch.equal(p, q) for p, q in zip(made.network.parameters(), before, strict=True)), variant
        assert math.isfinite(made.evaluate()["test_loss"])


def test_fixed_shapes_change_rounding_only(tiny, monkeypatch):
    run, dataset = tiny
    machine = MACHINE | {"engine": "fast", "physical_batch": 8}
    losses = [loop.train(run, dataset, 1.5, machine)["result"]["loss"]]
    monkeypatch.setattr(trainer.Trainer, "_fixed", True)
    losses.append(loop.train(run, dataset, 1.5, machine)["result"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)  # as for the physical batch


def test_out_of_memory_halves_the_physical_batch_and_repeats_the_step(tiny, monkeypatch):
    run, dataset = tiny
    run = dataclasses.replace(run, recipe=run.recipe | {"augmentation": "crop-flip", "views": 2})
    machine = MACHINE | {"engine": "fast"}
    real = trainer.Trainer._views

    def hungry(self, part, draws):
        if len(part) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, part, draws)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_views", hungry)
        patch.setattr(trainer, "FITS", {})
        record = loop.train(run, dataset, 1.5, machine | {"physical_batch": 34})
        fits = record["machine"]["physical_batch"]
        assert list(trainer.FITS.values()) == [fits]
    assert fits in (2, 3)
    # the setting counts images, two views a sample
    assert numbers(record) == numbers(loop.train(run, dataset, 1.5, machine | {"physical_batch": 2 * fits}))
    monkeypatch.setattr(trainer.Trainer, "_views", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(BenchError, match="out of memory with the smallest possible batch"):
        loop.train(run, dataset, 1.5, machine)


def test_views_are_one_sample(tiny):
    """K equal views of an image are the image: same gradients, same norms, same noise."""
    run, dataset = tiny
    same = dataclasses.replace(
        dataset, train_images=dataset.train_images[:, :, :1, :1].expand_as(dataset.train_images).contiguous()
    )  # images of one colour: cropping and flipping change nothing
    losses = []
    for recipe_keys in ({}, {"augmentation": "crop-flip", "views": 3}):
        chosen = dataclasses.replace(run, recipe=run.recipe | recipe_keys)
        losses.append(loop.train(chosen, same, 1.5, MACHINE | {"engine": "fast"})["result"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_views_change_the_run(tiny):
    run, dataset = tiny
    changed = [{}, {"views": 2}, {"views": 2, "padding": "reflect"}]
    losses = [
        loop.train(dataclasses.replace(run, recipe=run.recipe | {"augmentation": "crop-flip"} | keys), dataset, 1.5, MACHINE)[
            "result"
        ]["loss"]
        for keys in changed
    ]
    assert len(set(losses)) == 3


def test_the_average_is_what_is_evaluated(tiny):
    run, dataset = tiny
    plain = trainer.Trainer(run, dataset, 1.5, MACHINE)
    averaged = trainer.Trainer(dataclasses.replace(run, recipe=run.recipe | {"ema": 0.5}), dataset, 1.5, MACHINE)
    p, q = (next(t.network.parameters()) for t in (plain, averaged))
    expected = p.detach().clone()
    for t in range(1, 6):
        plain.take_step()
        averaged.take_step()
        m = min(0.5, (1 + t) / (10 + t))
        expected = m * expected + (1 - m) * p.detach()
    assert torch.equal(p, q)  # the average decides nothing
    index = next(i for i, other in enumerate(averaged.average.parameters) if other is q)
    # float32: five roundings of 2^-24
    torch.testing.assert_close(averaged.average.average[index], expected, rtol=1e-6, atol=1e-7)
    loss = averaged.evaluate()["test_loss"]
    assert loss != plain.evaluate()["test_loss"]
    assert torch.equal(p, q)
    with averaged.average.in_place():
        assert trainer.evaluate(averaged.network, averaged.dataset)[1] == pytest.approx(loss, rel=1e-5)  # six digits
    record = loop.train(averaged.run, dataset, 1.5, MACHINE)["result"]
    assert record["accuracy_without_average"] is not None


def test_warmup_and_cosine(tiny):
    run, _ = tiny
    chosen = dataclasses.replace(run, recipe=run.recipe | {"schedule": "cosine", "warmup": 2, "steps": 6})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=2.0)
    scheduler, rates = recipe.make_schedule(chosen, optimizer), []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1.0, 2.0, 2.0, 2 * 0.853553, 1.0, 2 * 0.146447], abs=1e-5)


def test_bf16_stays_close_and_tf32_needs_a_gpu(tiny):
    run, dataset = tiny
    losses = {}
    for precision in ("float32", "bf16"):
        chosen = dataclasses.replace(run, recipe=run.recipe | {"precision": precision})
        losses[precision] = loop.train(chosen, dataset, 1.5, MACHINE | {"engine": "fast"})["result"]["loss"]
    # 8 bits of mantissa in every product, over 5 steps
    assert 0 < abs(losses["bf16"] / losses["float32"] - 1) < 0.05
    chosen = dataclasses.replace(run, recipe=run.recipe | {"precision": "tf32"})
    with pytest.raises(BenchError, match="precision: tf32 exists on CUDA GPUs only"):
        loop.train(chosen, dataset, 1.5, MACHINE)


def test_a_proxy_has_the_noise_of_the_large_batch(shipped):
    run = next(run for run in resolve.studies_of(shipped)["quick"].runs if run.epsilon == 3)
    proxy = {"batch_size": 12, "budget": "proxy", "proxy_for_batch_size": 192}
    large = recipe.noise_of(run, 1437)
    small = recipe.noise_of(dataclasses.replace(run, recipe=run.recipe | proxy), 1437)
    assert small["noise_multiplier"] / 12 == pytest.approx(large["noise_multiplier"] / 192, rel=1e-9)
    assert small["epsilon_rdp"] > 20 > large["epsilon_rdp"]  # what it truly spends


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_cuda_run_is_close_to_the_cpu_run_without_noise(tiny):
    """Noise generators differ between devices; weights and batches do not."""
    run, dataset = tiny
    losses = [loop.train(run, dataset, 0.0, MACHINE | {"device": d})["result"]["loss"] for d in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_a_resumed_cuda_run_ends_like_the_whole_one(tiny, tmp_path, precision, deterministic):
    """In the same bits with deterministic kernels. Others add in varying order, which moves the last bits; a lost optimiser
    state would move more."""
    run, dataset = tiny
    keys = {"precision": precision, "augmentation": "crop-flip", "views": 2, "ema": 0.9}
    run = dataclasses.replace(run, recipe=run.recipe | keys)
    machine = {"engine": "fast", "device": "cuda", "physical_batch": "auto", "deterministic": deterministic}
    machine = MACHINE | machine
    whole = loop.train(run, dataset, 1.5, machine)
    checkpoint = Checkpoint(run, 1.5, tmp_path)
    with pytest.raises(loop.Stopped):
        loop.train(run, dataset, 1.5, machine, checkpoint=checkpoint, stop=lambda: True)
    resumed = loop.train(run, dataset, 1.5, machine, checkpoint=checkpoint)
    assert resumed["cost"]["resumed_at_step"] == 1
    assert resumed["result"]["loss"] == pytest.approx(whole["result"]["loss"], rel=1e-4)
    if deterministic:
        assert numbers(resumed) == numbers(whole)
        assert numbers(loop.train(run, dataset, 1.5, machine)) == numbers(whole)
