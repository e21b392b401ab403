import shlex

from tinynet.training.afterwards import PICTURES, what_next


def test_only_what_is_there_is_named(tmp_path):
    folder = tmp_path / "my run"
    folder.mkdir()
    assert what_next(folder) == []
    for name in PICTURES[3:5]:
        (folder / name).touch()
    assert what_next(folder) == [f"look   at {PICTURES[3]}, {PICTURES[4]} in {folder}"]
    (folder / "weights.safetensors").touch()
    (folder / PICTURES[0]).touch()
    (folder / PICTURES[-1]).touch()
    look, after = what_next(folder, ("python", "-m", "tinynet"))
    assert look == f"look   at {PICTURES[0]}, {PICTURES[3]}, {PICTURES[4]} and 1 more in {folder}"
    first, second = after.removeprefix("next   ").split(", or ")
    assert shlex.split(first) == ["python", "-m", "tinynet", "predict", str(folder), "photo.jpg"]
    assert shlex.split(second) == ["python", "-m", "tinynet", "evaluate", str(folder)]
