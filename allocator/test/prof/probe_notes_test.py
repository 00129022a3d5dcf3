#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The notes of the probes in libraries and programs: what a tracer needs is there, and right.

usage: probe_notes_test.py [--none] FILE...

Each FILE before --none has both probes, each once; those behind it have none. The files may be for any machine.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.getcwd(), "allocator", "test", "prof"))

import probe_notes  # noqa: E402

REGISTERS = {"x86-64": ("8@%rdi", "8@%rsi", "8@%rdx"), "aarch64": ("8@x0", "8@x1", "8@x2")}
NOTHING = {"x86-64": b"\x90", "aarch64": b"\x1f\x20\x03\xd5"}
ARGUMENTS = {"alloc": 3, "free": 1}


def problems(file):
    """What is wrong with the file's probes."""
    found = []
    notes = [note for note in file.notes() if note.provider == "otel_memory"]
    if sorted(note.name for note in notes) != sorted(ARGUMENTS):
        found.append(f"has the probes {sorted(note.name for note in notes)}")
    for note in notes:
        wanted = list(REGISTERS[file.machine][:ARGUMENTS.get(note.name, 0)])
        if note.arguments != wanted:
            found.append(f"{note.name} has its arguments in {note.arguments}")
        code = file.segment_of(note.pc)
        if code is None or not code[1] & probe_notes.PF_X:
            found.append(f"{note.name} is not in code")
        elif file.bytes_at(note.pc, len(NOTHING[file.machine])) != NOTHING[file.machine]:
            found.append(f"{note.name} is another instruction than one that does nothing")
        if note.base != file.sections.get(".stapsdt.base", (0, 0, 0, 0))[3] or note.base == 0:
            found.append(f"{note.name} refers to another base")
        # The kernel finds the counter by its place in the file, and writes it.
        counter = file.segment_of(note.semaphore)
        if counter is None or not counter[1] & probe_notes.PF_W or file.is_read_only_later(note.semaphore):
            found.append(f"the semaphore of {note.name} cannot be raised")
        elif note.semaphore % 2 != 0 or file.bytes_at(note.semaphore, 2) != b"\0\0":
            found.append(f"the semaphore of {note.name} is not an aligned 0")
    if len({note.semaphore for note in notes}) != len(notes):
        found.append("has one semaphore for two probes")
    return found


def main():
    wanted = True
    failures = 0
    checked = {True: 0, False: 0}
    for argument in sys.argv[1:]:
        if argument == "--none":
            wanted = False
            continue
        file = probe_notes.File(argument)
        found = problems(file) if wanted else [f"has the probe {note.name}" for note in file.notes()]
        for problem in found:
            print(f"{argument}: {problem}")
        failures += len(found)
        checked[wanted] += 1
    print(f"{checked[True]} files with probes, {checked[False]} without, {failures} problems")
    return 0 if failures == 0 and checked[True] and checked[False] else 1


if __name__ == "__main__":
    sys.exit(main())
