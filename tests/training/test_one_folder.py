"""Two runs that are started into one folder: one gets it, the other is refused and leaves everything as it was."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

import training.test_trainer as usual
from tinynet import data
from tinynet.io import files
from tinynet.io.files import JsonLines

RACER = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
import training.test_trainer as usual
import tinynet.training.run_folder as run_folder

class Towers:
    def on_start(self, trainer):
        (trainer.out / "towers.png").write_text(sys.argv[2])

    def __call__(self, trainer, record):
        pass

real = run_folder.RunFolder.open
def open_together(self, config, checkpoint=None):
    Path(sys.argv[1], "ready-" + sys.argv[2]).touch()
    while len(list(Path(sys.argv[1]).glob("ready-*"))) < 2:
        time.sleep(0.001)
    return real(self, config, checkpoint)
run_folder.RunFolder.open = open_together

try:
    usual.trainer(out=Path(sys.argv[1], "run"), epochs=1, config={{"who": sys.argv[2]}}, callbacks=[Towers()]).fit()
except FileExistsError as error:
    print("refused:", error)
"""


BEFORE = {
    "locks": "",
    "locks as on Windows": "import tinynet.io.files\ntinynet.io.files.fcntl = None\n",
    "no locks": "import sys, warnings\nsys.modules['fcntl'] = None\nwarnings.simplefilter('ignore')\n",
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_of_two_processes_one_gets_the_folder(tmp_path, before):
    paths = [path for path in sys.path if path] + [os.path.dirname(usual.__file__)]
    program = before + RACER.format(paths=paths)
    said = {}
    with contextlib.ExitStack() as stack:
        racers = {}
        for who in ("one", "two"):
            command = [sys.executable, "-c", program, str(tmp_path), who]
            racer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            racers[who] = stack.enter_context(racer)
            stack.callback(racer.kill)
        for who, racer in racers.items():
            output, error = racer.communicate()
            assert (racer.returncode, error) == (0, b"")
            said[who] = output.decode()
    refused = [who for who in said if said[who].startswith("refused:")]
    assert len(refused) == 1
    (winner,) = said.keys() - refused
    assert "log.jsonl of a run that began before; nothing in it was changed" in said[refused[0]]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["who"] == winner
    assert (tmp_path / "run" / "towers.png").read_text() == winner
    log = usual.read_log(tmp_path / "run")
    assert (log[0]["who"], log[-1]["event"]) == (winner, "final")


class Writes:
    """A callback that writes whenever it may."""

    def on_start(self, trainer):
        (trainer.out / "picture.png").write_text(trainer.config["who"])

    def __call__(self, trainer, record):
        self.on_start(trainer)


def test_a_second_run_at_the_worst_moment_touches_nothing(tmp_path):
    """The first has just made its log, and nothing else yet, when the second wants the folder."""
    first = usual.trainer(out=tmp_path, epochs=1, config={"who": "first"}, callbacks=[Writes()])
    second = usual.trainer(out=tmp_path, epochs=1, config={"who": "second"}, callbacks=[Writes()])
    seen = []

    def second_now(self, *args):
        if not seen:
            seen.append(sorted(os.listdir(tmp_path)))
            with pytest.raises(FileExistsError, match="of a run that began before; nothing in it was changed"):
                second.fit()
            seen.append(usual.contents(tmp_path))
        return real(self, *args)

    real = JsonLines._lock
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonLines, "_lock", second_now)
        first.fit()
    assert seen == [["log.jsonl"], {tmp_path / "log.jsonl": b""}]
    assert json.loads((tmp_path / "config.json").read_text())["who"] == "first"
    assert (tmp_path / "picture.png").read_text() == "first"


def test_a_run_in_the_folder_of_a_finished_one_touches_nothing(tmp_path):
    usual.trainer(out=tmp_path, epochs=1, config={"who": "first"}).fit()
    before = usual.contents(tmp_path)
    with pytest.raises(FileExistsError):
        usual.trainer(out=tmp_path, epochs=1, config={"who": "second"}, callbacks=[Writes()]).fit()
    assert usual.contents(tmp_path) == before


def test_a_refused_resume_touches_nothing(tmp_path):
    usual.trainer(out=tmp_path, epochs=1, config={"who": "first"}).fit()
    kept = (tmp_path / "log.jsonl").stat().st_size
    with JsonLines(tmp_path / "log.jsonl", keep=(kept, crc(tmp_path / "log.jsonl"))):
        before = usual.contents(tmp_path)
        with pytest.raises(BlockingIOError, match="another program is writing to it; wait until it ends, or stop it"):
            usual.trainer(out=tmp_path, epochs=2, callbacks=[Writes()]).fit(resume=tmp_path)
        assert usual.contents(tmp_path) == before
    usual.trainer(out=tmp_path, epochs=2).fit(resume=tmp_path)


def crc(path):
    return files.zlib.crc32(path.read_bytes())


def test_where_files_are_locked_in_windows_way(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    test_a_refused_resume_touches_nothing(tmp_path)
    monkeypatch.setattr(files, "FileLock", files.SoftFileLock)  # no locks at all: none is pretended
    with JsonLines(tmp_path / "a"), JsonLines(tmp_path / "a", keep=(0, 0)):
        pass


def test_a_config_that_cannot_be_written_leaves_no_run_behind(tmp_path, monkeypatch):
    real = os.replace

    def full(aside, path):
        if path.name == "config.json":
            raise OSError(28, "No space left on device")
        real(aside, path)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot write .*config\.json: No space left on device; free some space"):
        usual.trainer(out=tmp_path / "run", epochs=1).fit()
    assert os.listdir(tmp_path / "run") == []
    monkeypatch.undo()
    usual.trainer(out=tmp_path / "run", epochs=1).fit()


def test_a_program_that_is_overtaken_while_it_prepares_its_pictures(program, monkeypatch, tmp_path, capfd):
    """Two are started into one folder, and find it free; the second is the first to train."""
    sizes = ["--train-size", 8, "--val-size", 4, "--batch-size", 4, "--image-size", 28, "--epochs", 1, "--quiet"]
    real, overtaken = data.load, []

    def overtaking(*args, **options):
        if not overtaken:
            overtaken.append(None)
            assert program(*sizes, "--devices", "cpu,cpu", "--seed", 2, "--out", "run") == 0
            overtaken[0] = usual.contents(tmp_path)
        return real(*args, **options)

    monkeypatch.setattr(data, "load", overtaking)
    assert program(*sizes, "--devices", "cpu,cpu", "--seed", 1, "--trace", "trace.json", "--out", "run") == 1
    assert "log.jsonl of a run that began before; nothing in it was changed" in capfd.readouterr().err
    assert {"config.json", "towers.png", "learning_curves.png"} <= {path.name for path in overtaken[0]}
    assert usual.contents(tmp_path) == overtaken[0]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 2
