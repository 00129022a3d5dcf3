# SPDX-License-Identifier: Apache-2.0
"""The allocators that the benchmarks compare: where they are, and the check that a run really used one."""

import glob
import os
import platform
import re
import sys
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

# The folder bench/ above the running script, in the build's tree of links. Python's __file__ may be the target of a
# link, but built files are beside the links.
BENCH = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0])))

# The kinds that random_mixed can tell apart. An allocator whose name begins with one of them must be of that kind.
KINDS = ("hakmem", "noop", "glibc", "mimalloc", "jemalloc", "tcmalloc", "snmalloc", "rpmalloc", "scudo",
         "hardened_malloc")

OURS = {"hakmem-fast": "lib/libhakmem_fast.so", "hakmem-standard": "lib/libhakmem_standard.so"}
NOOP = "lib/libnoop.so"
FLOOR = "noop"
# Peers, each with the file names of its packages. The first one found is used.
PEERS = {
    "mimalloc": ("libmimalloc.so.2", "libmimalloc.so.2.*", "libmimalloc.so"),
    "mimalloc3": ("libmimalloc.so.3", "libmimalloc.so.3.*"),
    "jemalloc": ("libjemalloc.so.2", "libjemalloc.so"),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc_minimal.so", "libtcmalloc.so.4"),
    "snmalloc": ("libsnmallocshim.so*", "libsnmallocshim-*.so*"),
    "rpmalloc": ("librpmallocwrap.so*", "librpmalloc.so*"),
}
# Peers that are reported if they are missing. The others are not packaged in Debian 12.
EXPECTED_PEERS = ("glibc", "mimalloc", "jemalloc", "tcmalloc")

# Allocators that take part only when named, because they are slow by design: the checking profiles and hardened
# allocators.
OURS_WHEN_NAMED = {"hakmem-observe": "lib/libhakmem_observe.so", "hakmem-hardened": "lib/libhakmem_hardened.so"}
PEERS_WHEN_NAMED = {
    "scudo": (f"libclang_rt.scudo_standalone-{platform.machine()}.so",),
    "hardened_malloc": ("libhardened_malloc.so", "libhardened_malloc*.so"),
}

# Peers that --fetch-peers has unpacked: a folder for each, with a file VERSION.
PEER_CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hakmem", "peers")

LIBRARY_DIRS = (
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/lib/*-linux-gnu",
    "/lib/*-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/llvm-*/lib/clang/*/lib/linux",
    os.path.join(PEER_CACHE, "*", "usr", "lib", "*-linux-gnu"),
)


@dataclass(frozen=True)
class Allocator:
    name: str
    path: Optional[str]  # None: the C library's own malloc, nothing is preloaded

    @property
    def is_peer(self) -> bool:
        return not self.name.startswith(("hakmem", FLOOR))

    @property
    def kind(self) -> Optional[str]:
        return next((kind for kind in KINDS if self.name.startswith(kind)), None)

    def environment(self, base: Dict[str, str]) -> Dict[str, str]:
        env = {key: value for key, value in base.items() if key != "LD_PRELOAD"}
        if self.path:
            env["LD_PRELOAD"] = self.path
        return env

    def check_identity(self, identity: str) -> Optional[str]:
        """What is wrong with `identity`, the text after "Allocator = " of a run that should have used this
        allocator."""
        match = re.fullmatch(r"(\S+) (.*) \((.+)\)", identity)
        if not match:
            return f"cannot read '{identity}'"
        kind, version, library = match.groups()
        if self.path:
            if os.path.realpath(library) != os.path.realpath(self.path):
                return f"malloc came from {library}, not from {self.path}"
        elif not os.path.basename(library).startswith(("libc.so", "libc-")):
            return f"malloc came from {library}, not from the C library"
        if self.kind and kind != self.kind:
            return f"{library} is {kind} {version}"
        for profile in ("fast", "standard", "observe", "hardened"):
            if self.kind == "hakmem" and profile in self.name and profile not in version.split():
                return f"{library} is {kind} {version}"
        return None


def fetched(allocator: Allocator) -> Optional[str]:
    """Package, version and release of a peer from the cache; None for one that is installed."""
    place = os.path.join(PEER_CACHE, allocator.name)
    if not allocator.path or not allocator.path.startswith(place + os.sep):
        return None
    try:
        with open(os.path.join(place, "VERSION"), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return "a package of unknown version"


def built_file(name: str) -> Optional[str]:
    """A file of the build, by its path below bench/."""
    path = os.path.join(BENCH, name)
    return path if os.path.exists(path) else None


def find_library(patterns: Tuple[str, ...]) -> Optional[str]:
    for pattern in patterns:
        for directory in LIBRARY_DIRS:
            found = sorted(glob.glob(os.path.join(directory, pattern)))
            if found:
                return found[0]
    return None


def _ours(files: Dict[str, str], found: List[Allocator], missing: List[str]) -> None:
    for name, file in files.items():
        path = built_file(file)
        if path:
            found.append(Allocator(name, path))
        else:
            missing.append(f"{name}: bench/{file} was not built (run the script through bazel)")


def _peers(files: Dict[str, Tuple[str, ...]], found: List[Allocator], missing: List[str]) -> None:
    for name, patterns in files.items():
        path = find_library(patterns)
        if path:
            found.append(Allocator(name, path))
        elif name in EXPECTED_PEERS:
            missing.append(f"{name}: not installed (no {patterns[0]} in the usual library folders)")
        else:
            missing.append(f"{name}: not installed")


def discover(floor: bool = True) -> Tuple[List[Allocator], List[str]]:
    """All allocators that are present and take part by default, hakmem first, and a line for each expected one that is
    missing."""
    found, missing = [], []
    _ours(OURS, found, missing)
    if floor:
        path = built_file(NOOP)
        if path:
            found.append(Allocator(FLOOR, path))
        else:
            missing.append(f"noop: bench/{NOOP} was not built (run the script through bazel)")
    found.append(Allocator("glibc", None))
    _peers(PEERS, found, missing)
    return found, missing


class SelectionError(Exception):
    """The --allocator option names something that does not exist."""


def select(spec: Optional[str], directory: str, floor: bool = True) -> Tuple[List[Allocator], List[str]]:
    """Resolves --allocator NAME[=LIB.so],...: bare names select found allocators, NAME=LIB adds a library.

    Without a bare name all found ones take part. Relative paths start at `directory`.
    """
    found, missing = discover(floor)
    if spec is None:
        return found, missing
    named, not_here = [], []
    _ours(OURS_WHEN_NAMED, named, not_here)
    _peers(PEERS_WHEN_NAMED, named, not_here)
    by_name = {allocator.name: allocator for allocator in found + named}
    known = set(OURS) | set(PEERS) | {"glibc"} | ({FLOOR} if floor else set())
    known |= set(OURS_WHEN_NAMED) | set(PEERS_WHEN_NAMED)
    picked, added = [], []
    for item in spec.split(","):
        name, equals, library = item.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9_.+-]+", name):
            raise SelectionError(f"'{item}' is not NAME or NAME=LIB.so")
        if equals:
            path = os.path.abspath(os.path.join(directory, library))
            # ld.so splits LD_PRELOAD at these characters, so such a path would silently name other files.
            if not library or re.search(r"[\s:]", path):
                raise SelectionError(f"'{item}' names no library that can be preloaded")
            if not os.path.isfile(path):
                raise SelectionError(f"no such library: {path}")
            added.append(Allocator(name, path))
        elif name in by_name:
            picked.append(by_name[name])
        elif name in known:
            raise SelectionError(next(line for line in missing + not_here if line.startswith(name + ":")))
        else:
            raise SelectionError(f"unknown allocator '{name}' (known: {', '.join(sorted(known))}, or NAME=LIB.so)")
    if picked:
        chosen, notes = picked + added, []
    else:
        chosen = [a for a in found if a.name not in {b.name for b in added}] + added
        notes = [line for line in missing if line.split(":")[0] not in {b.name for b in added}]
    names = [allocator.name for allocator in chosen]
    for name in names:
        if names.count(name) > 1:
            raise SelectionError(f"'{name}' is named twice")
    return chosen, notes
