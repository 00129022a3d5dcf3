#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that each atomic operation of the allocator explains its order, and that code and models name the same steps.

An operation is explained by a comment that names its memory order, on its lines or within the few lines above. A relaxed
one is also explained where its variable is declared. `Step R3 of remote.pml` in a comment refers to a step of
fuzz/spin/remote.pml, which marks it `Step R3`; a model's step that no code names, or the other way round, is an error.
"""

import pathlib
import re
import sys

# How many lines above an operation, and above a declaration, its comment may begin.
ABOVE = 8

OPERATION = re.compile(r"\b(?:atomic_\w+_explicit|__atomic_\w+)\s*\(")
IMPLICIT = re.compile(r"\batomic_(?:load|store|exchange|fetch_\w+|compare_exchange_\w+|init|thread_fence)\s*\(|_fence\s*\(")
ORDER = re.compile(r"(?:memory_order_|__ATOMIC_)(relaxed|acquire|release|acq_rel|seq_cst|consume)\b", re.I)
DECLARATION = re.compile(r"HAK_ATOMIC\((?:[^()]|\([^()]*\))*\)\s*\**\s*(\w+)\s*(?:\[\w+\])?\s*[;={]")
STEPS = re.compile(r"\bSteps? ((?:[A-Z]\d+(?:, | and )?)+) of (\w+\.pml)")
STEP = re.compile(r"\bStep ([A-Z]\d+)\b")


def comment_of(line):
    return line[line.index("//") :].lower() if "//" in line else ""


def comments_above(lines, at, reach):
    """The comments of line `at` and of the `reach` lines above it, within the same function."""
    found = [comment_of(lines[at])]
    below = ""
    for line in reversed(lines[max(0, at - reach) : at]):
        if not line.strip() and not below.startswith("//"):
            break
        if line.startswith("}") and not below.strip():
            break
        found.append(comment_of(line))
        below = line
    return " ".join(found)


def statement(lines, at):
    """The text of the operation that begins in line `at`, to the end of its statement."""
    text = ""
    for line in lines[at : at + 4]:
        text += line.split("//")[0] + " "
        if line.rstrip().endswith((";", "{", "}")):
            break
    return text


def explains(comments, order):
    words = {"acq_rel": ("acquire", "release")}.get(order, (order,))
    return all(word in comments for word in words)


def relaxed_variables(files):
    """The names of variables whose declaration says that accesses are relaxed."""
    names = set()
    for lines in files.values():
        for at, line in enumerate(lines):
            match = DECLARATION.search(line)
            if match and "relaxed" in comments_above(lines, at, ABOVE):
                names.add(match.group(1))
    return names


def operation_faults(name, lines, relaxed):
    """(number of operations, what is wrong with them)."""
    count = 0
    faults = []
    for at, line in enumerate(lines):
        code = line.split("//")[0]
        if IMPLICIT.search(code) and not OPERATION.search(code):
            faults.append(f"{name}:{at + 1}: an atomic operation that does not name its order")
        if not OPERATION.search(code) or code.lstrip().startswith("using "):
            continue
        count += 1
        text = statement(lines, at)
        orders = {order.lower() for order in ORDER.findall(text)}
        comments = comments_above(lines, at, ABOVE)
        words = set(re.findall(r"\w+", text))
        for order in sorted(orders):
            if order == "relaxed" and (words & relaxed or len(orders) > 1):
                continue  # Explained at the declaration, or the failure order of a compare-and-swap.
            if not explains(comments, order):
                faults.append(f"{name}:{at + 1}: no comment says why the order is {order}")
    return count, faults


def steps_named(files):
    """{model: {step: where}}."""
    found = {}
    for name, lines in files.items():
        # A comment may continue on the next line.
        text = re.sub(r"\s*\n\s*//\s*", " ", "\n".join(lines))
        for steps, model in STEPS.findall(text):
            for step in re.findall(r"[A-Z]\d+", steps):
                found.setdefault(model, {})[step] = name
    return found


def step_faults(named, marked):
    faults = []
    for model in sorted(set(named) | set(marked)):
        for step in sorted(set(named.get(model, {})) - marked.get(model, set())):
            faults.append(f"{named[model][step]}: names step {step} of {model}, which does not have it")
        for step in sorted(marked.get(model, set()) - set(named.get(model, {}))):
            faults.append(f"{model}: no code says that it does step {step}")
    return faults


def self_check():
    """The check must be able to fail."""
    load = ["atomic_load_explicit(&a->b, memory_order_acquire);"]
    assert operation_faults("f", load, {"b"}) == (1, ["f:1: no comment says why the order is acquire"])
    assert operation_faults("f", ["// Acquire: as x."] + load, set()) == (1, [])
    assert operation_faults("f", ["x = atomic_load_explicit(&a->b, memory_order_relaxed);"], {"b"})[1] == []
    assert operation_faults("f", ["x = atomic_load_explicit(&a->b, memory_order_relaxed);"], set())[1]
    assert operation_faults("f", ["x = atomic_load(&a->b);"], {"b"})[1]
    named = steps_named({"f": ["// Steps R1 and R2 of m.pml", "// Step R3 of", "  // m.pml."]})
    assert sorted(named["m.pml"]) == ["R1", "R2", "R3"]
    assert len(step_faults(named, {"m.pml": {"R1", "R2", "R4"}})) == 2


def main():
    self_check()
    root = pathlib.Path(__file__).resolve().parent.parent
    files = {}
    for path in sorted((root / "allocator").rglob("*")):
        if path.suffix in (".c", ".h") and path.parent.name not in ("test", "include") and "test" not in path.stem:
            files[str(path.relative_to(root))] = path.read_text(encoding="utf-8").splitlines()
    models = {path.name: path.read_text(encoding="utf-8") for path in sorted((root / "fuzz" / "spin").glob("*.pml"))}
    relaxed = relaxed_variables(files)
    count = 0
    faults = []
    for name, lines in files.items():
        operations, found = operation_faults(name, lines, relaxed)
        count += operations
        faults += found
    faults += step_faults(steps_named(files), {name: set(STEP.findall(text)) for name, text in models.items()})
    if not count or not models:
        faults.append("no atomic operation or no model found")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
