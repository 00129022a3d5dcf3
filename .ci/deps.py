#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""deps.py: checks the BUILD files of the allocator and of its tests against the includes.

These are errors:
  - a source, header or test that is in no target; a header of allocator/ that is in two
  - a target of a room with files of two boxes. A box is a row of docs/BOXES.md
  - an include whose header is neither the target's own nor one of a direct dependency
  - a dependency that no include needs. A comment `# link: WHY` behind it in the BUILD file allows one that only the
    linker needs
  - a library, program or test below allocator/ that is visible to a package which does not use it. Tests of other
    packages use the target `room`, so boxes are visible only to higher rooms
  - a target `room` without one of the room's libraries

A target without files, such as `room`, stands for its dependencies. Tests of one package with the same list of deps,
such as those of a loop, are checked together: all of them may have what one of them uses."""

import ast
import collections
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "fuzz" / "oss-fuzz"))
from build_files import BuildFileError, Select, Workspace  # noqa: E402
from layers import read_boxes  # noqa: E402

# Other workspaces, third-party code, the definitions of the compilers, and what a script compiles.
OUTSIDE = ("examples/", "third_party/", "packaging/consumer/", "toolchains/cc/", "fuzz/oss-fuzz/control_target.cc")
CODE = (".c", ".cc", ".h", ".inc")
HEADERS = (".h", ".inc")
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<(hakmem/[^>]+)>)', re.M)
LINK = re.compile(r'\s*"([^"]+)",\s*# link: \S')

# package, name, rule; is_test: only for tests; own: its files; hdrs: those that others may include; deps: labels;
# linked: those with a mark `# link`; visibility: as written; uses: all labels in any attribute.
Target = collections.namedtuple("Target", "package name rule is_test alwayslink own hdrs deps linked visibility uses")


def includes(text):
    """Paths from the root of the headers that a file includes."""
    return {quoted or "allocator/include/" + public for quoted, public in INCLUDE.findall(text)}


def problems(targets, sources, boxes):
    """What is wrong with `targets`, {label: Target}; `sources` are the contents of files by their paths."""
    found = []
    cc = {label: target for label, target in targets.items() if target.rule.startswith("cc_")}

    # ---- Files
    owners = collections.defaultdict(set)
    for target in cc.values():
        # A program that is built twice has the same files in two targets.
        for path in target.own:
            owners[path].add((target.package, tuple(target.own)))
    for path in sorted(sources):
        if not owners[path]:
            found.append("%s is in no target" % path)
        elif path.startswith("allocator/") and path.endswith(HEADERS) and len(owners[path]) > 1:
            found.append("%s is in %d targets" % (path, len(owners[path])))
    for label, target in sorted(cc.items()):
        parts = {path[len("allocator/") :].rsplit(".", 1)[0] for path in target.own if path in sources}
        own = {boxes[part] for part in parts if part in boxes}
        if len(own) > 1 and not target.is_test:
            found.append("%s holds two boxes: %s" % (label, ", ".join(sorted(own))))

    # ---- Includes and dependencies
    def provides(label):
        """The headers that a dependency on the target brings."""
        target = cc.get(label)
        if target is None:
            return set()
        return set(target.hdrs) if target.own else {path for dep in target.deps for path in provides(dep)}

    home = {path: label for label, target in sorted(cc.items()) for path in target.hdrs}
    needed = collections.defaultdict(set)
    group = {label: (target.package, tuple(target.deps)) if target.is_test else label for label, target in cc.items()}
    for label, target in sorted(cc.items()):
        brought = {dep: provides(dep) for dep in target.deps}
        wanted = {path for name in target.own if name in sources for path in includes(sources[name])} - set(target.own)
        for path in sorted(wanted & set(sources)):
            bringing = {dep for dep, paths in brought.items() if path in paths}
            needed[group[label]] |= bringing
            if not bringing:
                found.append("%s includes %s and does not depend on %s" % (label, path, home.get(path, "any target with it")))
    for label, target in sorted(cc.items()):
        for dep in target.deps if target.own else ():
            if dep in needed[group[label]]:
                if dep in target.linked:
                    found.append("%s: the dependency on %s needs no `# link`: an include uses it" % (label, dep))
            elif dep in cc and not cc[dep].alwayslink and dep not in target.linked:
                found.append("%s depends on %s, and includes nothing of it" % (label, dep))

    # ---- Visibility
    users = collections.defaultdict(set)
    for target in targets.values():
        for label in target.uses:
            if label in cc and (cc[label].is_test or not target.is_test):
                users[group[label]].add(target.package)
    for label, target in sorted(cc.items()):
        for entry in target.visibility if target.package.startswith("allocator/") else ():
            package, _, kind = entry[2:].partition(":")
            if entry == "//visibility:private":
                continue
            by = {user for user in users[group[label]] if user == package or kind == "__subpackages__" and
                  user.startswith(package + "/")} - {target.package}
            if kind not in ("__pkg__", "__subpackages__") or not by:
                found.append("%s is visible to %s, which does not use it" % (label, entry))

    # ---- Rooms
    for label, target in sorted(cc.items()):
        if target.name == "room":
            all_of_it = {other for other, box in cc.items()
                         if box.package == target.package and box.rule == "cc_library" and not box.is_test}
            for other in sorted(all_of_it - set(target.deps)):
                found.append("%s does not bring %s" % (label, other))
    if not needed or not any(users.values()):
        found.append("no include or no target found to check")
    return found


# ---- Reading the BUILD files -------------------------------------------------------------------------------------------


class Reader(Workspace):
    """Also records the default visibility of packages."""

    def __init__(self, root):
        self.default_visibility = {}
        super().__init__(root, {})

    def recorder(self, rule):
        def note(**attributes):
            self.default_visibility[self.reading] = attributes.get("default_visibility", [])

        return note if rule == "package" else super().recorder(rule)


def strings(value):
    """All strings in an attribute's value, in all branches of its selects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in list(value) + (list(value.values()) if isinstance(value, dict) else []):
            yield from strings(part)
    elif isinstance(value, Select):
        yield from strings(value.parts)


def marked(text):
    """{name: labels with a mark `# link`} of the targets with a literal name in a BUILD file."""
    lines = text.splitlines()
    found = collections.defaultdict(set)
    for node in ast.parse(text).body:
        call = node.value if isinstance(node, ast.Expr) else None
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                matches = map(LINK.match, lines[call.lineno - 1 : call.end_lineno])
                found[keyword.value.value] |= {match.group(1) for match in matches if match}
    return found


def read_targets(root, build_files):
    workspace = Reader(root)
    for path in build_files:
        workspace.package(path.rpartition("/")[0])
    targets = {}
    for package, named in list(workspace.packages.items()):
        text = (root / package / "BUILD.bazel").read_text(encoding="utf-8")
        links = marked(text)

        def absolute(label, package=package):
            return label if label.startswith("@") else workspace.absolute(label, package)

        for name, target in named.items():
            is_cc = target.rule.startswith("cc_")

            def labels(attribute, target=target, is_cc=is_cc):
                return [absolute(label) for label in workspace.resolve(target, attribute)] if is_cc else []

            srcs, hdrs = labels("srcs"), labels("hdrs") + labels("textual_hdrs")
            visibility = target.attributes.get("visibility")
            if visibility is None:
                visibility = workspace.default_visibility.get(package, [])
            targets[target.label] = Target(
                package=package,
                name=name,
                rule=target.rule,
                is_test=target.rule == "cc_test" or bool(target.attributes.get("testonly")),
                alwayslink=bool(target.attributes.get("alwayslink")),
                own=[label[2:].replace(":", "/").lstrip("/") for label in srcs + hdrs],
                hdrs=[label[2:].replace(":", "/").lstrip("/") for label in hdrs],
                deps=labels("deps"),
                linked={absolute(label) for label in links[name]},
                visibility=visibility,
                uses={absolute(text) for text in strings(list(target.attributes.values())) if text.startswith("//")},
            )
    return targets


# ---- Self-check ------------------------------------------------------------------------------------------------------


def check_the_check():
    def cc(label, own, deps=(), visibility=(), rule="cc_library", **more):
        package, _, name = label[2:].partition(":")
        hdrs = [path for path in own if path.endswith(HEADERS)]
        values = dict(package=package, name=name, rule=rule, is_test=False, alwayslink=False, own=own, hdrs=hdrs,
                      deps=list(deps), linked=set(), visibility=list(visibility), uses=set(deps))
        return {label: Target(**dict(values, **more))}

    base, cold, room = "//allocator/os:base", "//allocator/os:cold", "//allocator/os:room"
    boxes = {"os/base": "os/base", "os/cold": "os/cold", "heap/heap": "heap/heap"}
    sources = {
        "allocator/os/base.h": "",
        "allocator/os/cold.c": '#include "allocator/os/base.h"\n',
        "allocator/heap/heap.h": '#include "allocator/os/base.h"\n#include <stdint.h>\n',
        "allocator/heap/heap_test.cc": '#include "allocator/heap/heap.h"\n#include "allocator/os/base.h"\n',
    }
    heap = cc("//allocator/heap:heap", ["allocator/heap/heap.h"], [base, cold], linked={cold})
    good = {}
    for more in (
        cc(base, ["allocator/os/base.h"], visibility=["//allocator/heap:__pkg__"]),
        cc(cold, ["allocator/os/cold.c"], [base], ["//allocator/heap:__pkg__"]),
        cc(room, [], [base, cold], ["//allocator/heap:__pkg__"], is_test=True),
        heap,
        cc("//allocator/heap:heap_test", ["allocator/heap/heap_test.cc"], ["//allocator/heap:heap", room], rule="cc_test",
           is_test=True),
        cc("//allocator/test:any_test", [], [base, room], rule="cc_test", is_test=True),
    ):
        good.update(more)
    assert not problems(good, sources, boxes), problems(good, sources, boxes)
    assert problems({}, {}, {}) == ["no include or no target found to check"]
    for label, change, what in [
        (base, {"own": []}, "allocator/os/base.h is in no target"),
        ("//allocator/heap:heap_test", {"own": []}, "allocator/heap/heap_test.cc is in no target"),
        (cold, {"own": ["allocator/os/cold.c", "allocator/os/base.h"]}, "allocator/os/base.h is in 2 targets"),
        (cold, {"own": ["allocator/os/cold.c", "allocator/heap/heap.h"]}, "holds two boxes: heap/heap, os/cold"),
        (cold, {"deps": []}, "cold includes allocator/os/base.h and does not depend on //allocator/os:base"),
        (base, {"hdrs": []}, "includes allocator/os/base.h and does not depend on any target"),
        ("//allocator/heap:heap_test", {"deps": ["//allocator/heap:heap"]}, "heap_test includes allocator/os/base.h"),
        ("//allocator/heap:heap", {"linked": set()}, "depends on //allocator/os:cold, and includes nothing of it"),
        ("//allocator/heap:heap", {"linked": {base, cold}}, "the dependency on //allocator/os:base needs no `# link`"),
        (base, {"visibility": ["//allocator/slab:__pkg__"]}, "base is visible to //allocator/slab:__pkg__"),
        (base, {"visibility": ["//allocator/test:__pkg__"]}, "base is visible to //allocator/test:__pkg__"),
        (base, {"visibility": ["//visibility:public"]}, "base is visible to //visibility:public"),
        (base, {"visibility": ["//fuzz:__subpackages__"]}, "base is visible to //fuzz:__subpackages__"),
        (room, {"deps": [base]}, "//allocator/os:room does not bring //allocator/os:cold"),
    ]:
        changed = problems(dict(good, **{label: good[label]._replace(**change)}), sources, boxes)
        assert any(what in line for line in changed), (what, changed)
    assert marked('x(\n  name = "a",\n  deps = [\n    ":b",  # link: c.h\n    ":d",\n  ],\n)\n') == {"a": {":b"}}
    assert list(strings(Select([{"if": ["a"]}, "b"]))) == ["if", "a", "b"]
    public = "allocator/include/hakmem/c.h"
    assert includes('#include "a/b.h"\n#include <stdio.h>\n # include <hakmem/c.h>\n') == {"a/b.h", public}


def main():
    check_the_check()
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
    names = [name for name in listing if name and not name.startswith(OUTSIDE) and (ROOT / name).is_file()]
    sources = {name: (ROOT / name).read_text(encoding="utf-8") for name in names if name.endswith(CODE)}
    try:
        targets = read_targets(ROOT, [name for name in names if pathlib.PurePosixPath(name).name == "BUILD.bazel"])
    except BuildFileError as error:
        print(error)
        return 1
    found = problems(targets, sources, read_boxes((ROOT / "docs" / "BOXES.md").read_text(encoding="utf-8")))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
