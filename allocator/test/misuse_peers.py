# SPDX-License-Identifier: Apache-2.0
"""The other allocators of the misuse matrix: the C library's, those of the benchmarks, and hardened ones."""

import os
import subprocess
from dataclasses import dataclass
from typing import Optional

from bench.lib import allocators

PATTERNS = dict(allocators.PEERS)
# clang keeps its runtimes outside the system's library folders.
PATTERNS["scudo"] = ("llvm-19/lib/clang/19/lib/linux/libclang_rt.scudo_standalone-x86_64.so",)
PATTERNS["hardened_malloc"] = ("libhardened_malloc.so",)


@dataclass(frozen=True)
class Peer:
    name: str
    path: Optional[str]

    def environment(self):
        return {"LD_PRELOAD": self.path} if self.path else {}

    def version(self):
        """The name, with the version of its Debian package if it has one, and otherwise the file name."""
        path = os.path.realpath(self.path or "/lib/x86_64-linux-gnu/libc.so.6")
        for candidate in (path, self.path or "/lib/x86_64-linux-gnu/libc.so.6"):
            owner = subprocess.run(
                ["dpkg-query", "-S", candidate], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                universal_newlines=True).stdout.split(":")[0]
            if owner:
                version = subprocess.run(
                    ["dpkg-query", "-W", "-f", "${Version}\n", owner], stdout=subprocess.PIPE,
                    universal_newlines=True).stdout.split()
                return "%s, package %s %s" % (self.name, owner, version[0])
        return "%s, %s" % (self.name, os.path.basename(path))


def names():
    return ["glibc"] + list(PATTERNS)


def installed():
    found = [Peer("glibc", None)]
    for name, patterns in PATTERNS.items():
        path = allocators.find_library(patterns)
        if path:
            found.append(Peer(name, path))
        else:
            print("%s: not installed" % name)
    return found
