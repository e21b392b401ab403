"""The progress bar, on screens of any width."""

import io
import itertools
import os
import re
import shutil
import sys

import pytest

from tinynet.training.progress import CELLS, advance, progress_bar

LONG = {"train_loss": 12.345, "train_error": 0.975}, 12_345.0
BAR = re.compile(r"\|([^|]*)\|")


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    """draw(columns, done, total): what stands on a screen of so many columns, the bar's line alone."""

    def draw(columns, done=560, total=1000, encoding="utf-8", title="epoch 100/100", numbers=LONG):
        stream = Screen()
        stream.encoding = encoding
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
        bar = progress_bar(title, 0, total, quiet=False)
        bar.start_t -= 5 * 3600 * done / total  # hours are left: the longest text that a run shows
        bar.last_print_t -= 5 * 3600
        bar.update(done - 1)
        advance(bar, *numbers)
        bar.refresh()
        text = stream.getvalue().split("\r")[-1]
        bar.close()
        return text

    return draw


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_the_bar_moves_on_every_screen(screen, columns, encoding):
    filled = []
    for done in (10, 280, 560, 770, 1000):
        text = screen(columns, done, encoding=encoding)
        assert len(text) + len("^C") < columns  # in the last column some terminals wrap
        (bar,) = BAR.findall(text)
        assert len(bar) >= CELLS == 10
        assert f"{done / 10:3.0f}%|" in text
        filled.append(len(bar.rstrip()) / len(bar))
        if encoding != "utf-8":
            assert text.isascii()
            assert set(bar) <= set("#123456789 ")
    assert filled == sorted(filled)
    assert filled[-1] == 1
    assert min(later - earlier for earlier, later in itertools.pairwise(filled)) >= 0.1


def test_numbers_give_way_before_the_bar_does(screen):
    wide, middle, narrow, tiny = (screen(columns) for columns in (120, 80, 60, 24))
    assert re.search(r"\| \d:\d\d:\d\d left, loss 12\.345, error 97\.5%, 12,345 images/s", wide)
    assert re.search(r"\| \d:\d\d:\d\d left, loss 12\.345, error 97\.5%", middle)
    assert re.search(r"\| \d:\d\d:\d\d left, error 97\.5%", narrow) or re.search(r"left$", narrow.rstrip())
    assert tiny.startswith(" 56%|")


def test_usual_numbers_are_all_there_on_80_columns(screen):
    text = screen(80, title="epoch 1/3", numbers=({"train_loss": 2.345, "train_error": 0.5}, 999.0))
    assert re.search(r"loss 2\.345, error 50\.0%, 999/s", text)


def test_a_bar_does_not_go_back_to_a_longer_form(screen, monkeypatch):
    screen(80)
    bar = progress_bar("epoch 1/3", 0, 100, quiet=False)
    forms = []
    for loss in (2.0, 12345678.9, 2.0):
        advance(bar, {"train_loss": loss, "train_error": 0.5}, 100.0)
        str(bar)
        forms.append(bar.form)
    bar.close()
    assert forms[0] < forms[1] == forms[2]


def test_no_bar_where_nobody_looks(monkeypatch, capsys):
    bar = progress_bar("epoch 1/3", 0, 10, quiet=False)
    advance(bar, *LONG)
    bar.close()
    assert capsys.readouterr().err == ""
