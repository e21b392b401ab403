"""Pictures of a run. Each function returns a matplotlib Figure and touches no global state: no display is needed, and
several threads may draw at once. `RunPictures` draws them all while a Trainer trains."""

from tinynet.plots.activations import activation_maps
from tinynet.plots.augmentation import augmentation_sheet
from tinynet.plots.comparison import compared_curves
from tinynet.plots.confusion import confusion_matrix, count_confusion
from tinynet.plots.curves import learning_curves
from tinynet.plots.files import save_figure
from tinynet.plots.kernels import first_layer_kernels
from tinynet.plots.most_wrong import most_wrong
from tinynet.plots.neighbours import nearest_neighbours
from tinynet.plots.predictions import predictions
from tinynet.plots.run import RunPictures
from tinynet.plots.timeline import timeline
from tinynet.plots.towers import towers

__all__ = [
    "RunPictures",
    "activation_maps",
    "augmentation_sheet",
    "compared_curves",
    "confusion_matrix",
    "count_confusion",
    "first_layer_kernels",
    "learning_curves",
    "most_wrong",
    "nearest_neighbours",
    "predictions",
    "save_figure",
    "timeline",
    "towers",
]
