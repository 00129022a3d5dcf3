# SPDX-License-Identifier: Apache-2.0
"""Sums of a profile by function and by stack, and the table of them."""

import collections

# `flat` are the values of stacks that end in the function, `cum` those of stacks that contain it.
Row = collections.namedtuple("Row", "name flat cum")

UNITS = {
    "bytes": ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")),
    "nanoseconds": ((10**9, "s"), (10**6, "ms"), (10**3, "us")),
    "microseconds": ((10**6, "s"), (10**3, "ms")),
}
SMALLEST = {"bytes": " B", "nanoseconds": " ns", "microseconds": " us", "count": ""}


def shown(value, unit, sign=False):
    """A value as text: 1.50 MiB."""
    mark = "+" if sign and value > 0 else ""
    for size, name in UNITS.get(unit, ()):
        if abs(value) >= size:
            return "%s%.2f %s" % (mark, value / size, name)
    return "%s%d%s" % (mark, value, SMALLEST.get(unit, " " + unit if unit else ""))


def by_stack(samples, index):
    """{(names, the outermost first): sum}; sums of 0 are left out. A stack without a frame is `[no stack]`."""
    sums = collections.Counter()
    for sample in samples:
        stack = tuple(frame.name for frame in reversed(sample.frames)) or ("[no stack]",)
        sums[stack] += sample.values[index]
    return {stack: value for stack, value in sums.items() if value}


def rows(stacks):
    """The Rows of {stack: value}, the greatest flat value first."""
    flat, cum = collections.Counter(), collections.Counter()
    for stack, value in stacks.items():
        flat[stack[-1]] += value
        for name in set(stack):  # once, however often the function calls itself
            cum[name] += value
    return sorted((Row(name, flat[name], cum[name]) for name in cum),
                  key=lambda row: (-abs(row.flat), -abs(row.cum), row.name))


def difference(old, new):
    """{stack: growth}; stacks that did not change are left out."""
    return {stack: new.get(stack, 0) - old.get(stack, 0) for stack in {**old, **new}
            if new.get(stack, 0) != old.get(stack, 0)}


def beginning(types, index):
    """The index of the live values whose growth the value at `index` is, such as inuse_space for growth_space; or None."""
    names = [name for name, _ in types]
    live = names[index].replace("growth_", "inuse_", 1)
    return names.index(live) if names[index].startswith("growth_") and live in names else None


def lifetimes(types, index):
    """The indexes of the sum of lifetimes and of the blocks whose it is, if the value at `index` is one of theirs; or None."""
    names = [name for name, _ in types]
    if not names[index].startswith("lifetime_") or not {"lifetime_objects", "lifetime_time"} <= set(names):
        return None
    return names.index("lifetime_time"), names.index("lifetime_objects")


def means(times, objects):
    """{function: the mean of the values in `times` over those in `objects`, of all stacks that contain it}."""
    time_of = {row.name: row.cum for row in rows(times)}
    return {row.name: time_of.get(row.name, 0) / row.cum for row in rows(objects) if row.cum > 0}


def table(stacks, unit, total, most, is_growth=False, mean_of=None, mean_unit=""):
    """The lines of the table of at most `most` functions; shares are of `total`. With `mean_of`, of `means`, a column more."""

    def share(value):
        return "%6.2f%%" % (100 * value / total) if total else "     –%"

    def mean(name):
        if mean_of is None:
            return ""
        if name not in mean_of:
            return " %12s" % "–"
        # Below the unit of the sums.
        return " %12s" % (shown(mean_of[name], mean_unit) if mean_of[name] >= 1 else "<" + shown(1, mean_unit))

    lines = ["%12s %7s %7s %12s %7s%s  %s" % ("flat", "flat%", "sum%", "cum", "cum%",
                                              " %12s" % "mean life" if mean_of is not None else "", "function")]
    all_rows = rows(stacks)
    so_far = 0
    for row in all_rows[:most]:
        so_far += row.flat
        lines.append("%12s %7s %7s %12s %7s%s  %s" % (shown(row.flat, unit, is_growth), share(row.flat), share(so_far),
                                                     shown(row.cum, unit, is_growth), share(row.cum), mean(row.name),
                                                     row.name))
    if len(all_rows) > most:
        lines.append("%d more functions; -n 0 shows all" % (len(all_rows) - most))
    return lines
