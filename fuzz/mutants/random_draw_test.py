#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The drawer finds what is planted and nothing else, the judge tells its verdicts apart, and the page of results fits
them: random_draw_test.py PAGE"""

import pathlib
import sys
import tempfile
import types
import unittest

sys.path.insert(0, "fuzz/mutants")
import random_draw  # noqa: E402
import random_mutants  # noqa: E402
import random_results  # noqa: E402
import tables  # noqa: E402

FOLDER = pathlib.Path("fuzz/mutants")

# Everything that could be mutated is in a place that must stay as it is.
QUIET = r'''// if (a < 1) f(2);
/* while (b) { g(3);
   h(4); } */
#define LIMIT 5 + \
  (6 < 7)
static_assert(sizeof(int) >= 4, "8 < 9; f();");
_Static_assert(1 < 2, "3");
struct s {
  HAK_ATOMIC(void *) top;
};
static const char *text(void);
const char *const words[] = {"a \" < 1", "b(2);", NAME(c)};
int f(void) {
  const char mark = '<';
  struct s *t = get();
  HAK_ATOMIC(int) *word = find();
  return mark == '\'';
}
'''


def drawn(text, kind=None):
    return [(m.kind, m.old, m.new) for m in random_draw.mutants("a/b.c", text) if kind in (None, m.kind)]


class Drawer(unittest.TestCase):

    def test_leaves_comments_strings_directives_and_assertions_alone(self):
        self.assertEqual(drawn(QUIET), [])

    def test_constants(self):
        self.assertEqual(sorted(drawn("int a = 7u, b = 0x10, c = 0, d = 010, e = 1.5, f1 = 1;")),
                         sorted([("constant", "7u", "8u"), ("constant", "7u", "6u"), ("constant", "0x10", "0xf"),
                                 ("constant", "0x10", "0x11"), ("constant", "0", "1"), ("constant", "1", "0"),
                                 ("constant", "1", "2")]))

    def test_bounds(self):
        self.assertEqual(drawn("void f(void) { if (a < b && c->d >= e >> x) return; }", "bound"),
                         [("bound", "<", "<="), ("bound", ">=", ">")])

    def test_conditions(self):
        text = "void f(void) { for (i = a; i != b; i++) while (g(c)) if (d) return; for (;;) { } }"
        self.assertEqual(drawn(text, "condition"), [("condition", " i != b", " !(i != b)"), ("condition", "g(c)", "!(g(c))"),
                                                    ("condition", "d", "!(d)")])

    def test_statements(self):
        text = """int f(int a) {
  int b = g(a);
  type *c = g(a);
  if (a) return b;
  h(b);
  again:
  while (a) { a -= b; break; }
  switch (a) { case X: h(a); continue; default: *c = a; }
  if (b) { return a; } else a++;
  for (i = a; i; i++) h(i);
  return b;
}
void g(void) {
  h(a);
  if (b) { return; }
  return;
}
"""
        self.assertEqual([old for _, old, _ in drawn(text, "statement")],
                         ["return b;", "h(b);", "a -= b;", "break;", "h(a);", "continue;", "*c = a;", "a++;", "h(i);", "h(a);"])

    def test_swaps(self):
        text = "void f(void) { a(); b(c); d = e; if (g) h(); i(); { k(); } l(); return m(); }"
        self.assertEqual(drawn(text, "swap"), [("swap", "a(); b(c);", "b(c); a();")])
        self.assertEqual(drawn("void f(void) { a(); a(); }", "swap"), [])

    def test_orders(self):
        text = "void f(void) { x(memory_order_acq_rel, __ATOMIC_SEQ_CST, memory_order_relaxed); }"
        self.assertEqual(sorted(new for _, _, new in drawn(text, "order")),
                         ["__ATOMIC_RELAXED", "memory_order_acquire", "memory_order_relaxed", "memory_order_release"])

    def test_refuses_brackets_that_do_not_match(self):
        for text in ("int f(void) { return (1; }", "}", "int a[3;", "{"):
            with self.assertRaises(ValueError):
                random_draw.mutants("a/b.c", text)

    def test_lines_keep_their_numbers(self):
        text = "void f(void) {\n  a(b,\n    c);\n  d();\n}\n"
        for mutant in random_draw.mutants("a/b.c", text):
            self.assertEqual(mutant.apply(text).count("\n"), text.count("\n"))
        self.assertEqual({m.line for m in random_draw.mutants("a/b.c", text) if m.kind == "statement"}, {2, 4})


class Order(unittest.TestCase):
    TEXT = "void f(void) { a(1); b(2); if (c < 3) d(4); }\n" * 20

    def test_a_seed_gives_one_order_and_another_seed_another(self):
        listed = random_draw.mutants("a/b.c", self.TEXT)
        orders = [[m.key for m in random_draw.order_of_judging(listed, seed)] for seed in (1, 1, 2)]
        self.assertEqual(orders[0], orders[1])
        self.assertNotEqual(orders[0], orders[2])
        self.assertEqual(len(set(orders[0])), len(listed))

    def test_keys_stay_when_other_lines_change(self):
        before = {m.key for m in random_draw.mutants("a/b.c", "void f(void) {\n  a(1);\n}\n")}
        after = {m.key for m in random_draw.mutants("a/b.c", "// new\nvoid g(void) { h(); }\nvoid f(void) {\n    a(1);\n}\n")}
        self.assertLess(before, after)

    def test_kinds_have_their_shares(self):
        text = "void f(void) {\n" + "  a = 5;\n" * 1000 + "  if (b) return;\n" * 100 + "}\n"
        first = random_draw.order_of_judging(random_draw.mutants("a/b.c", text), 1)[:90]
        for kind in ("constant", "statement", "condition"):
            self.assertTrue(15 < sum(m.kind == kind for m in first) < 50, kind)


class FakeTree:
    """What the judge needs of a tree: one source, and notes that are forgotten."""

    def __init__(self):
        self.now = "// SPDX\nvoid f(void) { a(1); }\n"
        self.path, self.commit, self.known = pathlib.Path("."), "0" * 40, {}

    def text(self, _):
        return self.now

    def plant(self, _, text):
        self.now = text

    def note(self, name, key, make):
        return ["//allocator/x:y_test", "//allocator/x:y_test_observe"] if name == "tests" else make()


class Judge(unittest.TestCase):
    OPTIONS = types.SimpleNamespace(until="likely")
    FAILED = ("//allocator/x:y_test", "FAILED", "Case.One")

    def verdict(self, answers, found=("standard",), refused=False):
        """`answers` are those of Bazel: (status, failed tests, output), the last one for a run with nothing planted."""
        tree, left = FakeTree(), list(answers)
        original = tree.now
        mutant = random_draw.mutants("allocator/x/y.c", original)[0]
        names = ("bazel_test", "builds", "box_tests", "is_refused")
        saved = [getattr(random_mutants, name) for name in names]
        random_mutants.is_refused = lambda *_: refused
        random_mutants.bazel_test = lambda *_: left.pop(0)
        random_mutants.builds = lambda *_: iter(found)
        random_mutants.box_tests = lambda *_: []
        try:
            result = random_mutants.judge(tree, mutant, self.OPTIONS)
        finally:
            for name, value in zip(names, saved):
                setattr(random_mutants, name, value)
            self.assertEqual(tree.now, original)
        self.assertEqual(left, [])
        return result

    def test_a_failed_test_kills(self):
        result = self.verdict([(3, [self.FAILED], ""), (0, [], "")])
        self.assertEqual((result["verdict"], result["killer"]), ("killed", "`//allocator/x:y_test` Case.One"))

    def test_the_compiler_may_refuse_it(self):
        result = self.verdict([], refused=True)
        self.assertEqual((result["verdict"], tables.label_of(result["killer"])), ("killed", None))

    def test_a_hanging_test_is_told_apart(self):
        result = self.verdict([(3, [("//allocator/x:y_test", "TIMEOUT", None)], ""), (0, [], "")])
        self.assertEqual(result["verdict"], "killed by time limit")

    def test_a_test_that_always_fails_kills_nothing(self):
        with self.assertRaises(random_mutants.Failure):
            self.verdict([(3, [self.FAILED], ""), (3, [self.FAILED], "")])

    def test_a_survivor_survives_every_build(self):
        result = self.verdict([(0, [], ""), (0, [], "")], ("standard", "observe"))
        self.assertEqual((result["verdict"], result["build"]), ("survived", "standard, observe"))
        result = self.verdict([(0, [], ""), (3, [self.FAILED], ""), (0, [], "")], ("standard", "observe"))
        self.assertEqual((result["verdict"], result["build"]), ("killed", "observe"))

    def test_what_is_not_judged(self):
        self.assertEqual(self.verdict([], ())["verdict"], "same code")
        self.assertEqual(self.verdict([], ("does not compile",))["verdict"], "does not compile")
        self.assertEqual(self.verdict([(1, [], "allocator/x/y.c:2:1: error: no")])["verdict"], "does not compile")

    def test_a_build_that_fails_otherwise_is_no_verdict(self):
        for status, output in ((1, "allocator/x/y_test.cc:2:1: error: no"), (2, ""), (37, "out of disk"), (None, "")):
            with self.assertRaises(random_mutants.Failure):
                self.verdict([(status, [], output)])


class Digest(unittest.TestCase):

    def test_covers_the_code_and_the_tests(self):
        with tempfile.TemporaryDirectory() as scratch:
            root = pathlib.Path(scratch)
            (root / "allocator/x").mkdir(parents=True)
            (root / "fuzz").mkdir()
            files = {name: root / name for name in ("allocator/x/y.c", "allocator/x/y_test.cc", "allocator/x/z_test.cc")}
            for path in files.values():
                path.write_text("1")
            killer, survivor = ("allocator/x/y.c", "//allocator/x:y_test_observe"), ("allocator/x/y.c", "")
            for changed, stale in (("allocator/x/y.c", (True, True)), ("allocator/x/y_test.cc", (True, True)),
                                   ("allocator/x/z_test.cc", (False, True))):
                before = [tables.contents(root, *what) for what in (killer, survivor)]
                files[changed].write_text("2")
                after = [tables.contents(root, *what) for what in (killer, survivor)]
                self.assertEqual(tuple(a != b for a, b in zip(before, after)), stale, changed)


class Page(unittest.TestCase):
    RECORDS = random_results.read(FOLDER / "random_results.json")

    def test_is_what_the_tool_writes(self):
        self.assertEqual(PAGE.read_text(encoding="utf-8"), random_results.render(self.RECORDS))

    def test_survivors_are_explained(self):
        silent = [key for key, r in self.RECORDS.items() if r["verdict"] == "survived" and not r.get("explanation")]
        self.assertEqual(silent, [])

    def test_tells_the_verdicts_apart(self):
        one = {"seed": 1, "commit": "abc", "file": "allocator/x/y.c", "line": 3, "kind": "bound", "old": "<", "new": "<=",
               "build": "standard", "passed": "likely"}
        page = random_results.render({
            "a": dict(one, verdict="killed"), "b": dict(one, verdict="killed by time limit"),
            "c": dict(one, verdict="survived", explanation="Equivalent: a | b"), "d": dict(one, verdict="same code"),
            "e": dict(one, verdict="does not compile")})
        self.assertIn("**2 killed / 3 judged (66.7 %).** 1 of the 1 survivors are equivalent", page)
        self.assertIn("| bound | 3 | 2 | 1 | 1 | 1 | 1 |", page)
        self.assertIn("a \\| b |", page)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    PAGE = pathlib.Path(sys.argv.pop())
    unittest.main()
