#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libhakmem.so's dlopen jumps to the next dlopen, so that the dynamic linker sees the program as the caller.

usage: tail_call_test.py LIBRARY...

A call of an address instead of a jump would make hakmem the caller. The check must report such code, and code that has
no jump at all.
"""

import re
import shutil
import subprocess
import sys

MACHINES = {62: "x86_64", 183: "aarch64"}  # by e_machine
CALLS = {"x86_64": r"call\s+\*|call\s+(?:[0-9a-f]+ )?<.*@plt>", "aarch64": r"blr[a-z]*\s|bl\s.*@plt>"}
JUMPS = {"x86_64": r"jmp\s+\*", "aarch64": r"br[a-z]*\s+x\d+"}
RETURNS = {"x86_64": r"ret\b", "aarch64": r"ret[a-z]*\b"}

GOOD = {
    "x86_64": "push %rbx\ncall 8260 <without_deepbind>\npop %rbx\njmp *%rax",
    "aarch64": "stp x29, x30, [sp, #-32]!\nbl 8260 <without_deepbind>\nldp x29, x30, [sp], #32\nbr x16"
}
BAD = {
    "x86_64": ["push %rbx\ncall *%rax\npop %rbx\nret", "call 8260 <next>\nret", "call 8030 <dlopen@plt>\njmp *%rax", ""],
    "aarch64": ["blr x0\nldp x29, x30, [sp], #32\nret", "bl 8260 <next>\nret", "bl 8030 <dlopen@plt>\nbr x16", ""]
}


def problems(code, machine):
    """What is wrong with these lines of dlopen."""
    found = ["calls an address: " + line for line in code if re.match(CALLS[machine], line)]
    found += ["returns: " + line for line in code if re.match(RETURNS[machine], line)]
    if not any(re.match(JUMPS[machine], line) for line in code):
        found.append("does not jump to an address")
    return found


def disassembly(library):
    """(the instructions of dlopen, the machine)"""
    with open(library, "rb") as file:
        head = file.read(20)
    machine = MACHINES[int.from_bytes(head[18:20], "little")]
    tool = shutil.which(machine + "-linux-gnu-objdump") or "objdump"
    text = subprocess.run([tool, "-d", "--no-show-raw-insn", "--disassemble=dlopen", library], check=True,
                          stdout=subprocess.PIPE, universal_newlines=True).stdout
    return re.findall(r"^\s*[0-9a-f]+:\t(.*?)\s*$", text, re.MULTILINE), machine


def main():
    failures = 0
    for machine, code in GOOD.items():
        if problems(code.split("\n"), machine):
            failures += 1
            print("FAILED: good code of %s is reported: %s" % (machine, problems(code.split("\n"), machine)))
        for bad in BAD[machine]:
            if not problems(bad.split("\n"), machine):
                failures += 1
                print("FAILED: bad code of %s is not reported:\n%s" % (machine, bad))
    if len(sys.argv) < 2:
        sys.exit("no library given")
    for library in sys.argv[1:]:
        for problem in problems(*disassembly(library)):
            failures += 1
            print("FAILED: %s: dlopen %s" % (library, problem))
    print("%d libraries, %d failures" % (len(sys.argv) - 1, failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
