# SPDX-License-Identifier: Apache-2.0
"""Reads the tables of mutants and writes the page of results."""

import ast
import hashlib
import pathlib
import re

FIELDS = {"name", "file", "old", "new", "kind", "breaks", "killer"}
OPTIONAL = {"config", "ci", "explanation"}
CONFIGS = {"", "asan", "ubsan", "tsan"}
CONTROL = "control"
# What kills a mutant that takes locks wrongly, before any test runs.
COMPILER = "clang's analysis of locks"
# The copies of a test that other profiles and modes have.
COPY = re.compile(r"_(fast|observe|hardened|preserve|always|static)$")


def load(folder):
    """All mutants of the tables in `folder`, the control first. ValueError: one is malformed."""
    mutants = []
    for path in sorted(pathlib.Path(folder).glob("table_*.bzl")):
        for statement in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
            if isinstance(statement, ast.Assign):
                mutants += ast.literal_eval(statement.value)
    names = set()
    for mutant in mutants:
        fields = set(mutant)
        name = mutant.get("name", "?")
        if not FIELDS <= fields <= FIELDS | OPTIONAL:
            raise ValueError(f"mutant {name}: fields {sorted(fields ^ FIELDS)} are missing or unknown")
        if not re.fullmatch(r"[a-z0-9_]+", name) or name == "none" or name in names:
            raise ValueError(f"mutant {name}: not a name, or the name of two")
        names.add(name)
        if mutant.get("config", "") not in CONFIGS:
            raise ValueError(f"mutant {name}: unknown config {mutant['config']!r}")
        if name != CONTROL and not re.fullmatch(r"//[\w/]+:\w+", mutant["killer"]):
            raise ValueError(f"mutant {name}: its killer {mutant['killer']!r} is no label")
    if CONTROL not in names:
        raise ValueError("there is no mutant that changes nothing: control")
    return sorted(mutants, key=lambda mutant: mutant["name"] != CONTROL)


def test_files(root, label):
    """The sources of a test; of one without a file of its name, all that its package may use."""
    package, _, name = label.removeprefix("//").partition(":")
    folder = pathlib.Path(root) / package
    while True:
        found = sorted(path for path in folder.glob(f"{name}.*") if path.is_file())
        if found:
            return found
        shorter = COPY.sub("", name)
        if shorter == name:
            return sorted(path for path in folder.glob("*") if path.is_file() and not re.search(r"\.[ch]$", path.name))
        name = shorter


def all_test_files(root):
    """What might kill a survivor, if it were changed."""
    root = pathlib.Path(root)
    found = [path for path in root.glob("allocator/**/*") if path.is_file() and
             ("/test/" in str(path.relative_to(root)) or path.suffix == ".cc")]
    return sorted(found + [path for path in root.glob("fuzz/*") if path.is_file()])


def contents(root, file, killer):
    """A digest of the contents on which a verdict rests: the mutated source, and the test that killed it (`killer` is its
    label; None: a compiler), or all tests if none did."""
    root = pathlib.Path(root)
    total = hashlib.sha256()
    tests = [] if killer is None else test_files(root, killer) if killer else all_test_files(root)
    for path in [root / file] + tests:
        total.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def label_of(by):
    """The label of the test in a description of what killed a mutant; empty: none did. None: it was no test."""
    if by == COMPILER:
        return None
    match = re.match(r"`([^`]+)`", by)
    return match.group(1) if match else ""


def digest(mutant):
    """A digest of the planted bug and of how it is judged."""
    text = "\0".join(mutant.get(key, "") for key in ("file", "old", "new", "killer", "config"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def outcome(mutant, results):
    """The recorded result of the mutant in its current form, or None."""
    result = results.get(mutant["name"])
    return result if result is not None and result["digest"] == digest(mutant) else None


def is_current(root, mutant, results):
    """Whether neither the mutant nor the contents of the code and of the tests have changed since its result."""
    result = outcome(mutant, results)
    return result is not None and result.get("contents") == contents(root, mutant["file"], label_of(result["by"]))


def planted(mutants):
    return [mutant for mutant in mutants if mutant["name"] != CONTROL]


def killed(mutants, results):
    return [m for m in planted(mutants) if (outcome(m, results) or {}).get("outcome") == "killed"]


def cell(text):
    return text.replace("|", "\\|")


# The pages of docs/analysis/testing by name: the first letters of the rooms on it. Two, so that neither grows too long.
PAGES = {"mutants.md": ("a", "h"), "mutants-from-heap.md": ("h", "{")}


def room(mutant):
    return mutant["file"].removeprefix("allocator/")


def entries(mutants, results, page):
    """The lines of a page about its mutants."""
    lines = []
    file = ""
    first, end = PAGES[page]
    for mutant in sorted(planted(mutants), key=lambda m: (m["file"], m["name"])):
        if not first <= room(mutant)[0] < end:
            continue
        if mutant["file"] != file:
            file = mutant["file"]
            lines += ["", f"## {file}", ""]
        result = outcome(mutant, results)
        if result is None:
            verdict = "not run"
        elif result["outcome"] == "killed":
            verdict = result["by"].replace("`//allocator/", "`")
        else:
            verdict = f"**{result['outcome']}**"
        lines.append(f"- `{mutant['name']}`: {mutant['breaks']}. {verdict}")
    return lines


def survivors(mutants, results):
    found = [(m, outcome(m, results)) for m in sorted(planted(mutants), key=lambda m: (m["file"], m["name"]))]
    found = [(m, result) for m, result in found if result is not None and result["outcome"] != "killed"]
    lines = ["", "## Survivors", "", "| mutant | outcome | why |", "| --- | --- | --- |"] if found else []
    return lines + [f"| `{m['name']}` | {result['outcome']} | {cell(m.get('explanation', '?'))} |" for m, result in found]


def render(mutants, results):
    """The text of each of PAGES."""
    all_planted, all_killed = planted(mutants), killed(mutants, results)
    rate = 100 * len(all_killed) / len(all_planted)
    head = ["<!-- SPDX-License-Identifier: Apache-2.0 -->", "<!-- Generated by fuzz/mutants/run_mutants.py; do not edit. -->"]
    start = head + [
        "# Planted bugs",
        "",
        f"**{len(all_killed)} killed / {len(all_planted)} planted ({rate:.1f} %).**",
        "",
        "Each mutant is the allocator with one small bug (`--//configs:mutant=NAME`; fuzz/mutants/README.md). It is killed",
        "when a test fails or hangs that passes without it. Where a test case is named, it is the first that failed. Each line:",
        "the mutant's name: what it breaks. What killed it; `heap:bin_test` is `//allocator/heap:bin_test`. The rooms from `heap`",
        "on are on [a page of their own](mutants-from-heap.md).",
    ]
    rest = head + ["# Planted bugs: the rooms from `heap` on", "", "The first part, and what a line says: [mutants.md](mutants.md)."]
    texts = {"mutants.md": start + entries(mutants, results, "mutants.md") + survivors(mutants, results),
             "mutants-from-heap.md": rest + entries(mutants, results, "mutants-from-heap.md")}
    return {name: "\n".join(lines) + "\n" for name, lines in texts.items()}
