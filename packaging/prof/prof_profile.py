# SPDX-License-Identifier: Apache-2.0
"""Reads profiles in pprof's format: profile.proto of github.com/google/pprof, with or without gzip."""

import collections
import struct
import zlib

# A profile of a million stacks has about 100 MiB. A small file that grows beyond this is no profile.
MOST_BYTES = 1 << 30

# `frames` are Frames, the innermost call first; `values` are as many as there are types.
Sample = collections.namedtuple("Sample", "frames values")
# `name` is None without a symbol: `mapping` (or None) and `address` then tell the place. `file` and `line` may be "" and 0.
Frame = collections.namedtuple("Frame", "name file line mapping address")
Mapping = collections.namedtuple("Mapping", "start limit offset file build_id")
# `types` are (type, unit); `default` is an index; `period` is (value, type, unit) or None; the times are in nanoseconds.
Profile = collections.namedtuple("Profile", "types default samples mappings period time duration comments")


class ProfileError(Exception):
    """Why a file is no profile: for the user, on one line."""


# ---- Protocol buffers --------------------------------------------------------------------------------


def _number(data, at):
    value = shift = 0
    while True:
        if at >= len(data):
            raise ProfileError("is cut short, or is no profile")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
        if shift > 63:
            raise ProfileError("is no profile: it holds a number of more than 64 bits")


def _signed(value):
    return value - (1 << 64) if value >> 63 else value


def _fields(data):
    """(number of the field, value) for each; the value is an int or bytes."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        kind = tag & 7
        if tag >> 3 == 0:
            raise ProfileError("is no profile: it holds a field 0")
        if kind == 0:
            value, at = _number(data, at)
        elif kind == 2:
            size, at = _number(data, at)
            value, at = data[at : at + size], at + size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        else:
            raise ProfileError("is no profile: it holds a field of kind %d" % kind)
        if at > len(data):
            raise ProfileError("is cut short, or is no profile")
        yield tag >> 3, value


def _message(data):
    """{field: last value} of a message of numbers."""
    if not isinstance(data, bytes):
        raise ProfileError("is no profile: a number stands where a message belongs")
    return {field: value for field, value in _fields(data) if isinstance(value, int)}


def _numbers(value):
    """A repeated number, which may be packed."""
    if isinstance(value, int):
        return [value]
    at, numbers = 0, []
    while at < len(value):
        number, at = _number(value, at)
        numbers.append(number)
    return numbers


# ---- The profile ---------------------------------------------------------------------------------------


def _unpacked(data):
    if data[:2] != b"\x1f\x8b":
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        whole = unpacker.decompress(data, MOST_BYTES)
    except zlib.error as error:
        raise ProfileError("is damaged: " + str(error)) from None
    if len(whole) == MOST_BYTES and not unpacker.eof:
        raise ProfileError("holds more than %d MiB" % (MOST_BYTES >> 20))
    if not unpacker.eof:
        raise ProfileError("is cut short")
    return whole


def _refuse_others(data):
    """Names the formats that people have by mistake."""
    for beginning, what in ((b"heap profile:", "a text profile of gperftools or an old Go"),
                            (b"heap_v2/", "a profile of jemalloc (jeprof reads it)"),
                            (b"MAPPED_LIBRARIES:", "a profile of jemalloc (jeprof reads it)"),
                            (b"--- heapz", "a text profile of gperftools"), (b"\x7fELF", "a program"),
                            (b"{", "JSON"), (b"<", "HTML or XML")):
        if data.startswith(beginning):
            raise ProfileError("is %s, not a profile in pprof's format" % what)


class _Reader:
    def __init__(self, data):
        self.by_field = collections.defaultdict(list)
        for field, value in _fields(data):
            self.by_field[field].append(value)
        texts = self.by_field[6]
        if not texts or any(not isinstance(text, bytes) for text in texts) or texts[0] != b"":
            raise ProfileError("is no profile: it has no table of texts that begins with the empty one")
        self.texts = [text.decode(errors="replace") for text in texts]

    def text(self, index):
        if index >= len(self.texts):
            raise ProfileError("is no profile: it names a text that it does not have")
        return self.texts[index]

    def last(self, field):
        values = [value for value in self.by_field[field] if isinstance(value, int)]
        return values[-1] if values else 0

    def type_of(self, data):
        parts = _message(data)
        return self.text(parts.get(1, 0)), self.text(parts.get(2, 0))

    def identified(self, field, make):
        """{identity: what `make` makes of the fields} of the messages in a field."""
        found = {}
        for data in self.by_field[field]:
            parts = _message(data)
            if parts.get(1, 0) in found or not parts.get(1, 0):
                raise ProfileError("is no profile: an identity is missing, or is that of two things")
            found[parts[1]] = make(parts, data)
        return found

    def locations(self, mappings):
        functions = self.identified(5, lambda parts, _: (self.text(parts.get(2, 0)) or self.text(parts.get(3, 0)),
                                                         self.text(parts.get(4, 0))))

        def location(parts, data):
            """The frames at an address: several, if calls were inlined there, the innermost first."""
            place = parts.get(2, 0)
            if place and place not in mappings:
                raise ProfileError("is no profile: it names a mapping that it does not have")
            frames = []
            for field, value in _fields(data):
                if field == 4:
                    line = _message(value)
                    if line.get(1, 0) not in functions:
                        raise ProfileError("is no profile: it names a function that it does not have")
                    name, file = functions[line[1]]
                    frames.append(Frame(name or None, file, _signed(line.get(2, 0)), mappings.get(place), parts.get(3, 0)))
            return frames or [Frame(None, "", 0, mappings.get(place), parts.get(3, 0))]

        return self.identified(4, location)

    def samples(self, locations, values):
        for data in self.by_field[2]:
            if not isinstance(data, bytes):
                raise ProfileError("is no profile: a number stands where a sample belongs")
            stack, numbers = [], []
            for field, value in _fields(data):
                if field == 1:
                    stack += _numbers(value)
                elif field == 2:
                    numbers += map(_signed, _numbers(value))
            if len(numbers) != values:
                raise ProfileError("is no profile: a sample has %d values instead of %d" % (len(numbers), values))
            if any(identity not in locations for identity in stack):
                raise ProfileError("is no profile: it names an address that it does not have")
            yield Sample([frame for identity in stack for frame in locations[identity]], numbers)


def parse(data):
    """The Profile in these bytes; ProfileError if there is none."""
    if not data:
        raise ProfileError("is empty")
    data = _unpacked(data)
    _refuse_others(data)
    reader = _Reader(data)
    types = [reader.type_of(value) for value in reader.by_field[1]]
    if not types:
        raise ProfileError("is no profile: it does not tell what it counts")
    mappings = reader.identified(3, lambda parts, _: Mapping(
        parts.get(2, 0), parts.get(3, 0), parts.get(4, 0), reader.text(parts.get(5, 0)), reader.text(parts.get(6, 0))))
    names = [name for name, _ in types]
    default = reader.text(reader.last(14))
    period = [reader.type_of(value) for value in reader.by_field[11]]
    return Profile(
        types=types,
        default=names.index(default) if default in names else len(types) - 1,
        samples=list(reader.samples(reader.locations(mappings), len(types))),
        mappings=list(mappings.values()),
        period=(_signed(reader.last(12)), *period[-1]) if period else None,
        time=_signed(reader.last(9)),
        duration=_signed(reader.last(10)),
        comments=[reader.text(index) for value in reader.by_field[13] for index in _numbers(value)],
    )


def read(path):
    """The Profile in a file; ProfileError if there is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ProfileError("cannot be read: " + (error.strerror or str(error))) from None
    if len(data) > MOST_BYTES:
        raise ProfileError("holds more than %d MiB" % (MOST_BYTES >> 20))
    try:
        return parse(data)
    except (struct.error, MemoryError) as error:
        raise ProfileError("is no profile: " + (str(error) or "too large")) from None
