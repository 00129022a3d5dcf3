# SPDX-License-Identifier: Apache-2.0
"""How the programs of the benchmarks are compiled."""

# The loop's own cost is part of every figure, so its optimisation does not depend on the command line.
BENCH_COPTS = ["-O2"]

# Sanitizers instrument the library under test, not the harness: two copies of a sanitizer's runtime in one process,
# that of the program and that of a preloaded library, hang at start.
BENCH_FEATURES = [
    "-asan",
    "-tsan",
    "-ubsan",
]
