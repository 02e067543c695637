"""Datasets: contents, cache, labels, and what damaged ones say."""

import functools
import hashlib
import http.server
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import BenchError, data, source
from bench.data import cifar10, image_folder, imagenette

SPEC = {"label": "Tiny", "source": "image_folder", "image_size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A PNG image folder of two classes, 3 training and 2 test images each; the pixel value names the image."""
    monkeypatch.chdir(tmp_path)
    value = 0
    for split, count in (("train", 3), ("test", 2)):
        for label in ("cat", "ant"):
            place = tmp_path / "images" / split / label
            place.mkdir(parents=True)
            for number in range(count):
                value += 10
                Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(place / f"{number}.png")
    return tmp_path / "images"


def test_image_folder(folder):
    found = data.load("tiny", SPEC | {"path": str(folder)})
    assert found.train_images.shape == (6, 3, 16, 16)
    assert found.train_images.dtype == torch.uint8
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1]  # classes by sorted name: ant, cat
    assert found.train_images[:, 0, 0, 0].tolist() == [40, 50, 60, 10, 20, 30]
    assert (found.classes, found.official, len(found.test_labels)) == (2, False, 4)


def test_a_tar_archive_is_the_folder(folder):
    with tarfile.open("images.tar.xz", "w:xz") as tar:
        tar.add(folder, arcname=".")
    from_folder, from_tar = (data.load("tiny", SPEC | {"path": path}) for path in (str(folder), "images.tar.xz"))
    assert from_folder.digest == from_tar.digest


def test_other_sizes_are_resized_and_other_shapes_refused(folder):
    assert data.load("tiny", SPEC | {"path": str(folder), "image_size": 32}).train_images.shape == (6, 3, 32, 32)
    Image.new("RGB", (16, 8)).save(folder / "train" / "ant" / "9.png")
    with pytest.raises(BenchError, match=r"9\.png: 16 x 8 pixels; square images"):
        data.load("tiny", SPEC | {"path": str(folder)})


def test_normalise(folder):
    found = data.load("tiny", SPEC | {"path": str(folder)})
    pixel = found.normalise(found.train_images)[0, 0, 0, 0]
    assert pixel.item() == pytest.approx((40 / 255 - 0.5) / 0.25)


def test_cache_is_used_checked_and_follows_the_source(folder, monkeypatch):
    spec = SPEC | {"path": str(folder)}
    first = data.load("tiny", spec)
    reads = []
    real = image_folder.read
    monkeypatch.setattr(image_folder, "read", lambda s: reads.append(1) or real(s))
    assert data.load("tiny", spec).digest == first.digest
    assert not reads
    (cache,) = data.CACHE.glob("*.pt")
    cache.write_bytes(cache.read_bytes()[:-100])
    assert data.load("tiny", spec).digest == first.digest
    assert len(reads) == 1
    Image.new("RGB", (16, 16)).save(folder / "train" / "ant" / "9.png")
    assert data.load("tiny", spec).digest != first.digest


def test_the_place_and_the_times_of_files_are_no_data(folder, monkeypatch):
    spec = SPEC | {"path": str(folder)}
    first, known = data.load("tiny", spec), source.fingerprint("tiny", spec)
    with tarfile.open("images.tar", "w") as tar:
        tar.add(folder, arcname=".")
    moved = folder.rename(folder.with_name("moved"))
    (moved / "train/ant/0.png").touch()
    (moved / "train/.DS_Store").write_text("left by a system")
    monkeypatch.setattr(image_folder, "read", lambda spec: pytest.fail("decoded again"))
    for path in (str(moved), "images.tar"):
        assert source.fingerprint("tiny", spec | {"path": path}) == known
        assert data.load("tiny", spec | {"path": path}).digest == first.digest


def test_an_image_that_is_overwritten_in_place_is_seen(folder):
    """With as many bytes and the time of the old one."""
    spec = SPEC | {"path": str(folder)}
    file = folder / "train/ant/9.bmp"
    Image.new("RGB", (16, 16), (1, 2, 3)).save(file)
    first, known, stat = data.load("tiny", spec), source.fingerprint("tiny", spec), file.stat()
    Image.new("RGB", (16, 16), (3, 2, 1)).save(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert source.fingerprint("tiny", spec) != known
    assert data.load("tiny", spec).digest != first.digest


def test_files_are_read_once_for_their_fingerprint(folder, monkeypatch):
    spec = SPEC | {"path": str(folder)}
    known = source.fingerprint("tiny", spec)
    monkeypatch.setattr(source, "files", lambda root: pytest.fail("read again"))
    assert source.fingerprint("tiny", spec) == known
    (source.MEMORY / "tiny.json").write_text("{")
    monkeypatch.undo()
    monkeypatch.chdir(folder.parent)
    assert source.fingerprint("tiny", spec) == known


def test_files_that_are_not_there_are_remembered(folder):
    spec = SPEC | {"path": str(folder)}
    assert source.remembered("tiny", spec | {"path": "none"}) == source.remembered("tiny", SPEC) == ""
    known = source.remembered("tiny", spec)
    folder.rename(folder.with_name("gone"))
    assert source.remembered("tiny", spec) == known
    assert source.fingerprint("tiny", spec) == ""
    folder.write_bytes(b"no archive")
    assert source.remembered("tiny", spec).startswith(f"unreadable: {folder}: not a complete .tar archive")


def test_more_channels_are_decoded_anew(folder):
    spec = SPEC | {"path": str(folder)}
    assert data.load("tiny", spec).train_images.shape[1] == 3
    assert data.load("tiny", spec | {"mean": [0.5], "std": [0.2]}).train_images.shape[1] == 1


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda f: (f / "train/ant/0.png").write_bytes((f / "train/ant/0.png").read_bytes()[:40]),
            "not a readable image",
        ),
        (lambda f: [p.unlink() for p in (f / "test").rglob("*.png")], r"no images in test/<class>/"),
        (lambda f: f.rename(f.with_name("gone")), "no such folder or archive"),
        (lambda f: (f / "train/cat").rename(f / "train/dog"), "class cat has no training images"),
    ],
)
def test_damaged_folder(folder, damage, expected):
    damage(folder)
    with pytest.raises(BenchError, match=expected):
        data.load("tiny", SPEC | {"path": str(folder)})
    assert not list(folder.parent.glob("data/cache/*"))


def test_truncated_archive(folder):
    with tarfile.open("images.tar.xz", "w:xz") as tar:
        tar.add(folder, arcname=".")
    whole = (folder.parent / "images.tar.xz").read_bytes()
    (folder.parent / "images.tar.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BenchError, match=r"images\.tar\.xz: .*archive"):
        data.load("tiny", SPEC | {"path": "images.tar.xz"})


def test_folder_without_a_path():
    with pytest.raises(BenchError, match="needs a `path`"):
        data.load("tiny", SPEC)


def test_grey_statistics_read_grey_images(folder):
    assert data.load("tiny", SPEC | {"path": str(folder), "mean": [0.5], "std": [0.2]}).train_images.shape[1] == 1


def test_cifar10_archive_is_checked(tmp_path, monkeypatch, shipped):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar.tar.gz").write_bytes(b"not it")
    spec = shipped["datasets"]["cifar10"]
    with pytest.raises(BenchError, match=rf"md5 \w+, the official archive has {cifar10.MD5}"):
        data.load("cifar10", spec | {"path": "cifar.tar.gz"})
    with pytest.raises(BenchError, match="no such archive"):
        data.load("cifar10", spec | {"path": "missing.tar.gz"})


def test_cifar10_archive_is_read(tmp_path, monkeypatch, shipped):
    """An archive in the official layout, its md5 declared to be the official one."""
    import io
    import pickle

    monkeypatch.chdir(tmp_path)
    with tarfile.open("cifar.tar.gz", "w:gz") as tar:
        for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
            pixels = np.arange(3072, dtype=np.uint16).astype(np.uint8)[None].repeat(2, 0)
            content = pickle.dumps({b"data": pixels, b"labels": [number, 9]})
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    md5 = hashlib.md5((tmp_path / "cifar.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "MD5", md5)
    found = data.load("cifar10", shipped["datasets"]["cifar10"] | {"path": "cifar.tar.gz"})
    assert found.official
    assert found.label == "CIFAR-10"
    assert found.train_labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert found.train_images.shape == (10, 3, 32, 32)
    assert found.train_images[0, 1, 0, :3].tolist() == [0, 1, 2]  # channel-major rows


@pytest.fixture
def tiny_imagenette(tmp_path, monkeypatch):
    """An archive in the layout of the official one, its md5 declared to be the official one: 2 classes, 6 images."""
    monkeypatch.chdir(tmp_path)
    value = 0
    for split, count in (("train", 2), ("val", 1)):
        for label in ("n02102040", "n01440764"):
            place = tmp_path / "imagenette2-160" / split / label
            place.mkdir(parents=True)
            for number in range(count):
                value += 30
                pixels = np.full((160, 213, 3), value, np.uint8)
                pixels[:, 106:] += 60  # right half brighter: what is cropped, and what is turned, would show
                Image.fromarray(pixels).save(place / f"{label}_{number}.JPEG", quality=95)
    (tmp_path / "imagenette2-160" / "noisy_imagenette.csv").write_text("path,noisy_labels_0\n")
    with tarfile.open("imagenette.tgz", "w:gz") as tar:
        tar.add("imagenette2-160")
    monkeypatch.setattr(imagenette, "MD5", hashlib.md5((tmp_path / "imagenette.tgz").read_bytes()).hexdigest())
    return "imagenette.tgz"


def test_imagenette_archive_is_read_and_squeezed(tiny_imagenette, shipped):
    found = data.load("imagenette", shipped["datasets"]["imagenette"] | {"path": tiny_imagenette})
    assert (found.official, found.label, found.classes) == (True, "ImageNette-160", 2)
    assert found.train_images.shape == (4, 3, 160, 160)
    assert found.train_labels.tolist() == [0, 0, 1, 1]
    assert found.test_labels.tolist() == [0, 1]  # val
    corners = found.train_images[:, 0, 80, [0, 75, 85, 159]].int()  # the edge between the halves stays in the middle
    expected = torch.tensor([[v, v, v + 60, v + 60] for v in (90, 120, 30, 60)])
    assert (corners - expected).abs().max() <= 2  # JPEG


def test_imagenette_archive_is_checked(tiny_imagenette, tmp_path, shipped):
    whole = (tmp_path / tiny_imagenette).read_bytes()
    (tmp_path / "short.tgz").write_bytes(whole[:-1])
    with pytest.raises(BenchError, match=rf"short\.tgz: md5 \w+, the official archive has {imagenette.MD5}"):
        data.load("imagenette", shipped["datasets"]["imagenette"] | {"path": "short.tgz"})


def test_an_archive_that_cannot_be_downloaded_gets_a_way_out(tmp_path, monkeypatch, shipped):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(imagenette, "URL", "http://127.0.0.1:9/imagenette2-160.tgz")  # nobody listens there
    with pytest.raises(BenchError, match=r"datasets: \{imagenette: \{path: /where/it/is/imagenette2-160\.tgz\}\}"):
        data.load("imagenette", shipped["datasets"]["imagenette"])


def test_a_publisher_that_changed_its_archive_is_named(tmp_path, monkeypatch, shipped):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenette2-160.tgz").write_bytes(b"another one")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(imagenette, "URL", f"http://127.0.0.1:{server.server_port}/imagenette2-160.tgz")
        with pytest.raises(BenchError, match=f"is not the official archive, whose md5 is {imagenette.MD5}: the publisher"):
            data.load("imagenette", shipped["datasets"]["imagenette"])
        server.shutdown()
    assert not list(Path("data").iterdir())


@pytest.mark.parametrize(("name", "label"), [("cifar10", "CIFAR-10"), ("imagenette", "ImageNette-160")])
def test_a_folder_never_passes_as_the_official_archive(folder, shipped, name, label):
    spec = shipped["datasets"][name] | {"source": "image_folder", "path": str(folder)}
    found = data.load(name, spec)
    assert (found.label, found.official) == (f"{label} (not the official archive)", False)


def test_digits(tmp_path, monkeypatch, shipped):
    monkeypatch.chdir(tmp_path)
    spec = shipped["datasets"]["digits"]
    found = data.load("digits", spec)
    assert found.train_images.shape == (1437, 1, 16, 16)
    assert found.test_images.shape == (360, 1, 16, 16)
    assert found.classes == 10
    pixels = found.train_images.double() / 255
    assert pixels.mean().item() == pytest.approx(spec["mean"][0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(spec["std"][0], abs=1e-4)
    # no image of the test split is in the training split
    rows = {image.numpy().tobytes() for image in found.train_images}
    assert sum(image.numpy().tobytes() in rows for image in found.test_images) == 0
