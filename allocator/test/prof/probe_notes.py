# SPDX-License-Identifier: Apache-2.0
"""Reads the notes of probes in an ELF file, as a tracer does."""

import struct
from typing import Dict, List, NamedTuple

SHT_PROGBITS = 1
PT_LOAD, PT_GNU_RELRO = 1, 0x6474E552
PF_X, PF_W = 1, 2
MACHINES = {62: "x86-64", 183: "aarch64"}


class Note(NamedTuple):
    """A probe. Its addresses are those in the file."""

    provider: str
    name: str
    arguments: List[str]
    pc: int
    base: int
    semaphore: int


class File:
    """A 64-bit little-endian ELF file."""

    def __init__(self, path):
        with open(path, "rb") as stream:
            self.data = stream.read()
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a 64-bit little-endian ELF file")
        self.kind, machine = struct.unpack_from("<HH", self.data, 16)
        self.machine = MACHINES[machine]
        segments, sections = struct.unpack_from("<QQ", self.data, 32)
        size, count = struct.unpack_from("<HH", self.data, 54)
        # (type, flags, offset, address, physical address, bytes in the file, bytes in memory, alignment)
        self.segments = [struct.unpack_from("<IIQQQQQQ", self.data, segments + i * size) for i in range(count)]
        size, count, names = struct.unpack_from("<HHH", self.data, 58)
        # (name, type, flags, address, offset, size)
        headers = [struct.unpack_from("<IIQQQQ", self.data, sections + i * size) for i in range(count)]
        self.sections: Dict[str, tuple] = {self.text(headers[names][4] + header[0]): header for header in headers}

    def text(self, offset):
        return self.data[offset:self.data.index(b"\0", offset)].decode()

    def segment_of(self, address):
        """The loaded segment whose bytes in the file contain the address, or None."""
        for segment in self.segments:
            if segment[0] == PT_LOAD and segment[3] <= address < segment[3] + segment[5]:
                return segment
        return None

    def bytes_at(self, address, count):
        segment = self.segment_of(address)
        at = segment[2] + address - segment[3]
        return self.data[at:at + count]

    def is_read_only_later(self, address):
        """Whether the dynamic linker write-protects the address when it is done."""
        return any(segment[0] == PT_GNU_RELRO and segment[3] <= address < segment[3] + segment[6]
                   for segment in self.segments)

    def notes(self) -> List[Note]:
        """Those of all providers."""
        found = []
        header = self.sections.get(".note.stapsdt")
        at, end = (header[4], header[4] + header[5]) if header else (0, 0)
        while at < end:
            names, size, kind = struct.unpack_from("<III", self.data, at)
            if self.text(at + 12) != "stapsdt" or kind != 3:
                raise ValueError("a note of another kind")
            start = at + 12 + (names + 3) // 4 * 4
            pc, base, semaphore = struct.unpack_from("<QQQ", self.data, start)
            texts = self.data[start + 24:start + size].split(b"\0")
            if len(texts) != 4 or texts[3]:
                raise ValueError("a note does not have three texts")
            provider, name, arguments = (text.decode() for text in texts[:3])
            found.append(Note(provider, name, arguments.split(), pc, base, semaphore))
            at = start + (size + 3) // 4 * 4
        return found
