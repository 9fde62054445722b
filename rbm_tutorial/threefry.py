"""JAX's random number generator, written out so that XLA computes each number where it is used.

`jax.random.uniform` draws from the same cipher, but in a loop of its own and through memory, which
on a CPU takes three to four times as long.
"""

import functools
import math

import jax
import numpy as np
from jax import lax

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)
DRAWS = np.uint32(0xFFFFFFFF)  # a word of the counter; JAX derives keys from small numbers there


def threefry_2x32(key, counter):
    """Encrypt a counter by a key, two words of uint32 each, in 20 rounds: → two random words.

    Source: Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3 (2011).
    """
    keys = key[0], key[1], key[0] ^ key[1] ^ PARITY
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            first = first + second
            second = ((second << rotation) | (second >> (32 - rotation))) ^ first
        first = first + keys[(group + 1) % 3]
        second = second + keys[(group + 2) % 3] + np.uint32(group + 1)
    return first, second


@functools.partial(jax.jit, static_argnums=0)
def uniform(shape, key):
    """Uniform float32 multiples of 2⁻²⁴ in [0, 1) that depend on `key`, (2,) uint32, alone."""
    number = lax.iota("uint32", math.prod(shape)).reshape(shape)
    word, _ = threefry_2x32(key, (number, DRAWS))
    return (word >> 8).astype("float32") * np.float32(2**-24)
