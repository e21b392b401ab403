"""A folder of photographs as two data sets: layouts, the held-out share, what is skipped, what is refused."""

import contextlib
import csv
import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tinynet import random
from tinynet.data.photo import folders
from tinynet.data.photo.album import photos
from tinynet.data.photo.decode import fit, read_picture

SIZE = 8


def paint(path, H=9, W=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256(os.fsencode(path.name)).digest()[:4], "big")
    Image.fromarray(random.uniform((H, W, 3), seed, "photos test", high=256).astype(np.uint8)).save(path, "PNG")


def fill(folder, **counts):
    for name, count in counts.items():
        for i in range(count):
            paint(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


@pytest.fixture
def read(folder, tmp_path):
    return lambda **options: photos(folder, **{"cache_dir": tmp_path / "cache", "size": SIZE, **options})


def pixels(folder, paths):
    return np.array([fit(read_picture(folder / path), SIZE) for path in paths])


def held_out(paths, count):
    return sorted(sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())[:count])


def test_one_folder_a_class(folder, read):
    fill(folder, cat=10, Zebra=4, ant=3)
    paint(folder / "ant" / "deep" / "er" / "00.png")
    found = read(val_share=0.3)
    classes = {
        "Zebra": [f"Zebra/{i:02}.png" for i in range(4)],
        "ant": ["ant/00.png", "ant/01.png", "ant/02.png", "ant/deep/er/00.png"],
        "cat": [f"cat/{i:02}.png" for i in range(10)],
    }
    assert found.train.classes == found.validation.classes == tuple(classes)
    out = {name: held_out(paths, {"Zebra": 1, "ant": 1, "cat": 3}[name]) for name, paths in classes.items()}
    kept = {name: [path for path in paths if path not in out[name]] for name, paths in classes.items()}
    for dataset, parts in ((found.train, kept), (found.validation, out)):
        assert np.array_equal(dataset.images, pixels(folder, itertools.chain(*parts.values())))
        assert dataset.labels.tolist() == [label for label, paths in enumerate(parts.values()) for _ in paths]
        assert isinstance(dataset.images, np.memmap)
        assert dataset.images.flags.c_contiguous
    assert found.skipped == ()


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val"),
        ("train", "validation"),
        ("train", "test"),
        ("Training", "Test_Set"),
        ("Train", "Validate"),
        ("train", "dev"),
        ("training", "Eval"),
    ],
)
def test_a_folder_for_each_half(folder, read, names):
    train, validation = names
    fill(folder / train, dog=3, cat=2)
    fill(folder / validation, cat=1, dog=2)
    found = read()
    for dataset, half, counts in ((found.train, train, (2, 3)), (found.validation, validation, (1, 2))):
        paths = [f"{half}/{name}/{i:02}.png" for name, n in zip(("cat", "dog"), counts, strict=True) for i in range(n)]
        assert np.array_equal(dataset.images, pixels(folder, paths))
        assert dataset.labels.tolist() == [0] * counts[0] + [1] * counts[1]
        assert dataset.classes == ("cat", "dog")
    fill(folder, other=1)
    assert [(entry.path, entry.reason) for entry in read().skipped] == [
        (folder / "other", f"not {train} or {validation}")
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [("train_images", "test_images"), ("seg_train", "seg_test"), ("train", "held out"), ("Val", "rest")],
)
def test_halves_of_unknown_names_are_not_mixed(folder, read, one, other):
    fill(folder / one, cat=3, dog=3)
    fill(folder / other, Cat=3, dog=3)
    (folder / one / "labels.csv").write_text("is no picture")
    with pytest.raises(ValueError, match=LAYOUT + ".* which both hold 'cat' and 'dog'; .* one of train, .* of val"):
        read()


def test_classes_that_are_divided_already_are_not_mixed(folder, read):
    for name in ("cat", "dog"):
        fill(folder / name, train=3, val=2)
    with pytest.raises(ValueError, match=LAYOUT + "'cat' and 'dog', which both hold 'train' and 'val'; "):
        read()


def test_folders_of_the_same_names_inside_of_classes_with_pictures(folder, read):
    for name, count in (("cat", 2), ("dog", 3), ("eel", 0)):
        fill(folder / name, indoors=2, outdoors=2)
        fill(folder, **{name: count})
    fill(folder / "fox", others=2)
    found = read()
    assert len(found.train) + len(found.validation) == 6 + 7 + 4 + 2


def test_one_folder_of_the_same_name_in_each_class(folder, read):
    """As in Tiny ImageNet."""
    for name in ("cat", "dog"):
        fill(folder / name, images=3)
        (folder / name / "boxes.txt").write_text("1 2 3 4")
    found = read()
    assert found.train.classes == ("cat", "dog")
    assert len(found.train) + len(found.validation) == 6


def test_test_beside_val_is_left_alone(folder, read):
    for half, count in (("test", 5), ("train", 3), ("val", 2)):
        fill(folder / half, cat=count, dog=count)
    found = read()
    assert (len(found.train), len(found.validation)) == (6, 4)
    assert [entry.path.name for entry in found.skipped] == ["test"]


def test_train_may_be_the_name_of_a_class(folder, read):
    fill(folder, train=2, bus=2)
    assert read().train.classes == ("bus", "train")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(share=st.floats(1e-9, 1 - 1e-9))
def test_of_each_class_the_same_share_is_held_out(folder, read, share):
    counts = {"a": 2, "b": 5, "c": 9}
    if not folder.exists():
        fill(folder, **counts)
    found = read(val_share=share)
    for label, n in enumerate(counts.values()):
        held = (found.validation.labels == label).sum()
        assert held == min(max(1, round(share * n)), n - 1)
        assert held + (found.train.labels == label).sum() == n


def test_the_share_does_not_depend_on_the_place_or_the_pixels(folder, read, tmp_path):
    fill(folder, cat=9, dog=9)
    elsewhere = fill(tmp_path / "else" / "where", cat=9, dog=9)
    for path in elsewhere.rglob("*.png"):
        paint(path, 10, 10)
    found = photos(elsewhere, size=SIZE, cache_dir=tmp_path / "other")
    chosen = held_out([f"cat/{i:02}.png" for i in range(9)], 2) + held_out([f"dog/{i:02}.png" for i in range(9)], 2)
    assert np.array_equal(found.validation.images, pixels(elsewhere, chosen))
    assert np.array_equal(read().validation.images, pixels(folder, chosen))


def test_the_held_out_share_does_not_depend_on_how_unicode_spells_names(tmp_path):
    """macOS may store names decomposed; the same pictures are held out there."""
    chosen = {}
    for form in ("NFC", "NFD"):
        for i in range(12):
            for name in ("Käfer", "Bär"):
                paint(
                    tmp_path
                    / form
                    / unicodedata.normalize(form, name)
                    / unicodedata.normalize(form, f"ü{name[0]}{i:02}.png")
                )
        found = photos(tmp_path / form, size=SIZE, cache_dir=tmp_path / "cache", val_share=0.25)
        names = [
            unicodedata.normalize(form, f"{name}/ü{name[0]}{i:02}.png") for name in ("Bär", "Käfer") for i in range(12)
        ]
        images = pixels(tmp_path / form, names)
        chosen[form] = [[np.array_equal(one, image) for image in images].index(True) for one in found.validation.images]
    assert chosen["NFC"] == chosen["NFD"]
    assert len(set(chosen["NFC"])) == 6


def test_the_digest(folder, read, tmp_path):
    fill(folder, cat=6, dog=6, Bär=5)
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        os.utime(path, ns=(i, 10**18 + i))
    before = read().digest
    assert before == read(size=SIZE + 1).digest
    assert len(bytes.fromhex(before)) == 32
    shutil.copytree(folder, tmp_path / "copy")  # with its times
    (tmp_path / "copy" / "Bär").rename(tmp_path / "copy" / unicodedata.normalize("NFD", "Bär"))
    assert photos(tmp_path / "copy", size=SIZE, cache_dir=tmp_path / "other").digest == before
    found = {before, read(val_share=0.5).digest}
    path = folder / "cat" / "03.png"
    os.utime(path, ns=(1, 10**18))
    found.add(read().digest)
    path.write_bytes(path.read_bytes() + b"\0")  # what follows the picture is not read
    os.utime(path, ns=(1, 10**18))
    found.add(read().digest)
    path.rename(folder / "cat" / "new.png")
    found.add(read().digest)
    (folder / "cat" / "new.png").rename(folder / "dog" / "new.png")
    found.add(read().digest)
    assert len(found) == 6


def test_opened_again_without_decoding_and_after_a_change_with(folder, read, monkeypatch):
    fill(folder, cat=3, dog=3)
    first = read()
    with monkeypatch.context() as patch:
        patch.setattr("tinynet.data.photo.decode.read_picture", lambda *args, **options: pytest.fail("decoded"))
        assert np.array_equal(read().train.images, first.train.images)
        # another share, and new names of the classes: the same pictures in other places
        (folder / "cat").rename(folder / "eel")
        (folder / "eel").rename(folder / "cat")
        assert len(read(val_share=0.7).validation) == 4
    paint(folder / "dog" / "new.png")
    assert len(read().train) == 5


@pytest.mark.skipif(os.name == "nt", reason="swapped files of one length and time: Windows does not tell")
def test_files_that_are_swapped_are_noticed(folder, read):
    fill(folder, cat=3, dog=3)
    for path in folder.rglob("*.png"):
        Image.open(path).save(path, "BMP")  # all of one length
        os.utime(path, ns=(1, 10**18))
    before = read()
    (folder / "cat" / "00.png").rename(folder / "x")
    (folder / "dog" / "01.png").rename(folder / "cat" / "00.png")
    (folder / "x").rename(folder / "dog" / "01.png")
    after = read()
    paths = [f"{name}/{i:02}.png" for name in ("cat", "dog") for i in range(3)]
    out = held_out(paths[:3], 1) + held_out(paths[3:], 1)
    assert np.array_equal(after.validation.images, pixels(folder, out))
    assert np.array_equal(after.train.images, pixels(folder, [path for path in paths if path not in out]))
    assert before.digest == after.digest  # which knows path, length and time only


def test_pictures_from_the_folder_above_are_another_set(folder, read, tmp_path):
    fill(folder / "train", cat=2, dog=2)
    fill(folder / "val", cat=2, dog=2)
    one = photos(folder / "train", size=SIZE, cache_dir=tmp_path / "cache", val_share=0.5)
    assert (len(one.train), len(read().train)) == (2, 4)


def test_the_cache_stands_where_tinynet_keeps_things(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYNET_CACHE", str(tmp_path / "kept"))
    photos(fill(folder, cat=2, dog=2), size=SIZE)
    (place,) = (tmp_path / "kept" / "photos").iterdir()
    assert place.name.startswith("pictures-")
    assert place.name.endswith("-8")


def test_what_gives_no_picture_is_named(folder, read):
    fill(folder, cat=4, dog=4)
    (folder / "readme.txt").write_text("pets")
    (folder / "cat" / "empty.jpg").write_bytes(b"")
    (folder / "cat" / "in" / "side").mkdir(parents=True)
    (folder / "cat" / "in" / "side" / "notes.txt").write_text("a cat")
    paint(folder / "dog" / "low.png", 7, 50)
    paint(folder / "dog" / "dot.png", 1, 1)
    for hidden in (".DS_Store", "cat/.hidden.png", "dog/.git/00.png", ".cache/00.png"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"")
    found = read()
    assert {entry.path.relative_to(folder).as_posix(): entry.reason for entry in found.skipped} == {
        "readme.txt": "not in a class's folder",
        "cat/empty.jpg": "an empty file, 0 bytes",
        "cat/in/side/notes.txt": "no picture that Pillow can read; it begins with b'a cat'",
        "dog/dot.png": "1 x 1 pixels; each side must have 8",
        "dog/low.png": "50 x 7 pixels; each side must have 8",
    }
    assert (len(found.train), len(found.validation)) == (6, 2)


@pytest.mark.parametrize("leftover", ["@eaDir", "__MACOSX"])
def test_what_other_programs_leave_beside_pictures(folder, read, leftover):
    fill(folder, cat=4, dog=4)
    for inside in (".", "cat", "dog/deep"):
        paint(folder / inside / leftover / "thumbnail.png")
    paint(folder / "dog" / "deep" / "00.png")
    found = read()
    assert found.train.classes == ("cat", "dog")
    assert len(found.train) + len(found.validation) == 9
    reasons = {entry.path.relative_to(folder).as_posix(): entry.reason for entry in found.skipped}
    assert reasons == dict.fromkeys(
        (leftover, f"cat/{leftover}", f"dog/deep/{leftover}"), "made by another program beside pictures"
    )


def test_what_cannot_be_read_takes_no_place_in_the_held_out_share(folder, read):
    fill(folder, cat=3, dog=2)
    (first,) = held_out([f"cat/{i:02}.png" for i in range(3)], 1)
    (folder / first).write_bytes(b"broken")
    found = read()
    assert (found.train.labels.tolist(), found.validation.labels.tolist()) == ([0, 1], [0, 1])


@pytest.mark.skipif(os.name == "nt", reason="links: Windows lets only some users make them")
def test_links(folder, read, tmp_path):
    fill(folder, cat=3)
    fill(tmp_path / "elsewhere", dogs=3)
    (folder / "dog").symlink_to(tmp_path / "elsewhere" / "dogs")  # a class may be a link
    (folder / "around").symlink_to(folder)
    (folder / "above").symlink_to(tmp_path)
    (folder / "cat" / "around").symlink_to(folder / "cat")
    (folder / "cat" / "itself").symlink_to("itself")
    (folder / "cat" / "nothing.png").symlink_to("nowhere")
    (folder / "cat" / "one.png").symlink_to(folder / "dog" / "01.png")  # a picture may be one too
    os.mkfifo(folder / "cat" / "pipe")
    found = read()
    assert found.train.classes == ("cat", "dog")
    assert len(found.train) + len(found.validation) == 7
    reasons = {entry.path.relative_to(folder).as_posix(): entry.reason for entry in found.skipped}
    assert reasons.pop("cat/itself").startswith("cannot be looked at: ")
    assert reasons.pop("cat/nothing.png") == "cannot be looked at: No such file or directory"
    assert reasons == {
        "above": "a link to a folder that it lies in",
        "around": "a link to a folder that it lies in",
        "cat/around": "a link to a folder, not followed",
        "cat/pipe": "not a plain file",
    }


@pytest.mark.skipif(os.name == "nt", reason="links: Windows lets only some users make them")
@pytest.mark.parametrize(
    ("link", "target"),
    [("val/cat", "train/cat"), ("val", "train"), ("train/kitty", "train/cat"), ("train/kitty", "train/dog/deep")],
)
def test_one_folder_is_not_two_classes(folder, read, link, target):
    fill(folder / "train", cat=3, dog=3)
    paint(folder / "train" / "dog" / "deep" / "00.png")
    if link != "val":
        fill(folder / "val", dog=2)
        if link != "val/cat":
            fill(folder / "val", cat=2, kitty=2)
    (folder / link).symlink_to(folder / target)
    with pytest.raises(ValueError, match=r"each class in a folder of its own, got .*, which links make one folder"):
        read()


def test_a_class_folder_that_cannot_be_opened(folder, read, monkeypatch):
    fill(folder, cat=3, dog=3)
    real = os.scandir

    def scandir(path):
        if getattr(path, "name", "") == "dog":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"in .*dog, got none \(it cannot be opened: Permission denied\); add"):
        read()


def test_a_folder_inside_that_cannot_be_opened(folder, read, monkeypatch):
    fill(folder, cat=3, dog=3)
    paint(folder / "dog" / "shut" / "00.png")
    real = os.scandir

    def scandir(path):
        if getattr(path, "name", "") == "shut":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    (entry,) = read().skipped
    assert (entry.path, entry.reason) == (folder / "dog" / "shut", "cannot be opened: Permission denied")


def test_names_in_every_script(folder, read):
    names = ["Bär", "cafe\u0301", "猫", "a b"]
    for name in names:
        paint(folder / name / "Ünï 1.png")
        paint(folder / name / "2 .png")
    assert read().train.classes == tuple(sorted(unicodedata.normalize("NFC", name) for name in names))


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text: only Linux has them")
def test_names_that_are_no_text(folder, read):
    paint(folder / "caf\udce9" / "1\udcff.png")
    (folder / "caf\udce9" / "2\udcff.png").write_bytes(b"")
    paint(folder / "caf\udce9" / "3.png")
    fill(folder, dog=2)
    for _ in range(2):
        found = read()
        assert found.train.classes == ("caf\udce9", "dog")
        assert [entry.path.name for entry in found.skipped] == ["2\udcff.png"]


LAYOUT = r"photos: expected one folder a class .*CLASS/\*\.jpg, or train/CLASS and val/CLASS in it, got "


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], LAYOUT + "an empty folder"),
        ([".hidden/1.png"], LAYOUT + "an empty folder"),
        (["1.png", "2.png"], LAYOUT + "2 files without class folders; put those of a class into a folder"),
        (["cat/1.png", "cat/2.png"], LAYOUT + "the one class 'cat': there is nothing to tell apart"),
        (["train/cat/1.png", "train/dog/1.png"], LAYOUT + "train alone; .* give .*train, else put train and val side"),
        (["test/cat/1.png", "val/dog/1.png"], LAYOUT + "test and val alone"),
        (["train/cat/1.png", "val/cat/1.png"], LAYOUT + "the one class"),
        (["train/1.png", "val/1.png"], LAYOUT + "1 files without class folders"),
        (["cat/1.png", "Cat/1.png", "dog/1.png"], "duplicate class names in .*'Cat' and 'cat' differ in upper"),
        (["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dogs/1.png", "val/eel/1.png"],
         "same class folders in both halves of .*, got only in train/: 'dog'; only in val/: 'dogs', 'eel'; rename"),
        (["cat/1.png", "cat/2.png", "dog/.1.png"], "expected pictures in .*dog, got none; add some or remove it"),
        (["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.txt"], "at least 2 .* in class 'dog', .* got 1; add pictures"),
        (["cat/1.png", "cat/2.png", "dog/1.txt", "dog/2.txt"],
         r"can be read in class 'dog', got 2 that cannot, such as 'dog/1\.txt': an empty file, 0 bytes; add pictures"),
        (["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.txt"],
         "can be read in class 'dog' of validation, got 1 that cannot, such as 'val/dog/1.txt': an empty file"),
    ],
)  # fmt: skip
def test_folders_that_are_no_set_are_refused(folder, read, tmp_path, paths, message):
    folder.mkdir()
    for path in paths:
        if path.endswith("png"):
            paint(folder / path)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(b"")
    if "Cat/1.png" in paths and len(list(folder.iterdir())) == 2:
        pytest.skip("folders whose names differ in case only: this file system has none")
    with pytest.raises(ValueError, match=message):
        read()
    assert not list((tmp_path / "cache").rglob("*.unfinished"))


@pytest.mark.skipif(sys.platform == "darwin", reason="names that differ in Unicode form only: macOS has none")
def test_class_names_that_look_alike_are_refused(folder, read):
    for name in ("B\xe4r", "Ba\u0308r"):
        paint(folder / name / "1.png")
    with pytest.raises(ValueError, match=r"duplicate class names in .*'Ba\\u0308r' and 'B\\xe4r' differ"):
        read()


def test_differences_are_named_up_to_five(folder, read):
    fill(folder / "train", **{f"t{i}": 1 for i in range(9)})
    fill(folder / "val", v=1, w=1)
    with pytest.raises(
        ValueError, match=r"only in train/: 't0', 't1', 't2', 't3', 't4'; only in val/: 'v', 'w' and 4 more"
    ):
        read()


def test_a_folder_that_is_not_there_or_a_file(folder, read):
    with pytest.raises(FileNotFoundError, match=LAYOUT + "nothing there"):
        read()
    folder.write_text("a file")
    with pytest.raises(NotADirectoryError, match=LAYOUT + "a file"):
        read()


def test_too_many_class_folders_end_the_scan(folder, read, monkeypatch):
    for i in range(30):
        (folder / str(i)).mkdir(parents=True)
    seen, real = [], folders._is_link
    monkeypatch.setattr(folders, "MAX_CLASSES", 20)
    monkeypatch.setattr(folders, "_is_link", lambda entry: seen.append(entry) or real(entry))
    with pytest.raises(
        ValueError, match=r"at most 20 class folders in .*, got more; has each picture a folder of its own"
    ):
        read()
    assert len(seen) == 21


@pytest.mark.parametrize("size", [7, 1025, 0, -8, 64.0, True, "64", None])
def test_a_wrong_size(folder, read, size):
    with pytest.raises(ValueError, match=r"photos: expected size to be a whole number in \[8, 1024\], got "):
        read(size=size)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), True, "0.2", None])
def test_a_wrong_share(folder, read, share):
    with pytest.raises(ValueError, match="photos: expected val_share to be a number above 0 and below 1, got "):
        read(val_share=share)


@pytest.mark.parametrize("inside", ["", "cat", ".cache"])
def test_a_cache_inside_of_the_pictures(folder, read, inside):
    fill(folder, cat=2, dog=2)
    with pytest.raises(ValueError, match="expected a cache_dir outside of the pictures' folder, got "):
        read(cache_dir=folder / inside)


def test_a_cache_inside_of_the_pictures_by_another_name(folder, read, tmp_path, monkeypatch):
    """As on file systems that know no upper and lower case, or that are mounted twice."""
    fill(folder, cat=2, dog=2)
    other_name, real = tmp_path / "other name", Path.samefile
    other_name.mkdir()
    same = {os.path.realpath(folder), os.path.realpath(other_name)}

    def samefile(path, other):
        return real(path, other) or {os.path.realpath(path), os.path.realpath(other)} == same

    monkeypatch.setattr(Path, "samefile", samefile)
    with pytest.raises(ValueError, match="expected a cache_dir outside of the pictures' folder, got "):
        read(cache_dir=other_name / "cache")


def test_a_cache_folder_that_cannot_be_written(folder, read, tmp_path):
    fill(folder, cat=2, dog=2)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot write .*choose another folder"):
        read(cache_dir=tmp_path / "file")


def test_no_bar_where_stderr_is_no_terminal(folder, read, capfd):
    fill(folder, cat=2, dog=2)
    read(progress=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="terminals of Unix")
def test_a_bar_on_a_terminal(folder, tmp_path):
    import pty
    import termios

    fill(folder, cat=2, dog=2)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    code = "import sys; from tinynet.data import photos; photos(sys.argv[1], cache_dir=sys.argv[2], progress=True)"
    subprocess.run([sys.executable, "-c", code, folder, tmp_path / "cache"], stderr=theirs, check=True)
    os.close(theirs)
    shown = b""
    with open(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # Linux' way to say: the end
        while part := terminal.read(1000):
            shown += part
    assert b"4/4" in shown


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to a single program on Windows")
def test_ctrl_c_ends_the_build_and_leaves_nothing_unfinished(folder, tmp_path):
    fill(folder, cat=3, dog=3)
    code = (
        "import os, sys, threading, tinynet.data.photo.decode as build; from tinynet.data import photos\n"
        "real = build.read_picture\n"
        "def read(*args, **options):\n"
        "    os.write(1, b'decoding\\n')\n"  # one call: two threads' lines never mix
        "    threading.Event().wait(0.5)\n"
        "    return real(*args, **options)\n"
        "build.read_picture = read\n"
        "photos(sys.argv[1], cache_dir=sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, folder, tmp_path / "cache"]
    options = {
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # tests may run in background
    }
    with subprocess.Popen(command, **options) as program:
        assert program.stdout.readline() == "decoding\n"
        program.send_signal(signal.SIGINT)
        out, err = program.communicate()
    assert program.returncode
    assert "KeyboardInterrupt" in err
    assert out.count("decoding") < 5  # not all of the rest
    (place,) = (tmp_path / "cache" / "photos").iterdir()
    assert not list(place.glob("*.unfinished"))


def test_oddities(shared_data, folder, read):
    with open(shared_data / "oddities" / "manifest.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for name in rows:
        for half in ("train", "val"):
            for label in ("even", "odd"):
                (folder / half / label).mkdir(parents=True, exist_ok=True)
        label = ("even", "odd")[sorted(rows).index(name) % 2]
        shutil.copy(shared_data / "oddities" / name, folder / "train" / label)
        shutil.copy(shared_data / "oddities" / name, folder / "val" / label)
    found = read(size=16)
    unreadable = [name for name, row in rows.items() if row["decodes_with_pillow_13"] == "no"]
    too_small = [name for name, row in rows.items() if row["width"] and int(row["width"]) < 8]
    assert (len(unreadable), too_small) == (4, ["orientation_rectangle.jpg"])
    assert sorted(entry.path.name for entry in found.skipped) == sorted(2 * (unreadable + too_small))
    assert len(found.train) == len(found.validation) == len(rows) - 5
    kept = [path for path in sorted((folder / "train").rglob("*.*")) if path.name not in unreadable + too_small]
    assert [path.parent.name for path in kept] == [found.train.classes[label] for label in found.train.labels]
    for path, image in zip(kept, found.train.images, strict=True):
        turned = image.transpose(1, 2, 0).astype(float)
        if rows[path.name]["exif_orientation"] == "6":  # stored lying on its left side
            with Image.open(path) as stored:
                upright = fit(stored.convert("RGB").transpose(Image.Transpose.ROTATE_270), 16).transpose(1, 2, 0)
                lying = fit(stored.convert("RGB"), 16).transpose(1, 2, 0)
            assert np.abs(turned - upright).mean() < 3, path.name
            assert np.abs(turned - lying).mean() > 20, path.name


def test_real_photographs(shared_data, tmp_path):
    found = photos(shared_data / "photos-varied", size=16, cache_dir=tmp_path)
    assert found.train.classes == ("cats", "dogs")
    assert found.skipped == ()
    assert np.bincount(found.train.labels).tolist() == [96, 96]
    assert np.bincount(found.validation.labels).tolist() == [24, 24]
    names = [path.name for path in (shared_data / "photos-varied" / "cats").iterdir()]
    chosen = held_out([f"cats/{name}" for name in names], 24)
    expected = [fit(read_picture(shared_data / "photos-varied" / path, 16), 16) for path in chosen]
    assert np.array_equal(found.validation.images[:24], expected)
