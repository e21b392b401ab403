import numpy as np
import pytest
from checks import assert_close

from tinynet.data import Dataset, channel_statistics, mean_picture, statistics


@pytest.fixture
def some():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (11, 3, 5, 7), np.uint8)
    images[:, 1] = 200  # one colour throughout
    return Dataset(images, np.arange(11) % 2, ("a", "b"))


@pytest.mark.parametrize("chunk", [1, 4 * 105, 11 * 105, 10**6])  # a picture has 105 values
def test_means_and_deviations_whatever_the_chunk(some, monkeypatch, chunk):
    monkeypatch.setattr(statistics, "CHUNK", chunk)
    pixels = some.images / 255
    mean, std = channel_statistics(some)
    terms = pixels[:, 0].size  # of each sum
    assert_close(mean, pixels.mean(axis=(0, 2, 3)), terms=terms)
    assert_close(std**2, np.array([pixels[:, 0].var(), 1.0, pixels[:, 2].var()]), terms=terms)
    assert_close(mean_picture(some), pixels.mean(axis=0), terms=11)
    assert mean_picture(some).shape == (3, 5, 7)


def test_a_mapped_file_is_read_in_parts(some, tmp_path, monkeypatch):
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, some.images.shape)
    images[...] = some.images
    mapped = Dataset(images, some.labels, some.classes)
    monkeypatch.setattr(statistics, "CHUNK", 250)
    np.testing.assert_array_equal(mean_picture(mapped), mean_picture(some))
    assert mapped.fingerprint() == some.fingerprint()


def test_a_fingerprint_tells_sets_apart(some):
    own = some.fingerprint()
    changed = some.images.copy()
    changed[7, 2, 3, 1] ^= 1
    assert Dataset(changed, some.labels, some.classes).fingerprint() != own
    assert Dataset(some.images, 1 - some.labels, some.classes).fingerprint() != own
    assert Dataset(some.images, some.labels, ("a", "c")).fingerprint() != own
    assert some.subset(slice(10)).fingerprint() != own
