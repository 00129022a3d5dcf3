# SPDX-License-Identifier: Apache-2.0
"""Shows which performance targets are met, from the results that are kept in bench/results and the golden table.

Keeps one more result with --add, which takes the file of `./bazelw run //bench:compare -- --json FILE`.
"""

import datetime
import json
import os
import subprocess
import sys
from typing import List

from bench.lib import cli
from bench.scorecard import results, targets

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = "docs/analysis/PERFORMANCE_TARGETS_SCORECARD.md"
FOLDER = "bench/results"
GOLDEN = "bench/golden/golden.json"
HISTORY = 6  # columns

HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# Performance targets

`./bazelw run //bench:scorecard -- --write` writes this page from the files in bench/results and from the golden table; nothing in it
is typed by hand. A ratio is the median over interleaved rounds, paired with the best peer of the same round, with its
interval. **met**: the whole interval meets the target. **within**: the interval has both. **not met**: no part of it does.

"""


def show(number: float) -> str:
    return f"{number:.0f}" if number == int(number) else f"{number:.3f}"


def line(cells: List[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def newest(all_results: List[results.Result], golden: targets.Golden) -> str:
    text = line(["target", "wanted", "measured", "interval", "verdict", "from"]) + "| --- | --- | ---: | --- | --- | --- |\n"
    for target in targets.TARGETS:
        value, source = None, ""
        if target.of_golden:
            value, source = target.of_golden(golden), "golden.json"
        for result in all_results if target.of_result else []:
            found = target.of_result(result)
            value, source = (found, result.name) if found else (value, source)
        wanted = ("≥ " if target.least else "≤ ") + show(target.wanted)
        if value is None:
            text += line([target.text, wanted, "-", "-", "not measured", "-"])
            continue
        interval = "exact" if value.low == value.high else f"{show(value.low)} to {show(value.high)}"
        text += line([target.text, wanted, show(value.value), interval, targets.verdict(target, value), source])
    return text


def history(all_results: List[results.Result]) -> str:
    shown = all_results[-HISTORY:]
    text = line(["target", *(f"{result.day} {result.commit[:12]}" for result in shown)])
    text += "| --- |" + " ---: |" * len(shown) + "\n"
    for target in targets.TARGETS:
        if target.of_result:
            values = [target.of_result(result) for result in shown]
            text += line([target.text, *(show(value.value) if value else "-" for value in values)])
    return text


def machines(all_results: List[results.Result]) -> str:
    text = ""
    for result in all_results[-HISTORY:]:
        facts = result.machine
        text += (f"- {result.name}: {facts['cpu']}, {facts['cores']} cores, {facts['memory']}, {facts['kernel']}, transparent huge "
                 f"pages {facts['thp']}, load {facts['load']} at the start; "
                 + ", ".join(sorted(set(result.allocators.values()))) + "\n")
    return text


def page(all_results: List[results.Result], golden: targets.Golden) -> str:
    return (HEAD + newest(all_results, golden) + "\n## Before\n\n" + history(all_results) + "\n## Where\n\n"
            + machines(all_results))


def render(root: str) -> str:
    with open(os.path.join(root, GOLDEN), encoding="utf-8") as file:
        golden = json.load(file)
    return page(results.read_all(os.path.join(root, FOLDER)), golden)


def add(path: str, root: str) -> str:
    """Keeps the result, and returns the name of its file."""
    commit = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    day = datetime.date.fromtimestamp(os.path.getmtime(path)).isoformat()
    kept = results.reduce_comparison(path, day, commit)
    kept["number"] = len(results.read_all(os.path.join(root, FOLDER)))
    name = os.path.join(FOLDER, f"{day}-{commit[:12]}-compare.json")
    with open(os.path.join(root, name), "w", encoding="utf-8") as file:
        json.dump(kept, file, indent=1, sort_keys=True)
        file.write("\n")
    return name


def main(argv: List[str]) -> int:
    parser = cli.Parser("scorecard", __doc__)
    parser.add_argument("--add", metavar="FILE", help="keep this result of //bench:compare")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}; otherwise it is printed")
    args = parser.parse_args(argv)
    root = os.environ.get("BUILD_WORKSPACE_DIRECTORY", ROOT)
    try:
        if args.add:
            print("kept as " + add(os.path.join(cli.caller_directory(), args.add), root))
        text = render(root)
    except (results.ResultError, OSError, subprocess.CalledProcessError) as error:
        parser.error(str(error))
    if args.write:
        with open(os.path.join(root, PAGE), "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
