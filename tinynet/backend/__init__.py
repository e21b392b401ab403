"""What is below the ops: devices, launches of kernels, streams, memory, threads, precision."""
