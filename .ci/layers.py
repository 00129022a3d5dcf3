#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""layers.py [--graph]: checks the layers of the allocator.

docs/ARCHITECTURE.md has the order of the rooms in a line `order: os < policy < ...`. These are errors:
  - an include of a header of a higher room, or of no room
  - a call of madvise in another file than the one that guards it

--graph prints which rooms, and which boxes, include which. A box is a row of docs/BOXES.md: all files of the names in its
first cell. Tests may include anything: nothing includes them. Bazel refuses circles between boxes: deps.py checks that
every include is a dependency.
"""

import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Folders beside the rooms that are not part of the allocator.
OUTSIDE = {"test", "include"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
# The only file that may call madvise, by any of its names: madvise, posix_madvise, process_madvise, SYS_madvise.
ADVISER = "allocator/os/decommit.c"
ADVICE = re.compile(r"\w*madvise\b")


def read_order(page):
    """The rooms from the lowest to the highest."""
    lines = re.findall(r"^order: (.*)$", page, re.M)
    if len(lines) != 1:
        raise ValueError("docs/ARCHITECTURE.md has %d lines `order: ...`, not one" % len(lines))
    rooms = [room.strip() for room in lines[0].split("<")]
    if len(set(rooms)) != len(rooms) or not all(re.fullmatch(r"[a-z]+", room) for room in rooms):
        raise ValueError("docs/ARCHITECTURE.md: the order names a room twice, or what is no room")
    return rooms


def read_boxes(page):
    """Part -> box: `room/name` -> the first name of its row."""
    boxes = {}
    for line in page.splitlines():
        parts = re.findall(r"`([a-z]+/[a-z_]+)`", line.split("|")[1]) if line.startswith("| `") else []
        for part in parts:
            boxes[part] = parts[0]
    return boxes


def advises(line):
    """Whether the line names madvise outside a comment."""
    return ADVICE.search(line.split("//")[0]) is not None


def problem(order, room, path):
    """What is wrong with a file of `room` including "path", or None."""
    parts = path.split("/")
    if parts[0] != "allocator" or len(parts) != 3:
        return '"%s" is not written from the root of the repository, or is in no room' % path
    if parts[1] not in order:
        return '"%s" is in no room of the order' % path
    if order.index(parts[1]) > order.index(room):
        return '"%s" stands above %s/' % (path, room)
    return None


def check_the_check():
    order = ["os", "block", "hot"]
    assert problem(order, "os", "allocator/hot/alloc.h") and problem(order, "os", "allocator/attic/a.h")
    assert not problem(order, "hot", "allocator/os/base.h") and not problem(order, "os", "allocator/os/base.h")
    assert problem(order, "os", "base.h") and problem(order, "os", "allocator/test/probe.h")
    assert advises("  if (madvise(p, n, MADV_FREE) == 0) return;  // madvise") and advises("syscall(SYS_madvise, p, n, 4);")
    assert not advises("// The only call of madvise.") and not advises("hak_os_advise_huge(p, n, true);")
    assert read_order("order: os < block\n") == ["os", "block"]
    assert read_boxes("| `a/b`, `a/c` | job `x/y` |") == {"a/b": "a/b", "a/c": "a/b"}


def main():
    check_the_check()
    order = read_order((ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8"))
    boxes = read_boxes((ROOT / "docs/BOXES.md").read_text(encoding="utf-8"))
    graph = collections.defaultdict(set)
    found = []
    advice = 0
    for path in sorted((ROOT / "allocator").rglob("*")):
        where = path.relative_to(ROOT / "allocator").parts
        helps_tests = path.stem.endswith("_test") or path.stem == "unit_test" or path.stem.startswith("test_")
        if path.suffix not in (".c", ".cc", ".h", ".S") or helps_tests or len(where) < 2 or where[0] in OUTSIDE:
            continue
        name = "/".join(("allocator",) + where)
        if where[0] not in order or len(where) != 2:
            found.append("%s is in no room of the order" % name)
            continue
        part = "%s/%s" % (where[0], path.stem)
        box = boxes.get(part, part)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if advises(line):
                advice += 1
                if name != ADVISER:
                    found.append("%s:%d: madvise belongs in %s, behind its guard" % (name, number, ADVISER))
            include = INCLUDE.match(line)
            if include:
                what = problem(order, where[0], include.group(1))
                if what:
                    found.append("%s:%d: %s" % (name, number, what))
                else:
                    other = include.group(1)[len("allocator/") :].rsplit(".", 1)[0]
                    graph[box].add(boxes.get(other, other))
    graph = {box: others - {box} for box, others in graph.items()}
    if not graph:
        found.append("no include found to check")
    if not advice:
        found.append("no madvise found, not even in %s" % ADVISER)
    if "--graph" in sys.argv[1:]:
        rooms = collections.defaultdict(set)
        for box, others in graph.items():
            rooms[box.split("/")[0]] |= {other.split("/")[0] for other in others} - {box.split("/")[0]}
        for room in order:
            print("%s/ -> %s" % (room, " ".join(sorted(rooms[room], key=order.index)) or "nothing"))
        for box in sorted(graph, key=lambda box: (order.index(box.split("/")[0]), box)):
            print("%s -> %s" % (box, " ".join(sorted(graph[box])) or "nothing"))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
