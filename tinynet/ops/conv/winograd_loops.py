"""The loops of `winograd`: gather, scatter, and the kernels' transform and its transpose, made for each F(m, r); and
the products of few units, for which BLAS is no good.

Each is two rounds of `combine`, over the columns and then over the rows of a tile, and the bookkeeping of which pixel
is where. A `unit` is LANES (tile, picture) pairs: mostly LANES pictures of one tile, whose pixels stand side by side.
"""

import functools
from typing import Any

import numpy as np

from tinynet.ops.conv.cook_toom import rows_of
from tinynet.ops.conv.vectors import LANES, VERSION, combine, multiply_rows, rows_at_a_time, vector_kernel

# The loops are made for each F(m, r). numba's cache on disk knows a loop by its name, its file and the values that it
# closes over. So each has a name of its own, and closes over its matrix and the version of `combine`: where these
# change, no old machine code is found.


def _made_for(m: int, r: int, loop: Any) -> Any:
    """`loop` compiled, under a name of its own."""
    loop.__qualname__ = f"{loop.__name__}_{m}_{r}"
    return vector_kernel(loop)


def _gather_kernel(name: str, m: int, r: int) -> Any:
    P, version = rows_of(name, m, r), VERSION

    def gather(x, shape, stride, padding, tiles, first_channel, channels, values, point_step, first, last):
        """values[p, k, unit] = (P tile P^T)[p] for size x size pixels of each channel k, zero outside the picture; P =
        the matrix called `name`."""
        n, size, zero, _ = len(P), len(P[0]), x.dtype.type(0), version
        H, W, N = shape[1:]
        patch, rows = np.zeros(size * size * LANES, x.dtype), np.empty(n * size * LANES, x.dtype)
        for k in range(channels):
            c = first_channel + k // (stride[0] * stride[1])
            a, b = k // stride[1] % stride[0] - padding[0], k % stride[1] - padding[1]
            for unit in range(first, last):
                tile, picture = unit * LANES // N, unit * LANES % N
                top, left = tile // tiles[1] * m * stride[0] + a, tile % tiles[1] * m * stride[1] + b
                bottom, right = top + (size - 1) * stride[0], left + (size - 1) * stride[1]
                one_tile = picture + LANES <= N
                if one_tile and top >= 0 and left >= 0 and bottom < H and right < W:
                    source, corner = x, ((c * H + top) * W + left) * N + picture
                    down, aside = stride[0] * W * N, stride[1] * N
                elif one_tile:
                    source, corner, down, aside = patch, 0, size * LANES, LANES
                    for i in range(size):
                        for j in range(size):
                            h, w, to = top + i * stride[0], left + j * stride[1], (i * size + j) * LANES
                            begin = ((c * H + h) * W + w) * N + picture
                            if 0 <= h < H and 0 <= w < W:
                                for l in range(LANES):
                                    patch[to + l] = x[begin + l]
                            else:
                                for l in range(LANES):
                                    patch[to + l] = 0
                else:  # a unit of several tiles, or the last one, which may be only in part
                    source, corner, down, aside = patch, 0, size * LANES, LANES
                    for l in range(LANES):
                        tile, picture = (unit * LANES + l) // N, (unit * LANES + l) % N
                        top, left = tile // tiles[1] * m * stride[0] + a, tile % tiles[1] * m * stride[1] + b
                        for i in range(size):
                            for j in range(size):
                                h, w = top + i * stride[0], left + j * stride[1]
                                here = tile < tiles[0] * tiles[1] and 0 <= h < H and 0 <= w < W
                                value = x[((c * H + h) * W + w) * N + picture] if here else zero
                                patch[(i * size + j) * LANES + l] = value
                for j in range(size):
                    combine(name, m, r, source, corner + j * aside, down, rows, j * LANES, size * LANES)
                place = (k * (last - first) + unit - first) * LANES
                for i in range(n):
                    combine(name, m, r, rows, i * size * LANES, LANES, values, i * n * point_step + place, point_step)

    gather.__name__ += {"B^T": "_inputs", "A": "_dy"}[name]
    return _made_for(m, r, gather)


@functools.cache
def gather_inputs(m: int, r: int) -> Any:
    return _gather_kernel("B^T", m, r)


@functools.cache
def gather_dy(m: int, r: int) -> Any:
    return _gather_kernel("A", m, r)


@functools.cache
def scatter(m: int, r: int) -> Any:
    AT, version = rows_of("A^T", m, r), VERSION

    def scatter(values, point_step, y, shape, stride, padding, tiles, first_channel, channels, bias, relu, first, last):
        """y = A^T values A of each unit, plus the channel's bias, negative values to 0 if relu."""
        n, _ = len(AT[0]), version
        H, W, N = shape[1:]
        zero = y.dtype.type(0)
        rows, patch = np.empty(m * n * LANES, y.dtype), np.empty(m * m * LANES, y.dtype)
        for k in range(channels):
            c = first_channel + k // (stride[0] * stride[1])
            a, b = k // stride[1] % stride[0] - padding[0], k % stride[1] - padding[1]
            more = bias[c] if len(bias) else zero
            for unit in range(first, last):
                place = (k * (last - first) + unit - first) * LANES
                for j in range(n):
                    combine("A^T", m, r, values, place + j * point_step, n * point_step, rows, j * LANES, n * LANES)
                for i in range(m):
                    combine("A^T", m, r, rows, i * n * LANES, LANES, patch, i * m * LANES, LANES)
                for l in range(len(patch)):
                    value = patch[l] + more
                    # -inf times 0 is NaN, which the next layer reports; plain 0 would hide it
                    patch[l] = value if value > 0 or not relu else value * zero + zero
                tile, picture = unit * LANES // N, unit * LANES % N
                one_tile = picture + LANES <= N
                for lane in range(1 if one_tile else min(LANES, tiles[0] * tiles[1] * N - unit * LANES)):
                    tile, picture = (unit * LANES + lane) // N, (unit * LANES + lane) % N
                    top, left = tile // tiles[1] * m * stride[0] + a, tile % tiles[1] * m * stride[1] + b
                    for i in range(m):
                        for j in range(m):
                            h, w, begin = top + i * stride[0], left + j * stride[1], (i * m + j) * LANES
                            to = ((c * H + h) * W + w) * N + picture
                            if not (0 <= h < H and 0 <= w < W):
                                continue
                            if one_tile:
                                for l in range(LANES):
                                    y[to + l] = patch[begin + l]
                            else:
                                y[to] = patch[begin + lane]

    return _made_for(m, r, scatter)


@functools.cache
def transform_kernels(m: int, r: int) -> Any:
    G, version = rows_of("G", m, r), VERSION

    def transform(weight, U, point_step, start, stop):
        """U[p, o, k] = (G weight[o, k] G^T)[p], LANES values of k at a time; for o in [start, stop)."""
        n, channels, _ = len(G), weight.shape[1], version
        patch, rows = np.zeros(r * r * LANES, U.dtype), np.empty(n * r * LANES, U.dtype)
        points = np.empty(n * n * LANES, U.dtype)
        for o in range(start, stop):
            for k in range(0, channels, LANES):
                lanes = min(LANES, channels - k)
                for i in range(r):
                    for j in range(r):
                        for lane in range(lanes):
                            patch[(i * r + j) * LANES + lane] = weight[o, k + lane, i, j]
                for j in range(r):
                    combine("G", m, r, patch, j * LANES, r * LANES, rows, j * LANES, r * LANES)
                begin = o * channels + k
                if lanes == LANES:
                    for i in range(n):
                        combine("G", m, r, rows, i * r * LANES, LANES, U, i * n * point_step + begin, point_step)
                else:
                    for i in range(n):
                        combine("G", m, r, rows, i * r * LANES, LANES, points, i * n * LANES, LANES)
                    for p in range(n * n):
                        for lane in range(lanes):
                            U[p * point_step + begin + lane] = points[p * LANES + lane]

    return _made_for(m, r, transform)


@functools.cache
def transform_gradient(m: int, r: int) -> Any:
    G, version = rows_of("G", m, r), VERSION

    def transform_back(dU, point_step, dweight, start, stop):
        """dweight[o, k] = G^T dU[:, o, k] G, the transpose of the kernels' transform; for o in [start, stop)."""
        n, channels, _ = len(G), dweight.shape[1], version
        points, rows = np.zeros(n * n * LANES, dU.dtype), np.empty(r * n * LANES, dU.dtype)
        patch = np.empty(r * r * LANES, dU.dtype)
        for o in range(start, stop):
            for k in range(0, channels, LANES):
                lanes = min(LANES, channels - k)
                for p in range(n * n):
                    for lane in range(lanes):
                        points[p * LANES + lane] = dU[p * point_step + o * channels + k + lane]
                for j in range(n):
                    combine("G^T", m, r, points, j * LANES, n * LANES, rows, j * LANES, n * LANES)
                for i in range(r):
                    combine("G^T", m, r, rows, i * n * LANES, LANES, patch, i * r * LANES, LANES)
                for i in range(r):
                    for j in range(r):
                        for lane in range(lanes):
                            dweight[o, k + lane, i, j] = patch[(i * r + j) * LANES + lane]

    return _made_for(m, r, transform_back)


@functools.cache
def multiply_few() -> Any:
    rows, version = rows_at_a_time(), VERSION

    def multiply(U, u_first, u_step, V, v_step, M, m_step, points, outputs, channels, units):
        """M[p] = U[p] V[p] for matrices (outputs, channels) and (channels, units * LANES); U[p] begins at u_first + p *
        u_step, V[p] at p * v_step and M[p] at p * m_step."""
        width, _ = units * LANES, version
        whole = outputs - outputs % rows
        for p in range(points):
            u, v, m = u_first + p * u_step, p * v_step, p * m_step
            for o in range(0, whole, rows):
                for lane in range(0, width, LANES):  # while these rows of U are in the first-level cache
                    a, out = u + o * channels, m + o * width + lane
                    multiply_rows(rows, U, a, channels, V, v + lane, width, channels, M, out, width)
            for o in range(whole, outputs):
                for lane in range(0, width, LANES):
                    a, out = u + o * channels, m + o * width + lane
                    multiply_rows(1, U, a, channels, V, v + lane, width, channels, M, out, width)

    return _made_for(rows, 1, multiply)
