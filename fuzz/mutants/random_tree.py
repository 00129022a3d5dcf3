# SPDX-License-Identifier: Apache-2.0
"""A clone of the repository in which mutants are planted, and which code each of them makes there."""

import hashlib
import json
import pathlib
import re
import subprocess
import tempfile

import random_results

# A program that writes a page; what only tests use.
LEFT_OUT = re.compile(r"^allocator/(test/.*|gate/env_doc\.c|.*/(unit_)?test[^/]*)$")
BUILDS = ("standard", "observe", "hardened", "tsan")
COMPILE = ["-std=c17", "-O2", "-DNDEBUG", "-D_GNU_SOURCE=1", "-fvisibility=hidden", "-ftls-model=initial-exec", "-w",
           "-fno-builtin-malloc", "-fno-builtin-calloc", "-fno-builtin-realloc", "-fno-builtin-free",
           "-fno-builtin-aligned_alloc", "-fno-builtin-memalign", "-fno-builtin-posix_memalign", "-iquote", ".",
           "-Iallocator/include", "-c"]


class Failure(Exception):
    """No verdict is possible."""


def run(command, cwd, **kwargs):
    return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", errors="replace", **kwargs)


def must(command, cwd):
    done = run(command, cwd)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: {done.stdout[-2000:]}")
    return done.stdout


class Tree:
    """A clone in which mutants are planted, and what is known about its commit."""

    def __init__(self, folder, repository, commit):
        self.path = folder
        self.commit = commit
        if not (folder / ".git").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            must(["git", "clone", "--quiet", "--no-checkout", repository, folder], repository)
        must(["git", "fetch", "--quiet", repository, commit], folder)
        must(["git", "checkout", "--quiet", "--force", "--detach", commit], folder)
        self.notes = folder.parent / f"{folder.name}-notes.json"
        noted = json.loads(self.notes.read_text(encoding="utf-8")) if self.notes.exists() else {}
        self.known = noted if noted.get("commit") == commit else {"commit": commit}

    def note(self, name, key, make):
        """What `make` returns, made once for each commit."""
        if key not in self.known.setdefault(name, {}):
            self.known[name][key] = make()
            self.notes.write_text(json.dumps(self.known), encoding="utf-8")
        return self.known[name][key]

    def text(self, file):
        return (self.path / file).read_text(encoding="utf-8")

    def plant(self, file, text):
        (self.path / file).write_text(text, encoding="utf-8")

    def sources(self):
        """The sources from which mutants are drawn."""
        found = sorted(str(path.relative_to(self.path)) for path in self.path.glob("allocator/*/*.[ch]"))
        return [file for file in found if not LEFT_OUT.match(file)]


# ---- Which code a mutant makes ---------------------------------------------------------------------------------------

def compiler(build):
    if build == "tsan":
        return ["clang-19", "-fsanitize=thread", "-DHAK_PROFILE_STANDARD=1"]
    return ["gcc", f"-DHAK_PROFILE_{build.upper()}=1"]


def compiled(tree, file, build):
    """A digest of the object code of `file`; empty: it does not compile."""
    with tempfile.NamedTemporaryFile(suffix=".o") as out:
        done = run(compiler(build) + COMPILE + [file, "-o", out.name], tree.path)
        return hashlib.sha256(pathlib.Path(out.name).read_bytes()).hexdigest() if done.returncode == 0 else ""


def users(tree, file):
    """The sources whose code may change with `file`."""
    if file.endswith(".c"):
        return [file]

    def includes(source):
        done = run(compiler("observe") + COMPILE + ["-MM", source], tree.path)
        return [word for word in done.stdout.replace("\\\n", " ").split() if word.startswith("allocator/")]

    found = [s for s in tree.sources() if s.endswith(".c") and file in tree.note("includes", s, lambda s=s: includes(s))]
    # Those of the same room first: they are the likeliest to differ.
    return sorted(found, key=lambda s: s.split("/")[1] != file.split("/")[1])


def changes(tree, mutant, build):
    """Whether the mutant makes other code in that build. None: it does not compile."""
    original = tree.text(mutant.file)
    for source in users(tree, mutant.file):
        before = tree.note("objects", f"{build} {source}", lambda s=source: compiled(tree, s, build))
        tree.plant(mutant.file, mutant.apply(original))
        try:
            after = compiled(tree, source, build)
        finally:
            tree.plant(mutant.file, original)
        if after != before:
            return True if after else None
    return False


def is_as_in(tree, file, build, other):
    """Whether the unchanged code of `file` is the same in both builds."""
    return all(tree.note("objects", f"{build} {s}", lambda s=s: compiled(tree, s, build)) ==
               tree.note("objects", f"{other} {s}", lambda s=s: compiled(tree, s, other)) for s in users(tree, file))


def builds(tree, mutant):
    """The builds in which to judge the mutant, each found when it is asked for; random_results.BROKEN ends the list."""
    for build in ("tsan",) if mutant.kind == "order" else BUILDS[:3]:
        if build == "hardened" and is_as_in(tree, mutant.file, "hardened", "observe"):
            continue
        changed = changes(tree, mutant, build)
        if changed is None:
            yield random_results.BROKEN
            return
        if changed:
            yield build


def is_refused(tree, mutant):
    """Whether clang's analysis of locks (os/lock_annotations.h), an error in builds with clang, refuses the mutant."""
    def accepted(source):
        command = ["clang-19", "-DHAK_PROFILE_STANDARD=1"] + COMPILE + [source, "-fsyntax-only"]
        command.remove("-w")
        return run(command + ["-Wno-everything", "-Werror=thread-safety"], tree.path).returncode == 0

    original = tree.text(mutant.file)
    for source in users(tree, mutant.file) if mutant.file.endswith(".c") else []:
        before = tree.note("accepted", source, lambda s=source: accepted(s))
        tree.plant(mutant.file, mutant.apply(original))
        try:
            if before and not accepted(source):
                return True
        finally:
            tree.plant(mutant.file, original)
    return False
