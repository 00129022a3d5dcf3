#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy on the allocator's C files, in STANDARD and HARDENED: tidy.py [FILE...]

.clang-tidy lists the checks. FILEs are checked instead of all files. Two profiles are enough, because they include all
code of FAST and OBSERVE."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

PROGRAM = "/usr/bin/clang-tidy-19"
PROFILES = ("STANDARD", "HARDENED")
# The analyzer's default of 225,000 steps for a function takes four times as long and finds nothing more here.
SHORT = ["--extra-arg=-Xclang", "--extra-arg=-analyzer-config", "--extra-arg=-Xclang", "--extra-arg=max-nodes=50000"]
FLAGS = ["-std=c17", "-O2", "-D_GNU_SOURCE=1", "-I.", "-Iallocator/include", "-fvisibility=hidden"]
LEAST_FILES = 50  # fewer files mean that the search for files is wrong


def sources():
    """The allocator's own C files, without its tests, which have other rules."""
    return sorted(str(path) for path in pathlib.Path("allocator").glob("*/*.c")
                  if path.parts[1] != "test" and not path.stem.startswith("test_"))


def look(job):
    file, profile = job
    run = subprocess.run([PROGRAM, "--quiet", *SHORT, file, "--", *FLAGS, f"-DHAK_PROFILE_{profile}=1"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, check=False)
    # On stderr it also counts warnings in system headers, so stderr matters only if there is no finding.
    return (run.stdout or run.stderr or f"exit status {run.returncode}") if run.returncode else None


def main():
    os.chdir(pathlib.Path(__file__).resolve().parent.parent)
    files = sys.argv[1:] or sources()
    if not sys.argv[1:] and len(files) < LEAST_FILES:
        print(f"only {len(files)} files found")
        return 1
    jobs = [(file, profile) for file in files for profile in PROFILES]
    found = set()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for report in pool.map(look, jobs):
            if report and report not in found:
                found.add(report)
                print(report)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
