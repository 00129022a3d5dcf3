#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Profiles and gzip streams that hakmem writes, read by Python's zlib and by a reader of its own.

usage: profile_test.py TEST_PROFILES"""

import collections
import gzip
import os
import random
import re
import struct
import subprocess
import sys
import unittest
import zlib

PROGRAM = os.path.abspath(sys.argv.pop(1))
RANDOM = random.Random(int(os.environ.get("HAK_TEST_SEED") or os.environ.get("TEST_RANDOM_SEED") or 1))
MOST_FRAMES, MOST_MAPPINGS, ADDRESSES = 256, 1024, 16384
TYPES = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]


def run(*arguments, text=b"", status=0):
    done = subprocess.run([PROGRAM, *arguments], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == status, (done.returncode, done.stderr)
    return done


# ---- A reader of protocol buffers ------------------------------------------------------------------


def number(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            assert value < 1 << 64 and shift <= 70
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        tag, at = number(data, at)
        value, at = number(data, at)
        if tag & 7 == 2:
            assert at + value <= len(data)
            value, at = data[at : at + value], at + value
        else:
            assert tag & 7 == 0, tag
        yield tag >> 3, value


def packed(data):
    at, values = 0, []
    while at < len(data):
        value, at = number(data, at)
        values.append(value)
    return values


def signed(value):
    return value - (1 << 64) if value >> 63 else value


Profile = collections.namedtuple("Profile", "types samples mappings comments default period_type period time duration addresses")


def read(data):
    """The profile; `samples` are [(addresses, mappings' numbers, values)]."""
    all_fields = list(fields(zlib.decompress(data, wbits=31)))
    texts = [value.decode() for field, value in all_fields if field == 6]
    assert texts[0] == ""
    one = {field: value for field, value in all_fields if field in (9, 10, 11, 12, 14)}

    def kind(value):
        parts = dict(fields(value))
        return texts[parts[1]], texts[parts[2]]

    mappings, locations, samples = {}, {}, []
    for field, value in all_fields:
        if field == 3:
            parts = dict(fields(value))
            assert parts[1] not in mappings and parts[1] == len(mappings) + 1
            mappings[parts[1]] = (parts[2], parts[3], parts[4], texts[parts[5]], texts[parts[6]])
        elif field == 4:
            parts = dict(fields(value))
            assert parts[1] not in locations and parts[1] != 0, "an identity of two addresses"
            locations[parts[1]] = (parts[3], parts[2])
    for field, value in all_fields:
        if field == 2:
            parts = list(fields(value))
            assert [number for number, _ in parts] == [1, 2]
            places = [locations[identity] for identity in packed(parts[0][1])]
            samples.append(([place[0] for place in places], [place[1] for place in places],
                            [signed(item) for item in packed(parts[1][1])]))
    return Profile(
        types=[kind(value) for field, value in all_fields if field == 1],
        samples=samples,
        mappings=list(mappings.values()),
        comments=[texts[value] for field, value in all_fields if field == 13],
        default=texts[one[14]],
        period_type=kind(one[11]) if 11 in one else None,
        period=signed(one.get(12, 0)),
        time=one.get(9, 0),
        duration=one.get(10, 0),
        addresses=[address for address, _ in locations.values()],
    )


def profile(*lines, about="about 4 3 524288 0 0"):
    return read(run("script", text="\n".join([about, *lines, ""]).encode("utf-8", "surrogateescape")).stdout)


def stack(values, addresses):
    return "stack %s @ %s" % (" ".join(map(str, values)), " ".join("%x" % address for address in addresses))


# ---- Tests -----------------------------------------------------------------------------------------


class Gzip(unittest.TestCase):
    def check(self, data):
        packed_data = run("gzip", text=data).stdout
        unpacker = zlib.decompressobj(wbits=31)
        self.assertTrue(unpacker.decompress(packed_data) == data)
        self.assertTrue(unpacker.eof)
        self.assertEqual(unpacker.unused_data, b"")
        self.assertLessEqual(len(packed_data), 40 + len(data) * 9 // 8 + len(data) // 8192)
        return len(packed_data)

    def test_sizes_around_the_edges_of_blocks(self):
        for size in [*range(8), 32767, 32768, 32769, 65535, 65536, 65537, 100000]:
            self.check(b"a" * size)
            self.check(RANDOM.randbytes(size))

    def test_every_length_and_distance_of_a_repetition(self):
        def again(word):
            return word + RANDOM.randbytes(RANDOM.randrange(60)) + word + b"." + word

        for first in range(3, 300, 30):
            self.check(b"".join(again(RANDOM.randbytes(length)) for length in range(first, first + 30)))
        # In a block of its own each, since farther repetitions would be in another one.
        for bits in range(15):
            for distance in (1 << bits, (1 << bits) + 1):
                word = RANDOM.randbytes(distance)
                self.check((word * (16 // distance + 2))[: distance + 16])
        self.check(bytes(range(256)) * 3)

    def test_repetitive_data_shrinks(self):
        self.assertLess(self.check(b"abcdefgh" * 10000), 1500)
        self.assertLess(self.check(b"".join(b"location %d\n" % (i % 50) for i in range(5000))), 15000)


class Encoding(unittest.TestCase):
    def same(self, got, expected):
        """As assertEqual, which takes minutes to describe how two long lists differ."""
        for i, (one, other) in enumerate(zip(got, expected)):
            self.assertTrue(one == other, "the first difference is at %d: %.200r, not %.200r" % (i, one, other))
        self.assertEqual(len(got), len(expected))

    def test_an_empty_one(self):
        got = profile()
        self.assertEqual((got.types, got.samples, got.default), (TYPES, [], "inuse_space"))
        self.assertEqual((got.period_type, got.period), (("space", "bytes"), 524288))
        self.assertEqual((got.time, got.duration, got.comments), (0, 0, []))

    def test_its_head(self):
        got = profile(about="about 2 0 -5 1767225600123456789 60000000000")
        self.assertEqual((got.types, got.default, got.period), (TYPES[:2], "alloc_objects", -5))
        self.assertEqual((got.time, got.duration), (1767225600123456789, 60000000000))
        self.assertIsNone(profile(about="about 8 7 0 0 0").period_type)

    def test_random_stacks_and_mappings(self):
        for _ in range(10):
            values = RANDOM.randint(1, 8)
            edges = sorted(RANDOM.sample(range(1, 1 << 47), 2 * RANDOM.randint(0, 40)))
            maps = [(*pair, RANDOM.getrandbits(40), "/lib/%d" % pair[0], RANDOM.choice(["", "ab" * 20]))
                    for pair in zip(edges[::2], edges[1::2])]
            pool = [RANDOM.randrange(2, 1 << RANDOM.choice([8, 20, 47, 64])) for _ in range(RANDOM.choice([3, 300]))]
            pool += [edge + delta for edge in edges for delta in (0, 1, 2)]
            pool = [max(address, 2) for address in pool]
            stacks = []
            for _ in range(RANDOM.randrange(300)):
                numbers = [RANDOM.randint(-(1 << bits), (1 << bits) - 1)
                           for bits in RANDOM.choices([0, 6, 7, 8, 20, 40, 63], k=values)]
                stacks.append((numbers, RANDOM.choices(pool, k=RANDOM.randrange(60))))
            got = profile(*("map %x %x %x %s %s" % (*one[:4], one[4] or "-") for one in maps),
                          *(stack(*one) for one in stacks), about="about %d 0 1 0 0" % values)
            self.same(got.mappings, maps)
            self.same([(numbers, addresses) for addresses, _, numbers in got.samples],
                      [(numbers, [address - 1 for address in addresses]) for numbers, addresses in stacks])
            self.assertEqual(len(got.addresses), len(set(got.addresses)), "an address is written once")
            for addresses, places, _ in got.samples:
                for address, place in zip(addresses, places):
                    right = [i + 1 for i, one in enumerate(maps) if one[0] <= address < one[1]]
                    self.assertEqual(place, right[0] if right else 0)

    def test_addresses_that_are_none_are_left_out(self):
        got = profile(stack([1, 2, 3, 4], [0, 0x1000, 1, 0x2000]))
        self.assertEqual(got.samples, [([0xFFF, 0x1FFF], [0, 0], [1, 2, 3, 4])])
        self.assertEqual(profile(stack([1, 2, 3, 4], [])).samples, [([], [], [1, 2, 3, 4])])

    def test_a_deep_stack_keeps_the_frames_nearest_to_the_allocation(self):
        for depth, comments in ((MOST_FRAMES, []), (MOST_FRAMES + 1, ["1 stacks are cut to 256 frames"])):
            got = profile(stack([0] * 4, range(100, 100 + depth)))
            self.same(got.samples[0][0], list(range(99, 99 + MOST_FRAMES)))
            self.assertEqual(got.comments, comments)

    def test_more_addresses_than_the_table_holds(self):
        addresses = [0x400000 + 16 * i for i in range(2 * ADDRESSES)]
        parts = [addresses[i : i + 200] for i in range(0, len(addresses), 200)]
        got = profile(*(stack([i] * 4, part) for i, part in enumerate(parts + parts)))
        self.same([addresses for addresses, _, _ in got.samples],
                  [[address - 1 for address in part] for part in parts + parts])
        self.assertGreater(len(got.addresses), 2 * ADDRESSES)
        self.assertLess(len(got.addresses), 4 * ADDRESSES)

    def test_more_mappings_than_there_is_room_for(self):
        lines = ["map %x %x 0 /f -" % (4096 * i, 4096 * i + 4096) for i in range(1, MOST_MAPPINGS + 8)]
        got = profile(*lines, stack([0] * 4, [4096 * (MOST_MAPPINGS + 5), 4096 * 5 + 1]))
        self.assertEqual(len(got.mappings), MOST_MAPPINGS)
        self.assertEqual(got.samples[0][1], [0, 5])
        self.assertEqual(got.comments, ["7 mappings are left out: only 1024 are written"])

    def test_mappings_that_overlap_or_are_empty_are_left_out(self):
        got = profile("map 3000 5000 0 /a -", "map 4000 6000 0 /b -", "map 1000 2000 0 /c -", "map 7000 7000 0 /d -",
                      "map 8000 7000 0 /e -", "map 5000 6000 0 /f -")
        self.assertEqual([mapping[3] for mapping in got.mappings], ["/a", "/f"])

    def test_texts_that_are_not_utf_8(self):
        # The first and the last character of each length, and one for each first byte of two bytes or more.
        raw = [chr(code).encode() for code in [0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]]
        for codes in (range(0xA0, 0x800, 0x40), range(0x800, 0xD800, 0x800), range(0xF000, 0x110000, 0x8000)):
            raw += [chr(code).encode() for code in codes]
        raw += [b"plain", "\u00e9\u20ac\U0001F600\U0010FFFF".encode(), b"\xff", b"a\x80b", b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80",
               b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\xc3", b"\xf0\x9f\x98"]
        raw += [RANDOM.randbytes(RANDOM.randint(1, 40)).translate(None, b"\n\0\r ") for _ in range(300)]
        raw = [text for text in raw if text]
        lines = [("comment " + text.decode("utf-8", "surrogateescape")) for text in raw]
        for text, comment in zip(raw, profile(*lines).comments):
            self.assertEqual(len(comment.encode()), len(text))
            try:
                self.assertEqual(comment, text.decode())
            except UnicodeDecodeError:
                self.assertIn("?", comment)

    def test_a_sink_that_fails(self):
        script = "\n".join(["about 4 3 1 0 0"] + [stack([i] * 4, [RANDOM.getrandbits(40) + 2 for _ in range(30)])
                                                 for i in range(500)] + [""]).encode()
        whole = run("script", text=script).stdout
        read(whole)
        for size in [0, 1, 1024, 5000, len(whole) - 1]:
            done = run("script", str(size), text=script, status=1)
            self.assertEqual(done.stderr, b"error 5\n")
            self.assertLessEqual(len(done.stdout), size)
            self.assertTrue(whole.startswith(done.stdout))
            with self.assertRaises((EOFError, zlib.error, gzip.BadGzipFile)):
                gzip.decompress(done.stdout or b"\x1f\x8b")
        self.assertTrue(run("script", str(len(whole)), text=script).stdout == whole)

    def test_a_full_disk(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "script"], input=b"about 4 3 1 0 0\n", stdout=full, stderr=subprocess.PIPE,
                                  check=False)
        self.assertEqual((done.returncode, done.stderr), (1, b"error 28\n"))


class Process(unittest.TestCase):
    def build_id(self, path):
        """The build-id in the sections of a file."""
        with open(path, "rb") as file:
            data = file.read()
        (offset,) = struct.unpack_from("<Q", data, 0x28)
        size, count, _ = struct.unpack_from("<HHH", data, 0x3A)
        for i in range(count):
            _, kind, _, _, start, length = struct.unpack_from("<IIQQQQ", data, offset + i * size)
            if kind == 7:
                name, wide, note = struct.unpack_from("<III", data, start)
                if note == 3 and data[start + 12 : start + 12 + name] == b"GNU\0":
                    return data[start + 16 : start + 16 + wide].hex()
                self.assertLessEqual(wide, length)
        return ""

    def test_its_own_mappings_and_build_ids(self):
        got = profile("process", "own 1 100 1 100")
        files = {os.path.realpath(file): (start, limit, offset, build_id)
                 for start, limit, offset, file, build_id in got.mappings if file.startswith("/")}
        self.assertIn(os.path.realpath(PROGRAM), files)
        for file, (_, _, _, build_id) in files.items():
            self.assertEqual(build_id, self.build_id(file), file)
        start, limit, _, build_id = files[os.path.realpath(PROGRAM)]
        self.assertRegex(build_id, "^[0-9a-f]{40}$")
        ((addresses, places, values),) = got.samples
        self.assertEqual(values, [1, 100, 1, 100])
        self.assertEqual(len(addresses), 3)
        for address, place in zip(addresses, places):
            self.assertTrue(start <= address < limit)
            self.assertEqual(os.path.realpath(got.mappings[place - 1][3]), os.path.realpath(PROGRAM))

    def test_the_addresses_are_those_of_the_calls(self):
        got = profile("process", "own 1 1 1 1")
        ((addresses, places, _),) = got.samples
        listing = subprocess.run(["readelf", "-sW", PROGRAM], stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout
        names = []
        for address, place in zip(addresses, places):
            start, _, offset, _, _ = got.mappings[place - 1]
            for value, size, name in re.findall(r"^ *\d+: ([0-9a-f]+) +(\d+) FUNC .* (\S+)$", listing, re.M):
                low = int(value, 16)
                # The first segments of a file lie in memory as in the file, or 4 KiB further for each.
                if low <= self.link_address(address - start + offset) < low + int(size):
                    names.append(name.split(".")[0])
        self.assertEqual(names, ["own_call", "own_root", "own_stack"])

    def link_address(self, offset):
        segments = subprocess.run(["readelf", "-lW", PROGRAM], stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout
        for at, address, size in re.findall(r"^ +LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", segments, re.M):
            if int(at, 16) <= offset < int(at, 16) + int(size, 16):
                return int(address, 16) + offset - int(at, 16)
        return 0


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
