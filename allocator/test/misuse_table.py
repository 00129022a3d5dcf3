# SPDX-License-Identifier: Apache-2.0
"""Writes docs/analysis/scorecards/misuse.md from the committed verdicts of hakmem and its peers."""

ORDER = ("standard", "fast", "observe", "hardened")
WORDS = {
    "ABORT_MSG": "abort",
    "FAULT": "fault",
    "LATE": "late",
    "NEUTRALISED": "harmless",
    "MISSED": "**missed**",
    "HANG": "**hang**",
    "NA": "–",
    "BROKEN": "**?**",
}
TITLES = {
    "double_free": ("A block freed twice", "frees"),
    "invalid_free": ("free() of a pointer that is not a block", "pointer"),
    "wrong_size": ("A free with the wrong size", "call"),
    "wrong_alignment": ("A free with the wrong alignment", "call"),
    "realloc": ("realloc() of a pointer that is not a block", "pointer"),
    "usable_size": ("malloc_usable_size() of a pointer that is not a block", "pointer"),
    "overflow": ("A write past the end", "bytes"),
    "underflow": ("A write before the start", "bytes"),
    "write_after_free": ("A write into a freed block", "where"),
    "write_after_reuse": ("A write into a freed block that has a new owner", "where"),
    "forged_link": ("A free block whose first word is forged", "with"),
    "smashed": ("The allocator's own data", "where"),
    "executable_heap": ("Code executed from the heap", "how"),
}
HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Written by `bazel run //allocator/test:misuse_matrix -- --update`; do not edit. -->
# Which misuse is noticed

Each case is a process that makes one mistake and then continues: it allocates and frees more blocks of the size, checks
that no other block's bytes changed and that no block was handed out twice, ends its thread, and exits. Each case runs for blocks of 16 B,
4 KiB, 256 KiB and 2 MiB, with allocation and misuse in one thread (same) and in two threads (remote).

| | |
| --- | --- |
| abort | ended with a message in the offending call; for a write, in the next call that uses the block |
| fault | ended by SIGSEGV or SIGBUS in the offending call or write |
| late | ended with a message by a later call, at thread end or at exit; by then a block may have been handed out twice |
| harmless | not reported, and no harm: no block handed out twice, all contents correct |
| **missed** | contents changed, a block handed out twice, code executed, or a later crash elsewhere |
| **hang** | the process did not end |
| – | the allocator lacks the function, or keeps no data near the block |

A cell without numbers applies to all sizes, same and remote; otherwise it counts the cases. Files with every case and the
messages: [allocator/test/misuse_verdicts](../../../allocator/test/misuse_verdicts). Peers run under LD_PRELOAD.

"""


def order_of(name):
    return ORDER.index(name) if name in ORDER else len(ORDER)


def row(cells):
    return "| " + " | ".join(cells) + " |\n"


def count(verdicts):
    counted = {}
    for verdict in verdicts:
        counted[verdict] = counted.get(verdict, 0) + 1
    return counted


def cell(verdicts):
    counted = count(verdicts)
    if not counted:
        return " "
    if len(counted) == 1:
        return WORDS[next(iter(counted))]
    return ", ".join("%d %s" % (counted[verdict], word) for verdict, word in WORDS.items() if verdict in counted)


def summary(columns):
    out = "## Counts\n\n" + row(["", *(word for verdict, word in WORDS.items() if verdict != "BROKEN"), "cases"])
    out += row(["---"] + ["--:"] * len(WORDS))
    for name, verdicts in columns:
        counted = count(verdict for verdict, _ in verdicts.values())
        cells = [str(counted.get(verdict, 0)) for verdict in WORDS if verdict != "BROKEN"]
        out += row([name, *cells, str(len(verdicts))])
    return out + "\n"


def kinds(columns):
    """kind -> its misuses, in the order of the first column"""
    found = {}
    for case in columns[0][1]:
        kind, _, misuse = case.split()[0].partition("/")
        if misuse not in found.setdefault(kind, []):
            found[kind].append(misuse)
    return found


def section(kind, misuses, columns):
    title, first = TITLES[kind]
    out = "## %s\n\n" % title + row([first, *(name for name, _ in columns)]) + row(["---"] * (len(columns) + 1))
    for misuse in misuses:
        name = "%s/%s" % (kind, misuse)
        cells = [cell(v for case, (v, _) in verdicts.items() if case.split()[0] == name) for _, verdicts in columns]
        out += row([misuse.replace("_", " "), *cells])
    return out + "\n"


def page(profiles, peers):
    """`profiles` and `peers`: name -> (head, case -> (verdict, detail))."""
    ours = sorted(profiles, key=order_of)
    columns = [(name, profiles[name][1]) for name in ours] + [(name, peers[name][1]) for name in peers]
    if not columns:
        return HEAD
    out = HEAD + "Peers: " + "; ".join(head for head, _ in peers.values()) + ".\n\n" if peers else HEAD
    out += summary(columns)
    for kind, misuses in kinds(columns).items():
        out += section(kind, misuses, columns)
    return out.rstrip("\n") + "\n"
