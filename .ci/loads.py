#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that no rule for C, C++, scripts, Python or Java is the one built into Bazel, which Bazel 9 does not have.

usage: loads.py [--modules]     --modules: with a Bazel that reads MODULE.bazel; otherwise it reads WORKSPACE

Bazel itself answers: with copies of third_party/rules_cc and rules_shell that add a tag to every rule which was loaded
from them, a query lists the rules without that tag. It sees what macros make, which buildifier's warnings do not. A
package with one built-in rule of each kind is added to the tree; exactly these must be listed."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHIMS = ("rules_cc", "rules_shell")
TAG = "by-load"
# `x = native.x` of the shims, as a function that adds the tag.
RULE = re.compile(r"^(\w+) = native\.(\w+).*$", re.M)
TAGGED = """
def \\1(tags = [], **kwargs):
    native.\\2(tags = tags + ["%s"], **kwargs)
""" % TAG
KINDS = "^((cc|sh|py|java|objc)_(binary|import|library|shared_library|static_library|test|toolchain|toolchain_suite)|fdo_\\w+) rule$"

PLANTED = "planted_native"
PLANTED_BUILD = """
load("//configs:rules.bzl", "cc_library", "sh_test")

cc_library(name = "loaded")
sh_test(name = "loaded_test", srcs = ["x.sh"])
"""
# Built into Bazel 4 and 7. In a file that does not load them.
PLANTED_BZL = """
def built_in():
    native.cc_library(name = "library")
    native.cc_binary(name = "program", srcs = ["x.c"])
    native.cc_test(name = "program_test", srcs = ["x.c"])
    native.sh_binary(name = "script", srcs = ["x.sh"])
    native.sh_test(name = "script_test", srcs = ["x.sh"])
    native.sh_library(name = "scripts", srcs = ["x.sh"])
"""
EXPECTED = {"//%s:%s" % (PLANTED, name) for name in ("library", "program", "program_test", "script", "script_test", "scripts")}


def tagging_shims(scratch):
    """Copies of the shims that add the tag: their folders, by name."""
    folders = {}
    for name in SHIMS:
        source = ROOT / "third_party" / name
        folders[name] = scratch / name
        changed = 0
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            copy = folders[name] / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            text, count = RULE.subn(TAGGED, path.read_text(encoding="utf-8"))
            copy.write_text(text, encoding="utf-8")
            changed += count
        if not changed:
            sys.exit("%s: no rule found to which the tag could be added" % source)
        module = folders[name] / "MODULE.bazel"
        if not module.exists():
            module.write_text('module(name = "%s")\n' % name, encoding="utf-8")
    return folders


def files_of_tree():
    """The names of the files that git tracks or would track; in a copy of the tree without git, of all but Bazel's."""
    if not (ROOT / ".git").exists():
        return [str(path.relative_to(ROOT)) for folder in ROOT.iterdir() if not folder.name.startswith("bazel-")
                for path in [folder, *folder.rglob("*")]]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")


def copy_tree(copy):
    """Copies the tree. A second server in the tree itself would follow the links bazel-* into the first one's files."""
    for name in files_of_tree():
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)


def built_in_rules(scratch, modules):
    """The labels of all rules without the tag."""
    folders = tagging_shims(scratch)
    tree = scratch / "tree"
    copy_tree(tree)
    planted = tree / PLANTED
    planted.mkdir()
    (planted / "built_in.bzl").write_text(PLANTED_BZL, encoding="utf-8")
    load = 'load(":built_in.bzl", "built_in")\n'
    (planted / "BUILD.bazel").write_text(load + PLANTED_BUILD + "\nbuilt_in()\n", encoding="utf-8")
    bazel = [str(tree / "bazelw"), "--nohome_rc", "--output_base=%s" % (scratch / "base"), "--max_idle_secs=60"]
    override = "--override_module=%s=%s" if modules else "--override_repository=%s=%s"
    query = "kind('%s', //...) except attr(tags, '[\\[ ]%s[,\\]]', //...)" % (KINDS, TAG)
    command = bazel + ["query", "--config=ci"] + [override % pair for pair in folders.items()] + [query]
    try:
        result = subprocess.run(command, cwd=tree, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        subprocess.run(bazel + ["shutdown"], cwd=tree, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        # Bazel removes the write permission from what it installs.
        subprocess.run(["chmod", "-R", "u+w", str(scratch)], capture_output=True, check=False)
    if result.returncode != 0:
        sys.exit("the query failed:\n%s" % result.stderr)
    return set(result.stdout.split())


def main():
    if sys.argv[1:] not in ([], ["--modules"]):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        found = built_in_rules(pathlib.Path(scratch), "--modules" in sys.argv)
    for label in sorted(found - EXPECTED):
        print("%s is a rule built into Bazel: load it from //configs:rules.bzl" % label)
    for label in sorted(EXPECTED - found):
        print("%s was planted as a rule built into Bazel, and was not found" % label)
    return 0 if found == EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
