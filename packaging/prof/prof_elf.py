# SPDX-License-Identifier: Apache-2.0
"""Functions of an ELF file by their addresses: little-endian files of 64 bits."""

import bisect
import mmap
import os
import struct

_LOAD, _NOTE = 1, 4  # types of program headers
_SYMTAB, _DYNSYM = 2, 11  # types of sections
_FUNCTION_TYPES = {2, 10}  # STT_FUNC, STT_GNU_IFUNC
_BINDING_ORDER = {1: 0, 2: 1, 0: 2}  # global before weak before local
# Symbols with the size 0 (in assembly) reach to the next one, but not far.
_MOST_UNSIZED = 4096


# What reading a damaged file leads to: numbers that are too large for a place, and places behind the end.
DAMAGED = (struct.error, OverflowError, ValueError)


class ElfError(Exception):
    """Why a file cannot be read."""


class Elf:
    """`build_id` is in hexadecimal, "" without one."""

    def __init__(self, path):
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size < 64:
                    raise ElfError("is too short")
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ElfError("cannot be read: %s" % (getattr(error, "strerror", None) or error)) from None
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise ElfError("is not an ELF file of 64 bits, little-endian")
        try:
            self._read_headers()
            self.build_id = self._find_build_id()
        except DAMAGED:
            raise ElfError("is damaged") from None
        self._starts = None

    def _read_headers(self):
        segments, sections = struct.unpack_from("<QQ", self.data, 0x20)
        segment_size, segment_count, section_size, section_count = struct.unpack_from("<HHHH", self.data, 0x36)
        # type, flags, offset, address, physical address, size in the file, size in memory, alignment
        self.segments = [struct.unpack_from("<IIQQQQQQ", self.data, segments + i * segment_size)
                         for i in range(segment_count)]
        # name, type, flags, address, offset, size, link, info, alignment, size of an entry
        self.sections = [struct.unpack_from("<IIQQQQIIQQ", self.data, sections + i * section_size)
                         for i in range(section_count if sections else 0)]

    def _find_build_id(self):
        for kind, _, offset, _, _, size, _, align in self.segments:
            at, end = offset, min(offset + size, len(self.data))
            while kind == _NOTE and at + 12 <= end:
                name, wide, note = struct.unpack_from("<III", self.data, at)
                step = 8 if align == 8 else 4
                # The head and the name together are aligned.
                start = at + (12 + name + step - 1) // step * step
                if note == 3 and self.data[at + 12 : at + 12 + name] == b"GNU\0":
                    return self.data[start : start + wide].hex()
                at = start + (wide + step - 1) // step * step
        return ""

    def address_of(self, offset):
        """The address, in the file's own terms, of a place in the file; None if it is not loaded."""
        for kind, _, start, address, _, size, _, _ in self.segments:
            if kind == _LOAD and start <= offset < start + size:
                return address + offset - start
        return None

    def _read_symbols(self):
        """[(start, end, order, name)] of the functions: from .symtab, or .dynsym in a stripped file."""
        tables = [section for wanted in (_SYMTAB, _DYNSYM) for section in self.sections if section[1] == wanted]
        for _, _, _, _, offset, size, link, _, _, entry in tables[:1]:
            if entry != 24 or link >= len(self.sections) or offset + size > len(self.data):
                raise ElfError("is damaged")
            texts, texts_size = self.sections[link][4:6]
            names = self.data[texts : texts + texts_size]
            for name, info, _, section, value, length in struct.iter_unpack(
                    "<IBBHQQ", self.data[offset : offset + size // 24 * 24]):
                if info & 15 in _FUNCTION_TYPES and section != 0 and name < len(names):
                    text = names[name : names.find(b"\0", name)].decode(errors="replace")
                    if text:
                        yield value, value + length, (_BINDING_ORDER.get(info >> 4, 3), len(text), text), text

    def function_at(self, address):
        """The name of the function that contains the address, or None."""
        if self._starts is None:
            # Of several names of one function the best is the last.
            try:
                symbols = list(self._read_symbols())
            except DAMAGED:
                raise ElfError("is damaged") from None
            self._symbols = sorted(symbols, key=lambda symbol: (symbol[0], -symbol[2][0], -symbol[2][1]))
            self._starts = [symbol[0] for symbol in self._symbols]
        at = bisect.bisect_right(self._starts, address)
        # A function may lie within a longer one, so a few before are looked at.
        for start, end, _, name in reversed(self._symbols[max(at - 16, 0) : at]):
            if address < end or (start == end and address < start + _MOST_UNSIZED):
                return name
        return None
