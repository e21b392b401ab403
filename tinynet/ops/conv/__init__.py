"""The ways to compute a convolution beside the lesson's im2col, and the choice among them."""
