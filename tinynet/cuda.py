"""Where the CUDA sources are. They are data: found by path, never imported.

The repository keeps them in `kernels/` beside the package, and a wheel carries them inside it, as `tinynet/kernels/`.
An editable install is the repository. `kernel_folder` finds both.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def kernel_folder() -> Path:
    """The folder of the .cu files. Raises FileNotFoundError, with the places it looked, if there is none."""
    places = _PACKAGE / "kernels", _PACKAGE.parent / "kernels"
    for place in places:
        # the second one may be anybody's folder when the package lies in site-packages: ours has the sources in it
        if next(place.glob("*.cu"), None):
            return place
    raise FileNotFoundError(f"tinynet's CUDA sources: expected .cu files in {places[0]} or in {places[1]}, found none")


def kernel_stems() -> list[str]:
    """The names of all kernel files without ".cu", sorted: ["conv2d", ...]."""
    return sorted(path.stem for path in kernel_folder().glob("*.cu"))


def kernel_path(stem: str) -> Path:
    """kernels/<stem>.cu. Raises FileNotFoundError, with the folder and the stems that it holds, if there is none."""
    path = kernel_folder() / f"{stem}.cu"
    if stem not in kernel_stems():
        raise FileNotFoundError(f"no CUDA source {path.name} in {path.parent}; it has {', '.join(kernel_stems())}")
    return path
