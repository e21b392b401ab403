"""The hot loops, one op a file: a numba twin for the CPU, and in `kernels/` the CUDA source of the same stem."""
