# SPDX-License-Identifier: Apache-2.0
"""A strict reader of the Prometheus text exposition format 0.0.4.

The parser is that of Prometheus's own Python client (Debian: python3-prometheus-client). It accepts what a scrape would
accept. The rules below are the additional ones of the format and its naming guide
(https://prometheus.io/docs/practices/naming/)."""

import math
import re

from prometheus_client.parser import text_string_to_metric_families

_LINE = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)|([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)")
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


class FormatError(Exception):
    """The text breaks a rule."""


def _walk(text):
    """Checks the order of the lines: HELP, TYPE, samples, each family once. {name: type}."""
    types = {}
    helped = None
    family = None
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.fullmatch(line)
        if not found:
            raise FormatError("line %d is no HELP, TYPE or sample: %r" % (number, line))
        kind, name, rest, sample = found.group(1), found.group(2), found.group(3), found.group(4)
        if kind == "HELP":
            if name in types:
                raise FormatError("line %d: a second %s" % (number, name))
            if helped:
                raise FormatError("line %d: HELP of %s without TYPE" % (number, helped))
            helped, family = name, None
        elif kind == "TYPE":
            if name != helped:
                raise FormatError("line %d: TYPE of %s not below its HELP" % (number, name))
            if rest not in _SUFFIXES:
                raise FormatError("line %d: type %s" % (number, rest))
            types[name] = rest
            helped, family = None, name
        elif family is None or sample not in [family + suffix for suffix in _SUFFIXES[types[family]]]:
            raise FormatError("line %d: %s does not belong to the family above" % (number, sample))
    if helped:
        raise FormatError("HELP of %s without TYPE" % helped)
    return types


def _check_histogram(name, samples):
    buckets = [(float(s.labels["le"]), s.value) for s in samples if s.name == name + "_bucket"]
    others = {s.name: s.value for s in samples if s.name != name + "_bucket"}
    if not buckets or buckets[-1][0] != math.inf:
        raise FormatError("%s: the last bucket is not +Inf" % name)
    if buckets != sorted(buckets) or len({le for le, _ in buckets}) != len(buckets):
        raise FormatError("%s: buckets out of order, or falling" % name)
    if any(a[1] > b[1] for a, b in zip(buckets, buckets[1:])):
        raise FormatError("%s: buckets are not cumulative" % name)
    if others.get(name + "_count") != buckets[-1][1]:
        raise FormatError("%s: _count is not the bucket +Inf" % name)
    if name + "_sum" not in others:
        raise FormatError("%s: no _sum" % name)


def parse(text):
    """{sample name: {labels as a sorted tuple: value}} of a correct text. FormatError: the text breaks a rule."""
    if not text.endswith("\n"):
        raise FormatError("the last line does not end")
    types = _walk(text)
    values = {}
    try:
        families = list(text_string_to_metric_families(text))
    except (ValueError, IndexError, KeyError) as error:
        raise FormatError("the parser of prometheus_client says: %s" % error) from error
    for family in families:
        # The parser removes _total from the name of a counter's family.
        name = family.name + "_total" if family.type == "counter" else family.name
        if name not in types:
            raise FormatError("%s: a counter that does not end in _total, or no TYPE" % family.name)
        if family.type == "gauge" and name.endswith("_total"):
            raise FormatError("%s: a gauge that ends in _total" % name)
        if not family.documentation.strip():
            raise FormatError("%s: no HELP" % name)
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            if labels in values.setdefault(sample.name, {}):
                raise FormatError("%s%s twice" % (sample.name, labels))
            if math.isnan(sample.value) or (family.type != "gauge" and sample.value < 0):
                raise FormatError("%s is %s" % (sample.name, sample.value))
            values[sample.name][labels] = sample.value
        if family.type == "histogram":
            _check_histogram(name, family.samples)
    return values


def value_of(values, name):
    """The only sample of a family without labels."""
    return values[name][()]
