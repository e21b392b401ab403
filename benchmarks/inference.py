"""How long does a forward pass take, and how long does PyTorch's?

    python benchmarks/inference.py --net paper --batch-size 128 --against torch

What is timed: the logits of one batch that is in memory already, in evaluation mode (no dropout, no gradients;
torch.inference_mode). Memory orders, turns, ratio, validation (gradients too), exit codes and the share of the SGEMM
peak are those of train_step.py; the arithmetic is forward's alone.
"""

import sys

import timing

if __name__ == "__main__":
    sys.exit(timing.run(lambda: timing.compare_whole_net(timing.parser(__doc__, 10).parse_args(), training=False)))
