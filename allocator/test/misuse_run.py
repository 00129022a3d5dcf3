# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of misuse_case and gives each a verdict:

  ABORT_MSG    ended by SIGABRT with a message, in the offending call; for a write, in the next call that uses the
               block. hakmem prints exactly one line `hakmem: <what>: <pointer> ...`, for a wrong free with its pointer
  FAULT        ended by SIGSEGV or SIGBUS in the offending call or write; hakmem prints nothing, or one line about it
  LATE         ended as ABORT_MSG, but in a later call; there may have been harm before
  NEUTRALISED  not reported, and no harm: no block handed out twice, all contents right, the heap verifies
  MISSED       harm, or a later crash
  HANG         did not end
  NA           the allocator lacks the function

A verdict has a detail: the message, the stage of a late one, or the harm. `BROKEN` is no verdict: the case failed.
"""

import concurrent.futures
import os
import re
import resource
import signal
import subprocess
from dataclasses import dataclass, field

# After so many seconds a process hangs. A peer then has the verdict HANG; for hakmem the test fails.
TIMEOUT = 30
PEER_TIMEOUT = 4
PARALLEL = 2
VERDICTS = ("ABORT_MSG", "FAULT", "LATE", "NEUTRALISED", "MISSED", "HANG", "NA")
NOT_APPLICABLE = 4
# A case with random results runs CHANCE_RUNS times and gets one verdict: LATE if any call catches it.
CHANCE = "double_free/concurrent"
CHANCE_RUNS = 20
WRITES = ("overflow/", "underflow/", "write_after_", "forged_link/", "smashed/")
NAMES_THE_POINTER = ("double_free/", "invalid_free/", "realloc/", "usable_size/", "wrong_")
ENDED = (signal.SIGABRT, signal.SIGTRAP, signal.SIGILL)
FAULTS = (signal.SIGSEGV, signal.SIGBUS)
# What the user emulator prints.
EMULATOR_LINE = re.compile(r"qemu: uncaught target signal \d+ \([^)]*\) - core dumped\n")
OUR_LINE = re.compile(r"hakmem: ([a-z0-9 ]+): (0x[0-9a-f]+)(?: \(\d+-byte block\))? in [^\n]+\[\d+\](?:, thread \d+)?\n")
# What a block is known for: the line says its size.
SIZED = ("double free", "overflow", "write after free")
# In OBSERVE and HARDENED, before a fault by a guard page.
GUARD_LINE = re.compile(
    r"hakmem: (?:overflow|underflow|use after free): 0x[0-9a-f]+ \([^()\n]+\) in [^\n]+\[\d+\](?:, thread \d+)?\n")


@dataclass
class Result:
    case: str
    code: int  # None: it did not end
    progress: str
    err: str
    stages: list = field(init=False)

    def __post_init__(self):
        self.stages = re.findall(r"^stage (\w+)$", self.progress, re.M)

    def first(self, word):
        found = re.search(r"^%s (.*)$" % word, self.progress, re.M)
        return found.group(1) if found else None

    def told(self):
        return "  exit code %s\n  %s\n  stderr: %r" % (self.code, "; ".join(self.progress.splitlines()), self.err)


@dataclass
class Program:
    command: list
    environment: dict = None
    ours: bool = False
    by_chance: bool = False  # places blocks at random

    def run(self, case):
        env = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD" and not key.startswith("HAKMEM_")}
        env.update(self.environment or {})
        reader, writer = os.pipe()
        env["MISUSE_PROGRESS"] = str(writer)
        child = subprocess.Popen(
            self.command + case.split(), env=env, pass_fds=(writer,), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        os.close(writer)
        try:
            _, err = child.communicate(timeout=TIMEOUT if self.ours else PEER_TIMEOUT)
            code = child.returncode
        except subprocess.TimeoutExpired:
            child.kill()
            _, err = child.communicate()
            code = None
        with os.fdopen(reader, "rb") as pipe:
            progress = pipe.read().decode(errors="replace")
        return Result(case, code, progress, EMULATOR_LINE.sub("", err.decode(errors="replace")))


def message(result, ours):
    """(what the allocator printed, whether it is a proper report)"""
    if not ours:
        # Other allocators print something else, or nothing.
        words = re.sub(r"0x[0-9a-fA-F]+|[0-9a-f]{8,}|==\d+==|\b\d{3,}\b", "", result.err.strip().split("\n")[0])
        return re.sub(r"\s+", " ", words).strip()[:70], True
    line = OUR_LINE.fullmatch(result.err)
    return (line.group(1), True) if line else (repr(result.err), False)


def judge(result, ours):
    """(verdict, detail) of one run"""
    if result.code == NOT_APPLICABLE and "misuse" not in result.stages:
        return "NA", "no " + (result.first("lacks") or "?")
    if "misuse" not in result.stages:
        return "BROKEN", result.told()
    if result.code is None:
        return "HANG", result.stages[-1]
    harm = result.first("harm")
    stage = result.stages[-1]
    at_once = stage == "misuse" or stage == "next" and result.case.startswith(WRITES)
    if result.code == 0:
        return ("MISSED", harm) if harm else ("NEUTRALISED", "")
    if -result.code in FAULTS:
        if ours and result.err and not GUARD_LINE.fullmatch(result.err):
            return "BROKEN", "a fault with another line than one: " + repr(result.err)
        return ("FAULT", "") if stage == "misuse" else ("MISSED", "crash, " + stage)
    if -result.code not in ENDED:
        return "BROKEN", result.told()
    text, proper = message(result, ours)
    if not proper:
        return "BROKEN", "no report, or more than one line: " + text
    if ours and text in SIZED and "-byte block)" not in result.err:
        return "BROKEN", "the message does not say how large the block is: " + repr(result.err)
    if not at_once:
        return "LATE", "%s: %s%s" % (stage, text, " (after harm: %s)" % harm if harm else "")
    pointer = OUR_LINE.search(result.err).group(2) if ours else ""
    if ours and result.case.startswith(NAMES_THE_POINTER) and pointer != result.first("pointer"):
        return "BROKEN", "the message names another pointer than " + result.first("pointer")
    return "ABORT_MSG", text


def judge_chance(verdicts):
    """One verdict for many runs of a case with random results: the worst, without its detail."""
    classes = ["LATE" if verdict == "ABORT_MSG" else verdict for verdict, _ in verdicts]
    order = ("BROKEN", "HANG", "MISSED", "NEUTRALISED", "FAULT", "LATE", "NA")
    worst = min(classes, key=order.index)
    return worst, verdicts[classes.index(worst)][1] if worst in ("BROKEN", "NA") else ""


def verdict_of(program, case):
    if program.by_chance and not case.startswith(CHANCE):
        # Blocks are at random places: the message depends on what lies beside the block.
        verdict, detail = judge(program.run(case), program.ours)
        return verdict, detail if verdict in ("BROKEN", "NA") else ""
    if case.startswith(CHANCE):
        verdicts = []
        for _ in range(CHANCE_RUNS):
            verdicts.append(judge(program.run(case), program.ours))
            if verdicts[-1][0] == "HANG":
                break
        return judge_chance(verdicts)
    return judge(program.run(case), program.ours)


def run_all(program, cases):
    """case -> (verdict, detail)"""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        return dict(zip(cases, pool.map(lambda case: verdict_of(program, case), cases)))


def list_cases(command):
    out = subprocess.run(command + ["--list"], stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout
    return out.splitlines()


# ---- Files -------------------------------------------------------------------------------------------------------------


def write(path, head, verdicts):
    with open(path, "w", encoding="utf-8") as file:
        file.write("# SPDX-License-Identifier: Apache-2.0\n# %s\n" % head)
        for case, (verdict, detail) in verdicts.items():
            file.write("%s: %s%s\n" % (case, verdict, ", " + detail if detail else ""))


def read(path):
    """(head, case -> (verdict, detail))"""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    if len(lines) < 2:
        raise ValueError("%s: not a file of verdicts" % path)
    head = lines[1].lstrip("# ")
    verdicts = {}
    for line in lines[2:]:
        case, _, rest = line.partition(": ")
        verdict, _, detail = rest.partition(", ")
        if verdict not in VERDICTS + ("BROKEN",) or len(case.split()) != 3 or case in verdicts:
            raise ValueError("%s: cannot read '%s'" % (path, line))
        verdicts[case] = (verdict, detail)
    return head, verdicts


def differences(wanted, got):
    lines = []
    for case in sorted(set(wanted) | set(got)):
        if wanted.get(case) != got.get(case):
            lines.append("%s: committed %s, found %s" % (case, wanted.get(case), got.get(case)))
    return lines


# ---- Self-check ------------------------------------------------------------------------------------------------------


def self_check():
    """The invented runs that judge() judges wrongly."""
    line = "hakmem: double free: 0x10 (48-byte block) in x[17], thread 18\n"
    guard = "hakmem: overflow: 0x20 (1 byte behind a 16-byte block at 0x10) in x[17]\n"
    misuse = "pointer 0x10\nstage misuse\n"
    runs = [
        ("double_free/x", -6, misuse, line, "ABORT_MSG"),
        ("double_free/x", -6, misuse, line * 2, "BROKEN"),
        ("double_free/x", -6, misuse, "hakmem: double free: 0x20 in x[17]\n", "BROKEN"),
        ("double_free/x", -6, misuse, "", "BROKEN"),
        ("double_free/x", -6, misuse, "hakmem: double free: 0x10 in x[17]\n", "BROKEN"),
        ("double_free/x", -6, misuse, "hakmem: invalid free: 0x10 in x[17]\n", "ABORT_MSG"),
        ("double_free/x", -6, misuse + "stage next\n", line, "LATE"),
        ("overflow/1", -6, misuse + "stage next\n", line, "ABORT_MSG"),
        ("overflow/1", -6, misuse + "stage next\nstage again\n", line, "LATE"),
        ("overflow/1", -11, misuse, "", "FAULT"),
        ("overflow/1", -11, misuse, guard, "FAULT"),
        ("overflow/1", -11, misuse, guard * 2, "BROKEN"),
        ("overflow/1", -11, misuse, line, "BROKEN"),
        ("overflow/1", -11, misuse + "stage next\n", "", "MISSED"),
        ("overflow/1", 0, misuse, "", "NEUTRALISED"),
        ("overflow/1", 0, misuse + "stage next\nharm contents changed\n", "", "MISSED"),
        ("overflow/1", None, misuse, "", "HANG"),
        ("overflow/1", 0, "", "", "BROKEN"),
        ("overflow/1", 1, misuse, "", "BROKEN"),
        ("wrong_size/x", 4, "lacks free_sized\n", "", "NA"),
    ]
    wrong = []
    for case, code, progress, err, wanted in runs:
        got = judge(Result(case + " 16 same", code, progress, err), True)
        if got[0] != wanted:
            wrong.append("%s: judged %s, should be %s" % ((case, code, progress, err), got, wanted))
    if judge_chance([("LATE", "a"), ("ABORT_MSG", "b")]) != ("LATE", ""):
        wrong.append("chance: caught is LATE")
    if judge_chance([("LATE", "a"), ("MISSED", "b")]) != ("MISSED", ""):
        wrong.append("chance: one miss is a miss")
    if not differences({"a": ("LATE", "")}, {"a": ("MISSED", "")}) or not differences({}, {"a": ("LATE", "")}):
        wrong.append("a changed verdict is no difference")
    return wrong
