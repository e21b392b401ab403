"""What a run notes of where it comes from: version, commit, date, command line; and what a resumed run keeps of it."""

import datetime
import json
import re
import shlex
import subprocess
import sys

import pytest

import tinynet
import training.test_trainer as usual
from tinynet.io.checkpoints import load_metadata, read_checkpoint
from tinynet.training import provenance as module
from tinynet.training.provenance import commit, provenance, without_provenance

NOTED = ["tinynet", "commit", "date", "command"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of tinynet, as far as git and its name go, with one commit."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")
    folder = tmp_path / "a checkout é"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "tinynet"\n')
    (folder / "layer.py").write_text("y = x\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    commit.cache_clear()
    yield folder
    commit.cache_clear()


def git(folder, *words):
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    return done.stdout.strip()


def test_the_version_the_time_and_the_command(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "tinynet", "train", "--data", "my photos"])
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    noted = provenance()
    assert list(noted) == NOTED
    assert noted["tinynet"] == tinynet.__version__
    assert shlex.split(noted["command"]) == ["python", "-m", "tinynet", "train", "--data", "my photos"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", noted["date"])
    then = datetime.datetime.fromisoformat(noted["date"])
    assert before <= then <= datetime.datetime.now(datetime.UTC)
    assert json.loads(json.dumps(noted)) == noted


def test_plain_mode_is_noted():
    with tinynet.plain():
        assert provenance()["plain"] is True
    assert "plain" not in provenance()


def test_the_commit_and_whether_files_differ_from_it(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    git(checkout, "tag", "-a", "v9", "-m", "a tag must not stand for the hash")
    assert commit(checkout) == head
    (checkout / "layer.py").write_text("y = -x\n")
    assert commit(checkout) == head  # what is loaded is what was there
    commit.cache_clear()
    assert commit(checkout) == head + "+changes"


def test_git_is_asked_about_the_checkout_and_nothing_else(checkout, tmp_path, monkeypatch):
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))  # as in a hook of another repository
    assert commit(checkout) == head


def test_no_commit_of_somebody_elses_repository(checkout):
    inside = checkout / "venv" / "site-packages"
    inside.mkdir(parents=True)
    assert commit(inside) is None  # tinynet is installed in it, and the repository around is another project's
    (checkout / "pyproject.toml").write_text('[project]\nname = "my-project"\n')
    assert commit(checkout) is None


def test_without_git_or_with_one_that_fails(checkout, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(checkout) is None
    commit.cache_clear()

    def slow(*args, **options):
        raise subprocess.TimeoutExpired("git", 5)

    monkeypatch.setattr(subprocess, "run", slow)
    assert commit(checkout) is None


def test_a_checkout_without_any_commit(checkout, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "pyproject.toml").write_text('name = "tinynet"\n')
    git(tmp_path / "new", "init", "-q")
    assert commit(tmp_path / "new") is None


def everywhere(folder):
    """The provenance in each place where a run notes it."""
    newest = read_checkpoint(folder).state
    places = [json.loads((folder / "config.json").read_text("utf-8")), usual.read_log(folder)[0]]
    places += [load_metadata(folder / "weights.safetensors"), newest["config"], newest["metadata"]]
    return [place.get("provenance") for place in places]


def test_a_run_notes_it_in_five_places_and_a_resumed_run_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["first", "command"])
    usual.trainer(epochs=1, out=tmp_path).fit()
    noted = everywhere(tmp_path)
    assert list(noted[0]) == NOTED
    assert noted[0]["command"] == "first command"
    assert noted == noted[:1] * 5

    monkeypatch.setattr(sys, "orig_argv", ["second", "command"])
    monkeypatch.setattr(tinynet, "__version__", "9.9")
    usual.trainer(epochs=2, out=tmp_path).fit(resume=tmp_path)
    assert read_checkpoint(tmp_path).state["epoch"] == 2
    assert everywhere(tmp_path) == noted


def test_a_checkpoint_of_before_goes_on_and_gets_no_made_up_beginning(tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr("tinynet.training.records.Run._note_provenance", lambda self, beginning: None)
        usual.trainer(epochs=1, out=tmp_path, config={"seed": 3}, metadata={"classes": ["a"]}).fit()
    assert everywhere(tmp_path) == [None] * 5
    usual.trainer(epochs=2, out=tmp_path, config={"seed": 3}, metadata={"classes": ["a"]}).fit(resume=tmp_path)
    assert read_checkpoint(tmp_path).state["epoch"] == 2
    assert everywhere(tmp_path) == [None] * 5


def test_what_a_caller_gave_stays_as_it_was(tmp_path):
    config, metadata = {"seed": 3}, {"classes": ["a"]}
    usual.trainer(epochs=1, out=tmp_path, config=config, metadata=metadata).fit()
    assert (config, metadata) == ({"seed": 3}, {"classes": ["a"]})


def test_equal_runs_are_compared_without_it_and_with_all_else():
    one = {"event": "start", "provenance": {"date": 1}, "config": {"provenance": 2, "lr": 0.1}, "more": [{"a": 1}]}
    other = {"event": "start", "config": {"lr": 0.1}, "more": [{"a": 1}]}
    assert without_provenance(one) == other
    assert without_provenance(one) != without_provenance(other | {"more": [{"a": 2}]})


def test_this_very_checkout_is_recognised():
    if not (module.CHECKOUT / ".git").exists():
        pytest.skip("the tests run from a copy without git's history")
    git(module.CHECKOUT, "--version")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=module.CHECKOUT, capture_output=True, text=True)
    if head.returncode:
        pytest.skip(f"git does not answer here: {head.stderr.strip()}")
    assert str(commit(module.CHECKOUT)).removesuffix("+changes") == head.stdout.strip()
