# SPDX-License-Identifier: Apache-2.0
"""The golden table as a file and as a page."""

import json
from typing import Dict, List

from bench.golden import paths

Table = Dict[str, Dict[str, List[int]]]

HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# The golden fast paths

The instructions that a warm call of 64 bytes executes in the allocator, by kind: the shortest of 20 calls. The C library's
memset and the program's own instructions are not counted. `./bazelw run //bench:golden -- --write` writes this page and
bench/golden/golden.json for the compiler and machine of its build; `//bench/golden:golden_test` compares each build with them.
On x86-64 callgrind traces the calls, on aarch64 the emulator.

`realloc` goes from 64 to 60 bytes. `aligned_alloc` asks for an alignment of 64. `shared`: the library is preloaded; `static`: it is
linked in. HARDENED draws random numbers in each call, so its counts may differ by a thirtieth.
"""


def as_json(table: Table) -> str:
    """One line for each call, so that a change shows what it changed."""
    builds = []
    for key in sorted(table):
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(table[key][name])}" for name in paths.STEPS)
        builds.append(f"{json.dumps(key)}: {{\n{rows}\n }}")
    return "{\n " + ",\n ".join(builds) + "\n}\n"


def page(table: Table) -> str:
    lines = [HEAD]
    for name in paths.STEPS:
        lines += [f"## {name}", "", f"| build | {' | '.join(paths.KINDS)} |", "| --- |" + " ---: |" * len(paths.KINDS)]
        lines += [f"| {key} | {' | '.join(str(n) for n in table[key][name])} |" for key in sorted(table)]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"
