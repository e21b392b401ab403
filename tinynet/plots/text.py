"""Names on paper: whatever a class is called, its label is legible and fits into its place."""

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

from matplotlib import font_manager
from matplotlib.textpath import TextToPath

FONT = "DejaVu Sans"  # comes with matplotlib: the same widths on every machine
# for scripts that it lacks, those that are installed; of Linux, macOS, Windows
MORE_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Noto Sans Devanagari", "Noto Sans Thai"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Leelawadee UI"),
)
ELLIPSIS = "…"
LONGEST = 200  # characters of a name that are looked at
SLACK = 0.96  # of a place is used: on the screen's grid a letter may come out wider than drawn
POINTS = 72  # in an inch


@cache
def families() -> list[str]:
    """Font families in the order in which matplotlib looks for a letter."""
    installed = set(font_manager.fontManager.get_font_names())
    return [FONT, *(name for name in MORE_FONTS if name in installed)]


def class_name(classes: Sequence[str], k: int) -> str:
    """The name of class `k`, as far as it can be drawn: on one line, without control characters, "?" for a letter that
    no font here has. A name that had to lose something gets its number before it; an empty one is "class k"."""
    name = classes[k]
    if len(name) > LONGEST:
        name = name[: LONGEST // 2] + ELLIPSIS + name[-LONGEST // 2 :]
    letters: list[str] = []
    for letter in unicodedata.normalize("NFC", " ".join(name.split())):
        accent = unicodedata.combining(letter) > 0
        piled_up = accent and all(unicodedata.combining(before) for before in letters[-2:])
        if unicodedata.category(letter) != "Cf" and not piled_up:  # Cf: joins letters or turns their direction
            letters.append(letter if letter.isprintable() and _drawable(letter) else "?")
    shown = "".join(letters).strip()
    if not shown:
        return f"class {k}"
    return f"{k}: {shown}" if shown.count("?") > name.count("?") else shown


def fit(name: str, inches: float, size: float, before: str = "", after: str = "", weight: str = "normal") -> str:
    """before + name + after, with the middle of `name` replaced by … as far as `inches` at `size` points ask for it."""
    return _fit(name, inches * SLACK, size, before, after, weight)


@lru_cache(maxsize=4096)
def _fit(name: str, inches: float, size: float, before: str, after: str, weight: str) -> str:
    def keeping(count: int) -> str:
        middle = ELLIPSIS if count < len(name) else ""
        return before + name[: count - count // 2] + middle + name[len(name) - count // 2 :] + after

    low, high = 0, len(name)  # letters kept: `low` fit, more than `high` do not
    while low < high:
        count = high if high == len(name) else (low + high + 1) // 2  # most names fit whole
        if text_width(keeping(count), size, weight) <= inches:
            low = count
        else:
            high = count - 1
    return keeping(low)


@lru_cache(maxsize=16384)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Inches that `text` takes on one line."""
    font = font_manager.FontProperties(family=families(), size=size, weight=weight)
    return TextToPath().get_text_width_height_descent(text, font, ismath=False)[0] / POINTS if text else 0.0


@lru_cache(maxsize=4096)
def _drawable(letter: str) -> bool:
    paths = (font_manager.findfont(name, fallback_to_default=False) for name in families())
    return any(font_manager.get_font(path).get_char_index(ord(letter)) for path in paths)


def percent(share: float) -> str:
    """0.983 -> "98 %", 0.0123 -> "1.2 %"; what is neither 0 nor 1 is not shown as 0 % or 100 %."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.995 <= share < 1:
        return "> 99 %"
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"
