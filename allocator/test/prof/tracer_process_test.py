#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Another process raises and lowers a semaphore through /proc/PID/mem, and sampling begins and ends.

usage: tracer_process_test.py TRACER_CHILD LIBRARY LINKED_CHILD

TRACER_CHILD runs with LIBRARY preloaded; LINKED_CHILD has hakmem in it, and is static.
"""

import os
import struct
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.getcwd(), "allocator", "test", "prof"))

import probe_notes  # noqa: E402

ET_DYN = 3


def bias_of(pid, path, file):
    """How far the addresses in the process are from those in the file."""
    if file.kind != ET_DYN:
        return 0
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        starts = [int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith(path)]
    return min(starts) - min(segment[3] for segment in file.segments if segment[0] == probe_notes.PT_LOAD)


def add(pid, address, change):
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(address)
        (count,) = struct.unpack("<H", memory.read(2))
        memory.seek(address)
        memory.write(struct.pack("<H", count + change))


def check(command, environment, path):
    """How many blocks are sampled: before, while the semaphore is raised, and afterwards."""
    file = probe_notes.File(path)
    child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def work():
        child.stdin.write("go\n")
        child.stdin.flush()
        return int(child.stdout.readline())

    work()  # It is loaded.
    counts = []
    for name in "alloc", "free":
        (note,) = [note for note in file.notes() if (note.provider, note.name) == ("otel_memory", name)]
        semaphore = note.semaphore + bias_of(child.pid, path, file)
        counts.append(work())
        add(child.pid, semaphore, 1)
        counts += [work(), work()]
        add(child.pid, semaphore, -1)
        counts += [work(), work()]
    child.stdin.close()
    print(path, counts)
    assert child.wait() == 0, child.returncode
    for none, some, all_of_them, few, again in counts[:5], counts[5:]:
        assert none == 0 and again == 0, counts
        # It is seen after some refills of each size.
        assert 0 < some <= 5000 and all_of_them >= 5000, counts
        assert few <= 2100, counts


def main():
    child, library, linked = (os.path.realpath(path) for path in sys.argv[1:4])
    environment = dict(os.environ, HAKMEM_PROF_SAMPLE_KB="0")
    check([child], dict(environment, LD_PRELOAD=library), library)
    check([linked], environment, linked)


main()
