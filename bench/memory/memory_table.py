# SPDX-License-Identifier: Apache-2.0
"""The memory table as text and as Markdown."""

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from bench.memory import memory_cases
from bench.memory.memory_cases import Case, Values, Section
from bench.memory.memory_runs import Subject

# By case and subject: the medians over the runs, or the reason why there are none.
Results = Dict[Tuple[str, str, str], "Result"]
MET, NOT_MET = "met", "NOT MET"


@dataclass
class Result:
    values: Optional[Values] = None
    failure: Optional[str] = None


@dataclass
class Cell:
    text: str
    met: Optional[bool] = None

    def __str__(self) -> str:
        return self.text if self.met is None else f"{self.text} {MET if self.met else NOT_MET}"


@dataclass
class Table:
    title: str
    note: str
    header: List[str]
    rows: List[Tuple[str, List[Cell]]]


def _figure(results: Results, case: Case, subject: Subject, key: str) -> Optional[float]:
    result = results.get((case.section, case.name, subject.name))
    return result.values.get(key) if result and result.values else None


def _live(section: Section, cases: Sequence[Case], subjects: Sequence[Subject], results: Results) -> List[Table]:
    names = [subject.name for subject in subjects]
    whole = Table(section.title, section.note + " *: the best peer.", names, [])
    ratios = Table("Ratio to the best peer's RSS over live bytes", f"Target: at most {memory_cases.RATIO_TARGET}.",
                   [subject.name for subject in subjects if not subject.is_peer], [])
    above = Table("RSS above its start, over live bytes", "For comparison only: what an allocator takes before the first "
                  "block is in the start.", names, [])
    for case in cases:
        found = [results[case.section, case.name, s.name].values for s in subjects]
        for state in memory_cases.states([values for values in found if values]):
            label = f"{case.name} {state}"
            values = {s.name: _figure(results, case, s, f"{state}: rss") for s in subjects}
            peers = {s.name: values[s.name] for s in subjects if s.is_peer and values[s.name] is not None}
            best = min(peers, key=lambda name: peers[name] or 0.0) if peers else None
            whole.rows.append((label, [_number(values[n], "*" if n == best else "") for n in names]))
            above.rows.append((label, [_number(_figure(results, case, s, f"{state}: above start")) for s in subjects]))
            ratios.rows.append((label, [_ratio(values[name], peers[best] if best else None) for name in ratios.header]))
    return [whole, ratios, above] if ratios.header else [whole, above]


def _number(value: Optional[float], mark: str = "") -> Cell:
    return Cell("FAILED") if value is None else Cell(f"{value:.3f}{mark}")


def _ratio(ours: Optional[float], best: Optional[float]) -> Cell:
    if ours is None or best is None:
        return Cell("FAILED" if ours is None else "-")
    return Cell(f"{ours / best:.3f}", ours / best <= memory_cases.RATIO_TARGET)


def _text(section: str, values: Values) -> str:
    if section == "freeall":
        return "/".join(f"{values[key]:.{int(values[key] < 10)}f}" for key in (f"{s} s" for s in memory_cases.AFTER[1:]) if key in values)
    if section == "consumer":
        return f"{values['rss']:.2f}, {values['above start']:.2f}"
    if section == "threads":
        return " -> ".join(f"{value:.0f}" for value in values.values())
    if section == "small":
        return f"{values['MiB']:.2f}"
    return f"{values['calls']:.0f} in {values['operations'] / 1e6:.0f} M"


def _other(section: Section, cases: Sequence[Case], subjects: Sequence[Subject], results: Results) -> List[Table]:
    note = section.note
    if section.name == "freeall":
        note += " After 1/2/5 s, for speed also 12 s."
    table = Table(section.title, note, [subject.name for subject in subjects], [])
    for case in cases:
        cells = []
        for subject in subjects:
            result = results[case.section, case.name, subject.name]
            if result.values is None:
                cells.append(Cell("FAILED"))
            else:
                cells.append(Cell(_text(section.name, result.values),
                                  memory_cases.verdict(section.name, case, subject, result.values)))
        table.rows.append((case.name, cells))
    return [table]


def tables(sections: Sequence[Section], cases: Sequence[Case], subjects: Sequence[Subject],
           results: Results) -> List[Table]:
    made: List[Table] = []
    for section in sections:
        own = [case for case in cases if case.section == section.name]
        made += (_live if section.name == "live" else _other)(section, own, subjects, results)
    return made


def score(made: Sequence[Table], subjects: Sequence[Subject]) -> List[str]:
    """A line for each of hakmem's builds and presets: how many targets it met."""
    lines = []
    for subject in subjects:
        if subject.is_peer:
            continue
        cells = [cells[table.header.index(subject.name)] for table in made if subject.name in table.header
                 for _, cells in table.rows]
        judged = [cell for cell in cells if cell.met is not None]
        lines.append(f"{subject.name}: {sum(1 for cell in judged if cell.met)} of {len(judged)} targets met")
    return lines


def text(made: Sequence[Table]) -> str:
    out = []
    for table in made:
        rows = [["", *table.header]] + [[label, *(str(cell) for cell in cells)] for label, cells in table.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]).rstrip()
                 for row in rows]
        lines.insert(1, "-" * max(len(line) for line in lines))
        out.append("\n".join([table.title, table.note, *lines]) + "\n")
    return "\n".join(out)


def markdown(made: Sequence[Table]) -> str:
    out = []
    for table in made:
        rows = [["", *table.header], ["---", *("---:" for _ in table.header)]]
        rows += [[label, *(str(cell).replace("*", "\\*") for cell in cells)] for label, cells in table.rows]
        out.append(f"## {table.title}\n\n{table.note}\n\n".replace("*", "\\*")
                   + "".join(f"| {' | '.join(row)} |\n" for row in rows))
    return "\n".join(out)
