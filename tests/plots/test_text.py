import pytest
from hypothesis import given
from hypothesis import strategies as st

from plots.layout import UGLY, class_names
from tinynet.plots import text
from tinynet.plots.text import class_name, fit, percent, text_width


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ankle boot", "Ankle boot"),
        (r"$x_1$ \frac", r"$x_1$ \frac"),
        ("what?", "what?"),
        ("  two\n lines\t", "two lines"),
        ("", "class 7"),
        ("\u200b", "class 7"),
        ("走る", "7: ??"),
        ("a\x00b", "7: a?b"),
        ("\ud800", "7: ?"),
        ("e\u0301", "é"),
        ("q" + 9 * "\u0301", "q\u0301\u0301"),
        ("x" * 300, "x" * 100 + "…" + "x" * 100),
    ],
)
def test_a_name_as_it_is_shown(name, shown):
    assert class_name([*"abcdefg", name], 7) == shown


def test_a_font_that_is_installed_and_has_the_letter_is_used(monkeypatch):
    letter = "\N{MATHEMATICAL SCRIPT CAPITAL A}"
    assert class_name([letter], 0) == "0: ?"
    monkeypatch.setattr(text, "MORE_FONTS", ("No such font", "STIXGeneral"))  # the second comes with matplotlib
    for function in (text.families, text._drawable):
        function.cache_clear()
    try:
        assert text.families() == ["DejaVu Sans", "STIXGeneral"]
        assert class_name([letter], 0) == letter
    finally:
        for function in (text.families, text._drawable):
            function.cache_clear()


@given(class_names, st.floats(0.5, 4), st.sampled_from([7.0, 8.0, 9.5]), st.sampled_from(["normal", "bold"]))
def test_a_name_fits_into_its_place_and_keeps_its_ends(name, inches, size, weight):
    shown = class_name([name], 0)
    fitted = fit(shown, inches, size, "said ", " %", weight) if inches > 1 else fit(shown, inches, size, weight=weight)
    before, after = ("said ", " %") if inches > 1 else ("", "")
    assert text_width(fitted, size, weight) <= inches
    assert fitted.startswith(before)
    assert fitted.endswith(after)
    kept = fitted.removeprefix(before).removesuffix(after)
    if kept != shown:
        head, _, tail = kept.partition("…") if "…" not in shown else (kept[:1], "", kept[-1:])
        assert shown.startswith(head)
        assert shown.endswith(tail)
        assert text_width(before + shown + after, size, weight) > text.SLACK * inches


def test_no_more_is_left_out_than_must_be():
    name = "abcdefghijklmnopqrstuvwxyz"
    fitted = fit(name, 1.0, 8)
    head, tail = fitted.split("…")
    assert len(head) - len(tail) in (0, 1)
    one_more = name[: len(head) + 1] + "…" + tail
    assert text_width(fitted, 8) <= text.SLACK < text_width(one_more, 8)


def test_no_place_at_all():
    assert fit("abc", 0.01, 8) == "…"


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0 %"),
        (1e-9, "< 0.1 %"),
        (0.001, "0.1 %"),
        (0.0123, "1.2 %"),
        (0.0999, "10 %"),
        (0.983, "98 %"),
        (0.99499, "99 %"),
        (0.9999, "> 99 %"),
        (1, "100 %"),
    ],
)
def test_percentages(share, shown):
    assert percent(share) == shown


def test_the_ugly_names_differ_where_they_can():
    shown = [class_name(UGLY, k) for k in range(len(UGLY))]
    assert len(set(shown)) == len(UGLY)
