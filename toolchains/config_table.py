#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""config_table.py [--check | --write]: which tests `bazel test --config=NAME //...` runs, and which it leaves out, and
why.

Reads `bazelw query` for the tests and their tags, and .bazelrc for what each configuration leaves out. Prints the table;
--write puts it into docs/CONFIGS.md, --check compares it with that file. Exits 1 when they differ, and, with or without
options, if a test is left out without a reason: by a tag that is not explained here, by `manual` although no stage of
.ci/run runs it, by every configuration, or as host-only without a comment beside the tag; 2 for a wrong call."""

import difflib
import fnmatch
import re
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "CONFIGS.md"

CONFIGS = ["gcc", "clang", "fast", "observe", "hardened", "lto", "asan", "ubsan", "tsan", "aarch64", "aarch64-clang"]

# The reasons why a tag may exclude a test from a configuration.
TAGS = {
    "host-only": "does not run under qemu: the test starts the machine's own programs, or does what the user-mode emulator "
    "cannot do; the comment beside the tag says which",
    "malloc-override": "does not run under a sanitizer that has its own malloc: two overriding mallocs exclude each other",
    "uninstrumented": "tests the library or the C++ runtime as shipped, which a sanitizer changes",
    "one-build": "another compiler, sanitizer or profile changes nothing in it: .ci/run runs it in one stage, every "
    "configuration in docs/CONFIGS.md still runs it",
    "manual": "not part of `//...`: applies only to another profile or under one sanitizer, where it is run by name",
}

# Tests with the tag manual, and where they run: a pattern of labels, and the words by which .ci/run or hakmem.bzl names
# them.
MANUAL = {
    "//allocator/test/embed:limit_*_within_64mb": "run by //allocator/test/embed:limit_test, which expects failures",
    "//fuzz/spin:*_test": "a search takes minutes: `.ci/run long`, stage models",
    "//toolchains/planted:*_catches": "under its own sanitizer: toolchains/planted/BUILD.bazel",
}


def query():
    """{label: (set of tags, rule class)} of all tests."""
    output = subprocess.run(
        [str(ROOT / "bazelw"), "query", "--noshow_progress", "tests(//...)", "--output=xml"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout
    tests = {}
    for rule in xml.etree.ElementTree.fromstring(output).iter("rule"):
        tags = {item.get("value") for one in rule.findall("list[@name='tags']") for item in one}
        tests[rule.get("name")] = (tags, rule.get("class"))
    return tests


def left_out_tags(config, lines):
    """The tags that `bazel test --config=CONFIG` leaves out according to .bazelrc. The last filter counts."""
    found = []
    for line in lines:
        words = line.split()
        if not words or words[0] not in (f"build:{config}", f"test:{config}"):
            continue
        for word in words[1:]:
            if word.startswith("--config="):
                found = left_out_tags(word.partition("=")[2], lines) or found
            elif word.startswith("--test_tag_filters="):
                found = [tag.lstrip("-") for tag in word.partition("=")[2].split(",")]
    return found


def host_only_without_reason():
    """Places in BUILD files that have the tag without a comment in the same rule."""
    missing = []
    for path in sorted(ROOT.glob("**/BUILD.bazel")):
        if any(part.startswith("bazel-") for part in path.relative_to(ROOT).parts):
            continue
        # A paragraph, between blank lines, has one rule and the comment before it.
        for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            if '"host-only"' in paragraph and not re.search(r"#(?! SPDX)", paragraph):
                name = re.search(r'name = ("[^"]+"|\w+)', paragraph)
                missing.append(f"{path.relative_to(ROOT)}: {name.group(1) if name else '?'} is host-only and no comment says why")
    return missing


def main():
    option = sys.argv[1] if len(sys.argv) > 1 else ""
    if len(sys.argv) > 2 or option not in ("", "--check", "--write"):
        print("usage: config_table.py [--check | --write]", file=sys.stderr)
        return 2
    tests = query()
    lines = (ROOT / ".bazelrc").read_text(encoding="utf-8").splitlines()
    problems = host_only_without_reason()
    known = {line.split()[0].partition(":")[2] for line in lines if re.match(r"(build|test):", line)}
    problems += [f".bazelrc has no configuration {config}" for config in CONFIGS if config not in known]

    manual = {label for label, (tags, _) in tests.items() if "manual" in tags}
    elsewhere = {}
    for label in sorted(manual):
        by_pattern = [why for pattern, why in MANUAL.items() if fnmatch.fnmatch(label, pattern)]
        copies = [other for other, (tags, _) in tests.items() if "other-profile" in tags and other.startswith(label + "_")]
        if by_pattern:
            elsewhere[label] = by_pattern[0]
        elif copies:
            elsewhere[label] = "as " + ", ".join(sorted(copies))
        else:
            problems.append(f"{label} is manual and runs nowhere")

    rows = []
    ran = set(elsewhere)
    for config in CONFIGS:
        filters = left_out_tags(config, lines)
        problems += [f"--config={config} leaves out {tag}, which nothing here explains" for tag in filters if tag not in TAGS]
        ran |= {label for label, (tags, _) in tests.items() if label not in manual and not tags & set(filters)}
        rows.append(f"| `--config={config}` | {', '.join(filters) or '–'} |")
    problems += [f"{label} runs in no configuration" for label in sorted(set(tests) - ran)]

    text = "\n".join([
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        "# Which tests each configuration runs",
        "",
        "`toolchains/config_table.py --write` writes this page from `bazel query` and .bazelrc; `--check` reports a test that is",
        "left out without a reason. The table describes `bazel test --config=NAME //...`; a stage of `.ci/run` may select fewer",
        "tests, by size or by profile, and says so in `.ci/run`. `--config=msan` is only for programs in C, because the C++",
        "library is not instrumented: `//allocator/test:c_driver_test` runs the whole allocator under it, and",
        "`//toolchains/planted:msan_catches` shows that it works.",
        "",
        "| configuration | leaves out tests with these tags |",
        "| --- | --- |",
        *rows,
        "",
        "| tag | why |",
        "| --- | --- |",
        *[f"| {tag} | {why} |" for tag, why in TAGS.items()],
        "",
        "Each manual test runs under another name or under one configuration:",
        "",
        *[f"- `{label}`: {why}" for label, why in elsewhere.items()],
        "",
    ])
    print(text)
    if option == "--write":
        PAGE.write_text(text, encoding="utf-8")
    if option == "--check":
        page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if page != text:
            changes = difflib.unified_diff(page.splitlines(), text.splitlines(), "docs/CONFIGS.md", "the tree", lineterm="", n=0)
            print("\n".join(changes), file=sys.stderr)
            problems.append("docs/CONFIGS.md is out of date: toolchains/config_table.py --write")
    for problem in problems:
        print(f"config_table.py: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
