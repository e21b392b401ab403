"""How long does a training step take, and how long does PyTorch's?

    python benchmarks/train_step.py --net paper --batch-size 128 --against torch

What is timed: zero_grad, forward, loss, backward, and SGD's step (momentum 0.9, weight decay 5e-4), on one batch that
is in memory already; dropout draws new masks each time; nobody computes the gradient of the pictures. tinynet gets the
batch in its loader's memory order (batch innermost), PyTorch as contiguous (N, C, H, W). Each library has a process of
its own; they work in turn, after two steps each that do not count. The ratio is the median over pairs of tinynet's time
divided by PyTorch's; below 1, tinynet is faster.

Before anything is timed, both must give the logits and all gradients of a float64 copy of the net: within a relative
L2 error of 1e-4 and 5e-3. Exit code 1 if not, 2 if PyTorch is asked for and not installed.

The share of the SGEMM peak is the arithmetic that the layers' definitions ask for (two operations a
multiply-accumulate; forward, dx, dweight), divided by the time and by the best that numpy.matmul does on as many
threads. A convolution by an algorithm with fewer multiplications, such as Winograd's, may bring it above 1.
"""

import sys

import timing

if __name__ == "__main__":
    sys.exit(timing.run(lambda: timing.compare_whole_net(timing.parser(__doc__, 10).parse_args(), training=True)))
