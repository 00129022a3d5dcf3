#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hakmem-prof: its tables, its page, its symbols, and what it says of bad input.

usage: hakmem_prof_test.py HAKMEM_PROF TEST_PROFILES"""

import gzip
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PROF, PROFILES = map(os.path.abspath, sys.argv[1:3])
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(PROF))
import prof_elf  # noqa: E402
import prof_profile  # noqa: E402
import prof_symbols  # noqa: E402

RANDOM = random.Random(int(os.environ.get("HAK_TEST_SEED") or os.environ.get("TEST_RANDOM_SEED") or 1))
HEAP = [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")]


# ---- A writer of profiles with names, as other programs make them ------------------------------------


def number(value):
    value &= (1 << 64) - 1
    data = b""
    while value >= 0x80:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def field(index, value):
    if isinstance(value, int):
        return number(index << 3) + number(value)
    return number(index << 3 | 2) + number(len(value)) + value


def made(stacks, types=tuple(HEAP), default="inuse_space", comments=(), packed=True, extra=b""):
    """The bytes of a profile of [(names, the innermost first, values)]."""
    texts = [""]

    def text(word):
        if word not in texts:
            texts.append(word)
        return texts.index(word)

    def numbers(index, values):
        return field(index, b"".join(map(number, values))) if packed else b"".join(field(index, value) for value in values)

    data = b"".join(field(1, field(1, text(name)) + field(2, text(unit))) for name, unit in types)
    names = sorted({name for stack, _ in stacks for name in stack})
    for i, name in enumerate(names):
        data += field(5, field(1, i + 1) + field(2, text(name)) + field(4, text(name + ".c")))
        data += field(4, field(1, i + 1) + field(3, 0x1000 + i) + field(4, field(1, i + 1) + field(2, 10 + i)))
    for stack, values in stacks:
        data += field(2, numbers(1, [names.index(name) + 1 for name in stack]) + numbers(2, values))
    data += b"".join(field(13, text(comment)) for comment in comments) + field(14, text(default)) + extra
    return data + b"".join(field(6, word.encode()) for word in texts)


STACKS = [(["malloc", "parse", "main"], [10, 1 << 20, 4, 3 << 19]), (["malloc", "load", "main"], [1, 100, 1, 100]),
          (["grow", "parse", "parse", "main"], [2, 1 << 11, 2, 1 << 11]), (["gone", "main"], [5, 5000, 0, 0])]


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        self.addCleanup(self.folder.cleanup)
        self.scratch = pathlib.Path(self.folder.name)

    def file(self, data, name="p.pb.gz"):
        path = self.scratch / name
        path.write_bytes(data)
        return str(path)

    def run_it(self, *arguments, **how):
        return subprocess.run([PROF, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
                              check=False, **how)

    def ok(self, *arguments, **how):
        done = self.run_it(*arguments, **how)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def refused(self, *arguments):
        """The one line that it says."""
        done = self.run_it(*arguments)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done)
        self.assertRegex(done.stderr, r"\Ahakmem-prof: [^\n]+\n\Z")
        return done.stderr[len("hakmem-prof: ") : -1]


class Tables(Case):
    def test_names_command_no_terminal(self):
        out = self.ok(self.file(made([(["a\x1b]0;title\x07b", "c\nd"], [1, 1, 1, 1])], comments=["e\x1b[2Jf"])))
        self.assertEqual([character for character in out if not character.isprintable() and character != "\n"], [])
        self.assertIn("a\ufffd]0;title\ufffdb", out)
        self.assertIn("c\ufffdd", out)
        self.assertIn("comment: e\ufffd[2Jf\n", out)

    def test_top(self):
        for data in (made(STACKS), gzip.compress(made(STACKS)), made(STACKS, packed=False),
                     made(STACKS, extra=field(99, 5) + field(98, b"of a later version"))):
            lines = self.ok(self.file(data)).splitlines()
            self.assertEqual(lines, self.ok("--top", self.file(data)).splitlines())
            self.assertEqual(lines[0], "inuse_space: 1.50 MiB")
            self.assertEqual([re.sub(" +", " ", line).strip() for line in lines[1:]], [
                "flat flat% sum% cum cum% function",
                "1.50 MiB 99.87% 99.87% 1.50 MiB 99.87% malloc",
                "2.00 KiB 0.13% 100.00% 2.00 KiB 0.13% grow",
                "0 B 0.00% 100.00% 1.50 MiB 100.00% main",
                "0 B 0.00% 100.00% 1.50 MiB 99.99% parse",
                "0 B 0.00% 100.00% 100 B 0.01% load",
            ])

    def test_a_function_that_calls_itself_counts_once(self):
        text = self.ok(self.file(made([(["f"] * 5, [1, 10, 1, 10])])))
        self.assertRegex(text, r"(?m)^ +10 B 100\.00% 100\.00% +10 B 100\.00%  f$")

    def test_the_values_that_can_be_chosen(self):
        path = self.file(made(STACKS))
        self.assertIn("alloc_objects: 18\n", self.ok("--sample", "alloc_objects", path))
        self.assertRegex(self.ok("--sample=alloc_space", path), r"(?m) +4\.88 KiB .* gone$")
        self.assertIn("inuse_objects: 7\n", self.ok(self.file(made(STACKS, default="inuse_objects"))))
        self.assertIn("inuse_space: ", self.ok(self.file(made(STACKS, default="no such value"))))
        self.assertEqual(self.refused("--sample", "cpu", path),
                         "%s has no cpu; it has alloc_objects, alloc_space, inuse_objects, inuse_space" % path)

    def test_units_of_other_profiles(self):
        data = made([(["spin", "main"], [3, 2500000000])], types=[("samples", "count"), ("cpu", "nanoseconds")], default="cpu")
        self.assertIn("cpu: 2.50 s\n", self.ok(self.file(data)))

    def test_how_many_lines(self):
        path = self.file(made([(["f%d" % i], [1, i, 1, i]) for i in range(1, 41)]))
        self.assertEqual(len(self.ok(path).splitlines()), 2 + 30 + 1)
        self.assertIn("\n10 more functions; -n 0 shows all\n", self.ok(path))
        self.assertEqual(len(self.ok("-n", "0", path).splitlines()), 2 + 40)
        self.assertEqual(len(self.ok("-n", "3", path).splitlines()), 2 + 3 + 1)

    def test_comments_and_nothing_at_all(self):
        text = self.ok(self.file(made([], comments=["first", "second"])))
        self.assertIn("comment: first\ncomment: second\n", text)
        self.assertIn("inuse_space: 0 B\n", text)
        self.assertIn("[no stack]", self.ok(self.file(made([([], [1, 1, 1, 1])]))))

    def test_diff(self):
        old = self.file(made([(["malloc", "a"], [0, 0, 1, 1000]), (["malloc", "b"], [0, 0, 1, 500]), (["x"], [0, 0, 1, 9])]), "old")
        new = self.file(made([(["malloc", "a"], [0, 0, 1, 4000]), (["y"], [0, 0, 1, 50]), (["x"], [0, 0, 1, 9])]), "new")
        lines = self.ok("--diff", old, new).splitlines()
        self.assertEqual(lines[0], "inuse_space: 3.96 KiB, +2.49 KiB since %s" % old)
        rows = {line.split()[-1]: re.sub(" +", " ", line).split() for line in lines[2:]}
        self.assertEqual(set(rows), {"malloc", "a", "b", "y"})
        self.assertEqual(rows["malloc"][:2], ["+2.44", "KiB"])
        self.assertEqual(rows["y"][:2], ["+50", "B"])
        self.assertEqual(rows["b"][4:6], ["-500", "B"])
        other = self.file(made([], types=[("cpu", "nanoseconds")]), "other")
        self.assertEqual(self.refused("--diff", old, other), "%s and %s do not count the same" % (old, other))

    def test_growth(self):
        types = HEAP + [("growth_space", "bytes")]
        path = self.file(made([(["malloc", "a"], [0, 0, 1, 4000, 3000]), (["malloc", "b"], [0, 0, 0, 0, -500]),
                               (["x"], [0, 0, 1, 9, 0])], types=types))
        lines = self.ok("--sample", "growth_space", path).splitlines()
        self.assertEqual(lines[0], "growth_space: +2.44 KiB since the mark")
        rows = {line.split()[-1]: re.sub(" +", " ", line).split() for line in lines[2:]}
        self.assertEqual(set(rows), {"malloc", "a", "b"})
        # Of the 1509 bytes that were live then.
        self.assertEqual(rows["malloc"][:3], ["+2.44", "KiB", "165.67%"])
        self.assertEqual(rows["b"][4:6], ["-500", "B"])
        alone = self.file(made([(["a"], [5]), (["b"], [-2])], types=[("growth_space", "bytes")], default="growth_space"), "alone")
        self.assertIn("growth_space: 3 B\n", self.ok(alone))

    def test_lifetimes(self):
        types = HEAP + [("lifetime_objects", "count"), ("lifetime_time", "microseconds")]
        old = self.file(made([(["malloc", "a"], [4, 40, 0, 0, 4, 8000000])], types=types), "old")
        new = self.file(made([(["malloc", "a"], [5, 50, 0, 0, 5, 9500000]), (["malloc", "b"], [9, 9, 1, 1, 8, 2000]),
                              (["held"], [1, 1, 1, 1, 0, 0]), (["malloc", "quick"], [9, 9, 0, 0, 9, 1])], types=types), "new")

        def life_of(*arguments):
            """(total, {function: its mean life})"""
            lines = self.ok(*arguments).splitlines()
            self.assertRegex(lines[1], r" mean life  function$")
            return lines[0], {line.split()[-1]: re.sub(r".*% +(\S+( us| ms| s)?)  \S+$", r"\1", line) for line in lines[2:]}

        self.assertEqual(life_of("--sample", "lifetime_objects", new),
                         ("lifetime_objects: 22", {"malloc": "431.91 ms", "a": "1.90 s", "b": "250 us", "quick": "<1 us"}))
        self.assertEqual(life_of("--sample", "lifetime_time", new)[0], "lifetime_time: 9.50 s")
        self.assertEqual(life_of("--diff", "--sample", "lifetime_objects", old, new)[1],
                         {"malloc": "83.44 ms", "a": "1.50 s", "b": "250 us", "quick": "<1 us"})
        self.assertNotIn("mean life", self.ok("--sample", "alloc_objects", new))
        only = self.file(made([(["a"], [1])], types=[("lifetime_objects", "count")], default="lifetime_objects"), "only")
        self.assertNotIn("mean life", self.ok(only))

    def test_a_reader_that_stops(self):
        path = self.file(made([(["f%d" % i * 50], [1, i, 1, i]) for i in range(1, 5000)]))
        done = subprocess.run(["sh", "-c", '"$0" -n 0 "$1" | head -n 1', PROF, path], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=True)
        self.assertEqual((done.stdout.count(b"\n"), done.stderr), (1, b""))


class Pages(Case):
    def page(self, *arguments):
        """The page, and what its script reads."""
        out = str(self.scratch / "page.html")
        self.assertEqual(self.ok("--html", out, *arguments), "")
        self.assertEqual(os.stat(out).st_mode & 0o777, 0o600)
        text = pathlib.Path(out).read_text(encoding="utf-8")
        (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
        return text, json.loads(data)

    def test_what_it_holds(self):
        text, data = self.page(self.file(made(STACKS, comments=["a comment"])))
        self.assertEqual([one["name"] for one in data["types"]], [name for name, _ in HEAP])
        self.assertEqual((data["first"], data["isDiff"], data["comments"]), (3, False, ["a comment"]))
        for i in range(len(HEAP)):
            got = {tuple(data["names"][name] for name in stack): value for stack, value in zip(data["stacks"], data["values"][i])}
            self.assertEqual(got, {tuple(reversed(stack)): values[i] for stack, values in STACKS})
        self.assertEqual(text, self.ok("--html", "-", self.file(made(STACKS, comments=["a comment"]))))

    def test_nothing_comes_from_elsewhere(self):
        text, _ = self.page(self.file(made(STACKS)))
        self.assertEqual(re.findall(r"https?:|//[a-z]+\.|@import|url\(|<link[^>]*href=\"(?!data:)|src=", text), [])
        self.assertIn("default-src 'none'", text)

    def test_names_cannot_become_markup(self):
        nasty = ["</script><script>alert(1)</script>", "<!--<script>", "&amp;\"'`", "\u2028\u2029\u00e9", "@DATA@ @TITLE@"]
        text, data = self.page(self.file(made([(nasty, [1, 1, 1, 1])], comments=["</script>"]), "<b>@DATA@.pb.gz"))
        self.assertEqual(data["names"], nasty[::-1])
        self.assertEqual(text.count("</script>"), 2)
        self.assertNotIn("<b>", text)
        self.assertIn("<title>&lt;b&gt;@DATA@.pb.gz</title>", text)

    def test_diff(self):
        old, new = self.file(made(STACKS), "old"), self.file(made(STACKS[:1] + [(["new"], [1, 1, 1, 7])]), "new")
        text, data = self.page("--diff", old, new, "--sample", "alloc_space")
        self.assertEqual((data["isDiff"], data["first"]), (True, 1))
        self.assertIn("<title>new against old</title>", text)
        got = {data["names"][stack[-1]]: (old, new) for stack, old, new in zip(data["stacks"], data["old"][3], data["values"][3])}
        self.assertEqual(got["new"], (0, 7))
        self.assertEqual(got["grow"], (1 << 11, 0))

    def test_a_place_that_cannot_be_written(self):
        self.assertIn("cannot be written", self.refused("--html", str(self.scratch / "no/page"), self.file(made(STACKS))))


class Symbols(Case):
    def own(self, *lines):
        script = "\n".join(["about 4 3 524288 0 0", *lines, ""]).encode()
        return subprocess.run([PROFILES, "script"], input=script, stdout=subprocess.PIPE, check=True).stdout

    def test_of_a_program_that_ran(self):
        text = self.ok(self.file(self.own("process", "own 1 64 1 64")))
        names = [line.split()[-1].split(".")[0] for line in text.splitlines()[2:]]
        self.assertEqual(sorted(names), ["own_call", "own_root", "own_stack"])
        self.assertRegex(text, r"(?m)^ +64 B 100\.00% .* own_call\S*$")

    def copy(self, change=None):
        """The program below another root, and a profile of it."""
        data = self.own("process", "own 1 64 1 64")
        place = self.scratch / "root" / os.path.realpath(PROFILES).lstrip("/")
        place.parent.mkdir(parents=True)
        program = bytearray(pathlib.Path(PROFILES).read_bytes())
        if change:
            change(program)
        place.write_bytes(program)
        return self.file(data), str(self.scratch / "root"), str(place)

    def test_below_another_root(self):
        path, root, _ = self.copy()
        self.assertIn("own_call", self.ok("--root", root, path))

    def test_of_another_build_are_not_used(self):
        build_id = bytes.fromhex(prof_elf.Elf(PROFILES).build_id)

        def change(program):
            at = program.index(build_id)
            program[at] ^= 1

        path, root, place = self.copy(change)
        done = self.run_it("--root", root, path)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stderr, "hakmem-prof: %s is another build than the one that ran: its functions stay addresses\n"
                         % place)
        self.assertRegex(done.stdout, r"test_profiles\+0x[0-9a-f]+\n")

    def test_of_a_file_that_is_gone_or_damaged(self):
        path, root, place = self.copy(lambda program: program.__delitem__(slice(2000, None)))
        for reason in ("is damaged", "is too short", "cannot be read: No such file or directory"):
            done = self.run_it("--root", root, path)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (0, 1), done.stderr)
            self.assertIn("%s %s" % (place, reason), done.stderr)
            self.assertIn("test_profiles+0x", done.stdout)
            if reason == "is damaged":
                os.truncate(place, 63)
            elif reason == "is too short":
                os.unlink(place)

    def test_damaged_files_never_crash_the_reader(self):
        whole = pathlib.Path(PROFILES).read_bytes()
        place = self.scratch / "damaged"
        for _ in range(150):
            data = bytearray(whole[: RANDOM.choice([len(whole), RANDOM.randrange(64, len(whole))])])
            for _ in range(RANDOM.randint(1, 30)):
                at = RANDOM.choice([RANDOM.randrange(16, 64), RANDOM.randrange(64, 900), RANDOM.randrange(len(data))])
                if at < len(data):
                    data[at] = RANDOM.choice([0, 1, 0x7F, 0xFF, RANDOM.randrange(256)])
            place.write_bytes(data)
            try:
                elf = prof_elf.Elf(str(place))
                for address in (0, 0x1000, 1 << 63, RANDOM.getrandbits(20)):
                    elf.function_at(address)
                    elf.address_of(address)
            except prof_elf.ElfError:
                pass

    def test_cplusplus_names(self):
        names = {"_ZN3foo3barEv", "plain", "_Znot_mangled"}
        plain = prof_symbols.demangled(names)
        self.assertEqual(set(plain), names)
        if shutil.which("c++filt"):
            self.assertEqual(plain["_ZN3foo3barEv"], "foo::bar()")
        path = os.environ.get("PATH", "")
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        os.environ["PATH"] = "/nonexistent"
        self.assertEqual(prof_symbols.demangled(names), {name: name for name in names})


class BadInput(Case):
    def test_usage(self):
        path = self.file(made(STACKS))
        for arguments, what in ([], "0 files are given instead of 1"), ([path, path], "2 files"), (["--diff", path], "1 files"), (
                ["--flame", path], "there is no option --flame"), (["--html"], "--html needs a value"), (
                ["-n", "x", path], "-n x is no number"), (["-n", "-1", path], "-n -1 is no number"), (
                ["--top", "--html", "x", path], "either --top or --html"):
            self.assertIn(what, self.refused(*arguments))
        self.assertIn("usage: hakmem-prof", self.ok("--help"))
        self.assertIn("inuse_space", self.ok("--", path))

    def test_files_that_are_none(self):
        self.assertEqual(self.refused(str(self.scratch / "none")), str(self.scratch / "none") + " cannot be read: No such file or directory")
        self.assertIn("cannot be read: Is a directory", self.refused(str(self.scratch)))
        for data, what in ((b"", "is empty"), (b"heap profile: 1: 2 [ 3: 4] @ heap_v2/1\n", "a text profile"),
                           (b"heap_v2/524288\n", "a profile of jemalloc"), (b"\x7fELF" + bytes(60), "is a program"),
                           (b"{}", "is JSON"), (b"<html>", "is HTML"), (gzip.compress(b"hello"), "no profile"),
                           (gzip.compress(b""), "no profile"), (bytes(100), "no profile"), (b"\xff" * 100, "no profile"),
                           (b"\x1f\x8b", "is cut short"), (b"\x1f\x8bx" + bytes(30), "is damaged")):
            self.assertIn(what, self.refused(self.file(data)), data)

    def test_profiles_that_are_cut_short(self):
        data = gzip.compress(made(STACKS))
        for size in range(2, len(data)):
            with self.assertRaisesRegex(prof_profile.ProfileError, "is cut short"):
                prof_profile.parse(data[:size])
        self.assertIn("is cut short", self.refused(self.file(data[:-1])))
        whole = made(STACKS)
        for size in range(1, len(whole)):
            with self.assertRaises(prof_profile.ProfileError):
                prof_profile.parse(whole[:size])

    def test_damaged_profiles(self):
        whole = made(STACKS, comments=["x"])
        good = 0
        for _ in range(3000):
            data = bytearray(whole)
            for _ in range(RANDOM.randint(1, 4)):
                data[RANDOM.randrange(len(data))] = RANDOM.randrange(256)
            try:
                prof_profile.parse(bytes(data))
                good += 1
            except prof_profile.ProfileError as error:
                self.assertNotIn("\n", str(error))
        self.assertLess(good, 3000)
        packed = bytearray(gzip.compress(whole))
        packed[len(packed) // 2] ^= 0xFF
        self.assertRegex(self.refused(self.file(bytes(packed))), "is (damaged|no profile|cut short)")

    def test_what_it_says_of_each_fault(self):
        types = field(1, field(1, 1) + field(2, 2))
        texts = b"".join(field(6, word) for word in (b"", b"space", b"bytes"))
        place = field(4, field(1, 7) + field(3, 0x1000))
        for data, what in (
                (types + texts + place + field(2, field(1, 8) + field(2, 1)), "an address that it does not have"),
                (types + texts + place + field(2, field(1, 7)), "0 values instead of 1"),
                (types + texts + place + place, "an identity is missing, or is that of two things"),
                (types + texts + field(4, field(3, 1)), "an identity is missing"),
                (types + texts + field(4, field(1, 1) + field(2, 9)), "a mapping that it does not have"),
                (types + texts + field(4, field(1, 1) + field(4, field(1, 9))), "a function that it does not have"),
                (field(1, field(1, 99)) + texts, "a text that it does not have"), (texts, "does not tell what it counts"),
                (types + field(6, b"x"), "begins with the empty one"), (types + texts + field(2, 1), "a sample belongs"),
                (types + texts + field(3, 1), "a message belongs"), (types + texts + b"\x00\x00", "a field 0"),
                (types + texts + b"\x0b", "a field of kind 3"), (types + texts + b"\x08" + b"\xff" * 11, "more than 64 bits")):
            with self.assertRaisesRegex(prof_profile.ProfileError, what):
                prof_profile.parse(data)
        self.assertEqual(prof_profile.parse(types + texts + place + field(2, field(1, 7) + field(2, -5))).samples[0].values, [-5])

    def test_a_file_that_unpacks_to_too_much(self):
        most, prof_profile.MOST_BYTES = prof_profile.MOST_BYTES, 1 << 20
        self.addCleanup(setattr, prof_profile, "MOST_BYTES", most)
        with self.assertRaisesRegex(prof_profile.ProfileError, "holds more than 1 MiB"):
            prof_profile.parse(gzip.compress(bytes(2 << 20)))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
