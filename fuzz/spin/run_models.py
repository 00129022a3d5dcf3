#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run_models.py MODEL.pml [NAME...]: searches every state of a model with Spin.

A NAME is a row of the tables below; `models` or `controls` stands for all of one kind; without a name all run. A model
must hold, and its search must be complete. A control leaves out one thing of the model, and the named property must
find it. Prints the states and seconds of each. Exits 0 if all is as expected, 1 if not, 2 if it could not run."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# Instances that can be searched completely: {model: {name: settings}}. One thread or slab more multiplies the states by
# about thirty, so each instance has more of one thing and less of another.
MODELS = {
    "remote": {
        # Three threads, which all open heaps, take, free and end.
        "threads": "THREADS=3 BLOCKS=1 ROLE_0=7 ROLE_1=7 ROLE_2=7",
        # The third thread has closed its heap, or has a heap and only frees and visits.
        "late": "THREADS=3 BLOCKS=1 ROLE_0=7 ROLE_1=7 ROLE_2=8",
        "visitor": "THREADS=3 BLOCKS=1 ROLE_0=3 ROLE_1=21 ROLE_2=7",
        # Chains of two blocks; a slab is taken again for another class.
        "batches": "THREADS=2 BLOCKS=2",
        # Two slabs on one pending list.
        "slabs": "THREADS=2 SLABS=2 BLOCKS=1 ROLE_0=31 ROLE_1=15",
        "fork": "THREADS=2 BLOCKS=2 FORK",
    },
    "idle_cache": {
        "overflow": "SLOTS=2 BLOCKS=3 BUFFER=2",
        "overflow_any_order": "SLOTS=2 BLOCKS=3 BUFFER=2 ANY_ORDER",
        "deep": "SLOTS=3 BLOCKS=3 BUFFER=2",
        "buffer": "SLOTS=2 BLOCKS=2 BUFFER=4 ANY_ORDER",
    },
}

# The controls: {model: {name: (the property that finds it, settings)}}.
TWO_THREADS = "THREADS=2 BLOCKS=2 "
SMALL = "SLOTS=2 BLOCKS=3 BUFFER=2 "
CONTROLS = {
    "remote": {
        "no_notice": (1, TWO_THREADS + "NO_NOTICE"),
        "notice_each_push": (5, TWO_THREADS + "NOTICE_EACH"),
        "push_without_cas": (1, TWO_THREADS + "PUSH_STORE"),
        "pending_without_cas": (1, "THREADS=2 SLABS=2 BLOCKS=1 PENDING_STORE"),
        "collect_without_exchange": (1, TWO_THREADS + "COLLECT_IN_TWO"),
        "collect_unlocked": (4, TWO_THREADS + "NOTIFY_UNLOCKED"),
        "return_to_orphan_unchecked": (4, TWO_THREADS + "RETURN_UNCHECKED"),
        "drain_without_owner": (4, TWO_THREADS + "DRAIN_TRUSTS"),
        "drain_drops_foreign": (1, TWO_THREADS + "DRAIN_DROPS"),
        "adopt_unlocked": (3, TWO_THREADS + "ROLE_0=7 ROLE_1=7 ADOPT_UNLOCKED"),
        "adopt_unlocked_twice_free": (2, TWO_THREADS + "ROLE_0=7 ROLE_1=7 ADOPT_UNLOCKED"),
        "close_pending_first": (6, TWO_THREADS + "CLOSE_FIRST"),
        "close_drops_pending": (1, TWO_THREADS + "CLOSE_DROPS"),
        "resting_record_reads_as_open": (1, TWO_THREADS + "REST_OPENS"),
        "give_to_orphanage_unlocked": (4, TWO_THREADS + "GIVE_UNLOCKED"),
        "visit_unlocked": (4, TWO_THREADS + "VISIT_UNLOCKED"),
        "visit_against_lock_order": (7, TWO_THREADS + "VISIT_UPWARDS"),
        "fork_in_late_free": (1, TWO_THREADS + "FORK FORK_MIDWAY"),
    },
    "idle_cache": {
        "no_first_barrier": (3, SMALL + "NO_FIRST_BARRIER"),
        # The second one is for machines that may reorder stores.
        "no_second_barrier": (1, SMALL + "NO_SECOND_BARRIER ANY_ORDER"),
        "no_barrier": (1, SMALL + "NO_FIRST_BARRIER NO_SECOND_BARRIER"),
        "no_second_look": (3, SMALL + "NO_SECOND_LOOK"),
        "take_without_exchange": (1, SMALL + "TAKE_IN_TWO"),
        "top_taken_too": (3, SMALL + "JUDGE_TOP"),
        "no_put_back": (2, SMALL + "NO_PUT_BACK"),
        "put_back_without_cas": (1, SMALL + "PUT_BACK_STORE"),
        "stolen_uncounted": (4, SMALL + "STOLEN_UNCOUNTED"),
        "slow_call_unlocked": (4, SMALL + "SLOW_UNLOCKED"),
    },
}
# Spin's own check of end states, by its number in the models.
DEADLOCK = {"remote": 7, "idle_cache": 5}

DEPTH = 3000000
MEGABYTES = 2000


class CannotRun(Exception):
    pass


def run(arguments, where):
    return subprocess.run(arguments, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def search(model, settings):
    """What Spin's verifier prints about the model under these settings."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as where:
        shutil.copy(model, os.path.join(where, "model.pml"))
        defines = ["-D" + setting for setting in settings]
        made = run(["spin", "-a"] + defines + ["model.pml"], where)
        if made.returncode != 0 or not os.path.exists(os.path.join(where, "pan.c")):
            raise CannotRun(f"spin does not take the model:\n{made.stdout}")
        built = run(["gcc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEGABYTES}", "-o", "pan", "pan.c"], where)
        if built.returncode != 0:
            raise CannotRun(f"gcc does not take the verifier:\n{built.stdout}")
        return run(["./pan", f"-m{DEPTH}"], where).stdout


def states_of(output):
    stored = re.search(r"^\s*([0-9.e+]+) states, stored", output, re.M)
    seconds = re.search(r"elapsed time ([0-9.e+]+) seconds", output)
    return f"{float(stored.group(1)) if stored else 0:.0f} states, {seconds.group(1) if seconds else '?'} s"


def errors_of(output):
    """How many errors the search found; None: it did not end."""
    found = re.search(r"errors: (\d+)", output)
    unfinished = "max search depth too small" in output or "out of memory" in output or "memory limit" in output
    return None if not found or unfinished else int(found.group(1))


def model_fault(output):
    """Why the output does not show that a model holds, or None."""
    errors = errors_of(output)
    if errors is None or (errors == 0 and "Search not completed" in output):
        return "the search did not end"
    return None if errors == 0 else "an error was found"


def control_fault(output, deadlock):
    """Why the output does not show that a property, or with `deadlock` Spin itself, found the control; or None."""
    errors = errors_of(output)
    if not errors:
        return "it was not found" if errors == 0 else "the search did not end"
    if deadlock:
        return None if "invalid end state" in output else "something else was found"
    return None if re.search(r"assertion violated \(", output) else "something else was found"


def check_one(model, base, name, settings, number):
    if number is not None:
        settings = settings + [f"ONLY={number}"]
    output = search(model, settings)
    fault = model_fault(output) if number is None else control_fault(output, number == DEADLOCK[base])
    what = "holds" if number is None else f"found by property {number}"
    print(f"{base} {name}: {fault or what}; {states_of(output)} ({' '.join(settings)})", flush=True)
    if fault:
        print(output)
    return fault is None


def rows(base, names):
    """(name, settings, number of the property or None) of everything requested."""
    found = []
    for name, settings in MODELS[base].items():
        if not names or name in names or "models" in names:
            found.append((name, settings.split(), None))
    for name, (number, settings) in CONTROLS[base].items():
        if not names or name in names or "controls" in names:
            found.append((name, settings.split(), number))
    return found


def usage(what):
    print(f"run_models.py: {what}\n{__doc__.splitlines()[0]}", file=sys.stderr)
    return 2


def main(arguments):
    if not arguments or not os.path.isfile(arguments[0]):
        return usage("no such model: " + arguments[0] if arguments else "which model?")
    model, names = arguments[0], arguments[1:]
    base = pathlib.Path(model).stem
    if base not in MODELS:
        return usage(f"nothing is known of {base}; known are {', '.join(MODELS)}")
    known = set(MODELS[base]) | set(CONTROLS[base]) | {"models", "controls"}
    for name in names:
        if name not in known:
            return usage(f"{base} has no {name}; it has {', '.join(sorted(known))}")
    for tool, package in (("spin", "spin"), ("gcc", "gcc")):
        if shutil.which(tool) is None:
            print(f"run_models.py: no {tool} here; install the Debian package {package}", file=sys.stderr)
            return 2
    try:
        results = [check_one(model, base, *row) for row in rows(base, names)]
    except CannotRun as error:
        print(f"run_models.py: {error}", file=sys.stderr)
        return 2
    print(f"{sum(results)} of {len(results)} as they must be")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
