"""Folders and archives as they come: whatever stands in them is used, counted and named as ignored, or refused by name."""

import io
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import BenchError, data, source
from bench.data import image_folder

GREY = {"label": "Mine", "source": "image_folder", "image_size": 16, "mean": [0.5], "std": [0.25]}
HIDDEN, OUTSIDE, NO_IMAGE = image_folder.HIDDEN, image_folder.OUTSIDE, image_folder.NO_IMAGE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes, 3 training and 2 test images each."""
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 3), ("test", 2)):
        for value, label in ((80, "ant"), (160, "bee")):
            for number in range(count):
                save(Path("pictures") / split / label / f"{number}.png", value + number)
    return tmp_path / "pictures"


def save(path: Path, value: int = 99, size: int = 16, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(options.pop("mode", "L"), (size, size), value).save(path, **options)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes) -> bytes:
    """A grey PNG of any announced size with a few bytes of pixels, and `more` chunks before them."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def frames(path: Path, **options) -> None:
    first, *more = (Image.effect_noise((16, 16), 90) for _ in range(3))
    first.save(path, save_all=True, append_images=more, **options)


def truncated(path: Path) -> None:
    Image.effect_noise((16, 16), 90).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-60])


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (16, 16), 50).save(path, exif=exif)


def linked(path: Path, target) -> None:
    path.symlink_to(target)


def moved(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


# what is done to the folder -> (training images, test images, {why ignored: names}, notes)
USED = {
    "as it is": (lambda f: None, 6, 4, {}, {}),
    "class behind a link": (
        lambda f: ((f / "train/bee").rename(f / "bees"), linked(f / "train/bee", f / "bees")),
        6, 4, {OUTSIDE: 3}, {},
    ),
    "class behind a link that leads outside": (
        lambda f: ((f / "train/bee").rename(f.parent / "bees"), linked(f / "train/bee", f.parent / "bees")),
        6, 4, {}, {},
    ),
    "image behind a link": (lambda f: linked(f / "train/ant/8.png", "../bee/1.png"), 7, 4, {}, {}),
    "hard link": (lambda f: os.link(f / "train/ant/0.png", f / "train/ant/8.png"), 7, 4, {}, {}),
    "what systems and notebooks leave": (
        lambda f: [
            save(f / "train/.ipynb_checkpoints/0-checkpoint.png"),
            save(f / "__MACOSX/train/ant/0.png"),
            (f / "train/ant/._0.png").write_bytes(b"\0\5\x16\7"),
            (f / "Thumbs.db").write_bytes(b"x"),
        ],
        6, 4, {HIDDEN: 4}, {},
    ),
    "notes": (
        lambda f: [(f / name).write_text("see") for name in ("README.md", "train/list.csv", "train/ant/notes.txt")],
        6, 4, {OUTSIDE: 1, NO_IMAGE: 2}, {},
    ),
    "half a backup": (lambda f: save(f / "backup/train/ant/0.png"), 6, 4, {OUTSIDE: 1}, {}),
    "half a backup, damaged": (
        lambda f: (save(f / "old/train/ant/0.png"), (f / "old/train/ant/0.png").write_bytes(b"x")), 6, 4, {OUTSIDE: 1}, {},
    ),
    "deep in other folders": (
        lambda f: (f.rename(f.parent / "p"), (f / "a/b").mkdir(parents=True), (f.parent / "p").rename(f / "a/b/c")),
        6, 4, {}, {},
    ),
    "tiff": (lambda f: save(f / "train/bee/8.tif"), 7, 4, {}, {}),
    "ending in capitals, and none": (
        lambda f: (moved(f / "train/ant/0.png", "0.PNG"), moved(f / "train/ant/1.png", "one")), 6, 4, {}, {},
    ),
    "a jpeg called png": (lambda f: save(f / "train/bee/8.png", format="JPEG"), 7, 4, {}, {}),
    "one frame of a gif": (lambda f: save(f / "train/bee/8.gif"), 7, 4, {}, {}),
    "cmyk": (lambda f: save(f / "train/bee/8.jpg", 0, mode="CMYK"), 7, 4, {}, {"in CMYK": 1}),
    "palette": (lambda f: save(f / "train/bee/8.png", 3, mode="P"), 7, 4, {}, {}),
    "alpha that hides nothing": (lambda f: save(f / "train/bee/8.png", (9, 9, 9, 255), mode="RGBA"), 7, 4, {}, {}),
    "turned by exif": (
        lambda f: turned(f / "train/bee/8.jpg"), 7, 4, {}, {"with an EXIF orientation, which is not applied": 1},
    ),
    "another size": (lambda f: save(f / "test/bee/8.png", size=40), 6, 5, {}, {"resized": 1}),
}  # fmt: skip
REFUSED = {
    "an empty class": (lambda f: (f / "train/cow").mkdir(), "train/cow: a class without images; remove the folder"),
    "an empty class of the test split": (lambda f: (f / "test/cow").mkdir(), "test/cow: a class without images"),
    "a class of notes": (
        lambda f: ((f / "train/cow").mkdir(), (f / "train/cow/notes.txt").write_text("moo")), "train/cow: a class without",
    ),
    "a class of hidden files": (
        lambda f: ((f / "train/cow").mkdir(), (f / "train/cow/.DS_Store").touch()), "train/cow: a class without images",
    ),
    "one class": (
        lambda f: [file.unlink() for file in f.rglob("bee/*")] + [(f / s / "bee").rmdir() for s in ("train", "test")],
        "train: one class only, ant",
    ),
    "too deep": (lambda f: save(f / "train/ant/sub/9.png"), "train/ant/sub/9.png: an image deeper than in its class"),
    "in no class": (lambda f: save(f / "train/9.png"), "train/9.png: an image in no class"),
    "splits within a split": (lambda f: save(f / "train/train/ant/9.png"), "train/train/ant/9.png: an image deeper"),
    "a second place": (
        lambda f: (save(f / "backup/train/ant/0.png"), save(f / "backup/test/ant/0.png")),
        "stand at several places, '.' and 'backup'; remove one",
    ),
    "a split in capitals": (lambda f: moved(f / "test", "Test"), "folder Test: small letters are expected, test; rename it"),
    "a second split in capitals": (lambda f: save(f / "Train/ant/0.png"), "folder Train: small letters are expected"),
    "a link to nothing": (lambda f: linked(f / "train/ant/9.png", "gone.png"), "train/ant/9.png: a link to "),
    "a device": (lambda f: os.mkfifo(f / "train/ant/9.png"), "train/ant/9.png: no regular file; "),
    "16 bits": (
        lambda f: Image.fromarray(np.full((16, 16), 0x8000, np.uint16)).save(f / "train/ant/9.png"),
        "train/ant/9.png: more than 8 bits a channel (mode I;16), which would be cut",
    ),
    "floats": (lambda f: save(f / "train/ant/9.tif", 0.5, mode="F"), "train/ant/9.tif: more than 8 bits a channel (mode F)"),
    "an animated gif": (lambda f: frames(f / "train/ant/9.gif"), "train/ant/9.gif: 3 frames; one image a file"),
    "several pages": (lambda f: frames(f / "train/ant/9.tif"), "train/ant/9.tif: 3 frames; one image a file"),
    "what nobody sees": (
        lambda f: save(f / "train/ant/9.png", (9, 9, 9, 0), mode="RGBA"), "train/ant/9.png: transparent pixels",
    ),
    "a palette with a hole": (
        lambda f: save(f / "train/ant/9.png", 0, mode="P", transparency=0), "train/ant/9.png: transparent pixels",
    ),
    "a bomb": (lambda f: (f / "train/ant/9.png").write_bytes(png(60000, 60000)), "train/ant/9.png: not decoded (Image size"),
    "a smaller bomb": (lambda f: (f / "train/ant/9.png").write_bytes(png(10000, 10000)), "train/ant/9.png: not decoded ("),
    "a bomb of text": (
        lambda f: (f / "train/ant/9.png").write_bytes(
            png(16, 16, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 80 * 2**20, 1)))
        ),
        "train/ant/9.png: not a readable image (",
    ),
    "a truncated jpeg": (lambda f: truncated(f / "train/ant/9.jpg"), "train/ant/9.jpg: not a readable image ("),
    "a truncated png": (
        lambda f: (f / "train/ant/9.png").write_bytes((f / "train/ant/0.png").read_bytes()[:50]),
        "train/ant/9.png: not a readable image (",
    ),
    "text called png": (
        lambda f: (f / "train/ant/9.png").write_text("no image"), "train/ant/9.png: not a readable image (of no format",
    ),
    "a program for a printer": (
        lambda f: (f / "train/ant/9.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n"),
        "train/ant/9.png: not a readable image (of no format",
    ),
    "a file like a film": (
        lambda f: os.truncate((f / "train/ant/0.png"), 2**28 + 1), "train/ant/0.png: 268,435,457 bytes, and no image",
    ),
}  # fmt: skip


def archived(folder: Path, name: str = "pictures.tar") -> Path:
    with tarfile.open(name, "w") as tar:
        tar.add(folder, arcname=".")
    return Path(name)


def loaded(path: Path, capsys) -> tuple[data.Dataset, str]:
    found = data.load("mine", GREY | {"path": str(path)})
    return found, capsys.readouterr().err


@pytest.mark.parametrize("case", USED)
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_used_and_counted(folder, case, form, capsys):
    change, train, test, ignored, notes = USED[case]
    change(folder)
    if form == "archive":
        if "behind a link" in case and "class" in case:  # links to folders: an archive made with --dereference has none
            with pytest.raises(BenchError, match=r"train/bee: a link to .*; make it with `tar --dereference`"):
                data.load("mine", GREY | {"path": str(archived(folder))})
            return
        folder = archived(folder)
    found, printed = loaded(folder, capsys)
    assert (len(found.train_labels), len(found.test_labels)) == (train, test)
    described = found.describe()["files"]
    assert {key: described[key] for key in ("train", "test")} == {"train": train, "test": test}
    assert {why: which["files"] for why, which in described["ignored"].items()} == ignored
    assert described["notes"] == notes
    assert f"{train} training and {test} test images" in printed
    for why, which in described["ignored"].items():
        assert f"ignored: {which['files']} {why}, {which['first']!r} for one" in printed
    for what, number in notes.items():
        assert f"{number} {what}" in printed
    again, printed = loaded(folder, capsys)  # from the cache
    assert (again.digest, again.describe(), printed) == (found.digest, found.describe(), "")


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_refused_by_name(folder, case, form):
    change, expected = REFUSED[case]
    change(folder)
    path = archived(folder) if form == "archive" else folder
    with pytest.raises(BenchError) as refused:
        data.load("mine", GREY | {"path": str(path)})
    assert expected in str(refused.value)
    assert "0x" not in str(refused.value)
    assert not list(Path("data").rglob("*.p*t*"))  # nothing is kept of it


def test_labels_follow_the_folders_and_no_link_shifts_them(folder, capsys):
    """A class behind a link used to vanish, and a notebook's leftovers to become one."""
    save(folder / "train/.ipynb_checkpoints/0-checkpoint.png")
    (folder / "train/bee").rename(folder.parent / "bees")
    (folder / "train/bee").symlink_to(folder.parent / "bees")
    found, _ = loaded(folder, capsys)
    assert found.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.train_images[:, 0, 0, 0].tolist() == [80, 81, 82, 160, 161, 162]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["train/ant/0.png", "train/ant"])
def test_what_may_not_be_read(folder, name):
    (folder / name).chmod(0)
    with pytest.raises(BenchError, match=rf"{name}: cannot be read \(Permission denied\)"):
        data.load("mine", GREY | {"path": str(folder)})
    (folder / name).chmod(0o755)


def test_what_cannot_be_read(folder, monkeypatch):
    """As for another user than root, or on a disk that fails."""
    real = Path.read_bytes

    def fails(path):
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(BenchError, match=r"1\.png: cannot be read \(Permission denied\)"):
        data.load("mine", GREY | {"path": str(folder)})


def test_a_link_without_end(folder):
    (folder / "train/ant/around").symlink_to(folder / "train")
    with pytest.raises(BenchError, match="a link to a folder around it, which has no end"):
        data.load("mine", GREY | {"path": str(folder)})


def member(name: str, **keys) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in keys.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("strange", "expected"),
    [
        (member("../train/ant/9.png"), "'../train/ant/9.png' lies outside of the archive"),
        (member("train/../../etc/9.png"), "'train/../../etc/9.png' lies outside of the archive"),
        (member("/etc/passwd"), "'/etc/passwd' lies outside of the archive"),
        (member("train/ant/0.png"), "train/ant/0.png stands in it twice"),
        (member("./train/ant/0.png"), "./train/ant/0.png stands in it twice"),
        (member("train/ant/9.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a link to '/etc/passwd', no file of this"),
        (member("train/ant/9.png", type=tarfile.SYMTYPE, linkname="../../../x"), "a link to '../../../x', no file of this"),
        (member("train/ant/9.png", type=tarfile.LNKTYPE, linkname="gone"), "train/ant/9.png: a link to 'gone', no file of"),
        (member("train/ant/9.png", type=tarfile.SYMTYPE, linkname="9.png"), "train/ant/9.png: a link to '9.png', no file of"),
        (member("train/ant/9.png", type=tarfile.CHRTYPE), "train/ant/9.png: no regular file"),
        (member("train/ant/9.png", type=tarfile.BLKTYPE), "train/ant/9.png: no regular file"),
        (member("train/ant/9.png", type=tarfile.FIFOTYPE), "train/ant/9.png: no regular file"),
    ],
)
def test_members_of_an_archive_that_are_no_files_of_it(folder, strange, expected):
    path = archived(folder)
    with tarfile.open(path, "a") as tar:
        tar.addfile(strange)
    with pytest.raises(BenchError) as refused:
        data.load("mine", GREY | {"path": str(path)})
    assert expected in str(refused.value)


def test_links_within_an_archive_are_read(folder, capsys):
    path = archived(folder)
    with tarfile.open(path, "a") as tar:
        tar.addfile(member("train/ant/7.png", type=tarfile.LNKTYPE, linkname="./train/ant/0.png"))
        tar.addfile(member("./train/ant/8.png", type=tarfile.SYMTYPE, linkname="1.png"))
    assert len(loaded(path, capsys)[0].train_labels) == 8


def test_an_archive_that_promises_a_film(folder, monkeypatch):
    monkeypatch.setattr(source, "LARGEST", 2**16)
    with tarfile.open("bomb.tar.xz", "w:xz") as tar:
        tar.add(folder, arcname=".")
        info = member("train/ant/9.png", size=2**24)
        tar.addfile(info, io.BytesIO(bytes(2**24)))
    assert Path("bomb.tar.xz").stat().st_size < 2**15
    with pytest.raises(BenchError, match=r"train/ant/9\.png: 16,777,216 bytes, and no image has more than"):
        data.load("mine", GREY | {"path": "bomb.tar.xz"})


def test_other_archives_get_a_way_out(folder):
    with zipfile.ZipFile("pictures.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
    Path("pictures.rar").write_bytes(b"Rar!")
    for name, expected in (("pictures.zip", "only .tar ones are read; unpack it"), ("pictures.rar", "not a complete .tar")):
        with pytest.raises(BenchError) as refused:
            data.load("mine", GREY | {"path": name})
        assert expected in str(refused.value)


def test_damage_at_any_byte_is_a_refusal_or_no_damage(folder):
    """A byte changed at many places of a compressed archive and of an image in it: a sentence or an image, nothing else."""
    chance = np.random.default_rng(0)
    Image.effect_noise((16, 16), 90).save(folder / "train/ant/9.jpg")
    with tarfile.open("whole.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname=".")
    picture, whole = (folder / "train/ant/9.jpg").read_bytes(), Path("whole.tar.gz").read_bytes()
    outcomes = {"used": 0, "refused": 0}
    for number in range(60):
        path = (Path("damaged.tar.gz"), folder / "train/ant/9.jpg")[number % 2]
        content = bytearray((whole, picture)[number % 2])
        content[chance.integers(len(content))] ^= int(chance.integers(1, 256))
        path.write_bytes(content)
        try:
            image_folder.read(GREY | {"path": str((path, folder)[number % 2])})
            outcomes["used"] += 1
        except BenchError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5
