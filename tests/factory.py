"""Records made up for tests of what reads records, and small archs of every family."""

from bench.evidence import images
from bench.plan import config, spec

_WRN = {"family": "wide_resnet", "depth": 10, "width": 1, "weight_standardisation": True, "norm": {"groups": 16}}
_WRN |= {"order": "relu-norm", "shortcut": "relu-norm", "activation": "relu"}
SMALL_ARCHS = {
    "resnet9-w8": {"family": "resnet9", "width": 8},
    "wrn10-1": _WRN,
    "wrn10-1-plain": _WRN | {"weight_standardisation": False},
    "wrn10-1-orders": _WRN | {"order": "norm-relu"},
    "resnet18-w8": {"family": "resnet", "depth": 18, "width": 8, "stem": "cifar"},
    # fewer groups: of 16 x 16 pixels one is left, and a group of one value has no variance
    "resnet50-w8": {"family": "resnet", "depth": 50, "width": 8, "stem": "imagenet", "norm": {"groups": 4}},
}
# of a family that has none here, those of config.yaml
_KNOWN = {arch["family"] for arch in SMALL_ARCHS.values()}
_SHIPPED = config.load(config.ROOT / "config.yaml", local=False)["archs"]
SMALL_ARCHS |= {name: arch for name, arch in _SHIPPED.items() if arch["family"] not in _KNOWN}
ONE_A_FAMILY = [*{arch["family"]: name for name, arch in reversed(SMALL_ARCHS.items())}.values()]  # the first


def record_of(run: spec.Run, accuracy: float | None, status: str = "completed") -> dict:
    finite = run.epsilon != float("inf")
    epsilon = run.epsilon if finite else float("inf")
    return {
        "status": status,
        "run": run.resolved(),
        "result": {
            "reason": None if status == "completed" else "step 3: the test loss is not finite",
            "accuracy": accuracy,
            "loss": 1.0,
            "correct": None if accuracy is None else images.pack([i < round(3.6 * accuracy) for i in range(360)]),
            "best_epoch_accuracy": accuracy,
            "best_epoch_step": run.recipe["steps"],
            "test_split_steers": run.recipe["schedule"] == "plateau-on-test-loss",
        },
        "curve": [
            {"step": step, "epsilon_rdp": epsilon, "train_loss": 1.0, "test_loss": 1.0, "accuracy": accuracy}
            for step in (run.recipe["steps"] // 2, run.recipe["steps"])
            if accuracy is not None  # a run that diverged ends before its first evaluation here
        ],
        "scale_mixing": [{"block": block, "skip": 1.0, "branch": 0.5, "sum": 1.2} for block in ("res1", "res2")],
        "privacy": {
            "noise_multiplier": 1.0 if finite else 0.0,
            "sample_rate": 0.1,
            "steps": run.recipe["steps"],
            "train_size": 1437,
            "clip_norm": run.recipe["clip_norm"] if finite else float("inf"),
            "delta": run.recipe["delta"],
            "sampling": "poisson",
            "adjacency": "zero-out",
            "epsilon_rdp": epsilon,
            "epsilon_pld": epsilon,
        },
        "data": {
            "name": run.dataset["name"],
            "label": run.dataset["label"],
            "official": True,
            "digest": "d" * 64,
            "train_size": 1437,
            "test_size": 360,
            "classes": 10,
            "shape": [1, 16, 16],
        },
        "model": {"parameters": 39746},
        "cost": {"seconds": 10.0, "images_per_second": 1000.0, "peak_memory_mb": 400.0, "joules": None},
        "machine": {
            "device": "cpu",
            "device_name": "Test CPU",
            "cpu": "Test CPU",
            "gpu": None,
            "engine": "opacus",
            "physical_batch": 128,
            "threads": 1,
            "python": "3.11",
            "platform": "Linux",
            "cuda": None,
            "torch": "2.13.0",
            "opacus": "1.6.0",
            "dp-accounting": "0.6.0",
            "numpy": "2.4",
        },
        "provenance": {
            "commit": "0" * 40,
            "dirty": False,
            "source_digest": "0" * 12,
            "command": f"python -m bench train {run.id}",
            "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T00:00:10+00:00",
        },
    }
