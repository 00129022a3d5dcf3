# SPDX-License-Identifier: Apache-2.0
"""Compares the fast paths of this build with the golden table, instruction by instruction.

golden.json has the table, and docs/analysis/scorecards/golden.md shows it: for each compiler, machine, profile and form
of the library, the instructions that a warm call executes in the allocator, and how many of them are loads, stores,
branches, calls and atomic. A change that makes a fast path longer, or shorter, changes the table in the same commit.
"""

import json
import os
import re
import subprocess
import sys
from typing import Dict, List, TextIO, Tuple

from bench.golden import golden_page, paths
from bench.lib import cli

HERE = os.path.dirname(os.path.abspath(__file__))
EMULATOR = "/usr/bin/qemu-aarch64"
OBJDUMPS = {"x86-64": "objdump", "aarch64": "aarch64-linux-gnu-objdump"}
TABLE = "bench/golden/golden.json"
PROFILES = ("fast", "standard", "observe", "hardened")
ADVICE = "if this is wanted: ./bazelw run //bench:golden -- --write, with the --config of this build"
PAGE = "docs/analysis/scorecards/golden.md"

Rows = Dict[str, List[int]]  # by the call's name, the counts of paths.KINDS


def elf_text(option: str, section: str, file: str) -> str:
    return subprocess.run(["readelf", option, section, file] if section else ["readelf", option, file],
                          capture_output=True, text=True, check=True).stdout


def machine_of(file: str) -> str:
    return "aarch64" if "AArch64" in elf_text("-h", "", file) else "x86-64"


def compiler_of(file: str) -> str:
    """The C runtime's start files name gcc too, so clang's name decides."""
    comment = elf_text("-p", ".comment", file)
    clang = re.search(r"clang version (\d+)\.", comment)
    gcc = re.search(r"GCC: \(.*?\) (\d+)\.", comment)
    if clang:
        return "clang " + clang.group(1)
    if gcc:
        return "gcc " + gcc.group(1)
    raise paths.PathError(f"{file} does not name its compiler")


def builds(profiles: List[str]) -> List[Tuple[str, str, str]]:
    """(key in the table, program, library or empty) of what this build has."""
    root = os.path.dirname(HERE)
    found = []
    for profile in profiles:
        linked = os.path.realpath(os.path.join(HERE, f"steps_{profile}"))
        forms = [("static", linked, "")]
        if machine_of(linked) == "x86-64":
            library = os.path.realpath(os.path.join(root, "lib", f"libhakmem_{profile}.so"))
            forms.append(("shared", os.path.realpath(os.path.join(HERE, "steps")), library))
        for form, program, library in forms:
            key = f"{machine_of(linked)}, {compiler_of(library or program)}, {profile}, {form}"
            found.append((key, program, library))
    return found


def measure(program: str, library: str) -> Rows:
    machine = machine_of(program)
    if machine == "aarch64":
        traced, kinds = paths.trace_emulator(program, EMULATOR), paths.kinds_aarch64
    else:
        traced, kinds = paths.trace_callgrind(program, library), paths.kinds_x86
    disassembly = paths.disassemble(OBJDUMPS[machine], library or program)
    missing = [name for name in paths.STEPS if name not in traced]
    if missing:
        raise paths.PathError(f"{program}: no trace of {', '.join(missing)}")
    return {name: paths.count(traced[name], disassembly, kinds) for name in paths.STEPS}


def slack(key: str, count: int) -> int:
    """By how much a count may differ. HARDENED draws random numbers in each call, and what follows depends on them."""
    return max(3, count // 30) if ", hardened," in key else 0


def differences(key: str, golden: Rows, now: Rows) -> List[str]:
    """One line for each call whose counts differ."""
    lines = []
    for name in paths.STEPS:
        told = [f"{kind} {before} -> {after}"
                for kind, before, after in zip(paths.KINDS, golden.get(name, [-9] * len(paths.KINDS)), now[name])
                if abs(after - before) > slack(key, before)]
        if told:
            lines.append(f"{key}: {name}: {', '.join(told)}")
    return lines


def compare(profiles: List[str], table: Dict[str, Rows]) -> List[str]:
    """Puts what this build has into `table`. Returns the differences."""
    lines: List[str] = []
    for key, program, library in builds(profiles):
        now = measure(program, library)
        lines += differences(key, table.get(key, {}), now)
        table[key] = now
    return lines


class TableError(Exception):
    """A table is cut or of another form; the message names it."""


def read_rows(path: str, length: int) -> Dict[str, Rows]:
    """A file of tables whose rows have a name and `length` whole numbers."""
    try:
        with open(path, encoding="utf-8") as file:
            table = json.load(file)
        right = all(len(row) == length and all(type(number) is int and number >= 0 for number in row)
                    for rows in table.values() for row in rows.values())
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TableError(f"{os.path.basename(path)} is cut, or no golden table: {error}") from None
    if not right:
        raise TableError(f"{os.path.basename(path)} is no golden table: not every row has {length} numbers")
    return table


def read_table() -> Dict[str, Rows]:
    return read_rows(os.path.join(HERE, "golden.json"), len(paths.KINDS))


def check(profiles: List[str], out: TextIO) -> int:
    """The exit status: 1 when a path differs."""
    lines = compare(profiles, read_table())
    out.write("\n".join(lines + [ADVICE]) if lines else "all paths are as in the golden table")
    out.write("\n")
    return 1 if lines else 0


def write(profiles: List[str], root: str) -> None:
    table = read_table()
    compare(profiles, table)
    for name, text in ((TABLE, golden_page.as_json(table)), (PAGE, golden_page.page(table))):
        with open(os.path.join(root, name), "w", encoding="utf-8") as file:
            file.write(text)


def main(argv: List[str]) -> int:
    parser = cli.Parser("golden", __doc__)
    parser.add_argument("--profiles", metavar="NAME,...", default=",".join(PROFILES), help="only these")
    parser.add_argument("--write", action="store_true", help="write the table and its page")
    args = parser.parse_args(argv)
    profiles = args.profiles.split(",")
    if not set(profiles) <= set(PROFILES):
        parser.error(f"--profiles: '{args.profiles}'; the profiles are {', '.join(PROFILES)}")
    try:
        if not args.write:
            return check(profiles, sys.stdout)
        write(profiles, os.environ.get("BUILD_WORKSPACE_DIRECTORY", os.getcwd()))
        return 0
    except TableError as error:
        parser.error(str(error))
    except (paths.PathError, OSError, subprocess.SubprocessError) as error:
        parser.fail(str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
