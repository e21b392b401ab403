"""How far rounding may take a result from the exact one: by sizes, precision and number of terms, on any processor.

u is the unit roundoff: one operation is right to a factor of 1 + d with |d| <= u. Which order the terms of a sum come
in, in how many lanes of a vector, and whether product and sum are fused differs between processors; the bounds hold
for all of that. Sources:

- N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition (2002), chapters 3 and 4;
- N. J. Higham and T. Mary, A New Approach to Probabilistic Rounding Error Analysis (2019);
- N. J. Higham and T. Mary, Sharper Probabilistic Backward Error Analysis for Basic Linear Algebra Kernels with Random
  Data (2020).
"""

import math

import numpy as np

UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
# significant bits that a product of tensor cores keeps of its factors: 10 and 7 are stored
FACTOR = {"tf32": 2.0**-11, "bf16": 2.0**-8}
SIGMAS = 8  # how many standard deviations are allowed: of normal errors one in 10**15 is larger


def roundings(n, dtype=np.float64):
    """What n roundings, one after the other, make of a number: relative to the sum of the absolute values of its terms.

    gamma_n = n u / (1 - n u) holds for any data (Higham, lemma 3.1 and formula 3.5). If the errors are independent and
    of mean zero, n becomes SIGMAS sqrt(n), which is less from n = 64 on (Higham and Mary 2019, theorem 2.4).
    """
    u = UNIT[np.dtype(dtype)]
    return min(n, SIGMAS * math.sqrt(n)) * u / (1 - n * u)


def random_sum(n, dtype=np.float64, entries=1):
    """What rounding makes of a sum of n products of mean zero: relative to the root of the sum of their squares, R.

    After k terms the sum is about R sqrt(k / n). Each rounding is off by at most u times that, uniformly, which makes a
    variance of a third of its square: n sums and n products give the standard deviation R u sqrt((n + 3) / 6) (the
    model of Higham and Mary 2020). Where that is more, gamma_n times the sum of the absolute values, at most R sqrt(n),
    is the limit. entries: the root mean square of the errors of so many results is meant; deviations average out.
    """
    u = UNIT[np.dtype(dtype)]
    return min(n * math.sqrt(n) / (1 - n * u), deviation(n) * spread(entries)) * u


def deviation(n):
    """The standard deviation of a random sum of n products, in u R."""
    return math.sqrt((n + 3) / 6)


def spread(entries=1):
    """How many standard deviations the root mean square of so many errors may have."""
    return math.sqrt(1 + (SIGMAS**2 - 1) / math.sqrt(entries))


def random_sum_of_coarse_products(n, precision, entries=1):
    """As `random_sum`, for factors that are rounded before: relative to R, in float32.

    Each of two factors is off by at most `FACTOR`, uniformly: the products' errors have together, whatever n is, the
    standard deviation R sqrt(2 / 3) times that. In three products of TF32 (high by high, high by low, low by high) the
    fourth, low by low, is missing: FACTOR squared; and three times as many terms are added up.
    """
    if precision == "fp32":
        return random_sum(n, np.float32, entries)
    if precision == "tf32x3":
        return random_sum(3 * n, np.float32, entries) + FACTOR["tf32"] ** 2 * spread(entries)
    factors = min(math.sqrt(2 / 3) * spread(entries), 2.01 * math.sqrt(n)) * FACTOR[precision]
    return factors + random_sum(n, np.float32, entries)


def lrn_roundings(size, beta, backward=False):
    """Roundings of an LRN over `size` channels. A power's error is beta times its base's, and two units of its own."""
    base = size + 3  # squares, their sum, alpha and k
    return math.ceil((beta + 1) * base) + size + 12 if backward else math.ceil(beta * base) + 6
