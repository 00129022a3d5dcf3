#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the seeds of the fuzz targets, and gate_fuzzer's dictionary, from scripts that people can read.

usage: make_seeds.py FUZZ                    writes FUZZ/corpus/TARGET/seed_NAME for each FUZZ/seeds/TARGET/NAME.txt
       make_seeds.py --check FUZZ            compares instead; exits 1 when a file differs
       make_seeds.py --one TARGET SCRIPT     writes the input of the script SCRIPT to standard output

FUZZ is the folder fuzz/ of the repository. Other files in corpus/ were found by fuzzing and are not changed.

A script has one call a line: its name and its fields, the names being those of FORMATS below:

    # comment
    malloc slot=3 size=128
    for i in 0..31: malloc slot=i size=i*7; free slot=i
    for i in 0..4 step 2: for j in 0..2: calloc slot=i+j edge=i around=j

A value is a whole number, a word that the field knows, or a sum of variables, numbers, + - * // % and parentheses. A
script of gate_fuzzer has lines of text instead: `line HAKMEM_PROFILE=lean`, with the escapes of C.

A script that cannot be read ends with FILE:LINE and what is wrong, exit status 2.
"""
import ast
import operator
import pathlib
import re
import sys

RECORD = 8


class ScriptError(Exception):
    pass


# ---- The bytes of a record -----------------------------------------------------------------------------------------

class Field:
    """`bytes` bytes from `offset` on, little endian; `words` stand for values. `most`: the largest value that fits."""

    def __init__(self, offset, bytes=1, words=None, shift=0, bits=None):
        self.offset, self.bytes, self.words, self.shift = offset, bytes, words or {}, shift
        self.most = (1 << (bits if bits else 8 * bytes)) - 1

    def put(self, record, value):
        record_value = int.from_bytes(record[self.offset:self.offset + self.bytes], "little")
        record_value = record_value & ~(self.most << self.shift) | value << self.shift
        record[self.offset:self.offset + self.bytes] = record_value.to_bytes(self.bytes, "little")


# Byte 2 of records that hold a size: kinds of sizes (DecodeSize of heap_engine.cc).
SMALL_EDGE, PLAIN, EDGE, PAGE, THRESHOLD, MEDIUM, LARGE = 0, 88, 136, 180, 208, 216, 226
THRESHOLDS = [1 << bits for bits in range(15, 22)]


def size_records(size):
    """Bytes 2 to 5 from which DecodeSize makes `size`; None: there are none."""
    def made(kind, raw, around=1):
        return bytes([kind, around]) + raw.to_bytes(2, "little")

    if 0 <= size < 2048:
        return made(PLAIN, size)
    for delta in (0, -1, 1):
        if (size - delta) in THRESHOLDS:
            return made(THRESHOLD, THRESHOLDS.index(size - delta), delta + 1)
        if (size - delta) % 4096 == 0 and 1 <= (size - delta) // 4096 <= 16:
            return made(PAGE, (size - delta) // 4096 - 1, delta + 1)
    if size % 8 == 0 and 0 <= (size - 32768) // 8 < 65536:
        return made(MEDIUM, (size - 32768) // 8)
    if size % 16 == 0 and 0 <= (size - (1 << 20)) // 16 < 65536:
        return made(LARGE, (size - (1 << 20)) // 16)
    return None


# Fields that set the four bytes of a size: `size` exactly, `edge` and `small_edge` by the number of a class's last
# size, `threshold` by the number in THRESHOLDS.
SIZE_FIELDS = {"edge": EDGE, "small_edge": SMALL_EDGE, "threshold": THRESHOLD, "medium": MEDIUM, "large": LARGE}
AROUND = {"below": 0, "on": 1, "above": 2}
HEAP_FIELDS = {"slot": Field(1), "around": Field(3, words=AROUND), "order": Field(3), "align": Field(6),
               "count": Field(7), "raw": Field(4, 2), "calls": Field(2), "nth": Field(4), "twice": Field(3, shift=1, bits=1),
               "calls_2": Field(5), "nth_2": Field(6)}


def heap_ops(fuzz):
    """Byte 0 of each call of heap_ops_fuzzer: each call has as many values as in kWeights of heap_engine.cc."""
    text = (fuzz / "heap_engine.cc").read_text()
    weights = re.findall(r"^ +(\d+), +// k(\w+)$", text, re.M)
    ops, first = {}, 0
    for weight, name in weights:
        ops[re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()] = first
        first += int(weight)
    if first != 256:
        raise ScriptError("heap_engine.cc: the weights of the calls are not found")
    return ops


# For each target: its calls with their byte 0, its fields, whether it has fields for sizes, and the initial bytes.
FORMATS = {
    "heap_ops_fuzzer": (heap_ops, HEAP_FIELDS, True, bytes([0, 0, PLAIN, 1, 0, 0, 0, 1])),
    "heap_threads_fuzzer": (
        {"flush": 0, "trim": 1, "verify": 2, "end_thread": 226, "eight": 4, "malloc": 14, "free": 15, "calloc": 8,
         "realloc": 24, "in_place": 9, "aligned": 9, "audit": 10, "free_sized": 13},
        dict(HEAP_FIELDS, worker=Field(7, bits=2), at_once=Field(7, shift=2, bits=1)), True,
        bytes([0, 0, PLAIN, 1, 0, 0, 0, 0])),
    "aligned_realloc_fuzzer": (
        {"malloc": 0, "posix_memalign": 1, "memalign": 2, "aligned_alloc": 3, "free_sized": 0, "free": 1,
         "reallocarray": 2, "in_place": 3, "in_place_row": 4, "realloc_row": 5, "realloc": 6},
        dict(HEAP_FIELDS, steps=Field(7, bits=3), up=Field(7, shift=7, bits=1)), True,
        bytes([0, 0, PLAIN, 1, 0, 0, 0, 0])),
    "size_class_fuzzer": (
        {"small": 0, "large": 128},
        {"request": Field(0, 5), "align": Field(5), "class": Field(6)}, False, bytes(RECORD)),
    "slab_fuzzer": (
        {"format": 224, "take": 1, "carve": 3, "carve_all": 195, "put_twice": 4, "put_many": 5, "put": 6},
        {"slab": Field(1), "times": Field(1), "class": Field(2), "zeroed": Field(3), "number": Field(4, 2)}, False,
        bytes(RECORD)),
    "slab_map_flat_fuzzer": (
        {"set": 0, "refused": 96, "look": 128},
        {"region": Field(1), "superslab": Field(2, 2), "slab": Field(4), "count": Field(5), "class": Field(6),
         "where": Field(7)}, False, bytes([0, 0, 0, 0, 0, 0, 0, 1])),
    "thread_cache_fuzzer": (
        {"flush": 0, "totals": 1, "bound": 2, "share": 3, "malloc": 4, "free": 10},
        {"times": Field(1), "parts": Field(1), "class": Field(2), "order": Field(3), "borrow": Field(3),
         "from": Field(4, 2), "bytes": Field(4, 2)}, False, bytes(RECORD)),
    "remote_queue_fuzzer": (
        {"take": 0, "push": 3, "give_back": 5, "drain": 6, "check": 7, "close": 135},
        {"heap": Field(1), "class": Field(2), "count": Field(3), "from": Field(4, 2)}, False, bytes(RECORD)),
    "page_heap_fuzzer": (
        {"totals": 0, "tick": 1, "trim": 209, "strangers": 2, "settings": 130, "refuse": 3, "there_and_back": 4,
         "resize": 5, "take": 8, "give": 8},
        {"block": Field(1), "kind": Field(2, words={"few": 0, "more": 160, "chunks": 224, "many": 248}),
         "zero": Field(3, bits=1), "move": Field(3, shift=1, bits=1), "align": Field(3, shift=2, bits=6),
         "size": Field(4, 2), "ms": Field(4, 2), "count": Field(4), "high_calls": Field(5), "front": Field(6),
         "calls": Field(6), "setting": Field(6), "tag": Field(7), "nth": Field(7)}, False, bytes(RECORD)),
    "meta_fuzzer": (
        {"totals": 0, "tick": 1, "trim": 209, "rest": 2, "wake": 2, "refuse": 212, "take": 5, "give": 5},
        {"place": Field(1), "kind": Field(2, words={"small": 0, "pages": 160, "big": 232, "too_large": 252}),
         "size": Field(4, 2), "ms": Field(4, 2), "count": Field(4), "calls": Field(6), "nth": Field(7)}, False,
        bytes(RECORD)),
    "nextptr_header_fuzzer": (
        {"turn": 0, "link": 3, "damage_header": 5, "write": 6, "forge": 7},
        {"block": Field(1), "link": Field(2, 2), "at": Field(2, 2), "class": Field(4), "value": Field(5),
         "fill": Field(6)}, False, bytes(RECORD)),
    "pprof_fuzzer": (
        {"begin": 0, "mapping": 0, "comment": 8, "long_comment": 16, "line": 24, "bytes": 31, "stack": 40,
         "deep_stack": 41},
        dict({letter: Field(i + 1) for i, letter in enumerate("abcdefg")}, gap=Field(1, 2), pages=Field(3),
             offset=Field(4, 4), frames=Field(1), first=Field(2, 4), step=Field(6), value=Field(7), byte=Field(1),
             length=Field(2, 2)), False, bytes(RECORD)),
    "release_policy_fuzzer": (
        {"superslab": 0, "superslab_free": 132, "lean": 2, "share": 3, "slice": 4, "judge": 5, "soft": 6,
         "next_purge": 7, "shrink": 8, "purged": 9, "grow": 10},
        dict({letter: Field(i + 1) for i, letter in enumerate("abcdefg")}, bytes=Field(4, 4)), False, bytes(RECORD)),
}
FORMATS["slab_map_two_level_fuzzer"] = FORMATS["slab_map_flat_fuzzer"]


# ---- Reading scripts -----------------------------------------------------------------------------------------------

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
             ast.Mod: operator.mod}


def evaluate(text, variables):
    def of(node):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name) and node.id in variables:
            return variables[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -of(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](of(node.left), of(node.right))
        raise ScriptError('"%s" is no number, known word or variable' % text)

    try:
        return of(ast.parse(text, mode="eval").body)
    except (SyntaxError, ZeroDivisionError):
        raise ScriptError('"%s" cannot be worked out' % text)


def one_call(words, target, ops, variables):
    _, fields, sizes, initial = FORMATS[target]
    if words[0] not in ops:
        raise ScriptError('%s knows no call "%s", but: %s' % (target, words[0], " ".join(ops)))
    record = bytearray(initial)
    if target == "size_class_fuzzer":
        record[7] = ops[words[0]]  # The only target whose first byte is not a call.
    else:
        record[0] = ops[words[0]]
    # Sizes first, because they set all of their four bytes, one of which `around` may change.
    assignments = sorted((word.partition("=") for word in words[1:]), key=lambda a: a[0] not in SIZE_FIELDS)
    for name, equals, text in assignments:
        if not equals:
            raise ScriptError('"%s" is not FIELD=VALUE' % name)
        field = fields.get(name)
        if field is not None and text in field.words:
            value = field.words[text]
        else:
            value = evaluate(text, variables)
        if sizes and name == "size":
            made = size_records(value)
            if made is None:
                raise ScriptError("no record means a size of %d" % value)
            record[2:6] = made
        elif sizes and name in SIZE_FIELDS:
            if not 0 <= value <= 0xFFFF:
                raise ScriptError("%s=%d does not fit" % (name, value))
            record[2:6] = bytes([SIZE_FIELDS[name], 1]) + value.to_bytes(2, "little")
        elif field is None:
            raise ScriptError('%s has no field "%s"' % (target, name))
        elif not 0 <= value <= field.most:
            raise ScriptError("%s=%d does not fit into 0 to %d" % (name, value, field.most))
        else:
            field.put(record, value)
    return bytes(record)


LOOP = re.compile(r"for\s+([a-z]\w*)\s+in\s+(.+?)\.\.(.+?)(?:\s+step\s+(.+?))?\s*:\s*(.*)$")


def one_line(line, target, ops, variables):
    if line.startswith("for "):
        loop = LOOP.match(line)
        if not loop:
            raise ScriptError("a loop is: for NAME in FIRST..LAST [step N]: CALLS")
        name, first, last, step, rest = loop.groups()
        step = evaluate(step, variables) if step else 1
        if step == 0:
            raise ScriptError("a step of 0")
        out = b""
        for value in range(evaluate(first, variables), evaluate(last, variables) + (1 if step > 0 else -1), step):
            out += one_line(rest, target, ops, dict(variables, **{name: value}))
        return out
    out = b""
    for call in line.split(";"):
        words = call.split()
        if not words:
            raise ScriptError("a call is missing")
        out += one_call(words, target, ops, variables)
    return out


def text_line(line):
    if not line.startswith("line"):
        raise ScriptError('a line of text is: line TEXT, not "%s"' % line)
    try:
        return line[5:].encode("latin-1").decode("unicode_escape").encode("latin-1") + b"\n"
    except (UnicodeError, ValueError) as error:
        raise ScriptError(str(error))


def read_script(path, target, fuzz):
    if target not in FORMATS and target != "gate_fuzzer":
        raise ScriptError('there is no target "%s", but: gate_fuzzer %s' % (target, " ".join(sorted(FORMATS))))
    ops = None
    if target != "gate_fuzzer":
        ops = FORMATS[target][0]
        ops = ops(fuzz) if callable(ops) else ops
    out = b""
    try:
        lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeError) as error:
        raise ScriptError("%s: %s" % (path, error))
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            out += text_line(line) if target == "gate_fuzzer" else one_line(line.strip(), target, ops, {})
        except ScriptError as error:
            raise ScriptError("%s:%d: %s" % (path, number, error))
    if not out:
        raise ScriptError("%s: a script without a call" % path)
    return out


# ---- The dictionary of gate_fuzzer ---------------------------------------------------------------------------------

def gate_dictionary(fuzz):
    """The names and choices of the table of settings, and the bounds of numbers."""
    path = fuzz / ".." / "allocator" / "policy" / "gate_table.inc"
    table = path.read_text()
    names = re.findall(r'HAK_GATE_\w+\(\s*\w+,[\w\s,]*"(\w+)"', table)
    words = [name + "=" for name in names] + [name[len("HAKMEM_"):].lower() + "=" for name in names]
    for choices in re.findall(r"HAK_CHOICES\(([^.)]*)\)", table):
        words += re.findall(r'"([^"]+)"', choices)
    words += re.findall(r"MIXED_\w+", table)
    for least, most in re.findall(r'HAK_GATE_NUMBER\([\w\s,]*"\w+",\s*(\d+),\s*(\d+)', table):
        words += [least, most, str(int(most) + 1)]
    words += ["HAKMEM_PRESET=", "HAKMEM_BENCH_", "HAKMEM_TEST_"]
    # The other names of a switch's values, and the suffixes of sizes.
    words += ["on", "off", "true", "false", "yes", "no", "K", "M", "G", "T", "64K", "512M", "1G", "1T", "16777216T"]
    words += ["4294967296", "9223372036854775808", "18446744073709551615", "18446744073709551616", "-1", "+1", "0x",
              " ", ",", "\\x0a", "="]
    if len(words) < 30:
        raise ScriptError("the table of settings is not in %s" % path)
    head = ("# SPDX-License-Identifier: Apache-2.0\n"
            "# Made by make_seeds.py from the table of settings: names and values of settings, and numbers near their bounds.\n")
    return (head + "".join('"%s"\n' % word for word in dict.fromkeys(words))).encode()


# ---- All files -----------------------------------------------------------------------------------------------------

def all_files(fuzz):
    scripts = sorted(fuzz.glob("seeds/*/*.txt"))
    if not scripts:
        raise ScriptError("%s/seeds holds no script" % fuzz)
    for script in scripts:
        target = script.parent.name
        yield fuzz / "corpus" / target / ("seed_" + script.stem), read_script(script, target, fuzz)
    yield fuzz / "gate_fuzzer.dict", gate_dictionary(fuzz)


def check(files, fuzz):
    wrong = 0
    for path, data in files.items():
        if not path.is_file() or path.read_bytes() != data:
            print("%s is not what make_seeds.py makes" % path)
            wrong = 1
    for path in fuzz.glob("corpus/*/seed_*"):
        if path not in files:
            print("%s has no script" % path)
            wrong = 1
    return wrong


def main():
    arguments = sys.argv[1:]
    try:
        if len(arguments) == 3 and arguments[0] == "--one":
            here = pathlib.Path(__file__).parent
            sys.stdout.buffer.write(read_script(pathlib.Path(arguments[2]), arguments[1], here))
            return 0
        compare = arguments[:1] == ["--check"]
        if len(arguments) != (2 if compare else 1) or arguments[-1].startswith("-"):
            print(__doc__, file=sys.stderr)
            return 2
        fuzz = pathlib.Path(arguments[-1])
        files = dict(all_files(fuzz))
        if compare:
            return check(files, fuzz)
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    except (ScriptError, OSError) as error:
        print("make_seeds.py: %s" % error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
