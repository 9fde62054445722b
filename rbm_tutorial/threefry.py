"""JAX's random number generator, written out so that XLA computes each number where it is used.

`jax.random.uniform` draws from the same cipher, but in a loop of its own and through memory, which
on a CPU takes three to four times as long; TensorFlow's generators take tens of times as long where
XLA compiles them.
"""

import math

import numpy as np
from keras import ops

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = 0x1BD11BDA
DRAWS = 0xFFFFFFFF  # a word of the counter; JAX derives keys from small numbers there


def word(number):
    return ops.cast(np.uint32(number), "uint32")


def rotated(words, bits):
    """`words` of 32 bits, rotated to the left by so many."""
    left = ops.bitwise_left_shift(words, word(bits))
    return ops.bitwise_or(left, ops.bitwise_right_shift(words, word(32 - bits)))


def threefry_2x32(key, counter):
    """Encrypt a counter by a key, two words of uint32 each, in 20 rounds: → two random words.

    Source: Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3 (2011).
    """
    parity = ops.bitwise_xor(ops.bitwise_xor(key[0], key[1]), word(PARITY))
    keys = key[0], key[1], parity
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            first = first + second
            second = ops.bitwise_xor(rotated(second, rotation), first)
        first = first + keys[(group + 1) % 3]
        second = second + keys[(group + 2) % 3] + word(group + 1)
    return first, second


def uniform(shape, key):
    """Uniform float32 multiples of 2⁻²⁴ in [0, 1) that depend on `key`, (2,) uint32, alone."""
    number = ops.cast(ops.reshape(ops.arange(math.prod(shape), dtype="int32"), shape), "uint32")
    random, _ = threefry_2x32(key, (number, word(DRAWS)))
    return ops.cast(ops.bitwise_right_shift(random, word(8)), "float32") * np.float32(2**-24)
