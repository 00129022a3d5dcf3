#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that no rule for C, C++, scripts, Python or Java is the one built into Bazel, which Bazel 9 does not have.

usage: loads.py [--modules]     --modules: with a Bazel that reads MODULE.bazel; otherwise it reads WORKSPACE

Bazel itself answers: with copies of third_party/rules_cc and rules_shell that add a tag to every rule which was loaded
from them, a query lists the rules without that tag. It sees what macros make, which buildifier's warnings do not. A
package with one built-in rule of each kind is added to the tree; exactly these must be listed.

With --modules a Bazel 7 also reads the tree without its built-in rules and providers, as Bazel 9 does, with empty rules
in the place of those of the modules; and refuses that package."""

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
# The same as a function that makes some target of that name.
EMPTY = """
def \\1(name, testonly = False, visibility = None, **_kwargs):
    native.filegroup(name = name, testonly = testonly, visibility = visibility)
"""
# A built-in value of the shims, and what takes its place.
VALUE = re.compile(r"^(Native\w+|native_\w+) = \w+$", re.M)
EMPTY_VALUE = "\\1 = provider()"
# What Bazel 7 can do without.
REMOVED = """
cc_binary cc_import cc_library cc_proto_library cc_shared_library cc_test cc_toolchain cc_toolchain_suite objc_import objc_library
fdo_profile fdo_prefetch_hints sh_binary sh_library sh_test
""".split()
# The second option hides providers and cc_common from all files but those of the modules.
WITHOUT = ("--incompatible_autoload_externally=" + ",".join("-" + name for name in REMOVED), "--incompatible_stop_exporting_language_modules")
REFUSED = "no native function or rule 'cc_library'"

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


def changed_shims(scratch, rule, value):
    """Copies of the shims with other rules and values: their folders, by name."""
    folders = {}
    for name in SHIMS:
        source = ROOT / "third_party" / name
        folders[name] = scratch / name
        changed = 0
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            copy = folders[name] / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            text, count = RULE.subn(rule, path.read_text(encoding="utf-8"))
            text = VALUE.sub(value, text)
            copy.write_text(text, encoding="utf-8")
            changed += count
        if not changed:
            sys.exit("%s: no rule found to change" % source)
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


def write_planted(tree):
    """Adds the package with rules built into Bazel."""
    planted = tree / PLANTED
    planted.mkdir()
    (planted / "built_in.bzl").write_text(PLANTED_BZL, encoding="utf-8")
    load = 'load(":built_in.bzl", "built_in")\n'
    (planted / "BUILD.bazel").write_text(load + PLANTED_BUILD + "\nbuilt_in()\n", encoding="utf-8")


def check(scratch, modules):
    """What is wrong."""
    tree = scratch / "tree"
    copy_tree(tree)
    bazel = [str(tree / "bazelw"), "--nohome_rc", "--output_base=%s" % (scratch / "base"), "--max_idle_secs=60"]

    def query(folders, expression, *options):
        override = "--override_module=%s=%s" if modules else "--override_repository=%s=%s"
        command = bazel + ["query", "--config=ci", *options] + [override % pair for pair in folders.items()] + [expression]
        return subprocess.run(command, cwd=tree, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    try:
        if modules:
            empty = changed_shims(scratch / "empty", EMPTY, EMPTY_VALUE)
            without = query(empty, "//...", *WITHOUT)
            if without.returncode != 0:
                yield "Bazel cannot read the tree without its built-in rules:\n" + without.stderr
        write_planted(tree)
        if modules:
            refused = query(empty, "//%s/..." % PLANTED, *WITHOUT)
            if refused.returncode == 0 or REFUSED not in refused.stderr:
                yield "without its built-in rules Bazel reads those that were planted:\n" + refused.stderr
        shims = changed_shims(scratch / "tagging", TAGGED, r"\g<0>")
        found = query(shims, "kind('%s', //...) except attr(tags, '[\\[ ]%s[,\\]]', //...)" % (KINDS, TAG))
        if found.returncode != 0:
            yield "the query failed:\n" + found.stderr
            return
        labels = set(found.stdout.split())
        for label in sorted(labels - EXPECTED):
            yield "%s is a rule built into Bazel: load it from //configs:rules.bzl" % label
        for label in sorted(EXPECTED - labels):
            yield "%s was planted as a rule built into Bazel, and was not found" % label
    finally:
        subprocess.run(bazel + ["shutdown"], cwd=tree, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        # Bazel removes the write permission from what it installs.
        subprocess.run(["chmod", "-R", "u+w", str(scratch)], capture_output=True, check=False)


def main():
    if sys.argv[1:] not in ([], ["--modules"]):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        found = list(check(pathlib.Path(scratch), "--modules" in sys.argv))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
