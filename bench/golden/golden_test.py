# SPDX-License-Identifier: Apache-2.0
"""The golden table's tools, and the table itself: the fast paths of this build are those that it has."""

import io
import json
import os
import unittest

from bench.golden import golden, golden_page, paths

HERE = os.path.dirname(os.path.abspath(__file__))

DUMP = """\
desc: Trigger: --dump-after=step_free

ob=/x/steps
fn=step_free
0x13e0 0 1
cob=/x/libhakmem.so
cfn=free@@VERSION
calls=1 0x8280 0
0x13e7 0 3

ob=/x/libhakmem.so
fn=free@@VERSION
0x8280 0 1
0x8284 0 2
cfn=hidden'2
calls=1 0x9000 0
0x8288 0 7

fn=memset
0x9100 0 5
"""

LOG = """\
Trace 0: 0x7f1 [0000000000000000/0000000000400100/00000101/ff000000] main
Trace 0: 0x7f1 [0000000000000000/0000000000400200/00000101/ff000000] step_free
Trace 0: 0x7f1 [0000000000000000/0000000000400300/00000101/ff000000] free
Trace 0: 0x7f1 [0000000000000000/0000000000400304/00000101/ff000000] free
cpu_io_recompile: rewound
Trace 0: 0x7f1 [0000000000000000/0000000000400500/00000101/ff000000] memset
Trace 0: 0x7f1 [0000000000000000/0000000000400204/00000101/ff000000] step_free
Trace 0: 0x7f1 [0000000000000000/0000000000400104/00000101/ff000000] main
"""


class KindsTest(unittest.TestCase):
    def test_x86(self):
        cases = {
            "lea    0xf(%rdi),%rax": (1, 0, 0, 0, 0, 0),
            "nopw   0x0(%rax,%rax,1)": (1, 0, 0, 0, 0, 0),
            "mov    %rdi,%rax": (1, 0, 0, 0, 0, 0),
            "mov    (%rdx,%rax,1),%ecx": (1, 1, 0, 0, 0, 0),
            "mov    %fs:0x10,%rax": (1, 1, 0, 0, 0, 0),
            "mov    0x24e19(%rip),%rdx        # 2cfe0 <a(b)>": (1, 1, 0, 0, 0, 0),
            "add    %fs:(%rdx),%rax": (1, 1, 0, 0, 0, 0),
            "mov    %rdi,0x8(%rdx)": (1, 0, 1, 0, 0, 0),
            "movq   $0x0,0x8(%rdx,%rcx,8)": (1, 0, 1, 0, 0, 0),
            "addl   $0x1,0x8(%rdx)": (1, 1, 1, 0, 0, 0),
            "cmp    %rax,0x6af8b(%rip)": (1, 1, 0, 0, 0, 0),
            "push   %rbx": (1, 0, 1, 0, 0, 0),
            "pop    %rbx": (1, 1, 0, 0, 0, 0),
            "ret": (1, 1, 0, 0, 0, 0),
            "repz ret": (1, 1, 0, 0, 0, 0),
            "jb     5282 <free.cold>": (1, 0, 0, 1, 0, 0),
            "bnd jmp *0x27d52(%rip)": (1, 1, 0, 1, 0, 0),
            "call   5050 <__errno_location@plt>": (1, 0, 1, 0, 1, 0),
            "lock cmpxchg %rcx,(%rdx)": (1, 1, 1, 0, 0, 1),
            "xchg   %rax,(%rdx)": (1, 1, 1, 0, 0, 1),
            "xchg   %ax,%ax": (1, 0, 0, 0, 0, 0),
        }
        for text, kinds in cases.items():
            self.assertEqual(paths.kinds_x86(text), kinds, text)

    def test_aarch64(self):
        cases = {
            "ldr\tx0, [x1]": (1, 1, 0, 0, 0, 0),
            "ldp\tx29, x30, [sp], #16": (1, 1, 0, 0, 0, 0),
            "str\tx0, [x1]": (1, 0, 1, 0, 0, 0),
            "sub\tx0, x0, #0x8": (1, 0, 0, 0, 0, 0),
            "b.hi\t400 <x>  // b.pmore": (1, 0, 0, 1, 0, 0),
            "cbz\tx0, 400 <x>": (1, 0, 0, 1, 0, 0),
            "b\t400 <x>": (1, 0, 0, 1, 0, 0),
            "bl\t400 <x>": (1, 0, 0, 0, 1, 0),
            "bic\tx0, x0, x1": (1, 0, 0, 0, 0, 0),
            "ret": (1, 0, 0, 0, 0, 0),
            "ldaxr\tx0, [x1]": (1, 1, 0, 0, 0, 1),
            "stlxr\tw0, x1, [x2]": (1, 0, 1, 0, 0, 1),
            "ldadd\tx0, x1, [x2]": (1, 1, 0, 0, 0, 1),
            "ldar\tx0, [x1]": (1, 1, 0, 0, 0, 0),
        }
        for text, kinds in cases.items():
            self.assertEqual(paths.kinds_aarch64(text), kinds, text)


class PathTest(unittest.TestCase):
    def test_callgrind_counts_each_execution_in_the_allocator_only(self):
        library = "/x/libhakmem.so"
        self.assertEqual(paths.parse_callgrind(DUMP, library),
                         [paths.Call(library, 0x8280), paths.Call(library, 0x8284), paths.Call(library, 0x8284)])

    def test_emulator_counts_from_a_step_to_main(self):
        found = paths.parse_emulator(LOG.splitlines(), "steps")
        self.assertEqual(found, {"free": [[paths.Call("steps", 0x400300), paths.Call("steps", 0x400304)]]})

    def test_an_address_without_instruction_is_an_error(self):
        with self.assertRaisesRegex(paths.PathError, "0x10"):
            paths.count([paths.Call("x", 0x10)], {}, paths.kinds_x86)

    def test_slow_calls_are_left_out(self):
        short, long = [paths.Call("x", 1)], [paths.Call("x", 1)] * 100
        self.assertEqual(paths.shortest([long, short, long]), short)


class TableTest(unittest.TestCase):
    def test_a_longer_path_is_noticed(self):
        golden_rows = {name: [10, 2, 2, 1, 0, 0] for name in paths.STEPS}
        self.assertEqual(golden.differences("k", golden_rows, golden_rows), [])
        now = dict(golden_rows, free=[11, 3, 2, 1, 0, 0])
        self.assertEqual(golden.differences("k", golden_rows, now), ["k: free: instructions 10 -> 11, loads 2 -> 3"])
        self.assertEqual(len(golden.differences("k", {}, now)), len(paths.STEPS))

    def test_only_hardened_may_differ_a_little(self):
        golden_rows = {name: [300, 60, 40, 30, 4, 2] for name in paths.STEPS}
        a_little = dict(golden_rows, free=[310, 62, 42, 31, 4, 2])
        self.assertEqual(golden.differences("x86-64, gcc 12, hardened, static", golden_rows, a_little), [])
        self.assertEqual(len(golden.differences("x86-64, gcc 12, observe, static", golden_rows, a_little)), 1)
        more = dict(golden_rows, free=[311, 60, 40, 30, 4, 2])
        self.assertEqual(len(golden.differences("x86-64, gcc 12, hardened, static", golden_rows, more)), 1)

    def test_file_and_page_have_all_of_it(self):
        table = {"b": {name: [1, 2, 3, 4, 5, 6] for name in paths.STEPS}}
        self.assertEqual(json.loads(golden_page.as_json(table)), table)
        self.assertEqual(golden_page.page(table).count("| b | 1 | 2 | 3 | 4 | 5 | 6 |"), len(paths.STEPS))

    def test_the_page_shows_the_table(self):
        with open(os.path.join(HERE, "golden.json"), encoding="utf-8") as file:
            table = json.load(file)
        root = os.path.dirname(os.path.dirname(HERE))
        with open(os.path.join(root, golden.PAGE), encoding="utf-8") as file:
            self.assertEqual(file.read(), golden_page.page(table))

    def test_the_paths_of_this_build_are_golden(self):
        lines = io.StringIO()
        status = golden.check(["fast", "standard"], lines)
        self.assertEqual(status, 0, lines.getvalue())


if __name__ == "__main__":
    unittest.main()
