#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fuzzes a target, or all of them one after the other, and keeps the results.

usage: campaign.sh [OPTION]... TARGET|all MINUTES

  -s asan|ubsan    the sanitizer, asan unless given
  -j JOBS          so many targets at a time, 1 unless given
  -e NAME=VALUE    a setting (docs/ENV.md) for the target; may be repeated
  -n               leaves the corpus as it is: nothing is added
  -p PROGRAM       this libFuzzer program of the target instead of one built here
  -c FOLDER        the corpus, fuzz/corpus/TARGET unless given
  -r REPORT        where the summary goes, docs/analysis/testing/fuzzing.md unless given
  -o FOLDER        for findings and logs, /tmp/fuzzing unless given

MINUTES are for each target and may be a fraction. While it runs, lines report the progress. Inputs that make the target
fail are minimised and put into FOLDER/TARGET/findings. An input that runs out of time is tried again, because a busy
machine is not a finding. Afterwards the fewest inputs that reach all new edges are added to the corpus, and the report
gets a row. Exit status: 0: no findings, 1: findings, 2: it could not run."""
import base64
import concurrent.futures
import datetime
import getopt
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "oss-fuzz"))

from build_files import BuildFileError  # noqa: E402  pylint: disable=wrong-import-position
from fuzz_targets import ROOT, fuzz_targets, open_workspace  # noqa: E402  pylint: disable=wrong-import-position

CONFIGS = {"asan": "asan-libfuzzer", "ubsan": "ubsan-libfuzzer"}
LIMITS = ["-rss_limit_mb=2560", "-timeout=25"]
# A target that fails again and again needs a person, not more findings.
MOST_FINDINGS = 5
MINIMIZE_SECONDS = 30
PROGRESS_SECONDS = 10

STATUS = re.compile(r"^#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)")
EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
WRONG = re.compile(r"what\(\):|^hakmem: |ERROR: \w+Sanitizer|runtime error: |ERROR: libFuzzer")

REPORT_HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# Fuzzing campaigns

Each row is one run of `fuzz/campaign.sh`, which writes it. The column edges has two numbers: before the run,
with the corpus as it was, and at the end. libFuzzer counts them in the sanitizer's build of the target and the allocator.
New inputs were added to the corpus; findings are inputs that made the target fail. Executions per second are per second of
processor time.

| date | target | sanitizer | settings | minutes | executions | per second | edges | new inputs | findings |
| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""

LOCK = threading.Lock()


class CampaignError(Exception):
    """The campaign could not run."""


def say(text):
    with LOCK:
        print(text, flush=True)


class Options:
    def __init__(self, arguments):
        self.sanitizer = "asan"
        self.jobs = 1
        self.settings = {}
        self.merges = True
        self.program = None
        self.corpus = None
        self.report = ROOT / "docs/analysis/testing/fuzzing.md"
        self.folder = pathlib.Path("/tmp/fuzzing")
        try:
            pairs, rest = getopt.getopt(arguments, "s:j:e:np:c:r:o:")
        except getopt.GetoptError as error:
            raise CampaignError(str(error)) from error
        for option, value in pairs:
            self._set(option, value)
        if len(rest) != 2:
            raise CampaignError("a target and minutes are needed")
        self.name = rest[0]
        try:
            self.seconds = round(float(rest[1]) * 60)
        except (ValueError, OverflowError):
            self.seconds = 0
        if not 1 <= self.seconds <= 60 * 60 * 24 * 7:
            raise CampaignError("minutes must be a number from 0.02 to 10080, not %s" % rest[1])
        if self.name == "all" and (self.program or self.corpus):
            raise CampaignError("-p and -c are for one target")

    def _set(self, option, value):
        if option == "-s":
            if value not in CONFIGS:
                raise CampaignError("no sanitizer %s; there are: %s" % (value, " ".join(CONFIGS)))
            self.sanitizer = value
        elif option == "-j":
            if not value.isdigit() or not 1 <= int(value) <= 1024:
                raise CampaignError("-j needs a number from 1 to 1024, not %s" % value)
            self.jobs = int(value)
        elif option == "-e":
            name, equals, setting = value.partition("=")
            if not equals or not re.fullmatch(r"\w+", name):
                raise CampaignError("-e needs NAME=VALUE, not %s" % value)
            self.settings[name] = setting
        elif option == "-n":
            self.merges = False
        elif option == "-p":
            self.program = pathlib.Path(value).absolute()
            if not os.access(self.program, os.X_OK):
                raise CampaignError("%s is no program" % value)
        elif option == "-c":
            self.corpus = pathlib.Path(value).absolute()
            if not self.corpus.is_dir():
                raise CampaignError("%s is not a folder" % value)
        elif option == "-r":
            self.report = pathlib.Path(value).absolute()
        elif option == "-o":
            self.folder = pathlib.Path(value).absolute()


class Campaign:
    def __init__(self, options, name, program, corpus, arguments):
        self.name = name
        self.program = program
        self.corpus = corpus
        self.seconds = options.seconds
        self.merges = options.merges
        self.arguments = LIMITS + arguments
        self.folder = options.folder / name
        self.fresh = self.folder / "new"
        self.findings = self.folder / "findings"
        self.environment = dict(os.environ, **options.settings)
        for sanitizer in ("ASAN", "UBSAN"):
            self.environment.setdefault(sanitizer + "_SYMBOLIZER_PATH", "/usr/bin/llvm-symbolizer-19")
        self.environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        self.executions = 0
        # Seconds, without the time for minimising findings.
        self.fuzzed = 0.0
        self.processor = 0.0
        self.edges_before = 0
        self.edges = 0
        self.found = []
        # What was wrong, for each finding.
        self.reasons = []
        self.added = 0

    def run(self):
        if not any(self.corpus.iterdir()):
            raise CampaignError("%s: the corpus %s is empty" % (self.name, self.corpus))
        for folder in (self.fresh, self.findings):
            folder.mkdir(parents=True, exist_ok=True)
        for old in self.fresh.iterdir():
            old.unlink()
        self._replay()
        going_on = True
        while going_on and len(self.found) < MOST_FINDINGS and self.seconds - self.fuzzed >= 0.5:
            going_on = self._fuzz(max(1, round(self.seconds - self.fuzzed)))
        if self.merges:
            self._merge()
        say("%s: %d executions in %.0f s, %d per second of processor time; edges %d to %d; %d new inputs, %d findings" % (
            self.name, self.executions, self.fuzzed, self.rate(), self.edges_before, self.edges, self.added, len(self.found)))

    def rate(self):
        """Executions per second of processor time; per second of time, the number would depend on what else the machine
        does."""
        return int(self.executions / max(self.processor, 0.001))

    def _call(self, arguments, log):
        """Runs the program to its end; returns (exit status, output)."""
        done = subprocess.run([str(self.program)] + arguments, cwd=self.folder, env=self.environment, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text = done.stdout.decode(errors="replace")
        (self.folder / log).write_text(text, encoding="utf-8")
        return done.returncode, text

    def _replay(self):
        status, text = self._call(self.arguments + ["-runs=0", str(self.corpus)], "replay.log")
        lines = list(filter(None, map(STATUS.match, text.splitlines())))
        if status or not lines:
            raise CampaignError("%s does not get through its corpus %s; its output is %s" % (
                self.name, self.corpus, self.folder / "replay.log"))
        self.edges_before = self.edges = int(lines[-1].group(2))

    def _fuzz(self, seconds):
        """One run of the fuzzer, which ends at a finding. Returns whether another run makes sense."""
        artifacts = self.folder / "artifacts"
        shutil.rmtree(artifacts, ignore_errors=True)
        artifacts.mkdir()
        command = [str(self.program), *self.arguments, "-max_total_time=%d" % seconds, "-print_final_stats=1",
                   "-artifact_prefix=%s/" % artifacts, str(self.fresh), str(self.corpus)]
        done_before = self.executions
        fuzzed_before = self.fuzzed
        began = told = time.monotonic()
        with open(self.folder / "fuzz.log", "w", encoding="utf-8") as log, subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True, errors="replace") as process:
            for line in process.stderr:
                log.write(line)
                status = STATUS.match(line)
                if status:
                    self.executions = done_before + int(status.group(1))
                    self.edges = max(self.edges, int(status.group(2)))
                executed = EXECUTED.search(line)
                if executed:
                    self.executions = done_before + int(executed.group(1))
                now = time.monotonic()
                self.fuzzed = fuzzed_before + now - began
                if status and now - told >= PROGRESS_SECONDS:
                    told = now
                    say("%s: %d of %d s, %d executions, %d edges, %d findings" % (
                        self.name, self.fuzzed, self.seconds, self.executions, self.edges, len(self.found)))
            _, waited, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(waited)
            self.processor += usage.ru_utime + usage.ru_stime
        left = sorted(path for path in artifacts.iterdir() if not path.name.startswith("slow-unit-"))
        if process.returncode and not left:
            raise CampaignError("%s ended with status %d and left no input; its output is %s" % (
                self.name, process.returncode, self.folder / "fuzz.log"))
        new = [self._keep(path) for path in left if not self._was_kept_waiting(path)]
        # The same finding again, so more runs would find it too.
        return bool(process.returncode) and all(new)

    def _was_kept_waiting(self, path):
        """Whether the input ran out of time only because the machine was busy: alone it ends in time."""
        if not path.name.startswith("timeout-"):
            return False
        status, _ = self._call(self.arguments + [str(path)], "alone.log")
        if status:
            return False
        say("%s: %s ran out of time, but not when it ran again: no finding" % (self.name, path.name))
        return True

    def _keep(self, path):
        """Minimises a bad input and keeps it. Returns whether it is new."""
        kind = path.name.split("-")[0]
        small = self.folder / "minimized"
        small.unlink(missing_ok=True)
        if kind == "crash":
            self._call(self.arguments + ["-minimize_crash=1", "-max_total_time=%d" % min(MINIMIZE_SECONDS, self.seconds),
                                         "-exact_artifact_path=%s" % small, str(path)], "minimize.log")
        data = (small if small.is_file() else path).read_bytes()
        kept = self.findings / ("%s_%s" % (kind, hashlib.sha1(data).hexdigest()[:12]))
        if kept in self.found:
            return False
        kept.write_bytes(data)
        shutil.copyfile(self.folder / "fuzz.log", str(kept) + ".log")
        self.found.append(kept)
        reason = verdict((self.folder / "fuzz.log").read_text(encoding="utf-8", errors="replace"))
        self.reasons.append(reason)
        say("%s: FOUND %s, %d bytes, made from %d: %s; all that it said is in %s.log" % (
            self.name, kept, len(data), path.stat().st_size, reason, kept))
        # A log of CI is all that is left of its machine, and what depends on earlier inputs does not fail alone.
        status, _ = self._call(self.arguments + [str(kept)], "alone.log")
        say("%s: alone it %s; in base64: %s" % (
            self.name, "fails too" if status else "passes", base64.b64encode(data).decode()))
        return True

    def _merge(self):
        """Adds to the corpus the inputs that reach new edges. How often an edge is taken does not count, because the
        corpus would then grow to thousands."""
        before = set(os.listdir(self.corpus))
        status, _ = self._call(self.arguments + ["-merge=1", "-use_counters=0", str(self.corpus), str(self.fresh)], "merge.log")
        if status:
            raise CampaignError("%s: merging into the corpus failed; its output is %s" % (self.name, self.folder / "merge.log"))
        self.added = len(set(os.listdir(self.corpus)) - before)

    def row(self, options, date):
        settings = " ".join("%s=%s" % item for item in sorted(options.settings.items())) or "default"
        return "| %s | `%s` | %s | %s | %.1f | %d | %d | %d → %d | %d | %d |\n" % (
            date, self.name, options.sanitizer, settings, self.fuzzed / 60, self.executions, self.rate(), self.edges_before,
            self.edges, self.added, len(self.found))


def verdict(said):
    """The line of a log that says what is wrong: of the target, hakmem or a sanitizer; and the fuzzer's seed."""
    lines = [line.strip() for line in said.splitlines()]
    seeds = [line for line in lines if line.startswith("INFO: Seed:")]
    wrong = [line for line in lines if WRONG.search(line)]
    return "%s (%s)" % (wrong[0] if wrong else "no reason given", seeds[0][6:] if seeds else "no seed")


def build(names, sanitizer, scratch):
    """The programs of the targets, copied so that later builds do not change them: {name: path}."""
    for program in ("clang-19", "clang++-19"):
        if not shutil.which(program):
            raise CampaignError("no program %s" % program)
    config = "--config=" + CONFIGS[sanitizer]
    labels = ["//fuzz:%s_bin" % name for name in names]
    built = subprocess.run(["./bazelw", "build", "--config=ci", config] + labels, cwd=ROOT, check=False,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if built.returncode:
        raise CampaignError("%s\nthe targets do not build" % built.stdout.decode(errors="replace").rstrip())
    info = subprocess.run(["./bazelw", "info", config, "bazel-bin"], cwd=ROOT, check=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    folder = pathlib.Path(info.stdout.decode().strip()) / "fuzz"
    programs = {}
    for name in names:
        programs[name] = scratch / name
        shutil.copy(folder / (name + "_bin"), programs[name])
    return programs


def engine_options(target):
    """The options for the target's dictionary and its file of options."""
    arguments = []
    if target.dictionary:
        arguments.append("-dict=%s" % (ROOT / target.dictionary))
    if target.options:
        text = (ROOT / target.options).read_text(encoding="utf-8")
        arguments += ["-%s=%s" % pair for pair in re.findall(r"^(\w+) *= *(\S+)$", text, re.MULTILINE)]
    elif target.max_len:
        arguments.append("-max_len=%d" % target.max_len)
    return arguments


def plan(options, scratch):
    if options.program:
        corpus = options.corpus or ROOT / "fuzz/corpus" / options.name
        if not corpus.is_dir():
            raise CampaignError("no corpus %s" % corpus)
        return [Campaign(options, options.name, options.program, corpus, [])]
    targets = fuzz_targets(open_workspace())
    if options.name != "all" and options.name not in targets:
        raise CampaignError("no fuzz target %s; there are: %s" % (options.name, " ".join(sorted(targets))))
    names = sorted(targets) if options.name == "all" else [options.name]
    programs = build(names, options.sanitizer, scratch)
    return [Campaign(options, name, programs[name], options.corpus or ROOT / "fuzz/corpus" / name,
                     engine_options(targets[name])) for name in names]


def main():
    try:
        options = Options(sys.argv[1:])
    except CampaignError as error:
        print("campaign.sh: %s\n\n%s" % (error, __doc__.strip()), file=sys.stderr)
        return 2
    failed = []
    date = datetime.date.today().isoformat()

    def run(campaign):
        try:
            campaign.run()
        except CampaignError as error:
            failed.append(error)
            say("campaign.sh: %s" % error)
            return
        with LOCK:
            with open(options.report, "a", encoding="utf-8") as report:
                report.write(campaign.row(options, date))

    try:
        with tempfile.TemporaryDirectory() as scratch:
            campaigns = plan(options, pathlib.Path(scratch))
            if not options.report.exists():
                options.report.write_text(REPORT_HEAD, encoding="utf-8")
            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(run, campaigns))
    except (CampaignError, BuildFileError, OSError) as error:
        print("campaign.sh: %s" % error, file=sys.stderr)
        return 2
    if failed:
        return 2
    bad = [campaign for campaign in campaigns if campaign.found]
    # The last line is what a list of failures quotes.
    if bad:
        print("findings: " + "; ".join("%s: %s" % (campaign.name, campaign.reasons[0]) for campaign in bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
