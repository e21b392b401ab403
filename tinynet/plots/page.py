"""A page to draw on: colours, a figure, and places on it in inches from its upper left corner."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tinynet.plots.text import families

# Okabe and Ito's colours: told apart with any kind of colour vision; line styles, hatches and frames tell what they
# mark apart in print
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6E6E6E"
DPI = 120
PAGE = "page"
MARGIN = 0.15  # inches around everything


def new_figure(width: float, height: float, layout: Any = "constrained") -> Figure:
    """A figure of so many inches, of no window and no pyplot. layout=None: everything stands where it is put."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes of `width` x `height` inches, their upper left corner at (left, top) inches."""
    W, H = figure.get_size_inches()
    return figure.add_axes((left / W, 1 - (top + height) / H, width / W, height / H))


def axes_of_page(figure: Figure) -> Axes:
    """Axes as large as the page, in inches from its upper left corner, for all pictures: axes of their own for each
    would take most of the time."""
    if found := [axes for axes in figure.axes if axes.get_label() == PAGE]:
        return found[0]
    axes = figure.add_axes((0, 0, 1, 1), label=PAGE)
    width, height = figure.get_size_inches()
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def write(figure: Figure, left: float, top: float, text: str, size: float = 8, **style: Any) -> None:
    """`text` as it is, $ and _ included, with its upper left corner at (left, top) inches; `style` may align it
    otherwise. Fitting it into its place is the caller's business: see `tinynet.plots.text.fit`."""
    W, H = figure.get_size_inches()
    plain: dict[str, Any] = {"fontfamily": families(), "usetex": False, "parse_math": False, "va": "top"}
    figure.text(left / W, 1 - top / H, text, fontsize=size, **(plain | style))
