# SPDX-License-Identifier: Apache-2.0
"""Draws small bugs at random from C sources: which texts can be replaced by which, and in what order they are judged.

A small tokenizer knows comments, strings, preprocessor lines and static assertions; none of them is changed. Whether the
result compiles, and into other code, is for the caller to find out.

The kinds:

  constant    a number is one larger, or one smaller
  bound       < is <=, > is >=, and the reverse
  condition   that of an if, while or for is negated
  statement   a call, an assignment, a jump, or the return behind an if is dropped
  swap        two statements in a row, each with a call, change places
  order       the memory order of an atomic operation is weaker
"""

import bisect
import hashlib
import math
import re

KINDS = ("constant", "bound", "condition", "statement", "swap", "order")
# How often each kind is drawn, relative to the others. Weaker orders need a build under ThreadSanitizer.
SHARES = {"constant": 5, "bound": 3, "condition": 5, "statement": 5, "swap": 1, "order": 1}

TOKEN = re.compile(r"""
    (?P<skip>\s+|//[^\n]*|/\*.*?\*/)
  | (?P<hash>\#(?:\\\n|/\*.*?\*/|[^\n])*)
  | (?P<text>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*"|[uUL]?'(?:\\.|[^'\\\n])*')
  | (?P<number>\.?[0-9](?:[eEpP][+-]|[\w.])*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<mark><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|.)
""", re.X | re.S)
INTEGER = re.compile(r"(0[xX][0-9a-fA-F]+|[1-9][0-9]*|0)([uUlL]*)")
BOUNDS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
OPEN, CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
ASSERTIONS = {"static_assert", "_Static_assert"}
# Words that begin a declaration, or a statement that has others in it.
NO_EXPRESSION = {
    "auto", "bool", "char", "const", "double", "enum", "extern", "float", "inline", "int", "long", "register", "short",
    "signed", "static", "struct", "typedef", "union", "unsigned", "void", "volatile", "_Atomic", "_Thread_local",
    "_Alignas", "case", "default", "do", "else", "for", "if", "switch", "while", "sizeof",
}
JUMPS = {"break", "continue", "goto", "return"}
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", "++", "--"}
# Each order and the weaker ones in its place; the same for both spellings.
WEAKER = {"acquire": ["relaxed"], "release": ["relaxed"], "acq_rel": ["acquire", "release", "relaxed"],
          "seq_cst": ["relaxed"]}
ORDER = re.compile(r"(memory_order_|__ATOMIC_)(\w+)")


class Token:
    __slots__ = ("kind", "text", "start", "match")

    def __init__(self, kind, text, start):
        self.kind, self.text, self.start, self.match = kind, text, start, None

    @property
    def end(self):
        return self.start + len(self.text)


def tokens(text):
    """The tokens of a C source that may be changed; of brackets, `match` is the index of the partner."""
    found, position = [], 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match.lastgroup not in ("skip", "hash"):
            found.append(Token(match.lastgroup, match.group(), position))
        position = match.end()
    opened = []
    for index, token in enumerate(found):
        if token.kind != "mark":
            continue
        if token.text in OPEN:
            opened.append(index)
        elif token.text in CLOSE:
            if not opened or OPEN[found[opened[-1]].text] != token.text:
                raise ValueError(f"a {token.text} without its partner at character {token.start}")
            token.match = opened.pop()
            found[token.match].match = index
    if opened:
        raise ValueError(f"a {found[opened[-1]].text} without its partner at character {found[opened[-1]].start}")
    return found


class Mutant:
    """`text[start:end]` becomes `new`."""

    def __init__(self, file, text, kind, start, end, new, lines):
        self.file, self.kind, self.start, self.end, self.new = file, kind, start, end, new
        self.old = text[start:end]
        self.line = bisect.bisect_right(lines, start)
        first = lines[self.line - 1]
        self.column = start - first
        self.source_line = text[first:text.find("\n", start) if "\n" in text[start:] else len(text)]
        self.key = ""

    def apply(self, text):
        # Of a text with several lines the number of lines stays, so that others keep their numbers.
        lost = self.old.count("\n") - self.new.count("\n")
        return text[:self.start] + self.new + "\n" * lost + text[self.end:]


def in_assertions(found):
    """The indexes of the tokens of static assertions."""
    inside = set()
    for index, token in enumerate(found[:-1]):
        if token.text in ASSERTIONS and found[index + 1].match is not None:
            inside.update(range(index, found[index + 1].match + 1))
    return inside


def constants(found, skipped):
    for index, token in enumerate(found):
        match = INTEGER.fullmatch(token.text) if token.kind == "number" and index not in skipped else None
        if match is None:
            continue
        value = int(match.group(1), 0)
        for other in ([value + 1] if value == 0 else [value + 1, value - 1]):
            digits = hex(other) if match.group(1)[:2] in ("0x", "0X") else str(other)
            yield token.start, token.end, digits + match.group(2)


def bounds(found, skipped):
    for index, token in enumerate(found):
        if token.kind == "mark" and token.text in BOUNDS and index not in skipped:
            yield token.start, token.end, BOUNDS[token.text]


def conditions(found, text):
    for index, token in enumerate(found[:-1]):
        opening = found[index + 1]
        if token.kind != "name" or opening.text != "(" or token.text not in ("if", "while", "for"):
            continue
        start, end = opening.end, found[opening.match].start
        if token.text == "for":
            marks = [t for t in found[index + 2:opening.match] if t.text == ";"]
            if len(marks) != 2:
                continue
            start, end = marks[0].end, marks[1].start
        condition = text[start:end].strip()
        if condition:
            yield start, end, (" " if token.text == "for" else "") + f"!({condition})"


def is_expression(found, first, last):
    """Whether the tokens [first, last) are a call, an assignment or a jump, rather than a declaration."""
    word = found[first]
    if word.text in JUMPS:
        return True
    if word.text in NO_EXPRESSION | ASSERTIONS | {"HAK_ATOMIC"} or word.kind in ("number", "text"):
        return False
    if word.kind == "name" and first + 1 < last:
        follows = found[first + 1]
        if follows.kind == "name" or follows.text == ":":
            return False
        if follows.text == "*" and any(token.text == "=" for token in found[first:last]):
            return False
        # MACRO(...) name: a declaration too.
        if follows.text == "(" and follows.match + 1 < last and found[follows.match + 1].kind == "name":
            return False
    return any(token.text == "(" or token.text in ASSIGNMENTS for token in found[first:last])


def is_data(found, index):
    """Whether the brace at `index` opens an initialiser or a struct, union or enum, which has no statements."""
    if index and found[index - 1].text in ("=", ",", "(", "["):
        return True
    if index > 1 and found[index - 1].text == ")" and found[found[index - 1].match - 1].text in ("=", ",", "(", "return"):
        return True  # (struct s){...}
    back = index - 1
    while back >= max(0, index - 4) and found[back].kind == "name":
        if found[back].text in ("struct", "union", "enum"):
            return True
        back -= 1
    return False


def statements(found):
    """(index of the first token, index of its `;`, index of the `{` of its block) of each simple statement."""
    blocks, start, index = [], None, 0
    while index < len(found):
        token = found[index]
        if token.text == "{":
            if is_data(found, index):
                index = token.match
            else:
                blocks.append(index)
                start = index + 1
        elif token.text == "}":
            if blocks:
                blocks.pop()
            start = index + 1
        elif token.text in ("(", "["):
            index = token.match
        elif blocks:
            if token.text == ";":
                if start < index:
                    yield start, index, blocks[-1]
                start = index + 1
            elif token.text in ("else", "do"):
                start = index + 1
            elif token.text in ("if", "while", "for", "switch"):
                index = found[index + 1].match
                start = index + 1
            elif token.text == ":" and (found[start].text in ("case", "default") or start + 1 == index):
                start = index + 1
        index += 1


def dropped(found):
    for first, last, _ in statements(found):
        if not is_expression(found, first, last):
            continue
        if found[first].text == "return":
            before, after = found[first - 1].text, found[last + 1].text
            # Without it a function would end without a value, or as it does anyway.
            if last > first + 1 and before != ")" or before in ("{", "}", ";") and after == "}":
                continue
        yield found[first].start, found[last].end, ";"


def swapped(found, text):
    def is_call(first, last):
        return (found[first].text not in JUMPS and is_expression(found, first, last) and
                any(token.text == "(" for token in found[first:last]))

    listed = list(statements(found))
    for (first, last, block), (second, end, other) in zip(listed, listed[1:]):
        if second != last + 1 or block != other or found[first - 1].text not in ("{", "}", ";"):
            continue
        one, two = text[found[first].start:found[last].end], text[found[second].start:found[end].end]
        if one != two and is_call(first, last) and is_call(second, end):
            yield found[first].start, found[end].end, two + text[found[last].end:found[second].start] + one


def orders(found, skipped):
    for index, token in enumerate(found):
        match = ORDER.fullmatch(token.text) if token.kind == "name" and index not in skipped else None
        for weaker in WEAKER.get(match.group(2).lower(), []) if match else []:
            yield token.start, token.end, match.group(1) + (weaker if match.group(2).islower() else weaker.upper())


def mutants(file, text):
    """All mutants of one source, in the order of their places. ValueError: its brackets do not match."""
    found = tokens(text)
    skipped = in_assertions(found)
    raw = [("constant", *m) for m in constants(found, skipped)] + [("bound", *m) for m in bounds(found, skipped)]
    raw += [("condition", *m) for m in conditions(found, text)] + [("statement", *m) for m in dropped(found)]
    raw += [("swap", *m) for m in swapped(found, text)] + [("order", *m) for m in orders(found, skipped)]
    lines = [0] + [match.end() for match in re.finditer("\n", text)]
    listed = [Mutant(file, text, *m, lines) for m in sorted(set(raw), key=lambda m: (m[1], m[2], m[0], m[3]))]
    seen = {}
    for mutant in listed:
        # The same for as long as the line is: a mutant keeps its key when other lines change.
        name = "\0".join([file, mutant.kind, mutant.source_line.strip(),
                          str(mutant.column - (len(mutant.source_line) - len(mutant.source_line.lstrip()))), mutant.new])
        seen[name] = seen.get(name, 0) + 1
        mutant.key = hashlib.sha256(f"{name}\0{seen[name]}".encode()).hexdigest()[:12]
    return listed


def order_of_judging(listed, seed):
    """The mutants in the order that the seed gives. Each has a place of its own by its key, so the order of those that
    stay does not change when a source does, except that the kinds keep their shares."""
    counts = {kind: sum(m.kind == kind for m in listed) for kind in KINDS}

    def place(mutant):
        drawn = int(hashlib.sha256(f"{seed}:{mutant.key}".encode()).hexdigest()[:13], 16)
        return -math.log((drawn + 1) / 2.0**52) * counts[mutant.kind] / SHARES[mutant.kind]

    return sorted(listed, key=lambda m: (place(m), m.key))
