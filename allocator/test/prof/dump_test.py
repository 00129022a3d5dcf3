#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A profile that a program writes of itself, as hakmem-prof shows it.

usage: dump_test.py DUMP_CHILD HAKMEM_PROF"""

import os
import re
import stat
import subprocess
import sys
import tempfile

CHILD, TOOL = (os.path.abspath(path) for path in sys.argv[1:3])


def bytes_of(text, function):
    """What the function and those that it calls have, the allocator's own among them; 0: it has no line."""
    units = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    found = re.findall(r"^.*%% +([0-9.]+) (\w+) +[0-9.]+%% .*\b%s\b" % function, text, re.M)
    assert len(found) <= 1, found
    return float(found[0][0]) * units[found[0][1]] if found else 0


def fragmented():
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/heap.pb.gz"
        free = int(subprocess.run([CHILD, "fragmented", path], stdout=subprocess.PIPE, check=True).stdout)
        text = subprocess.run([TOOL, "--sample", "fragmentation", path], stdout=subprocess.PIPE, check=True).stdout
        text = text.decode()
        print(free, text)
        hostages, full = bytes_of(text, "KeepsHostages"), bytes_of(text, "FillsItsSlabs")
        # Three of four blocks are free, less some slabs that became empty.
        assert free > 10 << 20, free
        # The estimate has a standard deviation of 3 %, and what is in the thread's cache has a share too.
        assert 0.75 * free < hostages < 1.1 * free, (free, hostages)
        assert full < 0.05 * free, (free, full)
        comment = re.search(r"([0-9]+) bytes lie free in slabs in use", text)
        assert comment and 0.9 * free < int(comment.group(1)) < 1.1 * free, (free, text)


def lifetimes():
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/heap.pb.gz"
        told = subprocess.run([CHILD, "lifetimes", path], stdout=subprocess.PIPE, check=True).stdout.decode()
        # The blocks of the first live one after another, so all of them together no longer than the function takes.
        most = dict(zip(("DropsBlocks", "FreesLater", "ResizesLater"), map(int, told.split())))
        text = subprocess.run([TOOL, "--sample", "lifetime_objects", path], stdout=subprocess.PIPE, check=True).stdout.decode()
        print(told, text)
        units = {"us": 1, "ms": 1000, "s": 10**6}
        for name, count, least, mean_most in (("DropsBlocks", 500, 0, most["DropsBlocks"] / 500),
                                              ("FreesLater", 100, 30000, most["FreesLater"]),
                                              ("ResizesLater", 1, 30000, most["ResizesLater"])):
            found = re.findall(r"^.*%% +([0-9]+) +[0-9.]+%% +<?([0-9.]+) (\w+)  .*\b%s\b" % name, text, re.M)
            assert len(found) == 1 and int(found[0][0]) == count, (name, text)
            mean = float(found[0][1]) * units[found[0][2]]
            # The table has three digits, and shows at least 1 us.
            assert least * 0.99 <= mean <= max(1, mean_most * 1.01), (name, mean, least, mean_most)
        space = subprocess.run([TOOL, "--sample", "lifetime_space", path], stdout=subprocess.PIPE, check=True).stdout.decode()
        for name, size in (("DropsBlocks", 500 * 777), ("FreesLater", 100 * 1000), ("ResizesLater", 3 << 20)):
            # The mean stands between the value and the function.
            found = re.findall(r"^.*%% +([0-9.]+) (\w+) +[0-9.]+%% .*\b%s\b" % name, space, re.M)
            assert len(found) == 1 and abs(float(found[0][0]) * {"KiB": 1 << 10, "MiB": 1 << 20}[found[0][1]] - size) < 6, space


def growth():
    """One profile has what two have by --diff."""
    with tempfile.TemporaryDirectory() as folder:
        assert subprocess.run([CHILD, "growth", folder + "/%n"], check=True).returncode == 0
        old, new = folder + "/0", folder + "/1"

        def rows(*arguments):
            text = subprocess.run([TOOL, "-n", "0", *arguments], stdout=subprocess.PIPE, check=True).stdout.decode()
            print(text)
            return sorted(line for line in text.splitlines()[1:] if not line.startswith("comment"))

        for kind in ("space", "objects"):
            difference = rows("--diff", old, new, "--sample", "inuse_" + kind)
            assert rows("--sample", "growth_" + kind, new) == difference
            assert len(rows("--sample", "growth_" + kind, old)) == 1, "nothing has grown when the mark is made"
        for name, count in (("HoldsBlocks", "-300"), ("Grows", "+141"), ("HoldsALargeBlock", "+1")):
            assert len([row for row in difference if re.search(r" %s +[^ ]+  .*\b%s\b" % (re.escape(count), name), row)]) == 1, name
        assert not [row for row in difference if re.search(r"\b(Stays|DropsBlocks)\b", row)]


def main():
    fragmented()
    growth()
    lifetimes()
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen([CHILD, folder + "/heap.%p.%n.pb.gz"], cwd=folder)
        assert child.wait() == 0, child.returncode
        names = sorted(os.listdir(folder))
        assert names == ["heap.%d.%d.pb.gz" % (child.pid, number) for number in (0, 1)], names
        path = os.path.join(folder, names[0])
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, oct(os.stat(path).st_mode)
        for sample, wanted in {
            # Every block is sampled and counts once, so the figures are exact.
            "inuse_objects": {"HoldsBlocks": 1000, "HoldsALargeBlock": 1, "DropsBlocks": 0},
            # The first two came first, the dropped blocks between them.
            "peak_objects": {"HoldsBlocks": 1000, "HoldsALargeBlock": 1, "DropsBlocks": 0},
            "alloc_objects": {"HoldsBlocks": 1000, "HoldsALargeBlock": 1, "DropsBlocks": 500},
        }.items():
            text = subprocess.run([TOOL, "--sample", sample, path], stdout=subprocess.PIPE, check=True).stdout.decode()
            print(text)
            for name, count in wanted.items():
                lines = [line for line in text.splitlines() if re.search(r"\b%s\b" % name, line)]
                if count == 0:
                    assert not lines, lines
                else:
                    assert len(lines) == 1 and re.search(r"\b%d\b" % count, lines[0].replace(",", "")), (name, lines)


main()
