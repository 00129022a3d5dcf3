#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every misuse of the matrix (misuse_case.h) in its own process, and compares with the committed verdicts.

  bazel test //allocator/test:misuse_matrix                         tests all profiles; fails if any verdict changed
  bazel run //allocator/test:misuse_matrix -- --update              writes the verdicts, and docs/analysis/scorecards/misuse.md
  bazel run //allocator/test:misuse_matrix -- --update-peers        the same for glibc and the installed peers
  bazel run //allocator/test:misuse_matrix -- --table               prints the table of all committed verdicts
  bazel run //allocator/test:misuse_matrix -- --show PART [--plain-run LIB.so]
                                                                    runs the cases with PART in their names, and explains

With --config=aarch64 the cases run in the emulator, which takes some minutes.

misuse_run.py says what the verdicts mean; misuse_rules.py says which verdicts may be committed.
"""

import argparse
import os
import sys

sys.dont_write_bytecode = True
# Bazel puts all files below the directory in which it starts this script.
sys.path[:0] = [os.path.join(os.getcwd(), "allocator", "test"), os.getcwd()]

import misuse_peers  # noqa: E402
import misuse_rules  # noqa: E402
import misuse_run  # noqa: E402
import misuse_table  # noqa: E402

VERDICTS = os.path.join("allocator", "test", "misuse_verdicts")
PAGE = os.path.join("docs", "analysis", "scorecards", "misuse.md")
# Profiles that place blocks at random: their verdicts are always the same, their messages are not.
BY_CHANCE = ("hardened",)
# Everything else that is random is off: a block that gets its own guard pages by chance has other verdicts.
SETTINGS = {"hardened": {"HAKMEM_GUARD_SAMPLE": "0"}}
# Profiles that run a second time with settings, and must have the same verdicts.
AGAIN = {"standard": {"two-level slab map": {"HAKMEM_SLAB_MAP": "two_level"}}}
# The bytes at offset 18 of a program for the machine (e_machine of ELF).
ELF_AARCH64 = b"\xb7\0"


def command_of(arguments, binary):
    """The command that starts the program, in the emulator if it is for another machine."""
    with open(binary, "rb") as file:
        machine = file.read(20)[18:20]
    foreign = machine == ELF_AARCH64 and os.uname().machine != "aarch64"
    return ([os.path.abspath(arguments.emulator)] if foreign else []) + [binary]


def program_of(arguments, name, binary, environment=None):
    settings = dict(SETTINGS.get(name, {}), **(environment or {}))
    return misuse_run.Program(command_of(arguments, binary), settings, ours=True, by_chance=name in BY_CHANCE)


def verdict_file(name, root="."):
    return os.path.join(root, VERDICTS, name + ".txt")


def source_root(parser):
    root = os.environ.get("BUILD_WORKSPACE_DIRECTORY")
    if not root:
        parser.error("this option needs `bazel run`")
    return root


def read_all(names):
    """name -> (head, verdicts) of every committed file."""
    found = {}
    for name in names:
        if os.path.exists(verdict_file(name)):
            found[name] = misuse_run.read(verdict_file(name))
    return found


def page(profiles, peers):
    return misuse_table.page(read_all(profiles), read_all(peers))


def test(arguments):
    failures = []
    controls = misuse_rules.self_check() + misuse_run.self_check()
    failures += ["control: " + line for line in controls]
    for name, binary in arguments.profile:
        command = command_of(arguments, binary)
        cases = misuse_run.list_cases(command)
        if not os.path.exists(verdict_file(name)):
            failures.append("%s: no committed verdicts; see --update" % name)
            continue
        wanted = misuse_run.read(verdict_file(name))[1]
        failures += ["%s: %s" % (name, line) for line in misuse_rules.broken(name, wanted)]
        runs = {name: {}}
        if command == [binary]:  # The emulator is slow.
            runs.update({"%s, %s" % (name, what): env for what, env in AGAIN.get(name, {}).items()})
        for title, environment in runs.items():
            program = program_of(arguments, name, binary, environment)
            got = misuse_run.run_all(program, cases)
            # Where the kernel puts a large block may, once in a while, leave nothing behind or before it that a write
            # damages. What is missed otherwise gets one more run; to miss what is caught otherwise is never excused.
            luckier = [case for case in cases if wanted.get(case, ("",))[0] == "MISSED" != got[case][0]]
            got.update(misuse_run.run_all(program, luckier))
            lines = misuse_run.differences(wanted, got)
            print("%s: %d cases, %d differ" % (title, len(cases), len(lines)), flush=True)
            failures += ["%s: %s" % (title, line) for line in lines]
    peers = misuse_peers.names()
    with open(PAGE, encoding="utf-8") as file:
        if file.read() != page(arguments.names, peers):
            failures.append("%s is not what --update writes" % PAGE)
    for line in failures:
        print("FAILED " + line)
    print("%d failed" % len(failures) if failures else "passed")
    return 1 if failures else 0


def update(arguments, root):
    for name, binary in arguments.profile:
        program = program_of(arguments, name, binary)
        verdicts = misuse_run.run_all(program, misuse_run.list_cases(program.command))
        misuse_run.write(verdict_file(name, root), "hakmem, profile %s" % name, verdicts)
        for line in misuse_rules.broken(name, verdicts):
            print("%s: %s" % (name, line))
        print("wrote %s" % verdict_file(name))


def update_peers(arguments, root):
    cases = misuse_run.list_cases([arguments.plain])
    for peer in misuse_peers.installed():
        program = misuse_run.Program([arguments.plain], peer.environment())
        misuse_run.write(verdict_file(peer.name, root), peer.version(), misuse_run.run_all(program, cases))
        print("wrote %s" % verdict_file(peer.name))


def write_page(arguments, root):
    os.chdir(root)  # Reads the files just written, not Bazel's copies.
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page(arguments.names, misuse_peers.names()))
    print("wrote %s" % PAGE)


def show(arguments, parser):
    programs = {name: program_of(arguments, name, path) for name, path in arguments.profile}
    if arguments.plain_run:
        library = os.path.abspath(os.path.join(os.environ.get("BUILD_WORKING_DIRECTORY", "."), arguments.plain_run))
        if not os.path.exists(library):
            parser.error("no such library: " + library)
        programs = {library: misuse_run.Program(plain, {"LD_PRELOAD": library})}
    plain = command_of(arguments, arguments.plain)
    cases = [case for case in misuse_run.list_cases(plain) if arguments.show in case]
    if not cases:
        parser.error("no case has '%s' in its name" % arguments.show)
    for case in cases:
        for name, program in programs.items():
            result = program.run(case)
            print("%s  %s: %s\n%s" % (case, name, misuse_run.judge(result, program.ours), result.told()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", nargs=2, action="append", required=True, metavar=("NAME", "PROGRAM"))
    parser.add_argument("--plain", required=True, metavar="PROGRAM", help="a program without its own allocator")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--update", action="store_true")
    what.add_argument("--update-peers", action="store_true")
    what.add_argument("--table", action="store_true")
    what.add_argument("--show", metavar="PART")
    parser.add_argument("--plain-run", metavar="LIB.so", help="for --show: run this library instead of ours")
    parser.add_argument("--only", metavar="NAME", help="test only this profile")
    parser.add_argument("--emulator", required=True, metavar="PROGRAM", help="runs aarch64 programs on another machine")
    arguments = parser.parse_args()
    arguments.profile = [(name, os.path.abspath(path)) for name, path in arguments.profile]
    try:
        read_all([name for name, _ in arguments.profile] + misuse_peers.names())
    except ValueError as error:
        parser.error(str(error))
    arguments.names = [name for name, _ in arguments.profile]
    if arguments.only and arguments.only not in arguments.names:
        parser.error("no such profile: %s (there are %s)" % (arguments.only, ", ".join(arguments.names)))
    arguments.profile = [(name, path) for name, path in arguments.profile if arguments.only in (None, name)]
    arguments.plain = os.path.abspath(arguments.plain)
    if arguments.show is not None:
        show(arguments, parser)
    elif arguments.table:
        print(page(arguments.names, misuse_peers.names()), end="")
    elif arguments.update or arguments.update_peers:
        root = source_root(parser)
        if arguments.update_peers and command_of(arguments, arguments.plain) != [arguments.plain]:
            parser.error("the installed peers are for this machine, and cannot run in the emulator")
        (update if arguments.update else update_peers)(arguments, root)
        write_page(arguments, root)
    else:
        return test(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
