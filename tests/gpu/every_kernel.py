"""Run every kernel that the library uses once, on tiny arrays, on a real GPU: for compute-sanitizer.

    compute-sanitizer --tool memcheck python tests/gpu/every_kernel.py cuda:0

Says nothing of results. Each array is an allocation of its own, so that an access beside it is seen.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from strategies import numbers

from gpu.cases import COARSE, LAYERS, cropped, one_update, results
from tinynet.backend import device
from tinynet.errors import DeviceError


def main(where: str) -> None:
    cupy = device.cupy()
    cupy.cuda.set_allocator(None)
    for name, (make, shape) in (LAYERS | COARSE).items():
        print(name, flush=True)
        for dtype in (np.float32, np.float64):
            layer = make().astype(dtype)
            try:
                results(layer, numbers(shape, dtype), numbers(layer.output_shape(shape), dtype), where)
            except DeviceError as error:
                if "needs tensor cores" not in str(error):
                    raise
                print(f"not run: {error}", flush=True)
    for dtype in (np.float32, np.float64):
        one_update(where, dtype)
    cropped(where)
    cupy.cuda.runtime.deviceSynchronize()


if __name__ == "__main__":
    main(sys.argv[1])
