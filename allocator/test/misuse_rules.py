# SPDX-License-Identifier: Apache-2.0
"""Which verdicts our profiles may have. The committed verdicts must obey, so --update cannot weaken them.

A rule says which verdicts the cases of a kind may have in a profile; the first matching rule counts. An exemption names
cases, the verdicts they may have instead, and why; an exemption that no case needs is a failure too.
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


# Every invalid, interior, misaligned or foreign pointer is caught at once. A double free is caught at once if it
# repeats one of the thread's two latest frees, otherwise later. realloc and usable size of a free block are caught at
# once. Nothing that the program writes into free memory controls the allocator.
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

# Catches all of these at once, and also writes one byte past the end or before the start of a block, writes after free,
# wrong sizes and wrong alignments.
OBSERVE = [
    Rule("double_free/*", CAUGHT),
    Rule("overflow/*", CAUGHT_OR_FAULT),
    Rule("underflow/*", CAUGHT_OR_FAULT),
    # Caught when the block is handed out again, which is later for a remote free that waits for its owner.
    Rule("write_after_free/*", CAUGHT_OR_FAULT + ("LATE",)),
    Rule("forged_link/*", CAUGHT_OR_FAULT + ("LATE",)),
    Rule("wrong_size/*", CAUGHT),
    Rule("wrong_alignment/*", CAUGHT),
] + STANDARD

# Catches all of these; and the allocator's records are too far from the blocks to be overwritten.
HARDENED = [
    Rule("smashed/*", CAUGHT_OR_FAULT),
] + OBSERVE

# Catches misuse only when the cache is flushed.
FAST = [
    Rule("executable_heap/*", ("FAULT",)),
    Rule("*", ("ABORT_MSG", "FAULT", "LATE", "NEUTRALISED", "MISSED")),
]

RULES = {"standard": STANDARD, "observe": OBSERVE, "fast": FAST, "hardened": HARDENED}

_CHANCE = Exemption("double_free/concurrent *", ("LATE",), "the verdict of a random case that any call catches")
_REUSED = Exemption("double_free/after_reuse *", SOME_TIME, "the block has a new owner, whose free is caught")

_NO_RECORD = "only the slab's record says whether a small block was ever handed out, and no free may read it"
_BOTH_KEPT = (
    "a small block that was in the cache twice has two owners; the slab's record `in use` is right until the second "
    "owner frees it")

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
    """The rules that `verdicts`, case -> (verdict, detail), break."""
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
            lines.append("the exemption for '%s' is not needed" % exemption.cases)
    return lines


def self_check():
    """The broken rules that broken() does not report."""
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
        wrong.append("rules: an exemption that nothing needs is not reported")
    if not broken("unknown", good):
        wrong.append("rules: an unknown profile has rules")
    return wrong
