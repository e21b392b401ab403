import _thread
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from checks import assert_close, run_python

import tinynet
from tinynet.data import Dataset, Loader, channel_statistics, load, shapes
from tinynet.data.augment import Augment, CentreCrop, TenCrop, colour_components
from tinynet.ops.augment import crops

PIXELS = {"dtype": np.float32, "terms": 6}  # gain, shift and mean are rounded, and so are a product and two sums


def small(n=11, channels=2, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (n, channels, 3, 4), np.uint8)
    return Dataset(images, np.arange(n) % 3, ("a", "b", "c"))


def test_statistics_are_those_of_the_pixels():
    pictures = shapes(50, 17)
    mean, std = channel_statistics(pictures)
    unit = pictures.images / 255
    terms = unit[:, 0].size  # of each sum
    assert_close(mean, unit.mean(axis=(0, 2, 3)), terms=terms)
    assert_close(std**2, unit.var(axis=(0, 2, 3)), terms=terms)  # a difference of means of at most 1


def test_a_channel_of_one_colour_can_be_divided_by():
    flat = Dataset(np.full((4, 1, 2, 2), 77, np.uint8), np.zeros(4, np.int64), ("only",))
    mean, std = channel_statistics(flat)
    assert std.tolist() == [1.0]
    x, _ = next(Loader(flat, 4, mean=mean, std=std).epoch(0))
    assert_close(x, np.zeros(x.shape), **PIXELS)


def test_the_input_scale_is_the_documented_one():
    pictures = small()
    mean, std = np.array([0.3, 0.5]), np.array([0.2, 0.4])
    x, labels = next(Loader(pictures, 11, shuffle=False, mean=mean, std=std).epoch(0))
    expected = (pictures.images / 255 - mean[:, None, None]) / std[:, None, None]
    assert_close(x, expected, **PIXELS, size=1 / 0.2)
    assert x.dtype == np.float32
    assert labels.dtype == np.int64
    assert x.transpose(1, 2, 3, 0).flags.c_contiguous  # the layers' fast order
    x, _ = next(Loader(pictures, 11, shuffle=False).epoch(0))
    assert_close(x, pictures.images / 255, **PIXELS)


def test_every_picture_once_an_epoch_with_its_label():
    pictures = small(50)
    batches = list(Loader(pictures, 8, seed=4).epoch(2))
    assert [len(labels) for _, labels in batches] == [8] * 6 + [2]
    seen = np.concatenate([np.round(x * 255).astype(np.uint8) for x, _ in batches]).reshape(50, -1)
    labels = np.concatenate([labels for _, labels in batches])
    rows = {row.tobytes(): label for row, label in zip(pictures.images.reshape(50, -1), pictures.labels, strict=True)}
    assert {row.tobytes(): label for row, label in zip(seen, labels, strict=True)} == rows


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return [tuple(labels) for _, labels in Loader(shapes(60), 7, seed=seed).epoch(epoch)]

    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(*at)) for at in ((1, 3), (1, 4), (2, 3))}) == 3
    still = Loader(small(), 4, shuffle=False)
    assert [labels.tolist() for _, labels in still.epoch(0)] == [labels.tolist() for _, labels in still.epoch(5)]


@pytest.mark.parametrize(("size", "drop_last", "batches"), [(4, False, 3), (4, True, 2), (11, True, 1), (12, True, 0)])
def test_the_number_of_batches(size, drop_last, batches):
    loader = Loader(small(), size, drop_last=drop_last)
    assert len(loader) == len(list(loader.epoch(0))) == batches


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"batch_size": 0}, "expected batch_size to be a whole number of at least 1, got 0"),
        ({"batch_size": 2.0}, "expected batch_size"),
        ({"batch_size": True}, "expected batch_size"),
        ({"batch_size": 2, "mean": [0.5]}, "expected mean to be 2 finite numbers"),
        ({"batch_size": 2, "mean": [0.5, np.nan]}, "expected mean to be 2 finite numbers"),
        ({"batch_size": 2, "mean": 0.5}, "expected mean to be 2 finite numbers"),
        ({"batch_size": 2, "mean": np.zeros((2, 4, 3))}, r"or a picture \(2, 3, 4\); got shape \(2, 4, 3\)"),
        ({"batch_size": 2, "mean": np.full((2, 3, 4), np.nan)}, "got shape .* with NaN or infinity in it"),
        (
            {"batch_size": 2, "mean": np.zeros((2, 3, 4)), "view": Augment(4, padding=1)},
            "one mean a channel, or a small",
        ),
        ({"batch_size": 2, "std": np.ones((2, 3, 4))}, "expected std to be 2 finite numbers, one a channel; got shape"),
        ({"batch_size": 2, "std": [0.5, 0.0]}, "expected std above 0"),
        ({"batch_size": 2, "workers": -1}, "expected workers to be a whole number of at least 0, got -1"),
        ({"batch_size": 2, "seed": -1}, "Loader: seed: expected a whole number"),
        ({"batch_size": 2, "view": CentreCrop(4)}, "a size of at most 3 for pictures of 3 x 4"),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Loader(small(), **arguments)


@pytest.mark.parametrize("view", ["centre", CentreCrop, 11])
def test_a_view_that_is_none_is_refused(view):
    with pytest.raises(TypeError, match=r"expected view as an Augment\(\.\.\.\), .* got"):
        Loader(small(), 4, view=view)


@pytest.mark.parametrize("start", [-1, 4, True, 1.0])
def test_an_epoch_starts_at_one_of_its_batches(start):
    with pytest.raises(ValueError, match=r"expected start as a whole number in \[0, 3\], got"):
        Loader(small(), 4).epoch(0, start=start)
    assert list(Loader(small(), 4).epoch(0, start=3)) == []


def test_load_draws_the_sizes_asked_for():
    train, validation = load("shapes", train_size=30, validation_size=20, image_size=16, seed=2)
    assert (train.images.shape, validation.images.shape) == ((30, 3, 16, 16), (20, 3, 16, 16))
    assert np.array_equal(train.images, shapes(30, 16, 2).images)
    assert np.array_equal(validation.images, shapes(20, 16, 2, "validation").images)


def test_load_takes_the_first_pictures_of_a_set_of_files(shared_data):
    train, validation = load("mnist", shared_data, train_size=30, validation_size=20)
    assert (len(train), len(validation)) == (30, 20)
    with pytest.raises(ValueError, match=r"expected train_size to be a whole number in \[1, 60000\], got 60001"):
        load("mnist", shared_data, train_size=60_001)


def test_a_loader_is_read_by_epochs():
    with pytest.raises(TypeError, match=r"for x, labels in loader\.epoch\(0\)"):
        iter(Loader(small(), 4))


def augmented(n=47, batch_size=5, **options):
    train = shapes(n, 19, 6)
    view = Augment(17, padding=2, colour_noise=0.1, colour=colour_components(train))
    mean, std = channel_statistics(train)
    return Loader(train, batch_size, seed=3, mean=mean, std=std, view=view, **options)


def as_bytes(batches):
    return [(x.tobytes(), x.strides, labels.tobytes()) for x, labels in batches]


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tinynet loader")]


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_no_bit(workers):
    alone, helped = augmented(), augmented(workers=workers)
    for epoch in (0, 1):
        expected = as_bytes(alone.epoch(epoch))
        assert len(set(expected)) == 10
        assert as_bytes(helped.epoch(epoch)) == expected
        for start in (1, 4, 10):
            assert as_bytes(helped.epoch(epoch, start=start)) == as_bytes(alone.epoch(epoch, start)) == expected[start:]
    assert not threads()


@pytest.mark.parametrize("view", [None, CentreCrop(11), TenCrop(11)])
def test_every_view_is_the_same_with_workers(view):
    batches = [as_bytes(Loader(shapes(9, 17), 4, std=[0.1, 0.2, 0.3], view=view, workers=w).epoch(0)) for w in (0, 2)]
    assert batches[0] == batches[1]


def test_a_view_belongs_to_its_picture_whatever_the_batch():
    def by_picture(batch_size, **options):
        # one seed; the labels are the pictures' numbers
        train = shapes(30, 19, 6)
        numbered = Dataset(train.images, np.arange(30), tuple(map(str, range(30))))
        loader = Loader(numbered, batch_size, seed=3, view=Augment(17, padding=2), **options)
        return {label: x.tobytes() for xs, labels in loader.epoch(2) for x, label in zip(xs, labels, strict=True)}

    expected = by_picture(30, shuffle=False)
    assert by_picture(4) == expected
    assert by_picture(7, workers=2) == expected


def test_an_epoch_has_its_own_views():
    still = augmented(shuffle=False)
    assert as_bytes(still.epoch(0)) != as_bytes(still.epoch(1))
    assert as_bytes(still.epoch(1)) == as_bytes(still.epoch(1))


def test_the_middle_of_a_mean_picture_is_subtracted_wherever_the_crop_lies():
    images = np.random.default_rng(1).integers(0, 256, (90, 2, 5, 6), np.uint8)
    pictures = Dataset(images, np.zeros(90, np.int64), ("x",))
    mean = np.linspace(0.1, 0.9, 2 * 5 * 6).reshape(2, 5, 6)
    view = Augment(2)
    std = np.array([0.2, 0.4])
    x, _ = next(Loader(pictures, 90, shuffle=False, seed=1, mean=mean, std=std, view=view).epoch(0))
    crops = view.draw(pictures.images.shape, 1, 0)
    assert len(set(zip(crops.top[0], crops.left[0], strict=True))) == 20
    for n, (top, left, flip) in enumerate(zip(crops.top[0], crops.left[0], crops.flip[0], strict=True)):
        part = pictures.images[n, :, top : top + 2, left : left + 2] / 255
        part = part[:, :, ::-1] if flip else part
        assert_close(x[n], (part - mean[:, 1:3, 2:4]) / std[:, None, None], **PIXELS, size=1 / 0.2)
    x, _ = next(Loader(pictures, 90, shuffle=False, mean=mean).epoch(0))
    assert_close(x, pictures.images / 255 - mean, **PIXELS)


@pytest.mark.parametrize("workers", [0, 2])
def test_noise_is_added_to_the_pixels_and_the_padding_is_zero(workers):
    train = Dataset(np.full((60, 3, 5, 5), 102, np.uint8), np.zeros(60, np.int64), ("x",))
    std, directions = np.array([0.3, 0.2, 0.1]), np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2)[0]
    view = Augment(5, padding=2, colour_noise=0.5, colour=(std, directions))
    loader = Loader(train, 60, shuffle=False, mean=[0.5] * 3, std=[1, 2, 4], view=view, workers=workers)
    x, _ = next(loader.epoch(0))
    drawn = view.draw(train.images.shape, 0, 0)
    expected = (0.4 + drawn.shift[0] - 0.5) / [1, 2, 4]
    for n in range(60):
        inside = np.zeros((5, 5), bool)
        top, left = drawn.top[0, n], drawn.left[0, n]
        inside[max(0, -top) : 5 - top, max(0, -left) : 5 - left] = True  # -2 ... 2
        inside = inside[:, ::-1] if drawn.flip[0, n] else inside
        assert not x[n][:, ~inside].any()
        for c in range(3):
            assert_close(x[n, c][inside], np.full(inside.sum(), expected[n, c]), **PIXELS)


def fail_at(batch, monkeypatch):
    """Making batch number `batch` raises; returns the list of the calls."""
    calls, lock = [], threading.Lock()

    def making(images, index, *args, **options):
        with lock:
            calls.append(index[0])
        if index[0] == 5 * batch:
            raise RuntimeError("a bad disk")
        return crops(images, index, *args, **options)

    monkeypatch.setattr("tinynet.data.loader.crops", making)
    return calls


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_comes_at_its_place_and_leaves_no_thread(workers, monkeypatch):
    fail_at(4, monkeypatch)
    good = []
    with pytest.raises(RuntimeError, match="a bad disk"):
        good.extend(augmented(shuffle=False, workers=workers).epoch(0))
    assert len(good) == 4
    assert not threads()


def test_who_stops_early_leaves_no_thread_and_few_batches_were_made(monkeypatch):
    calls = fail_at(99, monkeypatch)
    for _ in augmented(workers=2).epoch(0):
        assert len(threads()) <= 2
        break
    assert not threads()
    assert 1 <= len(calls) <= 3
    batches = augmented(workers=2).epoch(0)
    next(batches)
    batches.close()
    assert not threads()
    with pytest.raises(ZeroDivisionError):
        [1 / 0 for _ in augmented(workers=2).epoch(0)]
    assert not threads()
    never_started = augmented(workers=2).epoch(0)
    assert not threads()
    del never_started


def test_at_most_one_batch_more_than_there_are_workers_is_ahead(monkeypatch):
    asked = []

    class Counting(ThreadPoolExecutor):
        def submit(self, *args):
            asked.append(args)
            return super().submit(*args)

    monkeypatch.setattr("tinynet.data.loader.ThreadPoolExecutor", Counting)
    ahead = [len(asked) - had for had, _ in enumerate(augmented(workers=3).epoch(0))]
    assert ahead == [4] * 7 + [3, 2, 1]


def test_ctrl_c_while_waiting_for_a_worker(monkeypatch):
    calls, seen = [], []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell ignores Ctrl-C

    def interrupting(*args, **options):
        calls.append(len(calls))
        if len(calls) == 4:
            _thread.interrupt_main()
        return crops(*args, **options)

    monkeypatch.setattr("tinynet.data.loader.crops", interrupting)
    try:
        with pytest.raises(KeyboardInterrupt):
            seen.extend(augmented(workers=1).epoch(0))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) < 10
    assert not threads()


def test_workers_make_batches_at_the_same_time_without_the_pool(monkeypatch):
    together = threading.Barrier(2)

    def meeting(*args, **options):
        together.wait(timeout=60)  # raises if nobody else comes
        return crops(*args, **options)

    def no_pool(*args, **options):
        raise AssertionError("a worker called for more threads")

    monkeypatch.setattr("tinynet.data.loader.crops", meeting)
    monkeypatch.setattr("tinynet.ops.augment.parallel_for", no_pool)
    loader = augmented(n=40, workers=2)
    assert len(list(loader.epoch(0))) == len(loader) == 8


def test_first_compilation_in_three_threads_and_an_exit_in_mid_epoch(tmp_path):
    script = """
from tinynet.data import Loader, shapes
from tinynet.data.augment import Augment
alone, helped = (Loader(shapes(40, 16), 4, view=Augment(16, padding=2), workers=w) for w in (0, 3))
a, b = ([x.tobytes() for x, _ in loader.epoch(0)] for loader in (helped, alone))
unfinished = helped.epoch(1)
next(unfinished)
print(a == b, len(a))
"""
    assert run_python(script, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["True", "10"]


@pytest.mark.parametrize("workers", [0, 2])
def test_plain_batches_are_the_same_to_the_bit(workers):
    pictures = shapes(70)
    colour = colour_components(pictures)
    for view in (None, CentreCrop(21), TenCrop(25), Augment(32, padding=4, colour_noise=0.1, colour=colour)):
        loader = Loader(pictures, 32, seed=3, view=view, mean=[0.1, 0.4, 0.7], std=[0.2, 0.3, 0.25], workers=workers)
        fast = list(loader.epoch(2))
        with tinynet.plain():
            plainly = list(loader.epoch(2))
        for (x, labels), (plain_x, plain_labels) in zip(fast, plainly, strict=True):
            assert np.array_equal(labels, plain_labels)
            # colour noise is normal, which the two draw up to the last digits of float64
            assert np.abs(plain_x - x).max() <= (0 if view is None or view.views > 1 else 2 * np.spacing(np.float32(8)))
