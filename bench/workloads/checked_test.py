# SPDX-License-Identifier: Apache-2.0
"""The checked workloads run on good allocators, preloaded and linked, and fail on wrong ones."""

import os
import subprocess
import unittest

from bench.lib import allocators
from bench.workloads import table

PLANTED = os.path.join(allocators.BENCH, "lib", "libplanted.so")
CHECKED = [workload for workload in table.WORKLOADS if not workload.has_floor]


def run(program, workload, cycles, plant=None):
    env = dict(os.environ, **({"LD_PRELOAD": PLANTED, "HAKMEM_BENCH_PLANT": plant} if plant else {}))
    return subprocess.run([allocators.built_file(program), str(cycles), "--workload", workload.name], env=env,
                          capture_output=True, text=True, check=False)


class CheckedTest(unittest.TestCase):
    def test_linked_with_hakmem(self):
        for workload in CHECKED:
            done = run("workloads/random_mixed_linked", workload, workload.cycles // 100 + 1)
            self.assertEqual(done.returncode, 0, f"{workload.name}: {done.stderr}")

    def test_without_a_plant(self):
        for workload in CHECKED:
            done = run("workloads/random_mixed_cxx", workload, workload.cycles // 100 + 1, "none")
            self.assertEqual(done.returncode, 0, f"{workload.name}: {done.stderr}")

    def fails(self, plant, names, words="the allocator is wrong", cycles=1):
        """The runs of the named rows, `cycles` times as long as usual, end with these words."""
        rows = [workload for workload in CHECKED if workload.name in names]
        self.assertEqual(len(rows), len(names))
        for workload in rows:
            done = run("workloads/random_mixed_cxx", workload, cycles * workload.cycles // 20 + 1, plant)
            self.assertNotEqual(done.returncode, 0, workload.name)
            if words:
                self.assertIn(words, done.stderr, workload.name)

    def test_a_block_that_is_changed(self):
        self.fails("spoiled", {"cxx-400", "heavy-20k", "hot-lifo-64", "thread_churn", "oscillate", "fragmented",
                               "cadence-1", "lru_cache", "short_lived"})

    def test_a_block_that_is_changed_crashes(self):
        # What is changed may be a pointer, or a block that another thread has freed meanwhile, which glibc notices.
        self.fails("spoiled", {"pair-read-r50", "pair-r50", "ring-r50", "fan-in-r50", "queue-bounded", "queue-unbounded",
                               "larson", "many-4", "compile_like", "json_tree", "fork_server", "cpp_containers"}, "", 20)

    def test_calloc_that_does_not_clear(self):
        self.fails("dirty", {"calloc_zero"}, "from calloc and not zero")

    def test_alignment(self):
        self.fails("unaligned", {"aligned"}, "not aligned")

    def test_realloc_that_loses_contents(self):
        self.fails("lost", {"realloc-string", "realloc-vector", "realloc-pages"}, "lost its contents in realloc", 20)

    def test_a_block_of_two_threads(self):
        # Long enough for two threads on one processor to take turns.
        self.fails("shared", {"sharing-active", "sharing-passive"}, cycles=200)


if __name__ == "__main__":
    unittest.main()
