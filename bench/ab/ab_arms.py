# SPDX-License-Identifier: Apache-2.0
"""The two arms of an A/B comparison: what the command line may name, and the library that results."""

import dataclasses
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from bench.lib import allocators
from bench.lib.allocators import Allocator

GRAMMAR = """\
an arm is one word, or several in quotes:  [SOURCE] [--FLAG ...] [NAME=VALUE ...]
  SOURCE
    fast, standard, observe   the profile, from the tree as it is; standard when SOURCE is left out
    build:--FLAG              the tree as it is, built with these flags of bazel (more --FLAG words may follow)
    git:REV                   the tree at that commit, built apart from it (--FLAG words may follow)
    lib:FILE.so               any library that can be preloaded
    NAME                      an installed allocator, as in compare: {peers}
  NAME=VALUE                  sets an environment variable for this arm's runs
examples
  --a fast --b build:--config=clang
  --a standard --b HAKMEM_BORROW=0
  --a 'HAKMEM_PROFILE=speed HAKMEM_BORROW=0' --b 'standard HAKMEM_PROFILE=lean'
  --a git:HEAD --b 'build:--//configs:header=preserve --//configs:profile=fast'
  --a lib:old.so --b mimalloc
"""

PROFILES = ("fast", "standard", "observe")
BUILT = ("build", "git")
TARGET = "//allocator:libhakmem.so"
BUILD_TIMEOUT = 1800.0


class ArmError(Exception):
    """The command line names an arm that does not exist."""


class BuildError(Exception):
    """An arm could not be built."""


@dataclass(frozen=True)
class Spec:
    """An arm as named: `source` is a profile, "build", "git", "lib" or a peer's name; `argument` REV or FILE."""

    source: str
    argument: str = ""
    flags: Tuple[str, ...] = ()
    settings: Tuple[Tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """As typed on the command line, but without the library's folder, because notes contain it."""
        if self.source == "build":
            words = ["build:" + self.flags[0], *self.flags[1:]]
        elif self.source == "git":
            words = ["git:" + self.argument, *self.flags]
        elif self.source == "lib":
            words = ["lib:" + os.path.basename(self.argument)]
        else:
            words = [self.source]
        return " ".join(words + [f"{name}={value}" for name, value in self.settings])


def peers() -> Tuple[Dict[str, Allocator], List[str]]:
    found, missing = allocators.discover()
    return {a.name: a for a in found if a.name not in allocators.OURS}, missing


def grammar() -> str:
    return GRAMMAR.format(peers=", ".join(peers()[0]))


def _library(text: str, directory: str) -> str:
    path = os.path.abspath(os.path.join(directory, text))
    # ld.so splits LD_PRELOAD at these characters, so such a path would silently name other files.
    if not text or re.search(r"[\s:]", path):
        raise ArmError(f"'lib:{text}' names no library that can be preloaded")
    if not os.path.isfile(path):
        raise ArmError(f"no such library: {path}")
    return path


def git(workspace: str, *arguments: str) -> Optional[str]:
    """What git prints, or None when it fails."""
    done = subprocess.run(["git", "-C", workspace, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _split(text: str) -> Tuple[str, List[str], List[Tuple[str, str]]]:
    """The words of an arm: its source, flags and settings."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ArmError(f"'{text}': {error}") from None
    source, flags, settings = "", [], []
    for number, word in enumerate(words):
        setting = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", word, re.DOTALL)
        if setting:
            settings.append((setting.group(1), setting.group(2)))
        elif word.startswith("--") and number > 0:
            flags.append(word)
        elif number == 0:
            source = word
        else:
            raise ArmError(f"'{text}': '{word}' is neither --FLAG nor NAME=VALUE")
    if not source and not settings:
        raise ArmError("an arm is empty")
    names = [name for name, _ in settings]
    for name in names:
        if name == "LD_PRELOAD":
            raise ArmError("LD_PRELOAD is what this tool sets; use lib:FILE.so")
        if names.count(name) > 1:
            raise ArmError(f"'{text}': {name} is set twice")
    return source or "standard", flags, settings


def parse(text: str, directory: str, workspace: Optional[str]) -> Spec:
    """Reads one arm; relative libraries are looked up from `directory`. ArmError when there is no such arm."""
    source, flags, settings = _split(text)
    kind, colon, argument = source.partition(":")
    if colon and kind == "build":
        flags.insert(0, argument)
        argument = ""
        if not flags[0].startswith("--"):
            raise ArmError(f"'{text}': build: needs a flag of bazel, as in build:--config=clang")
    elif colon and kind == "git":
        if not argument or argument.startswith("-"):
            raise ArmError(f"'{text}': git: needs a commit, as in git:HEAD")
    elif colon and kind == "lib":
        argument = _library(argument, directory)
    elif colon:
        raise ArmError(f"'{text}': unknown kind of arm '{kind}:' (known: build:, git:, lib:)")
    elif kind not in PROFILES:
        found, missing = peers()
        if kind not in found:
            absent = [line for line in missing if line.startswith(kind + ":")]
            raise ArmError(absent[0] if absent else f"unknown arm '{kind}' (known: {', '.join([*PROFILES, *found])}, "
                                                    "build:--FLAG, git:REV, lib:FILE.so, NAME=VALUE)")
    if flags and kind not in BUILT:
        raise ArmError(f"'{text}': {flags[0]} needs build: or git:")
    if kind == "fast" and any(name.startswith("HAKMEM_") for name, _ in settings):
        raise ArmError(f"'{text}': a fast build has its settings fixed")
    if kind in BUILT:
        if not workspace:
            raise ArmError(f"'{text}': nothing can be built here; start this with ./bazelw run //bench:ab")
        if kind == "git" and not git(workspace, "rev-parse", "--verify", "--quiet", argument + "^{commit}"):
            raise ArmError(f"'{text}': no such commit")
    return Spec(kind, argument, tuple(flags), tuple(sorted(settings)))


@dataclass(frozen=True)
class Arm(Allocator):
    """An arm that can be run. From `name`, check_identity() knows which library must be found."""

    letter: str = ""
    label: str = ""
    origin: str = ""  # the state of the source from which it was built
    settings: Tuple[Tuple[str, str], ...] = ()
    extra: Tuple[str, ...] = ()  # arguments of the harness besides the workload's

    def environment(self, base: Dict[str, str]) -> Dict[str, str]:
        return {**super().environment(base), **dict(self.settings)}

    def digest(self) -> str:
        """The library's SHA-256: it must not change between the first run and the last."""
        if not self.path:
            return ""
        with open(self.path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()


def _writable_and_again(function, path, _error) -> None:
    # Bazel makes its output folders read-only.
    os.chmod(os.path.dirname(path), stat.S_IRWXU)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, stat.S_IRWXU)
    function(path)


class Workshop:
    """A temporary folder in which arms are built and kept during the comparison."""

    def __init__(self, workspace: Optional[str]) -> None:
        self.workspace = workspace
        self.worktrees: List[str] = []

    def __enter__(self) -> "Workshop":
        self.folder = tempfile.mkdtemp(prefix="hakmem-ab-")
        return self

    def __exit__(self, *_) -> None:
        for tree in self.worktrees:
            git(self.workspace, "worktree", "remove", "--force", tree)
        shutil.rmtree(self.folder, onerror=_writable_and_again)
        if self.worktrees:
            git(self.workspace, "worktree", "prune")

    def keep(self, path: str, *name: str) -> str:
        """Makes a copy, because a build may replace the file while the comparison runs."""
        target = os.path.join(self.folder, *name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        return shutil.copy(os.path.realpath(path), target)

    def prepare(self, spec: Spec, letter: str) -> Arm:
        name, path, origin = spec.source, None, ""
        if spec.source in PROFILES:
            name, origin = "hakmem-" + spec.source, self._state()
            path = self._keep_library(self._built(f"lib/libhakmem_{spec.source}.so"), letter)
        elif spec.source == "build":
            name, origin = "hakmem", self._state()
            # A suffix, so that these flags do not discard what was built with other flags.
            path = self._build(letter, self.workspace, [], [*spec.flags, "--platform_suffix=ab"])
        elif spec.source == "git":
            name, origin = "hakmem", git(self.workspace, "rev-parse", "--short", spec.argument + "^{commit}") or ""
            path = self._build_commit(letter, spec)
        elif spec.source == "lib":
            path = spec.argument
        else:
            path = peers()[0][spec.source].path
        return Arm(name, path, letter, spec.label, origin, spec.settings)

    def _state(self) -> str:
        """The commit of the working tree, and whether the tree has changes."""
        if not self.workspace:
            return ""
        commit = git(self.workspace, "rev-parse", "--short", "HEAD")
        if not commit:
            return ""
        return commit + (" with uncommitted changes" if git(self.workspace, "status", "--porcelain") else "")

    def _built(self, name: str) -> str:
        path = allocators.built_file(name)
        if not path:
            raise BuildError(f"bench/{name} was not built (run the script through bazel)")
        return path

    def _keep_library(self, path: str, letter: str) -> str:
        return self.keep(path, letter, "libhakmem.so")

    def _build(self, letter: str, tree: str, startup: List[str], flags: List[str]) -> str:
        links = os.path.join(self.folder, letter, "bazel-")
        os.makedirs(os.path.dirname(links), exist_ok=True)
        # Separate links, so that the tree's bazel-bin stays that of the caller's last build.
        command = [os.path.join(tree, "bazelw"), *startup, "build", "--noshow_progress", "--color=no", *flags,
                   f"--symlink_prefix={links}", TARGET]
        env = {key: value for key, value in os.environ.items()
               if not key.startswith(("LD_PRELOAD", "RUNFILES", "BUILD_W", "JAVA_RUNFILES"))}
        sys.stderr.write(f"ab: building arm {letter.upper()}: {' '.join(flags) or TARGET}\n")
        try:
            done = subprocess.run(command, cwd=tree, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=BUILD_TIMEOUT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"arm {letter.upper()} does not build: {error}") from None
        library = os.path.join(links + "bin", "allocator", "libhakmem.so")
        if done.returncode != 0 or not os.path.isfile(library):
            tail = "\n".join(done.stdout.strip().splitlines()[-15:])
            raise BuildError(f"arm {letter.upper()} does not build:\n{tail}")
        return self._keep_library(library, letter)

    def _build_commit(self, letter: str, spec: Spec) -> str:
        tree = os.path.join(self.folder, letter, "tree")
        self.worktrees.append(tree)
        if git(self.workspace, "worktree", "add", "--detach", tree, spec.argument) is None:
            raise BuildError(f"arm {letter.upper()}: git worktree add fails for {spec.argument}")
        # Ends the server and removes the output folder.
        base = os.path.join(self.folder, letter, "output")
        return self._build(letter, tree, ["--batch", f"--output_base={base}"], list(spec.flags))


def with_extra(arm: Arm, letter: str, label: str, extra: Tuple[str, ...] = ()) -> Arm:
    """The same library with another letter and other arguments of the harness."""
    return dataclasses.replace(arm, letter=letter, label=label, extra=extra)


def probe(bench: str, arm: Arm) -> Optional[str]:
    """What is wrong with an arm's settings: a short run must accept all of hakmem's without a message."""
    env = arm.environment(dict(os.environ))
    ours = [(name, value) for name, value in arm.settings if name.startswith("HAKMEM_")]
    if ours:
        env["HAKMEM_SHOW_CONFIG"] = "1"
    try:
        done = subprocess.run([bench, "1000", "100"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return "a short run does not end"
    shown, other = {}, []
    for line in done.stderr.splitlines():
        match = re.fullmatch(r"hakmem: (HAKMEM_\w+)=(.*) \(([a-z; ]+)\)", line)
        if match:
            shown[match.group(1)] = match.group(3)
        elif ours and line.startswith(("hakmem: version ", "hakmem: in use: ")):
            pass  # the first and the last line of HAKMEM_SHOW_CONFIG
        else:
            other.append(line)
    if other:
        return other[0]
    if done.returncode != 0:
        return f"a short run ends with status {done.returncode}"
    for name, _ in ours:
        if shown and shown.get(name) != "environment":
            return f"{name} is {shown[name]}" if name in shown else f"{name} is no setting of this build"
    return None
