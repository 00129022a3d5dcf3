# SPDX-License-Identifier: Apache-2.0
"""What the verdicts of our profiles must be, whatever is committed: --update cannot weaken it.

A rule says for a profile which verdicts the cases of a kind may have; the first that fits counts. An exception names
cases, what they get instead, and why; one that is not needed any more is a failure too.
"""

import fnmatch
from dataclasses import dataclass

CAUGHT = ("ABORT_MSG",)
CAUGHT_OR_FAULT = ("ABORT_MSG", "FAULT")
SOME_TIME = ("ABORT_MSG", "LATE")
NOT_MISSED = ("ABORT_MSG", "FAULT", "LATE", "NEUTRALISED")


@dataclass(frozen=True)
class Rule:
    cases: str  # a pattern of "NAME SIZE THREAD"
    verdicts: tuple


@dataclass(frozen=True)
class Exemption:
    cases: str
    verdicts: tuple
    why: str


# Every invalid, interior, misaligned or foreign pointer is noticed at once; every double free some time, and at once if
# it repeats one of the thread's two latest frees; realloc and usable size of such a block at once. Nothing that the
# program writes into free memory controls the allocator.
STANDARD = [
    Rule("invalid_free/*", CAUGHT),
    Rule("realloc/*", CAUGHT),
    Rule("usable_size/*", CAUGHT),
    Rule("double_free/immediate *", CAUGHT),
    Rule("double_free/interleaved *", CAUGHT),
    Rule("double_free/*", SOME_TIME),
    Rule("write_after_free/*", NOT_MISSED),
    Rule("forged_link/*", NOT_MISSED),
    Rule("executable_heap/*", ("FAULT",)),
    Rule("*", ("ABORT_MSG", "FAULT", "LATE", "NEUTRALISED", "MISSED")),
]

# All of these are noticed at once, and also writes one byte beyond or before a block, writes after free, wrong sizes
# and alignments.
OBSERVE = [
    Rule("double_free/*", CAUGHT),
    Rule("overflow/*", CAUGHT_OR_FAULT),
    Rule("underflow/*", CAUGHT_OR_FAULT),
    # Noticed when the block is handed out again, which is later for a remote free that waits for its owner.
    Rule("write_after_free/*", CAUGHT_OR_FAULT + ("LATE",)),
    Rule("forged_link/*", CAUGHT_OR_FAULT + ("LATE",)),
    Rule("wrong_size/*", CAUGHT),
    Rule("wrong_alignment/*", CAUGHT),
] + STANDARD

# All of these; and no record of the allocator is near enough to be overwritten.
HARDENED = [
    Rule("smashed/*", CAUGHT_OR_FAULT),
] + OBSERVE

# Misuse of a pointer or block is noticed when its cache is flushed, and not without a flush.
FAST = [
    Rule("executable_heap/*", ("FAULT",)),
    Rule("*", ("ABORT_MSG", "FAULT", "LATE", "NEUTRALISED", "MISSED")),
]

RULES = {"standard": STANDARD, "observe": OBSERVE, "fast": FAST, "hardened": HARDENED}

_CHANCE = Exemption("double_free/concurrent *", ("LATE",), "the runner's word for caught, by whichever call")
_REUSED = Exemption("double_free/after_reuse *", SOME_TIME, "the block has a new owner, whose free is the one noticed")

_NO_RECORD = "whether a small block was ever handed out stands in its slab's record, which no free may read"
_BOTH_KEPT = (
    "a small block that was twice in the cache has two owners; the slab's record says `in use` and is right until the "
    "second of them frees it")

EXEMPTIONS = {
    "standard": [
        Exemption("invalid_free/never_allocated 16 *", SOME_TIME, _NO_RECORD),
        Exemption("invalid_free/never_allocated 4096 *", SOME_TIME, _NO_RECORD),
        Exemption("double_free/delayed_then_kept 16 *", ("MISSED",), _BOTH_KEPT),
        Exemption("double_free/delayed_then_kept 4096 *", ("MISSED",), _BOTH_KEPT),
    ],
    "observe": [_CHANCE, _REUSED],
    "fast": [],
    "hardened": [_CHANCE],
}


def _first(rules, case):
    return next((rule for rule in rules if fnmatch.fnmatchcase(case, rule.cases)), None)


def broken(profile, verdicts):
    """What the verdicts, case -> (verdict, detail), break."""
    if profile not in RULES:
        return ["no rules for this profile"]
    lines = []
    used = set()
    for case, (verdict, detail) in verdicts.items():
        rule = _first(RULES[profile], case)
        if rule is None:
            lines.append("%s: no rule" % case)
        elif verdict not in rule.verdicts and verdict != "NA":
            exemption = _first(EXEMPTIONS[profile], case)
            if exemption is not None and verdict in exemption.verdicts:
                used.add(exemption)
            else:
                lines.append("%s: %s (%s), must be %s" % (case, verdict, detail, " or ".join(rule.verdicts)))
    for exemption in EXEMPTIONS[profile]:
        if exemption not in used:
            lines.append("the exception for '%s' is not needed" % exemption.cases)
    return lines


def self_check():
    """What broken() fails to see."""
    wrong = []
    good = {
        "double_free/immediate 16 same": ("ABORT_MSG", ""),
        "double_free/delayed 16 same": ("LATE", ""),
        "invalid_free/stack 16 same": ("ABORT_MSG", ""),
        "overflow/1 16 same": ("MISSED", ""),
    }
    noise = set(broken("standard", good))
    for profile, case, verdict in (
        ("standard", "double_free/delayed 16 same", "MISSED"),
        ("standard", "double_free/delayed 16 same", "NEUTRALISED"),
        ("standard", "double_free/immediate 16 same", "LATE"),
        ("standard", "invalid_free/stack 16 same", "LATE"),
        ("standard", "overflow/1 16 same", "HANG"),
        ("standard", "overflow/1 16 same", "BROKEN"),
        ("observe", "double_free/delayed 16 same", "LATE"),
        ("observe", "underflow/1 16 same", "NEUTRALISED"),
        ("observe", "usable_size/freed 16 same", "NEUTRALISED"),
        ("hardened", "smashed/metadata 16 same", "MISSED"),
    ):
        verdicts = dict(good)
        verdicts[case] = (verdict, "")
        if not any(line.startswith(case) for line in set(broken(profile, verdicts)) - noise):
            wrong.append("rules: %s may be %s in %s" % (case, verdict, profile))
    if not any("is not needed" in line for line in broken("observe", {})):
        wrong.append("rules: an exception that nothing needs goes unnoticed")
    if not broken("unknown", good):
        wrong.append("rules: an unknown profile has rules")
    return wrong
