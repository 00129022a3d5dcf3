#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Works with arrays of many sizes, and prints a sum that does not depend on the allocator."""

import numpy


def main():
    total = 0
    kept = []
    for i in range(2000):
        array = numpy.arange(1 + (i * 7919) % 50000, dtype=numpy.int64)
        total += int(array[::3].copy().sum())
        kept.append(array[: 1 + i % 100].copy())
    total += sum(int(array.sum()) for array in kept)
    print("sum %d" % total)


if __name__ == "__main__":
    main()
