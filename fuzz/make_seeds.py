#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the fuzz targets: small inputs that reach what random ones reach late.

usage: make_seeds.py DIRECTORY           writes DIRECTORY/TARGET/seed_*
       make_seeds.py --check DIRECTORY   compares instead; exits 1 when a file differs

Other files in the same folders are inputs that were found by fuzzing; they are left alone.
"""
import pathlib
import struct
import sys

# Byte 0 of a record of heap_ops_fuzzer: how many values stand for each call (kWeights of heap_engine.cc).
HEAP_OPS = [
    ("malloc", 36), ("calloc", 16), ("zalloc", 6), ("realloc_null", 6), ("aligned", 10), ("posix", 8), ("memalign", 6),
    ("realloc", 28), ("reallocarray", 8), ("in_place", 12), ("free", 40), ("free_sized", 16), ("audit", 6),
    ("good_size", 6), ("burst", 20), ("drain", 18), ("flush", 5), ("trim", 3), ("check", 5), ("grid", 1),
]
OP = {name: sum(weight for _, weight in HEAP_OPS[:i]) for i, (name, _) in enumerate(HEAP_OPS)}

# Byte 2: kinds of sizes (DecodeSize).
SMALL_EDGE, PLAIN, EDGE, PAGE, THRESHOLD, MEDIUM, LARGE, TINY = 0, 88, 136, 180, 208, 216, 226, 228


def record(op, slot=0, kind=PLAIN, around=1, size=0, align=0, count=1):
    """Eight bytes. `around`: 0 is below an edge, 1 on it, 2 above."""
    return struct.pack("<BBBBHBB", op, slot % 256, kind, around, size % 65536, align, count)


def heap(name, **fields):
    return record(OP[name], **fields)


def join(*parts):
    return b"".join(parts)


def heap_seeds():
    check = heap("check")
    yield "small", join(
        *[heap("malloc", slot=i, size=i * 7) for i in range(32)],
        *[heap("free", slot=i) for i in range(0, 32, 2)],
        *[heap("malloc", slot=i, size=i * 7) for i in range(0, 32, 2)],
        *[heap("free_sized", slot=i) for i in range(31, -1, -1)], check)
    yield "edges", join(*[
        heap("malloc" if around else "calloc", slot=i, kind=EDGE, around=around, size=i)
        for i in range(72) for around in range(3)], check)
    yield "bursts", join(*[
        part for i, kind in enumerate((0, 1, 2, 7, 20))
        for part in (
            heap("burst", size=kind, kind=SMALL_EDGE, count=255), heap("burst", size=kind, kind=SMALL_EDGE, count=255),
            heap("drain", around=i, count=200), check, heap("burst", size=kind, kind=SMALL_EDGE, count=255),
            heap("drain", around=i + 1, count=255), heap("flush"), check)], heap("trim", around=0), check)
    yield "dirty_calloc", join(*[
        part for size in (0, 3, 15)
        for part in (heap("burst", kind=SMALL_EDGE, size=size, count=120), heap("drain", around=1, count=60),
                     *[heap("calloc", slot=i, kind=SMALL_EDGE, size=size) for i in range(20)])])
    yield "realloc", join(
        *[heap("realloc", slot=1, kind=EDGE, size=i, count=1) for i in range(0, 72, 3)],
        *[heap("realloc", slot=1, kind=THRESHOLD, around=i % 3, size=i, count=1) for i in range(7)],
        *[heap("realloc", slot=1, kind=THRESHOLD, around=i % 3, size=i, count=1) for i in range(6, -1, -1)],
        heap("realloc", slot=1, kind=TINY, size=0, count=1), check,
        *[heap("reallocarray", slot=2, size=i * 50, count=i) for i in range(10)])
    yield "in_place", join(
        heap("malloc", slot=1, kind=THRESHOLD, size=2),
        *[heap("in_place", slot=1, kind=MEDIUM, size=i * 3000) for i in range(1, 20)],
        heap("malloc", slot=2, kind=LARGE, size=100),
        *[heap("in_place", slot=2, kind=LARGE, size=i) for i in (90, 200, 10, 400)], check)
    yield "aligned", join(
        *[heap(call, slot=i, size=i * 40, align=i, count=i) for i in range(23) for call in ("aligned", "posix", "memalign")],
        *[heap("free_sized", slot=i) for i in range(23)], heap("trim", around=0), check)
    yield "large", join(
        *[heap("malloc", slot=i, kind=THRESHOLD, around=i % 3, size=i) for i in range(7)],
        *[heap("free", slot=i) for i in (1, 3, 5)],
        *[heap("calloc", slot=i, kind=THRESHOLD, around=i % 3, size=i) for i in (1, 3, 5)], heap("trim", around=1, size=4), check)
    yield "refused", join(
        heap("malloc", slot=3, size=100), heap("grid", slot=3),
        *[heap("good_size", kind=kind, around=2, size=5) for kind in (SMALL_EDGE, EDGE, PAGE, THRESHOLD, LARGE)], check)


def threads_seeds():
    def call(op, slot=0, worker=0, wait=True, kind=SMALL_EDGE, size=1, align=0):
        return record(op, slot=slot, kind=kind, size=size, align=align, count=worker | (0 if wait else 4))

    allocate, free, flush, trim, end, calloc, realloc = 14, 15, 0, 1, 226, 8, 24
    eight = 4
    yield "remote_free", join(
        *[call(allocate, slot=i, worker=i % 3) for i in range(40)],
        *[call(free, slot=i, worker=(i + 1) % 3) for i in range(40)],
        *[call(flush, worker=i) for i in range(3)], *[call(calloc, slot=i, worker=i % 3) for i in range(40)])
    yield "batches", join(
        *[call(eight, slot=i, worker=0) for i in range(0, 64, 8)], *[call(eight, slot=i, worker=1) for i in range(0, 64, 8)],
        call(flush, worker=1), *[call(eight, slot=i, worker=0) for i in range(0, 64, 8)], call(trim, worker=2))
    yield "orphans", join(
        *[call(eight, slot=i, worker=1, size=5) for i in range(0, 32, 8)], call(end, worker=1),
        *[call(free, slot=i, worker=2) for i in range(0, 32, 2)], *[call(eight, slot=32 + i, worker=1, size=5) for i in range(0, 32, 8)],
        call(end, worker=2))
    yield "at_once", join(
        *[call(op, slot=i * 5, worker=i % 3, wait=i % 6 == 0, size=i % 4)
          for i, op in enumerate([allocate, free, calloc, realloc, free, allocate] * 10)])
    yield "large", join(
        *[call(allocate, slot=i, worker=i % 3, kind=THRESHOLD, size=i) for i in range(6)],
        *[call(realloc, slot=i, worker=(i + 1) % 3, kind=THRESHOLD, size=i + 1) for i in range(5)],
        *[call(free, slot=i, worker=(i + 2) % 3) for i in range(6)])


def size_class_seeds():
    def request(size, align=4, size_class=0, small=True):
        return struct.pack("<Q", size)[:5] + bytes([align, size_class, 0 if small else 128])

    strides, step = [16], 16
    while strides[-1] < 32768:
        step = max(16, (1 << ((strides[-1]).bit_length() - 1)) // 8) if strides[-1] >= 256 else 16
        strides.append(strides[-1] + step)
    yield "edges", join(*[request(stride + i, size_class=n) for n, stride in enumerate(strides) for i in (-1, 0, 1)])
    yield "aligned", join(*[request(stride, align=align) for stride in strides[::5] for align in range(0, 17, 2)])
    yield "large", join(*[request((1 << bits) + i, small=False) for bits in range(15, 40) for i in (-1, 0, 1)])


def slab_seeds():
    def step(op, a=0, size_class=0, b=0, number=0):
        return struct.pack("<BBBBHBB", op, a, size_class, b, number, 0, 0)

    form, take, carve, carve_all, twice, puts, put = 224, 1, 3, 195, 4, 5, 6
    for size_class in (0, 2, 16, 71):
        yield "class_%d" % (size_class + 1), join(
            step(form, a=5, size_class=size_class), step(carve, number=100), step(puts, a=90, number=3),
            step(take, number=50), step(twice, number=7), step(carve_all, number=65535), step(puts, a=255, number=1000),
            *[step(put, number=i * 37) for i in range(20)], step(take, number=299), step(take, number=64))
    yield "slab_0", join(*[
        part for size_class in range(0, 72, 7)
        for part in (step(form, size_class=size_class, b=1), step(carve_all, number=65535), step(puts, a=200, number=11),
                     step(take, number=130))])


def gate_seeds():
    yield "numbers", b"0\n1\n1000\n3600000\n3600001\n18446744073709551615\n18446744073709551616\n-1\n+1\n1 \n0x10\n\n007\n"
    yield "choices", b"balanced\nspeed\nlean\nauto\nflat\ntwo_level\nMIXED_TINYV3_C7_SAFE\nBalanced\nspeed \n"
    yield "environment", (b"HAKMEM_PROFILE=lean\nHAKMEM_DECOMMIT_DEADLINE_MS=5\nHAKMEM_THREAD_CACHE_KB=0\n"
                          b"HAKMEM_MAPPING_CACHE_KB=1073741824\nHAKMEM_KEEP_SUPERSLABS=2\nHAKMEM_SLAB_MAP=two_level\n"
                          b"HAKMEM_SHOW_CONFIG=1\nHAKMEM_PROFILE=speed\nHAKMEM_PROFILES=speed\nPATH=/bin\n=\nHAKMEM_PROFILE\n")


SEEDS = {
    "heap_ops_fuzzer": heap_seeds,
    "heap_threads_fuzzer": threads_seeds,
    "size_class_fuzzer": size_class_seeds,
    "slab_fuzzer": slab_seeds,
    "gate_fuzzer": gate_seeds,
}


def main():
    check = sys.argv[1:2] == ["--check"]
    if len(sys.argv) != (3 if check else 2):
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[-1])
    wrong = 0
    for target, seeds in SEEDS.items():
        for name, data in seeds():
            path = root / target / ("seed_" + name)
            if check:
                if not path.is_file() or path.read_bytes() != data:
                    print("%s is not what make_seeds.py makes" % path)
                    wrong = 1
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
