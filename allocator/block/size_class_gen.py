#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes size_class_table.inc: the size classes of small blocks, with the waste that each one costs.

usage: size_class_gen.py > size_class_table.inc

Classes step by 16 bytes up to 256, then by an eighth of a doubling up to 32 KiB: the least request of a class wastes at
most an eighth of its block. Between 256 and 1,024 bytes another class stands between each two, for large heaps. The bands
C0..C7 are the doublings: C0 ends at 256 bytes, each later one at twice that.
"""
import sys

ALIGN = 16
FINE_LIMIT = 256
LIMIT = 32 * 1024
STEPS = 8
# Up to this size, each step has an additional class in its middle, which only large heaps use.
HALVED_LIMIT = 1024
SLAB = 64 * 1024


def strides():
    sizes = list(range(ALIGN, FINE_LIMIT + 1, ALIGN))
    base = FINE_LIMIT
    while base < LIMIT:
        steps = 2 * STEPS if base < HALVED_LIMIT else STEPS
        sizes += [base + base // steps * step for step in range(1, steps + 1)]
        base *= 2
    return sizes


def is_half(stride):
    """Whether the class stands between two steps."""
    return FINE_LIMIT < stride < HALVED_LIMIT and stride % (128 // STEPS << band(stride)) != 0


def band(stride):
    end, number = FINE_LIMIT, 0
    while stride > end:
        end, number = end * 2, number + 1
    return number


def main():
    sizes = strides()
    out = [
        "// SPDX-License-Identifier: Apache-2.0",
        "// Written by size_class_gen.py; do not edit.",
        "//",
        "// HAK_SIZE_CLASS(class, band, low, stride, reciprocal, half): requests beyond `low` bytes, header included, up to the",
        "// stride get the class; reciprocal is ceil(2^32 / stride); half: 1 for a class that only large heaps use.",
        "// worst: bytes wasted by the least request of the class, in percent of the stride; mean: over all its requests.",
        "// blocks: in a whole slab; tail: bytes at the slab's start that no block uses (they are never touched).",
        "//",
        "// clang-format off",
        "#define HAK_CLASS_COUNT %du  // class ids of small blocks are below this one" % (len(sizes) + 1),
        "#define HAK_BAND_COUNT %du" % (band(sizes[-1]) + 1),
        "#define HAK_TINY_STRIDE_MAX ((size_t)%d)" % sizes[-1],
    ]
    previous = 0
    previous_whole = 0
    for number, stride in enumerate(sizes, 1):
        low = previous if is_half(stride) else previous_whole
        least = previous + 1
        worst = 100 * (stride - least) / stride
        mean = 100 * (stride - (least + stride) / 2) / stride
        blocks = SLAB // stride
        out.append("HAK_SIZE_CLASS(%2d, %d, %5d, %5d, 0x%08Xu, %d)  // worst %4.1f %%  mean %4.1f %%  blocks %4d  tail %5d" % (
            number, band(stride), low, stride, -(-2 ** 32 // stride), is_half(stride), worst, mean, blocks, SLAB - blocks * stride))
        previous = stride
        if not is_half(stride):
            previous_whole = stride
    out.append("// clang-format on")
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.stderr.write(__doc__)
        sys.exit(2)
    main()
