#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dashboard_test.py DASHBOARD PRINTER: each metric that the Grafana dashboard names exists.

PRINTER prints the text of hak_stats_prometheus. Each expression of a panel may use only its metrics, each with labels
that it has, and a counter only within rate() or increase(), a gauge never.
"""

import json
import re
import subprocess
import sys

METRIC = re.compile(r"(?:(rate|increase)\()?\b(hakmem_\w+)(?:\{([^}]*)\})?")
# Prometheus adds this label to every sample.
OF_THE_SCRAPE = {"instance"}


def families(text):
    """name -> (type, labels) of every family."""
    found = {name: (kind, set()) for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M)}
    for name, labels in re.findall(r"^(\w+)\{(.*)\} ", text, re.M):
        found[name][1].update(re.findall(r'(\w+)="', labels))
    return found


def problems(dashboard, text):
    known = families(text)
    wrong = [] if known else ["the printer prints no family"]
    expressions = [(panel["title"], target["expr"], target["legendFormat"])
                   for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [(variable["name"], variable["query"]["query"], "") for variable in dashboard["templating"]["list"]
                    if variable["type"] == "query"]
    for title, expression, legend in expressions:
        used = METRIC.findall(expression)
        if not used:
            wrong.append(f"{title}: {expression} names no metric")
        for over_time, name, selector in used:
            if name not in known:
                wrong.append(f"{title}: there is no {name}")
                continue
            kind, labels = known[name]
            if (kind == "counter") != bool(over_time):
                wrong.append(f"{title}: {name} is a {kind}")
            for label in re.findall(r"(\w+) *(?:=|!)", selector) + re.findall(r"\{\{(\w+)\}\}", legend):
                if label not in labels | OF_THE_SCRAPE:
                    wrong.append(f"{title}: {name} has no label {label}")
    return wrong


def self_check(dashboard, text):
    """The check finds what is wrong."""
    good = 'hakmem_live_bytes{instance=~"$instance"}'
    plain = json.dumps(dashboard)
    assert json.dumps(good)[1:-1] in plain
    for bad in ("hakmem_live_byte{}", 'hakmem_live_bytes{size="1"}', "rate(hakmem_live_bytes[1m])", "hakmem_refills_total",
                "1"):
        changed = json.loads(plain.replace(json.dumps(good)[1:-1], json.dumps(bad)[1:-1]))
        assert problems(changed, text), f"{bad} is not noticed"


def main():
    with open(sys.argv[1], encoding="utf-8") as stream:
        dashboard = json.load(stream)
    text = subprocess.run([sys.argv[2]], stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout
    self_check(dashboard, text)
    wrong = problems(dashboard, text)
    numbers = [panel["id"] for panel in dashboard["panels"]]
    if len(set(numbers)) != len(numbers):
        wrong.append("two panels have the same id")
    for line in wrong:
        print(line)
    print(f"{len(dashboard['panels'])} panels: {'FAILED' if wrong else 'passed'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
