# SPDX-License-Identifier: Apache-2.0
"""Which instructions a call executes, and of what kind they are.

On x86-64 callgrind traces them, on aarch64 the emulator. A path is a list of addresses in a file, with one entry for
each execution.
"""

import os
import re
import shutil
import subprocess
import tempfile
from typing import Dict, List, NamedTuple, Tuple

KINDS = ("instructions", "loads", "stores", "branches", "calls", "atomics")

# Those of steps.c.
STEPS = ("malloc", "free", "free_sized", "calloc", "realloc", "aligned_alloc", "usable_size", "new", "delete_sized")

# Not the allocator's: the harness, and the C library's functions that clear and copy memory.
FOREIGN = re.compile(r"^(step_\w+|main|\(below main\)|_*mem(set|cpy|move|pcpy)\w*|\*ABS\*.*)$")


class Call(NamedTuple):
    """One instruction: the file's path and the address in it."""

    file: str
    address: int


class PathError(Exception):
    """No path is known; the message says why."""


# ---- Kinds of instructions -----------------------------------------------------------------------


def kinds_x86(text: str) -> Tuple[int, ...]:
    """Of an instruction as objdump prints it (AT&T syntax): 1, loads, stores, branches, calls, atomics."""
    words = text.split(None, 1)
    locked = words[0] == "lock"
    if words[0] in ("lock", "bnd", "notrack", "rep", "repz", "repnz"):
        words = words[1].split(None, 1)
    name, operands = words[0], words[1].split("#")[0].split("<")[0].strip() if len(words) > 1 else ""
    branch, call = int(name.startswith("j")), int(name.startswith("call"))
    load = store = 0
    if "(" in operands or re.search(r"%[fg]s:", operands):
        last = re.split(r",(?![^(]*\))", operands)[-1]
        at_end = "(" in last or "%fs:" in last or "%gs:" in last
        if name.startswith(("lea", "nop", "prefetch")):
            pass
        elif name.startswith(("cmpxchg", "xchg", "xadd")):
            load = store = 1
        elif branch or call or name.startswith(("cmp", "test", "push", "bt")) or not at_end:
            load = 1
        elif name.startswith(("mov", "set", "pop", "vmov")):
            store = 1
        else:
            load = store = 1
    if name.startswith("push") or call:
        store = 1
    if name.startswith(("pop", "ret")):
        load = 1
    atomic = int(locked or (name.startswith("xchg") and bool(store)))
    return 1, load, store, branch, call, atomic


def kinds_aarch64(text: str) -> Tuple[int, ...]:
    name = text.split()[0]
    call = int(name in ("bl", "blr"))
    branch = int(not call and (name in ("b", "br") or name.startswith(("b.", "cb", "tb"))))
    atomic = int(bool(re.match(r"(ldx|ldax|stx|stlx|cas|swp|ld(add|clr|eor|set|smax|smin|umax|umin))", name)))
    return 1, int(name.startswith("ld")), int(name.startswith("st")), branch, call, atomic


def disassemble(objdump: str, file: str) -> Dict[int, str]:
    done = subprocess.run([objdump, "-d", "--no-show-raw-insn", file], capture_output=True, text=True, check=True)
    return {int(found.group(1), 16): found.group(2)
            for found in re.finditer(r"^\s*([0-9a-f]+):\t(\S.*?)\s*$", done.stdout, re.M)}


def count(path: List[Call], disassembly: Dict[int, str], kinds) -> List[int]:
    total = [0] * len(KINDS)
    for call in path:
        if call.address not in disassembly:
            raise PathError(f"{call.file} has no instruction at {call.address:#x}")
        total = [a + b for a, b in zip(total, kinds(disassembly[call.address]))]
    return total


def shortest(paths: List[List[Call]]) -> List[Call]:
    return min(paths, key=len)


# ---- x86-64, by callgrind ------------------------------------------------------------------------


def parse_callgrind(text: str, wanted: str) -> List[Call]:
    """The instructions of the allocator, which is in the file `wanted`, from one dump. It has a line for each address."""
    path: List[Call] = []
    file = function = ""
    called = False
    for line in text.splitlines():
        if line.startswith("ob="):
            file = line[3:].strip()
        elif line.startswith("fn="):
            function = line[3:].strip()
        elif line.startswith("calls="):
            called = True  # the next line is the cost of the callee
        elif line.startswith("0x"):
            address, _, times = line.split()[:3]
            # A name may have a version (@) and the number of a copy (').
            foreign = file != wanted or FOREIGN.match(re.split("[@']", function)[0])
            if not called and not foreign:
                path += [Call(file, int(address, 16))] * int(times)
            called = False
    return path


def trace_callgrind(program: str, library: str) -> Dict[str, List[Call]]:
    """`library` is preloaded. Empty: the program has the allocator in it."""
    environment = dict(os.environ, LD_BIND_NOW="1")
    if library:
        environment["LD_PRELOAD"] = library
    if not shutil.which("valgrind"):
        raise PathError("valgrind is not installed")
    with tempfile.TemporaryDirectory(prefix="hakmem-golden-") as directory:
        out = os.path.join(directory, "out")
        # Debugger pipes are named after the process id, which can be the same in another sandbox.
        command = ["valgrind", "-q", "--vgdb=no", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-instr=yes",
                   "--compress-strings=no", "--compress-pos=no", "--collect-atstart=no", "--toggle-collect=step_*",
                   "--skip-plt=no"]
        command += [f"--dump-after=step_{name}" for name in STEPS] + [program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0 or done.stdout != "done\n":
            raise PathError(f"{program} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        paths: Dict[str, List[List[Call]]] = {}
        for name in os.listdir(directory):
            with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as dump:
                text = dump.read()
            trigger = re.search(r"^desc: Trigger: --dump-after=step_(\w+)", text, re.M)
            if trigger:
                paths.setdefault(trigger.group(1), []).append(parse_callgrind(text, library or program))
    return {name: shortest(found) for name, found in paths.items()}


# ---- aarch64, by the emulator ----------------------------------------------------------------------


def parse_emulator(log, program: str) -> Dict[str, List[List[Call]]]:
    """From lines like `Trace 0: 0x7f.. [0000000000000000/0000000000400b24/00000101/ff000000] malloc`."""
    paths: Dict[str, List[List[Call]]] = {}
    path: List[Call] = []
    step = ""
    for line in log:
        found = re.match(r"Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/[^]]*\] ?(\S*)", line)
        if not found:
            continue
        function = found.group(2)
        if step and function == "main":
            paths.setdefault(step, []).append(path)
            step, path = "", []
        elif function.startswith("step_"):
            step = function[len("step_"):]
        elif step and not FOREIGN.match(function):
            path.append(Call(program, int(found.group(1), 16)))
    return paths


def trace_emulator(program: str, emulator: str) -> Dict[str, List[Call]]:
    """`program` is static and not position-independent, so its addresses are those of its file."""
    if not shutil.which(emulator):
        raise PathError(f"{emulator} is not installed")
    with tempfile.TemporaryDirectory(prefix="hakmem-golden-") as directory:
        pipe = os.path.join(directory, "log")
        os.mkfifo(pipe)
        # One instruction in each translated block, and no jumps between blocks that are not logged.
        command = [emulator, "-singlestep", "-d", "exec,nochain", "-D", pipe, program]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            with open(pipe, encoding="utf-8", errors="replace") as log:
                paths = parse_emulator(log, program)
            output = process.stdout.read() if process.stdout else ""
        if process.returncode != 0 or output != "done\n":
            raise PathError(f"{program} ended with {process.returncode} under {emulator}")
    return {name: shortest(found) for name, found in paths.items()}
