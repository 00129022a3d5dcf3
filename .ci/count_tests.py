#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""count_tests.py EVENTS.json STATUS: counts the tests of one Bazel run.

EVENTS.json is what --build_event_json_file wrote, STATUS Bazel's exit status. Prints `PASSED FAILED` and below it one line
for each failure. Targets that did not build count as failures; so does a run that tested nothing, or that failed without
saying which target is to blame.
"""

import json
import sys


def outcomes(path):
    """What became of each target that failed or was tested: {label: (passed, what happened)}."""
    tested = {}
    broken = {}
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            event = json.loads(line)
            identity = event["id"]
            if "testSummary" in identity and "testSummary" in event:
                status = event["testSummary"].get("overallStatus", "NO_STATUS")
                tested[identity["testSummary"]["label"]] = (status in ("PASSED", "FLAKY"), status)
            elif "targetCompleted" in identity:
                if "aborted" in event or not event.get("completed", {}).get("success", False):
                    broken[identity["targetCompleted"]["label"]] = (False, "FAILED_TO_BUILD")
            elif "targetConfigured" in identity and "reason" in event.get("aborted", {}):
                # Without a reason it is a target that was named and not wanted: a flag of .bazelrc under
                # --build_tests_only. Whatever else goes wrong shows in Bazel's exit status.
                broken[identity["targetConfigured"]["label"]] = (False, "FAILED_TO_ANALYSE")
    # A test that failed has a target that did not complete, too; how it failed is the better news.
    return {**broken, **tested}


def main():
    path, status = sys.argv[1], int(sys.argv[2])
    found = {}
    try:
        found = outcomes(path)
    except (OSError, ValueError) as error:
        print(f"count_tests.py: {error}", file=sys.stderr)
    passed = sum(1 for good, _ in found.values() if good)
    failures = [f"{label} {what}" for label, (good, what) in sorted(found.items()) if not good]
    if not found:
        failures.append("no test ran")
    elif status != 0 and not failures:
        failures.append(f"Bazel failed with status {status}")
    print(passed, len(failures))
    print("\n".join(failures))


if __name__ == "__main__":
    main()
