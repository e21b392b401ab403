"""Draw the first pictures of the built-in data set, ten of each class."""

import argparse

import numpy as np
from matplotlib.figure import Figure

from tinynet import data
from tinynet.plots import save_figure

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file", nargs="?", default="shapes.png", help="where to (default: shapes.png)")
file = parser.parse_args().file

pictures = data.shapes(100, image_size=64)
order = np.argsort(pictures.labels, kind="stable").reshape(10, 10)  # a row a class

figure = Figure(figsize=(8, 8.2), layout="constrained")
for row, axes in zip(order, figure.subplots(10, 10), strict=True):
    for index, ax in zip(row, axes, strict=True):
        ax.imshow(pictures.images[index].transpose(1, 2, 0))
        ax.set(xticks=[], yticks=[])
    axes[0].set_ylabel(pictures.classes[pictures.labels[row[0]]], rotation=0, ha="right", va="center")
save_figure(figure, file)
