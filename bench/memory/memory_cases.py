# SPDX-License-Identifier: Apache-2.0
"""What the memory table measures: the runs of each section, the values taken from them, and the targets."""

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from bench.memory.memory_runs import CALLS, Run, Subject

RATIO_TARGET = 1.02  # of the best peer's RSS over live bytes
# Percent of the peak's RSS that may remain when free memory must have been returned.
BACK_TARGET = 20.0
BACK_TARGET_LEAN = 5.0
CONSUMER_TARGET = 1.2
GROWTH_KIB = 256  # how much RSS varies between the rows of the workload `threads`, with every allocator
SMALL_MIB = {"balanced": 2.1, "lean": 2.0}
CALLS_TARGET = 1e-8  # memory system calls per operation
WARM_UP_OPS = 20_000_000

Values = Dict[str, float]


@dataclass(frozen=True)
class Case:
    """One command, run on every subject; `values` takes from a run what the table shows."""

    section: str
    name: str
    arguments: Tuple[str, ...]
    values: Callable[[Run], Values]
    env: Mapping[str, str] = field(default_factory=dict)
    program: str = "soak_worker"
    runs: Optional[int] = 1  # None: as many as --runs
    quick: bool = False

    def arguments_for(self, subject: Subject) -> List[str]:
        if self.section == "freeall":
            return [*self.arguments, "--duration", str(2 if self.quick else max(5, subject.deadline_s))]
        return list(self.arguments)


# ---- live: RSS over live bytes ---------------------------------------------------------------------------------------

LIVE_TEXT = {
    "steady": "random slots filled and freed, 16..1,039 B; trough: a tenth of the slots",
    "spike": "grow to the peak, hold it, free 49 of 50 blocks, go on with 400 slots",
    "phase": "the same live bytes in blocks of 16..1,039 B, of 2..32 KiB, and of the former again",
    "churn": "two producers, two consumers, replaced after 20,000 blocks",
    "fork": "a heap of 20,000 slots in a parent, two children at a time",
}


def _state(name: str, row: Mapping[str, float], run: Run) -> Values:
    return _over_live(name, row["rss_kib"], row["live_bytes"], run)


def _over_live(name: str, rss_kib: float, live: float, run: Run) -> Values:
    return {
        f"{name}: rss": rss_kib * 1024 / live,
        f"{name}: above start": (rss_kib - run.start_kib) * 1024 / live,
    }


def _peak(run: Run) -> Values:
    return _over_live("peak", run.peak_kib, run.peak_live, run)


def _steady(run: Run) -> Values:
    return {**_peak(run), **_state("plateau", run.phase("steady", -1), run), **_state("trough", run.phase("trough"), run)}


def _spike(run: Run) -> Values:
    values: Values = {}
    for phase in ("peak", "plateau", "trough", "settled"):
        values.update(_state(phase, run.phase(phase), run))
    return values


def _phase(run: Run) -> Values:
    return {**_state("small", run.phase("small"), run), **_state("large", run.phase("large"), run),
            **_state("small again", run.phase("small", 1), run)}


def _plateau(phase: str) -> Callable[[Run], Values]:
    return lambda run: {**_peak(run), **_state("plateau", run.phase(phase, -1), run)}


def live_cases(quick: bool) -> List[Case]:
    def timed(duration: float, epoch: float, *more: str) -> Tuple[str, ...]:
        return ("--duration", f"{duration:g}", "--epoch", f"{epoch:g}", "--no-trace", *more)

    def counted(operations: int) -> Tuple[str, ...]:
        return (*timed(60, long), "--epoch-ops", str(operations), "--max-ops", str(operations))

    long, short = (0.2, 0.2) if quick else (1.2, 0.5)
    cases = []
    # The same operations with every allocator, so that the same blocks are live; then a trough of 1.2 s.
    for name, ws, millions in (("400", 400, 5), ("20k", 20_000, 10), ("100k", 100_000, 15), ("400k", 400_000, 20)):
        if quick and ws == 400_000:
            continue
        operations = millions * (200_000 if quick else 1_000_000)
        arguments = ("--workload", "steady", "--ws", str(ws), "--trough", *counted(operations))
        cases.append(Case("live", f"steady-{name}", arguments, _steady, runs=None))
    peak = ("--peak-mb", "50" if quick else "200")
    cases += [
        Case("live", "spike", ("--workload", "spike", *peak, *timed(4 * long, long)), _spike, runs=None),
        Case("live", "phase", ("--workload", "phase", *peak, *timed(3 * long, long)), _phase, runs=None),
        Case("live", "churn", ("--workload", "churn", *timed(2 * short, short)), _plateau("churn"), runs=None),
        Case("live", "fork", ("--workload", "fork", *counted(300_000 if quick else 3_000_000)), _plateau("fork"),
             runs=None),
    ]
    return cases


# ---- freeall: RSS after all is free ----------------------------------------------------------------------------------

AFTER = (0, 1, 2, 5, 12)


def _freeall(run: Run) -> Values:
    peak = run.phase("peak")["rss_kib"]
    values = {"peak MiB": peak / 1024}
    for seconds in AFTER:
        name = f"after_{seconds}s" if seconds else "freed"
        if name in run.phases:
            values[f"{seconds} s"] = 100 * run.phase(name)["rss_kib"] / peak
    return values


def freeall_cases(quick: bool) -> List[Case]:
    cases = []
    for max_size in (1039, 32768):
        for threads in (1, 4):
            for trickle, text in (("one", "5 calls/s, one size"), ("mixed", "5 calls/s, mixed"), ("none", "no call")):
                if quick and (max_size, trickle) not in ((1039, "one"), (1039, "none")):
                    continue
                name = f"16..{max_size:,} B, {threads} thread{'s' if threads > 1 else ''}, {text}"
                arguments = ("--workload", "freeall", "--max-size", str(max_size), "--threads", str(threads),
                             "--trickle", trickle, "--no-trace")
                env = {"HAKMEM_BACKGROUND": "1"} if trickle == "none" else {}
                cases.append(Case("freeall", name, arguments, _freeall, env, quick=quick))
    return cases


# ---- The others ------------------------------------------------------------------------------------------------------


def _consumer(run: Run) -> Values:
    return {"rss": run.peak_kib * 1024 / run.peak_live,
            "above start": (run.peak_kib - run.start_kib) * 1024 / run.peak_live}


def consumer_cases(quick: bool) -> List[Case]:
    bound = ("--max-ops", "2000000") if quick else ()
    return [
        Case("consumer", f"queue of {length:,}",
             ("--workload", "consumer", "--ws", str(length), "--epoch", "0.05", "--no-trace", *bound), _consumer)
        for length in (4096, 65536)
    ]


def threads_cases(_quick: bool) -> List[Case]:
    def values(run: Run) -> Values:
        return {"after 500, KiB": run.phase("first")["rss_kib"], "after 10,000, KiB": run.phase("last")["rss_kib"]}

    return [Case("threads", "RSS in KiB after 500 and 10,000", ("--workload", "threads", "--no-trace"), values, runs=None)]


def small_cases(quick: bool) -> List[Case]:
    return [Case("small", "peak RSS in MiB", ("1000000" if quick else "10000000", "400"),
                 lambda run: {"MiB": run.peak_kib / 1024}, program="random_mixed", runs=None)]


def _calls(run: Run) -> Values:
    done, steady, calls = 0.0, 0.0, 0.0
    for row in run.rows:
        if row[CALLS[0]] < 0:
            raise RuntimeError("system calls were not counted")
        if done >= WARM_UP_OPS:
            steady += row["ops"]
            calls += sum(row[name] for name in CALLS)
        done += row["ops"]
    if steady == 0:
        raise RuntimeError("the warm-up took the whole run")
    return {"calls": calls, "operations": steady}


def calls_cases(quick: bool) -> List[Case]:
    operations = WARM_UP_OPS if quick else 10 * WARM_UP_OPS
    return [
        Case("calls", f"{name} slots",
             ("--workload", "steady", "--ws", ws, "--duration", "120", "--epoch-ops", str(WARM_UP_OPS),
              "--max-ops", str(WARM_UP_OPS + operations)), _calls)
        for name, ws in (("400", "400"), ("20,000", "20000"))
    ]


# ---- Verdicts --------------------------------------------------------------------------------------------------------


def verdict(section: str, case: Case, subject: Subject, values: Values) -> Optional[bool]:
    """Whether hakmem met the target of a section other than live; None where it has none."""
    if subject.is_peer:
        return None
    if section == "freeall":
        # FAST does not read the environment, so it has no purge thread.
        left = values.get(f"{subject.deadline_s} s")
        target = BACK_TARGET_LEAN if subject.preset == "lean" else BACK_TARGET
        return None if left is None or (case.env and not subject.reads_environment) else left <= target
    if section == "consumer":
        return values["above start"] <= CONSUMER_TARGET
    if section == "threads":
        return values["after 10,000, KiB"] <= values["after 500, KiB"] + GROWTH_KIB
    if section == "small":
        limit = SMALL_MIB.get(subject.preset or "")
        return None if limit is None else values["MiB"] <= limit
    return values["calls"] / values["operations"] <= CALLS_TARGET


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    note: str
    cases: Callable[[bool], List[Case]]
    at_once: int = 1  # concurrent runs, where speed does not matter


SECTIONS = (
    Section("live", "RSS over live bytes",
            f"Target: at most {RATIO_TARGET} of the best peer's. RSS is the whole process's, without the "
            "harness's lists of blocks; start is its RSS before the first block.", live_cases, at_once=2),
    Section("freeall", "RSS after all is free, percent of the peak's",
            f"At least 200 MiB in blocks, freed in a random order. Target: at most {BACK_TARGET:g} % after 2 s, "
            f"{BACK_TARGET_LEAN:g} % for lean; for speed, which keeps memory for ten seconds, after 12 s. 4 threads: each "
            "frees another's blocks, then sleeps. No call: hakmem with HAKMEM_BACKGROUND=1, which FAST does not read.",
            freeall_cases, at_once=8),
    Section("consumer", "Peak RSS over the live maximum where one thread only frees",
            f"10,000,000 blocks of 16..1,039 B through a bounded queue. First the whole process, then what is above its "
            f"start; target for the latter: at most {CONSUMER_TARGET}.", consumer_cases),
    Section("threads", "10,000 short threads that leave 100 blocks each to another",
            f"RSS with no block live. Target: no growth by more than {GROWTH_KIB} KiB.", threads_cases),
    Section("small", "random_mixed with 400 slots",
            "Target: " + ", ".join(f"{name} at most {mib} MiB" for name, mib in SMALL_MIB.items()) + ".", small_cases),
    Section("calls", "Memory system calls in steady state",
            f"Calls in so many million operations after a warm-up of {WARM_UP_OPS // 1_000_000} million. Target: at most "
            f"{CALLS_TARGET:g} for an operation.", calls_cases),
)


def states(values: Sequence[Values]) -> List[str]:
    """The states that a case of `live` has values for."""
    return list(dict.fromkeys(key.split(": ")[0] for one in values for key in one))
