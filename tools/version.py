#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every file that names the version of hakmem names the one in hakmem.h.

usage: version.py           compares; prints each place that differs, and exits 1 if there is one
       version.py X.Y.Z     writes this version into all of them

CHANGELOG.md must have a section for the version; a person writes it.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = "allocator/include/hakmem/hakmem.h"
PARTS = ("MAJOR", "MINOR", "PATCH")

MODULE = r'module\(\s*name = "\w+",\s*version = "([^"]*)"'
DEPENDENCY = r'bazel_dep\(name = "hakmem", version = "([^"]*)"'

# A file, and patterns that each match in it at least once; the group is the version.
PLACES = [
    ("MODULE.bazel", [MODULE]),
    ("examples/embedding/MODULE.bazel", [MODULE, DEPENDENCY]),
    ("examples/service/MODULE.bazel", [MODULE, DEPENDENCY]),
    ("examples/rust/Cargo.toml", [r'\nversion = "([^"]*)"']),
    ("examples/rust/Cargo.lock", [r'name = "hakmem"\nversion = "([^"]*)"']),
    ("examples/rust/BUILD.bazel.example", [r'"CARGO_PKG_VERSION": "([^"]*)"']),
    ("examples/python/Dockerfile", [r"libhakmem\.so\.(\d+\.\d+\.\d+)"]),
    ("packaging/BUILD.bazel", [r'\bversion = "([^"]*)"']),
    ("toolchains/check_bazel7.sh", [DEPENDENCY]),
    ("docs/EMBEDDING.md", [DEPENDENCY]),
    ("docs/INSTALLING.md", [r"libhakmem\.so\.(\d+\.\d+\.\d+)", r"hakmem_([\d.]+)_amd64\.deb"]),
]


def define(part):
    return rf"^#define HAK_VERSION_{part} (\d+)$"


def version_of(header):
    """The version in the text of hakmem.h; ValueError if it has none."""
    numbers = [re.search(define(part), header, re.M) for part in PARTS]
    if not all(numbers):
        raise ValueError(f"{HEADER} does not define HAK_VERSION_" + ", _".join(PARTS))
    return ".".join(number.group(1) for number in numbers)


def problems(texts, version):
    """What is wrong with `texts`, {name: text}."""
    for name, patterns in PLACES:
        for pattern in patterns:
            found = re.findall(pattern, texts[name])
            if not found:
                yield f"{name}: nothing matches {pattern}"
            for other in found:
                if other != version:
                    yield f"{name}: {other}, but {HEADER} has {version}"
    if not re.search(rf"^## {re.escape(version)}\b", texts["CHANGELOG.md"], re.M):
        yield f"CHANGELOG.md: no section ## {version}"


def changed(name, text, version):
    """The text of the file with this version."""
    if name == HEADER:
        for part, number in zip(PARTS, version.split(".")):
            text = re.sub(define(part), f"#define HAK_VERSION_{part} {number}", text, flags=re.M)
        return text
    for pattern in dict(PLACES).get(name, []):
        text = re.sub(pattern, lambda match: match.group(0).replace(match.group(1), version), text)
    return text


def self_check(texts, version):
    """A version in one file only must be noticed, for each file."""
    other = "98.76.54"
    everywhere = {name: changed(name, text, other) for name, text in texts.items()}
    everywhere["CHANGELOG.md"] += f"\n## {other}\n"
    assert version_of(everywhere[HEADER]) == other and not list(problems(everywhere, other))
    for name, _ in PLACES:
        assert list(problems(dict(everywhere, **{name: changed(name, texts[name], version)}), other)), name
    assert list(problems(dict(everywhere, **{"CHANGELOG.md": ""}), other))


def main():
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and not re.fullmatch(r"\d+\.\d+\.\d+", sys.argv[1])):
        print(__doc__, file=sys.stderr)
        return 2
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in [HEADER, "CHANGELOG.md"] + [n for n, _ in PLACES]}
    if len(sys.argv) == 2:
        for name, text in texts.items():
            texts[name] = changed(name, text, sys.argv[1])
            (ROOT / name).write_text(texts[name], encoding="utf-8")
    version = version_of(texts[HEADER])
    found = list(problems(texts, version))
    for problem in found:
        print(problem)
    if not found:
        self_check(texts, version)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
