"""What the layers must compute, by naive loops straight from the definitions. Nothing here imports tinynet.

Everything is float64 or Python's own numbers, one output element at a time, and slow. The backward functions do not
copy the library's formulas: they walk over the outputs, as the definition does, and hand each term's share to the
inputs.
"""

import math

import numpy as np

MASK = 0xFFFFFFFF


def window_starts(size, kernel, stride, padding, dilation=1, ceil_mode=False):
    """The first coordinate of each window along one axis, found by sliding the window, not by a formula."""
    extent = (kernel - 1) * dilation + 1
    starts, start = [], -padding
    while start + extent <= size + padding:
        starts.append(start)
        start += stride
    hangs_over = bool(starts) and starts[-1] + extent < size + padding and start < size
    return [*starts, start] if ceil_mode and hangs_over else starts


def conv2d(x, weight, bias, stride, padding, dilation, groups):
    """y (N, O, OH, OW) of x (N, C, H, W), weight (O, C/groups, KH, KW), bias (O,) or None; the rest as (h, w) pairs."""
    N, _, H, W = x.shape
    O, CG, KH, KW = weight.shape
    tops = window_starts(H, KH, stride[0], padding[0], dilation[0])
    lefts = window_starts(W, KW, stride[1], padding[1], dilation[1])
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    y = np.zeros((N, O, len(tops), len(lefts)))
    for n in range(N):
        for o in range(O):
            first = o // (O // groups) * CG  # of the input channels that this output channel reads
            for i, top in enumerate(tops):
                for j, left in enumerate(lefts):
                    terms = [0.0 if bias is None else float(bias[o])]
                    for c in range(CG):
                        for kh in range(KH):
                            for kw in range(KW):
                                h, w = top + kh * dilation[0], left + kw * dilation[1]
                                if 0 <= h < H and 0 <= w < W:
                                    terms.append(weight[o, c, kh, kw] * x[n, first + c, h, w])
                    y[n, o, i, j] = math.fsum(terms)
    return y


def conv2d_backward(x, weight, dy, stride, padding, dilation, groups):
    """(dx, dweight, dbias): every product of `conv2d` hands dy times its one factor to the other."""
    N, _, H, W = x.shape
    O, CG, KH, KW = weight.shape
    tops = window_starts(H, KH, stride[0], padding[0], dilation[0])
    lefts = window_starts(W, KW, stride[1], padding[1], dilation[1])
    x, weight, dy = np.asarray(x, np.float64), np.asarray(weight, np.float64), np.asarray(dy, np.float64)
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(O)
    for n in range(N):
        for o in range(O):
            first = o // (O // groups) * CG
            for i, top in enumerate(tops):
                for j, left in enumerate(lefts):
                    share = dy[n, o, i, j]
                    dbias[o] += share
                    for c in range(CG):
                        for kh in range(KH):
                            for kw in range(KW):
                                h, w = top + kh * dilation[0], left + kw * dilation[1]
                                if 0 <= h < H and 0 <= w < W:
                                    dx[n, first + c, h, w] += share * weight[o, c, kh, kw]
                                    dweight[o, c, kh, kw] += share * x[n, first + c, h, w]
    return dx, dweight, dbias


def im2col(x, kernel_size, stride, padding, dilation):
    """cols[(c, kh, kw), (oh, ow, n)]: the pixel of picture n, channel c under element (kh, kw) of window (oh, ow)."""
    N, C, H, W = x.shape
    tops = window_starts(H, kernel_size[0], stride[0], padding[0], dilation[0])
    lefts = window_starts(W, kernel_size[1], stride[1], padding[1], dilation[1])
    rows = []
    for c in range(C):
        for kh in range(kernel_size[0]):
            for kw in range(kernel_size[1]):
                row = []
                for top in tops:
                    for left in lefts:
                        h, w = top + kh * dilation[0], left + kw * dilation[1]
                        inside = 0 <= h < H and 0 <= w < W
                        row += [x[n, c, h, w] if inside else 0 for n in range(N)]
                rows.append(row)
    return np.array(rows, x.dtype)


def _windows(shape, kernel_size, stride, padding, ceil_mode):
    """For each output position of each map: ((n, c, i, j), the pixels (h, w) under its window in reading order)."""
    N, C, H, W = shape
    tops = window_starts(H, kernel_size[0], stride[0], padding[0], ceil_mode=ceil_mode)
    lefts = window_starts(W, kernel_size[1], stride[1], padding[1], ceil_mode=ceil_mode)
    for n in range(N):
        for c in range(C):
            for i, top in enumerate(tops):
                for j, left in enumerate(lefts):
                    under = [
                        (h, w) for h in range(top, top + kernel_size[0]) for w in range(left, left + kernel_size[1])
                    ]
                    yield (n, c, i, j), [(h, w) for h, w in under if 0 <= h < H and 0 <= w < W]


def max_pool(x, kernel_size, stride, padding, ceil_mode):
    """y (N, C, OH, OW): the largest pixel under each window; what lies outside the picture does not count."""
    OH = len(window_starts(x.shape[2], kernel_size[0], stride[0], padding[0], ceil_mode=ceil_mode))
    OW = len(window_starts(x.shape[3], kernel_size[1], stride[1], padding[1], ceil_mode=ceil_mode))
    y = np.full((*x.shape[:2], OH, OW), np.nan, x.dtype)
    for (n, c, i, j), pixels in _windows(x.shape, kernel_size, stride, padding, ceil_mode):
        y[n, c, i, j] = max(x[n, c, h, w] for h, w in pixels)
    return y


def max_pool_backward(x, dy, kernel_size, stride, padding, ceil_mode):
    """dx: each dy goes to the first pixel in reading order that has the largest value."""
    dx = np.zeros(x.shape)
    for (n, c, i, j), pixels in _windows(x.shape, kernel_size, stride, padding, ceil_mode):
        largest = max(x[n, c, h, w] for h, w in pixels)
        h, w = next((h, w) for h, w in pixels if x[n, c, h, w] == largest)
        dx[n, c, h, w] += dy[n, c, i, j]
    return dx


def lrn_neighbours(c, C, size, groups):
    """The channels whose squares are in the sum of channel c: within size // 2, and in the same group."""
    per_group = C // groups
    return [j for j in range(C) if abs(j - c) <= size // 2 and j // per_group == c // per_group]


def lrn(x, size, alpha, beta, k, groups):
    """b_c = a_c / (k + alpha * sum of a_j**2)**beta: Krizhevsky et al. 2012, section 3.3."""
    N, C, H, W = x.shape
    y = np.zeros(x.shape)
    for n in range(N):
        for h in range(H):
            for w in range(W):
                column = [float(value) for value in x[n, :, h, w]]
                for c in range(C):
                    squares = [column[j] ** 2 for j in lrn_neighbours(c, C, size, groups)]
                    y[n, c, h, w] = column[c] / (k + alpha * math.fsum(squares)) ** beta
    return y


def lrn_backward(x, dy, size, alpha, beta, k, groups):
    """dx by the quotient rule on each output b_c = a_c / s_c**beta, for each a_j that stands in it:

    db_c/da_j = [j == c] / s_c**beta - beta * a_c * 2 * alpha * a_j / s_c**(beta + 1).
    """
    N, C, H, W = x.shape
    dx = np.zeros(x.shape)
    for n in range(N):
        for h in range(H):
            for w in range(W):
                column = [float(value) for value in x[n, :, h, w]]
                for c in range(C):
                    neighbours = lrn_neighbours(c, C, size, groups)
                    scale = k + alpha * math.fsum(column[j] ** 2 for j in neighbours)
                    dx[n, c, h, w] += dy[n, c, h, w] / scale**beta
                    for j in neighbours:
                        slope = -beta * column[c] * 2 * alpha * column[j] / scale ** (beta + 1)
                        dx[n, j, h, w] += dy[n, c, h, w] * slope
    return dx


def linear(x, weight, bias):
    """y[n, o] = bias[o] + sum over i of weight[o, i] * x[n, i]."""
    y = np.zeros((len(x), len(weight)))
    for n in range(len(x)):
        for o in range(len(weight)):
            terms = [float(weight[o, i]) * float(x[n, i]) for i in range(x.shape[1])]
            y[n, o] = math.fsum([*terms, 0.0 if bias is None else float(bias[o])])
    return y


def linear_backward(x, weight, dy):
    """(dx, dweight, dbias)."""
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(len(weight))
    for n in range(len(x)):
        for o in range(len(weight)):
            dbias[o] += dy[n, o]
            for i in range(x.shape[1]):
                dx[n, i] += float(dy[n, o]) * float(weight[o, i])
                dweight[o, i] += float(dy[n, o]) * float(x[n, i])
    return dx, dweight, dbias


def softmax_ce(logits, labels):
    """(mean loss, dlogits), row by row in Python's floats."""
    N, K = logits.shape
    losses, dlogits = [], np.zeros((N, K))
    for n in range(N):
        row = [float(value) for value in logits[n]]
        largest = max(row)
        total = math.fsum(math.exp(value - largest) for value in row)
        losses.append(math.log(total) + largest - row[labels[n]])
        for j in range(K):
            dlogits[n, j] = (math.exp(row[j] - largest) / total - (j == labels[n])) / N
    return math.fsum(losses) / N, dlogits


def philox4x32(counter, key, rounds=10):
    """Philox4x32 of Salmon et al. 2011, section 3.3, in Python's whole numbers: four words from four words and two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        high0, low0 = divmod(0xD2511F53 * c0, 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 1 << 32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def random_word(index, seed, stream, step):
    """Word `index` of a tinynet stream: counter (block low, block high, step, stream), key (seed low, seed high)."""
    block = index // 4
    return philox4x32((block & MASK, block >> 32, step, stream), (seed & MASK, seed >> 32))[index % 4]


def random_normal(index, seed, stream, step):
    """Normal number `index`: Box and Muller's pair from words 2i and 2i + 1."""
    pair = index // 2 * 2
    u = (random_word(pair, seed, stream, step) + 1) / 2**32
    angle = 2 * math.pi * random_word(pair + 1, seed, stream, step) / 2**32
    return math.sqrt(-2 * math.log(u)) * (math.sin(angle) if index % 2 else math.cos(angle))


def sgd_step(weight, gradient, velocity, lr, momentum, weight_decay):
    """(weight, velocity) after one step of Krizhevsky et al. 2012, section 5, for flat lists of Python floats."""
    moved, speeds = [], []
    for w, g, v in zip(weight, gradient, velocity, strict=True):
        speed = momentum * v - weight_decay * lr * w - lr * g
        speeds.append(speed)
        moved.append(w + speed)
    return moved, speeds
