"""tinynet/backend/launch.py finds the CUDA sources, in a checkout and in a wheel. What it launches: tests/gpu."""

import pytest

from tinynet.backend import launch


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """installed(files): the launcher as if the package were tmp_path/tinynet, with these (empty) files around it."""
    monkeypatch.setattr(launch, "_PACKAGE", tmp_path / "tinynet")

    def lay_out(*files):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()

    return lay_out


def test_sources_are_found_in_a_checkout(installed, tmp_path):
    installed("kernels/a.cu", "kernels/b.cu", "kernels/c.cuh")
    assert launch.kernel_folder() == tmp_path / "kernels"
    assert launch.kernel_stems() == ["a", "b"]
    assert launch.kernel_path("b") == tmp_path / "kernels" / "b.cu"


def test_sources_are_found_in_a_wheel(installed, tmp_path):
    installed("tinynet/kernels/a.cu", "kernels/somebody_elses.cu")
    assert launch.kernel_folder() == tmp_path / "tinynet" / "kernels"


def test_missing_sources_are_an_error(installed, tmp_path):
    installed("kernels/somebody_elses.py")
    with pytest.raises(FileNotFoundError) as error:
        launch.kernel_folder()
    assert str(tmp_path / "tinynet" / "kernels") in str(error.value)
    assert str(tmp_path / "kernels") in str(error.value)


def test_an_unknown_stem_is_an_error():
    with pytest.raises(
        FileNotFoundError,
        match=r"no CUDA source conv3d\.cu in .*kernels; it has augment, dropout, elementwise, ",
    ):
        launch.kernel_path("conv3d")
