"""What the README shows is what happens."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from tinynet import data, models
from tinynet.errors import GradcheckError
from tinynet.inspect import locate
from tinynet.inspect.check import check_layer
from tinynet.inspect.diagnosis import shown as shown_path
from tinynet.io.checkpoints import save_weights

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]


def run(program):
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        exec(compile(program, str(README), "exec"), {})
    return screen.getvalue()


def test_the_students_layer_passes_its_gradient_check():
    shown = next(text for language, text in BLOCKS if text.startswith("gradcheck: Tanh"))
    digits = re.compile(r"\d\.\de-\d\d")
    assert digits.sub("#", run(PROGRAMS[0])) == digits.sub("#", shown)


def test_the_students_layer_with_the_wrong_sign_fails_as_shown():
    shown = next(text for language, text in BLOCKS if text.startswith("tinynet.errors.GradcheckError"))
    with pytest.raises(GradcheckError) as caught:
        run(PROGRAMS[0].replace("return dy *", "return -dy *"))
    first, *_, last = shown.strip().splitlines()
    assert first.endswith(str(caught.value).splitlines()[0])
    assert str(caught.value).splitlines()[-1] == last


def test_the_students_layer_with_a_parameter():
    assert "scale: 3 entries" in run(PROGRAMS[1])


def test_what_tinynet_check_says_of_a_mistake(tmp_path):
    """The mask is taken from dy."""
    shown = next(text for language, text in BLOCKS if text.startswith("backward of ReLU")).strip()
    source = (README.parent / "tinynet" / "layers" / "relu.py").read_text(encoding="utf-8")
    wrong = tmp_path / "relu.py"
    wrong.write_text(source.replace("np.where(y > 0, dy, 0)", "np.where(dy > 0, dy, 0)"), encoding="utf-8")
    kind = locate.find(str(wrong))
    assert shown.replace("tinynet/layers/relu.py", shown_path(str(wrong))) == check_layer(kind).sentence


def test_the_training_loop_learns(monkeypatch):
    whole = data.load
    monkeypatch.setattr(data, "load", lambda name: whole(name, train_size=192, validation_size=10))
    *lines, evaluation = run(PROGRAMS[2]).splitlines()
    assert any("conv1" in line for line in lines)
    losses = [float(line) for line in lines[-3:]]
    assert all(1 < loss < 4 for loss in losses)
    assert evaluation.startswith("Evaluation(top1_error=")


def test_every_file_it_links_to_is_there():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README.read_text(encoding="utf-8"))
    assert len(links) > 10
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_it_marks_the_two_commands_that_ci_runs():
    text = README.read_text(encoding="utf-8")
    for name, word in (("run", "examples/train_alexnet.py"), ("test", "pytest")):
        command = re.search(rf"<!-- {name} -->\n```bash\n(.+)\n```", text)
        assert command, name
        assert word in command[1]


def test_what_the_net_says_to_a_photograph(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("runs/shapes-1").mkdir(parents=True)
    classes = [f"class {i}" for i in range(10)]
    model = models.alexnet_mini(10, 3, 32)
    model["fc8"].bias.data[7] = 5.0
    about = {"model": "alexnet_mini", "num_classes": 10, "in_channels": 3, "image_size": 32, "classes": classes}
    about |= {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "data_kind": "shapes"}
    save_weights("runs/shapes-1/weights.safetensors", model, about)
    Image.effect_noise((90, 60), 80).convert("RGB").save("photo.jpg")
    first, line = run(PROGRAMS[3]).splitlines()
    assert re.fullmatch(r"  photo\.jpg  class 7 9\d\.\d%, class \d \d\.\d%, class \d \d\.\d%", line)
    shown = next(text for language, text in BLOCKS if text.startswith("Predictions of")).splitlines()
    assert shown[0] == first
    assert re.sub(r"\w+ \d+\.\d%", "#", shown[1]) == re.sub(r"class \d \d+\.\d%", "#", line)


def test_the_lines_for_a_gpu_run_on_the_cpu_too():
    shown = next(program for program in PROGRAMS if '.to("cuda:0")' in program)
    run(shown.replace("cuda:0", "cpu") + "assert logits.shape == (1, 1000)\nassert conv.algorithm == 'im2col'\n")


def test_the_split_is_the_one_that_runs():
    shown = next(program for program in PROGRAMS if program.startswith("Split("))
    source = (README.parent / "tinynet" / "models" / "towers.py").read_text(encoding="utf-8")
    assert re.sub(r"^", "    ", shown, flags=re.MULTILINE).strip() in source


def test_nobody_is_sent_to_another_project_of_that_name():
    """PyPI has a "tinynet" that is not this one: extras are installed from a checkout, packages by their own names."""
    top = README.parent
    sources = [
        *top.glob("*.md"),
        *top.glob("tinynet/**/*.py"),
        *top.glob("examples/*.py"),
        *top.glob("benchmarks/*.py"),
    ]
    assert len(sources) > 100
    wrong = re.compile(r"pip install (?:[^`\n]*['\" ])?tinynet\b")
    assert wrong.search("pip install -q 'tinynet[cuda12]'")
    assert wrong.search("pip install tinynet")
    assert [path.name for path in sources if wrong.search(path.read_text(encoding="utf-8"))] == []
