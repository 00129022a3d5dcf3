# SPDX-License-Identifier: Apache-2.0
"""A profile as one HTML page, which needs no other file and no network."""

import html
import json
import pathlib

from prof_report import by_stack


def _data(title, profile, samples, first, old):
    """What the page's script reads. Names are listed once; a stack is a list of indexes, the outermost call first."""
    names = {}

    def index(name):
        return names.setdefault(name, len(names))

    by_type = [by_stack(samples, i) for i in range(len(profile.types))]
    old_by_type = [by_stack(old, i) for i in range(len(profile.types))] if old is not None else []
    stacks = sorted({stack for sums in by_type + old_by_type for stack in sums})
    return {
        "title": title,
        "types": [{"name": name, "unit": unit} for name, unit in profile.types],
        "first": first,
        "isDiff": old is not None,
        "stacks": [[index(name) for name in stack] for stack in stacks],
        "values": [[sums.get(stack, 0) for stack in stacks] for sums in by_type],
        "old": [[sums.get(stack, 0) for stack in stacks] for sums in old_by_type],
        "names": list(names),
        "comments": profile.comments,
    }


def page(title, profile, samples, first, old=None):
    """The text of the page. `first` is the type that it shows at first; `old` are the samples that `samples` are compared with."""
    template = pathlib.Path(__file__).with_name("prof_page.html").read_text(encoding="utf-8")
    # Within a script element only this could end it.
    data = json.dumps(_data(title, profile, samples, first, old), separators=(",", ":")).replace("<", "\\u003c")
    before, after = template.split("@DATA@")
    return before.replace("@TITLE@", html.escape(title)) + data + after
