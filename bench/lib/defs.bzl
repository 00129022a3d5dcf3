# SPDX-License-Identifier: Apache-2.0
"""How the programs of the benchmarks are compiled."""

# The cost of the loop itself is part of every result, so its optimisation does not depend on the command line.
BENCH_COPTS = ["-O2"]

# Sanitizers instrument the library under test, not the harness. Otherwise a process would have two copies of the
# sanitizer's runtime, in the program and in the preloaded library, and would hang at its start.
BENCH_FEATURES = [
    "-asan",
    "-tsan",
    "-ubsan",
]
