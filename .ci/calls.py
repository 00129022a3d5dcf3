#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""calls.py FOLDER: checks that neither files nor boxes of the allocator call each other in a circle.

FOLDER has the objects of a build where Bazel puts them: allocator/ROOM/_objs/TARGET/NAME.o or NAME.pic.o. nm shows
which symbols each defines and uses. A box is a row of docs/BOXES.md. The only exception is declared in
allocator/hot/cold_entry.h: the functions there may be called from anywhere."""

import collections
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
from layers import read_boxes  # noqa: E402

OBJECT = re.compile(r"allocator/([a-z]+)/_objs/[^/]+/([a-z_]+)(?:\.pic)?\.o$")
# The kinds of symbols that the object defines for others, including weak ones.
DEFINED = "TDBRVWGSu"


def symbols(path):
    """(defined, used) by the object."""
    defined, used = set(), set()
    output = subprocess.run(["nm", "--format=posix", str(path)], capture_output=True, text=True, check=True).stdout
    for line in output.splitlines():
        name, kind = line.split()[:2]
        if kind in ("U", "w", "v"):
            used.add(name)
        elif kind in DEFINED:
            defined.add(name)
    return defined, used


def graph_of(objects, boxes, free):
    """Box -> the boxes whose symbols it uses. `objects`: part -> (defined, used); a part without a box is its own."""
    owner = {}
    for part, (defined, _) in objects.items():
        for name in defined - free:
            owner[name] = boxes.get(part, part)
    graph = collections.defaultdict(set)
    for part, (_, used) in objects.items():
        box = boxes.get(part, part)
        graph[box] |= {owner[name] for name in used if name in owner} - {box}
    return graph


def circles(graph):
    """Sets of boxes each of which reaches all others of its set (Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(box):
        index[box] = low[box] = len(index)
        stack.append(box)
        for other in sorted(graph.get(box, ())):
            if other not in index:
                visit(other)
                low[box] = min(low[box], low[other])
            elif other in stack:
                low[box] = min(low[box], index[other])
        if low[box] == index[box]:
            at = stack.index(box)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for box in sorted(graph):
        if box not in index:
            visit(box)
    return found


def check_the_check():
    objects = {"os/a": ({"f"}, {"g"}), "os/b": ({"g"}, {"h"}), "api/c": ({"h"}, {"f"})}
    assert circles(graph_of(objects, {}, set())) == [["api/c", "os/a", "os/b"]]
    assert not circles(graph_of(objects, {}, {"h"}))
    assert not circles(graph_of(objects, {part: "os/a" for part in objects}, set()))
    assert OBJECT.search("bin/allocator/os/_objs/os/os.pic.o").groups() == ("os", "os")


def main():
    if len(sys.argv) != 2:
        print("usage: calls.py FOLDER", file=sys.stderr)
        return 2
    check_the_check()
    boxes = read_boxes((ROOT / "docs/BOXES.md").read_text(encoding="utf-8"))
    free = set(re.findall(r"\b(hak_\w+)\(", (ROOT / "allocator/hot/cold_entry.h").read_text(encoding="utf-8")))
    # hak_version pulls in the whole prefixed interface.
    free.add("hak_version")
    objects = {}
    for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.o")):
        match = OBJECT.search(path.as_posix())
        # Tests and their helpers may call anything.
        if match and match.group(1) != "test" and not re.search(r"_test$|^test_|^(env_doc|check_conf)$", match.group(2)):
            objects["%s/%s" % match.groups()] = symbols(path)
    found = ["a circle of calls between %s: %s" % (what, ", ".join(circle))
             for what, parts in (("files", {}), ("boxes", boxes)) for circle in circles(graph_of(objects, parts, free))]
    if len(objects) < 40:
        found.append("%s has only %d objects of the allocator" % (sys.argv[1], len(objects)))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
