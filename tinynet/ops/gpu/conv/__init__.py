"""The choice among the ways to compute a convolution, on a GPU."""
