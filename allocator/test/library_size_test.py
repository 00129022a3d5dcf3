#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the sizes of the shared libraries, and checks the machine code of the first against its limit.

usage: library_size_test.py NAME=LIBRARY...

Prints one row for each library, read from its section headers, so it works for any machine: the machine code, the
read-only tables (symbols, relocations, constants, unwinding), the writable data in the file, and the writable zeros.
Exit status 1: the machine code of the first library exceeds the limit of its machine; 2: a bad command line, or a file
that is no 64-bit little-endian ELF file of a known machine.
"""

import struct
import sys

# Bytes of machine code in an optimised build, by ELF machine number: x86-64, and aarch64, where each instruction has
# four bytes.
LIMITS = {62: 120 * 1024, 183: 130 * 1024}

SHT_NOBITS = 8
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS = 1, 2, 4, 0x400


def machine(data):
    """The ELF machine number. ValueError for another kind of file or an unknown machine."""
    if data[:6] != b"\x7fELF\x02\x01" or len(data) < 64:
        raise ValueError("not a 64-bit little-endian ELF file")
    (number,) = struct.unpack_from("<H", data, 18)
    if number not in LIMITS:
        raise ValueError(f"machine {number} has no limit")
    return number


def sizes(data):
    """Bytes of (machine code, read-only tables, written data, zeros) of an ELF file. ValueError if it has no code."""
    (offset,) = struct.unpack_from("<Q", data, 40)
    entry_size, count = struct.unpack_from("<HH", data, 58)
    code = tables = written = zeros = 0
    for i in range(count):
        _, kind, flags, _, _, size = struct.unpack_from("<IIQQQQ", data, offset + i * entry_size)
        if not flags & SHF_ALLOC:
            continue
        if kind == SHT_NOBITS:
            zeros += size
        elif flags & SHF_EXECINSTR:
            code += size
        elif flags & SHF_WRITE:
            written += size
        else:
            tables += size
    if code == 0:
        raise ValueError("no machine code")
    return code, tables, written, zeros


def main():
    libraries = [argument.partition("=")[::2] for argument in sys.argv[1:]]
    if not libraries or not all(name and path for name, path in libraries):
        print("usage: library_size_test.py NAME=LIBRARY...", file=sys.stderr)
        return 2
    print("| library | machine code | read-only tables | written data | zeros |")
    print("| --- | ---: | ---: | ---: | ---: |")
    first_code = limit = None
    for name, path in libraries:
        try:
            with open(path, "rb") as stream:
                data = stream.read()
            number = machine(data)
            row = sizes(data)
        except (OSError, ValueError, struct.error) as error:
            print(f"library_size_test.py: {path}: {error}", file=sys.stderr)
            return 2
        print(f"| {name} | " + " | ".join(f"{size:,}" for size in row) + " |")
        if first_code is None:
            first_code, limit = row[0], LIMITS[number]
    if first_code > limit:
        print(f"FAILED: {libraries[0][0]} has {first_code:,} bytes of machine code, over {limit:,}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
