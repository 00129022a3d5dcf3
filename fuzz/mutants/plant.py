#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copies a source file with one text replaced, which must occur in it exactly once.

    plant.py NAME OLD NEW SOURCE OUTPUT [CONDITION]

NAME is the mutant's, for messages. With a CONDITION the output is wrapped in `#if CONDITION`, and a header that is not
for C++ too (that is, without HAK_C_BEGIN) is left out of C++."""

import sys


def plant(name, path, text, old, new):
    """`text` with `old` replaced by `new`. ValueError: this is not possible."""
    times = text.count(old)
    if old == "" or times != 1:
        raise ValueError(f"mutant {name}: its text occurs {times} times in {path}, not once: {old!r}")
    if old == new:
        raise ValueError(f"mutant {name}: changes nothing")
    return text.replace(old, new)


def main(arguments):
    if len(arguments) not in (5, 6):
        print(__doc__, file=sys.stderr)
        return 2
    name, old, new, source, output = arguments[:5]
    condition = arguments[5] if len(arguments) == 6 else ""
    try:
        with open(source, encoding="utf-8") as file:
            text = plant(name, source, file.read(), old, new)
        with open(output, "w", encoding="utf-8") as file:
            if condition:
                if "HAK_C_BEGIN" not in text:
                    condition += " && !defined(__cplusplus)"
                text = f"#if {condition}\n{text}#endif\n"
            file.write(text)
    except (OSError, ValueError) as error:
        print(f"plant.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
