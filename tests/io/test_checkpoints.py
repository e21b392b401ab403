import json
import os
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from checks import disk_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynet.io.checkpoints import load_metadata, load_pretrained, load_weights, read_checkpoint, save_weights
from tinynet.layers import Linear, Parameter, ReLU, Sequential

AWKWARD = "Grüße, 走る & so on"  # a name with spaces, commas, and letters outside of ASCII


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / AWKWARD
    path.mkdir()
    return path


def net(seed=0):
    return Sequential({"fc1": Linear(5, 4, seed=seed), "relu1": ReLU(), "fc2": Linear(4, 3, seed=seed)})


# weights


def test_weights_come_back_bit_for_bit(folder):
    model = net()
    model.astype(np.float64)
    model["fc1"].weight = Parameter(np.asfortranarray(model["fc1"].weight.data.astype(np.float32)))
    save_weights(folder / "w.safetensors", model)
    state = load_weights(folder / "w.safetensors")
    assert sorted(state) == ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]
    for name, parameter in model.named_parameters():
        assert state[name].dtype == parameter.data.dtype
        np.testing.assert_array_equal(state[name], parameter.data)
        state[name] += 1  # the caller's own, and writable

    other = net(seed=1)
    other.load_state_dict(load_weights(folder / "w.safetensors"))
    np.testing.assert_array_equal(other["fc2"].weight.data, model["fc2"].weight.data.astype(np.float32))
    assert os.listdir(folder) == ["w.safetensors"]


def test_equal_weights_and_metadata_give_equal_bytes(folder):
    metadata = {f"key {i}": i for i in range(20)}
    contents = set()
    for turn in range(10):
        save_weights(folder / "w", net(), dict(sorted(metadata.items(), reverse=turn % 2)))
        contents.add((folder / "w").read_bytes())
    assert len(contents) == 1


def test_metadata_comes_back(folder):
    metadata = {"epoch": 3, "name": "Zoë", "nested": {"lr": 0.01}}
    save_weights(folder / "w", net(), metadata)
    assert load_metadata(folder / "w") == metadata
    save_weights(folder / "w", net())
    assert load_metadata(folder / "w") == {}


def test_another_programs_file_is_read(folder):
    arrays = {"x": np.arange(6, dtype=np.int64).reshape(2, 3)}
    (folder / "w").write_bytes(safetensors.numpy.save(arrays, {"format": "pt"}))
    np.testing.assert_array_equal(load_weights(folder / "w")["x"], arrays["x"])
    assert load_metadata(folder / "w") == {}


def test_a_file_of_the_first_version_is_read(folder):
    arrays = {"x": np.arange(6, dtype=np.float32)}
    (folder / "w").write_bytes(safetensors.numpy.save(arrays, {"tinynet": '{"epoch": 3}'}))
    np.testing.assert_array_equal(load_weights(folder / "w")["x"], arrays["x"])
    assert load_metadata(folder / "w") == {"epoch": 3}


@pytest.mark.parametrize("load", [load_weights, load_metadata])
class TestUnreadable:
    def test_missing(self, folder, load):
        with pytest.raises(FileNotFoundError, match=r"expected a safetensors file at .*gone, got nothing there"):
            load(folder / "gone")

    def test_folder(self, folder, load):
        with pytest.raises(OSError, match=r"expected a run's folder or a checkpoint, got .*, which holds none"):
            load(folder)

    @pytest.mark.parametrize("content", [b"event: epoch, and so on", b"\x89PNG\r\n\x1a\n" + bytes(90)])
    def test_another_format(self, folder, load, content):
        (folder / "w").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"expected a safetensors file, got one that begins with b'.{16}"
        ) as caught:
            load(folder / "w")
        assert str(folder / "w") in str(caught.value)

    @pytest.mark.parametrize("keep", [0, 7, 8, 30])
    def test_truncated_in_the_header(self, folder, load, keep):
        save_weights(folder / "w", net())
        (folder / "w").write_bytes((folder / "w").read_bytes()[:keep])
        with pytest.raises(
            ValueError, match=rf"expected a whole safetensors file .*, got {keep} bytes that are cut short"
        ):
            load(folder / "w")


@pytest.mark.parametrize("cut", [1, 100])
def test_truncated_in_the_arrays(folder, cut):
    save_weights(folder / "w", net())
    whole = (folder / "w").read_bytes()
    (folder / "w").write_bytes(whole[:-cut])
    with pytest.raises(ValueError, match=f"got {len(whole) - cut} bytes that are cut short or damaged"):
        load_weights(folder / "w")


def test_a_full_disk_leaves_the_old_weights(folder):
    save_weights(folder / "w", net())
    old = (folder / "w").read_bytes()
    with disk_of(100), pytest.raises(OSError, match=r"cannot write .*; free some space"):
        save_weights(folder / "w", net(seed=1))
    assert (folder / "w").read_bytes() == old
    assert os.listdir(folder) == ["w"]


# weights of another net


def test_pretrained_weights_but_for_the_last_layer(folder):
    save_weights(folder / "w", net())
    model = net(seed=1)
    fresh = model["fc2"].weight.data.copy()
    assert load_pretrained(model, folder / "w", replace=["fc2"]) == ["fc1.weight", "fc1.bias"]
    np.testing.assert_array_equal(model["fc1"].weight.data, net()["fc1"].weight.data)
    np.testing.assert_array_equal(model["fc2"].weight.data, fresh)
    other = Sequential({"fc1": Linear(5, 4), "fc2": Linear(4, 7)})  # another number of classes
    load_pretrained(other, folder / "w", replace=["fc2"])
    np.testing.assert_array_equal(other["fc1"].weight.data, net()["fc1"].weight.data)
    assert load_pretrained(model, folder / "w") == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


@pytest.mark.parametrize(
    ("layers", "replace", "match"),
    [
        ({"fc1": Linear(5, 4), "fc2": Linear(4, 3)}, ["fc3"], "expected replace out of fc1, fc2, got 'fc3'"),
        ({"fc1": Linear(5, 4), "fc2": Linear(4, 3), "fc3": Linear(3, 3)}, [], r"got none for fc3\.weight, fc3\.bias"),
        ({"fc1": Linear(5, 4)}, [], r"expected this net's weights, got also fc2\.bias, fc2\.weight"),
        ({"fc1": Linear(6, 4), "fc2": Linear(4, 3)}, ["fc2"], r"expected \(4, 6\), got \(4, 5\)"),
    ],
)
def test_weights_of_another_net(folder, layers, replace, match):
    save_weights(folder / "w", net())
    model = Sequential(layers)
    before = model.state_dict()
    with pytest.raises(ValueError, match=match):
        load_pretrained(model, folder / "w", replace)
    assert all((before[name] == array).all() for name, array in model.state_dict().items())


SIZES = st.integers(0, 4) | st.sampled_from([-1, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 70])
TENSORS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "U8", "BOOL", "BF16", "F8_E4M3", "I64", "", "object"]),
        "shape": st.lists(SIZES, max_size=4),
        "data_offsets": st.lists(SIZES | st.integers(0, 64), min_size=1, max_size=3),
    }
)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))
STORED = st.dictionaries(st.sampled_from(["kind", "state", "sha256", "x"]), JSON | st.just("checkpoint")).map(
    json.dumps
)
HEADERS = st.dictionaries(st.text(max_size=3), TENSORS | JSON, max_size=3) | st.fixed_dictionaries(
    {"__metadata__": st.fixed_dictionaries({"tinynet": STORED | st.text()}), "w": TENSORS}
)
BODIES = st.binary(max_size=64)


def with_header(header, body, extra):
    text = json.dumps(header).encode()
    return (len(text) + extra).to_bytes(8, "little") + text + body


@settings(max_examples=300)
@given(
    raw=st.binary(max_size=100)
    | st.builds(with_header, HEADERS, BODIES, st.sampled_from([0, 0, 0, 1, 1 << 40, 1 << 62]))
)
def test_any_bytes_are_weights_or_a_clear_error_and_take_no_memory(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        for read in (load_weights, load_metadata, read_checkpoint):
            try:
                found = read(path)
            except ValueError as error:
                assert "fuzzed.safetensors: expected" in str(error)  # noqa: PT017
            else:
                if read is load_weights:
                    assert sum(array.nbytes for array in found.values()) <= len(raw)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_file_of_another_kind_is_not_read_whole(folder):
    with open(folder / "film", "wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(ValueError, match="expected a safetensors file, got one that begins with"):
        load_weights(folder / "film")
