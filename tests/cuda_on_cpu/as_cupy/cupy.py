"""What `import cupy` gives where this folder is on the path: one simulated GPU with CuPy 14.2's names and rules. The
environment variable SIMULATED_KERNELS says where its kernels are compiled."""

import os
import sys
from pathlib import Path

from cuda_on_cpu.like_cupy import LikeCupy

sys.modules[__name__] = LikeCupy(Path(os.environ["SIMULATED_KERNELS"]))
