#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs common programs with libhakmem.so preloaded, and compares their output with that on the C library's malloc.

usage: real_programs_test.py PYTHON_WORKLOAD NAME=LIBRARY... (one for each profile)

The output must be equal byte for byte, and stderr must have no message of hakmem. The dynamic linker's log
(LD_DEBUG_OUTPUT) proves that each process loaded the library; the statistics, read inside a Python interpreter, prove
for each profile that it served the allocations.
"""

import glob
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TIMEOUT = 120

LOOK_INSIDE = """
import ctypes
class Stats(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("threads", ctypes.c_uint32), ("live_blocks", ctypes.c_uint64),
                ("live_bytes", ctypes.c_uint64), ("rest", ctypes.c_uint64 * 64)]
library = ctypes.CDLL(None)
library.hak_version.restype = ctypes.c_char_p
stats = Stats(version=1)
assert library.hak_stats_get(ctypes.byref(stats)) == 0
before = stats.live_blocks
kept = [str(i) * 10 for i in range(10000)]
library.hak_stats_get(ctypes.byref(stats))
assert stats.live_blocks >= before + 10000, (before, stats.live_blocks)
print(library.hak_version().decode())
"""

SQL = """
create table item (id integer primary key, name text, amount real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
  insert into item select i, 'name-' || (i * 7919 % 10007), (i * 31 % 1009) / 7.0 from n;
create index by_name on item (name);
select substr(name, 6, 2), count(*), round(sum(amount), 3), group_concat(id) from item group by 1 order by 1;
select json_group_array(json_object('id', id, 'name', name)) from item where id % 50 = 0;
update item set name = upper(name) || name where id % 3 = 0;
delete from item where id % 5 = 0;
vacuum;
pragma integrity_check;
select count(*), sum(length(name)), max(amount) from item;
"""

PERL = r"""
use strict; use warnings;
my (%count, @lines);
my $state = 42;
for my $i (1 .. 40000) {
  $state = ($state * 1103515245 + 12345) % 2147483648;
  my $word = "w" . ($state % 5003);
  $count{$word}++;
  push @lines, "$i:$word:" . ("x" x ($state % 40));
}
my $text = join("\n", @lines);
my $changes = ($text =~ s/w(\d+)7:/<$1>/g);
my @sorted = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print "$changes ", length($text), "\n";
print map { "$_ $count{$_}\n" } @sorted[0 .. 200];
"""

CXX = """
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>
template <int N> struct Chain { Chain<N - 1> next; std::map<int, std::vector<std::string>> table; };
template <> struct Chain<0> {};
int use(std::unordered_map<std::string, std::function<int(int)>> &functions) {
  auto chain = std::make_unique<Chain<40>>();
  std::vector<int> numbers(100);
  std::sort(numbers.begin(), numbers.end(), [](int a, int b) { return a > b; });
  for (auto &[name, function] : functions) chain->table[function(1)].push_back(name);
  return static_cast<int>(chain->table.size()) + numbers[0];
}
"""


JAVASCRIPT = """
const words = new Map();
let state = 42;
const lines = [];
for (let i = 0; i < 60000; i++) {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  const word = "w" + (state % 5003);
  words.set(word, (words.get(word) || 0) + 1);
  lines.push(i + ":" + word + ":" + "x".repeat(state % 40));
}
const buffers = [];
for (let i = 0; i < 200; i++) buffers.push(Buffer.alloc(1000 + i * 5000, i & 255));
const zlib = require("zlib");
const crypto = require("crypto");
const text = lines.join("\\n");
const packed = zlib.gzipSync(text);
console.log(packed.length, zlib.gunzipSync(packed).toString() === text);
console.log(crypto.createHash("sha256").update(text).digest("hex"));
console.log(crypto.createHash("sha256").update(Buffer.concat(buffers)).digest("hex"));
for (const [word, count] of [...words].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 200)) console.log(word, count);
console.log(JSON.stringify(JSON.parse(JSON.stringify([...words].slice(0, 300)))));
"""

JAVA = """
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.*;
public class Test {
  static long work(int seed) throws Exception {
    Random random = new Random(seed);
    long sum = 0;
    for (int round = 0; round < 60; round++) {
      ByteBuffer direct = ByteBuffer.allocateDirect(1000 + random.nextInt(300000));
      while (direct.remaining() >= 8) direct.putLong(random.nextLong());
      byte[] bytes = new byte[direct.position()];
      direct.flip();
      direct.get(bytes);
      Deflater deflater = new Deflater(1);
      deflater.setInput(bytes);
      deflater.finish();
      byte[] out = new byte[bytes.length * 2 + 100];
      sum = sum * 31 + deflater.deflate(out);
      deflater.end();
      CRC32 crc = new CRC32();
      crc.update(bytes);
      sum = sum * 31 + crc.getValue();
    }
    return sum;
  }
  public static void main(String[] arguments) throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(3);
    List<Future<Long>> sums = new ArrayList<>();
    for (int i = 0; i < 8; i++) { final int seed = i; sums.add(pool.submit(() -> work(seed))); }
    for (Future<Long> sum : sums) System.out.println(sum.get());
    pool.shutdown();
    TreeMap<String, Integer> words = new TreeMap<>();
    Random random = new Random(7);
    for (int i = 0; i < 50000; i++) words.merge("w" + random.nextInt(3000), 1, Integer::sum);
    for (Map.Entry<String, Integer> entry : words.headMap("w2").entrySet()) System.out.println(entry);
  }
}
"""


def c_source():
    lines = ["#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>"]
    for i in range(250):
        lines.append(
            "static int f%d(int a, const char *s) { int t[16]; for (int i = 0; i < 16; i++) t[i] = a * i + %d;"
            " switch (t[a & 15] & 7) { case 0: return (int)strlen(s); case 1: return printf(\"%%d\", a);"
            " case 2: return t[3] / (a | 1); default: return a > %d ? f%d_(s) : t[a & 7]; } }" % (i, i, i * 3, i))
        lines[-1:-1] = ["static int f%d_(const char *s) { return atoi(s) + %d; }" % (i, i)]
    lines.append("int main(int argc, char **argv) { int sum = 0;")
    lines += ["  sum += f%d(argc, argv[0]);" % i for i in range(250)]
    lines.append("  return sum & 1; }")
    return "\n".join(lines) + "\n"


def corpus():
    state, lines = 1, []
    for i in range(40000):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        lines.append("%08x some words in line %d %s" % (state >> 32, i, "abcdefghij"[: state % 10]))
    return "\n".join(lines) + "\n"


class Failure(Exception):
    pass


def tool(name):
    path = shutil.which(name)
    if not path:
        raise Failure("%s is not installed; ./bazelw installs what the tests need" % name)
    return path


class Runner:
    """Runs commands in one directory and environment, and keeps their output."""

    def __init__(self, directory, library, log):
        self.directory, self.library, self.log = directory, library, log
        self.output = []
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": directory,
            "LC_ALL": "C",
            "TZ": "UTC",
            "TMPDIR": directory,
        }
        if library:
            # Each process writes the log to its own file, so that it is not part of the output.
            self.env.update({"LD_PRELOAD": library, "LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": log})

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as out:
            out.write(text)

    def run(self, command, stdin="", env=None, keep=True):
        full = dict(self.env, **(env or {}))
        done = subprocess.run(
            command, cwd=self.directory, env=full, input=stdin.encode(), timeout=TIMEOUT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        errors = done.stderr.decode(errors="replace")
        if done.returncode != 0:
            raise Failure("%s: exit code %d\n%s" % (command[0], done.returncode, errors))
        if "hakmem:" in errors or "ld.so" in errors:
            raise Failure("%s: stderr\n%s" % (command[0], errors))
        if keep:
            self.output += [done.stdout, done.stderr]
        return done.stdout

    def keep_file(self, name):
        with open(self.path(name), "rb") as data:
            self.output.append(data.read())


def run_python(runner):
    env = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}
    runner.run([sys.executable, "-s", WORKLOAD], env=env)


def run_sqlite(runner):
    runner.run([tool("sqlite3"), "-batch", "test.db"], stdin=SQL)
    runner.keep_file("test.db")


def run_gcc(runner):
    runner.write("test.c", c_source())
    runner.run([tool("gcc"), "-O2", "-c", "test.c", "-o", "test.o"])
    runner.run([tool("gcc"), "-O1", "-g", "-S", "test.c", "-o", "test.s"])
    runner.keep_file("test.o")
    runner.keep_file("test.s")


def run_clang(runner):
    runner.write("test.cc", CXX)
    runner.run([tool("clang++-19"), "-std=c++17", "-O1", "-c", "test.cc", "-o", "test.o"])
    runner.keep_file("test.o")


def run_git(runner):
    git = tool("git")
    env = {"GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        env["GIT_%s_NAME" % who] = "A Tester"
        env["GIT_%s_EMAIL" % who] = "tester@example.com"
        env["GIT_%s_DATE" % who] = "2024-01-02T03:04:05Z"
    runner.run([git, "init", "-q", "-b", "main", "repository"], env=env)
    for commit in range(5):
        for i in range(20):
            runner.write("repository/file%d" % i, ("line %d\n" % (commit * i)) * (20 + i))
        runner.run([git, "-C", "repository", "add", "."], env=env)
        runner.run([git, "-C", "repository", "commit", "-q", "-m", "commit %d" % commit], env=env)
    runner.run([git, "-C", "repository", "gc", "-q"], env=env)
    runner.run([git, "-C", "repository", "log", "-p", "--stat"], env=env)
    runner.run([git, "-C", "repository", "fsck", "--full", "--no-progress"], env=env)
    runner.run([git, "-C", "repository", "grep", "-n", "line 30", "HEAD~1"], env=env)


def run_perl(runner):
    runner.run([tool("perl"), "-e", PERL], env={"PERL_HASH_SEED": "0"})


def run_node(runner):
    runner.write("test.js", JAVASCRIPT)
    runner.run([tool("node"), "test.js"])


def run_java(runner):
    runner.write("Test.java", JAVA)
    # With one compiler and one collector thread it starts faster and does the same work.
    runner.run([tool("java"), "-XX:-UsePerfData", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "Test.java"])


def redis_command(*words):
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def redis_requests():
    """Commands whose answers are always the same; the last answer is OK-FINISHED."""
    for i in range(6000):
        yield redis_command("SET", "key:%d" % i, "v" * (i * 7 % 700))
        yield redis_command("RPUSH", "list:%d" % (i % 20), "item-%d-%s" % (i, "x" * (i % 50)))
        yield redis_command("ZADD", "scores", i * 7919 % 10007, "member%d" % i)
        yield redis_command("HSET", "hash:%d" % (i % 400), "field%d" % (i // 400), "w" * (i % 90))
        if i % 3 == 0:
            yield redis_command("APPEND", "key:%d" % (i // 2), "tail" * (i % 30))
        if i % 5 == 0:
            yield redis_command("DEL", "key:%d" % (i // 5))
    for i in range(20):
        yield redis_command("LRANGE", "list:%d" % i, 0, -1)
        yield redis_command("SORT", "list:%d" % i, "ALPHA", "DESC")
    for i in range(0, 6000, 11):
        yield redis_command("GET", "key:%d" % i)
    yield redis_command("ZRANGE", "scores", 0, -1, "WITHSCORES")
    yield redis_command("SETRANGE", "big", 3000000, "end")
    yield redis_command("DBSIZE")
    yield redis_command("FLUSHALL")
    yield redis_command("ECHO", "OK-FINISHED")


def run_redis(runner):
    # A relative path: the full path of the directory may be too long for a socket.
    command = [tool("redis-server"), "--port", "0", "--unixsocket", "redis.socket", "--save", "", "--daemonize", "no"]
    with open(runner.path("log"), "wb") as log:
        server = subprocess.Popen(command, cwd=runner.directory, env=runner.env, stdout=log, stderr=log)
    folder = os.open(runner.directory, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            for _ in range(600):
                try:
                    connection.connect("/proc/self/fd/%d/redis.socket" % folder)
                    break
                except OSError:
                    time.sleep(0.1)
            sender = threading.Thread(target=lambda: connection.sendall(b"".join(redis_requests())))
            sender.start()
            answers = bytearray()
            while not answers.endswith(b"OK-FINISHED\r\n"):
                part = connection.recv(1 << 20)
                if not part:
                    raise Failure("redis-server closed the connection")
                answers += part
            sender.join()
            runner.output.append(bytes(answers))
            connection.sendall(redis_command("SHUTDOWN", "NOSAVE"))
        if server.wait(TIMEOUT) != 0:
            raise Failure("redis-server: exit code %d" % server.returncode)
    except OSError as error:
        raise Failure("redis-server: %s" % error) from error
    finally:
        os.close(folder)
        if server.poll() is None:
            server.kill()
            server.wait()
    with open(runner.path("log"), encoding="utf-8", errors="replace") as log:
        text = log.read()
    if "hakmem:" in text:
        raise Failure("redis-server: " + text)


def run_sort_gzip(runner):
    runner.write("corpus", corpus())
    runner.run([tool("sort"), "-S", "2M", "--parallel=2", "corpus", "-o", "sorted"])
    runner.run([tool("gzip"), "-n", "-9", "sorted"])
    runner.keep_file("sorted.gz")
    runner.run([tool("gzip"), "-dc", "sorted.gz"])


# Too large to install for this test: compared if they are installed, otherwise reported as SKIPPED.
OPTIONAL = {"node": "node", "java": "java", "redis-server": "redis-server"}

# The name, the function that runs the program, and the processes that the dynamic linker's log must show.
PROGRAMS = (
    ("python3", run_python, ["python3"]),
    ("sqlite3", run_sqlite, ["sqlite3"]),
    ("gcc", run_gcc, ["gcc", "cc1", "as"]),
    ("clang", run_clang, ["clang"]),
    ("git", run_git, ["git"]),
    ("perl", run_perl, ["perl"]),
    ("gzip and sort", run_sort_gzip, ["gzip", "sort"]),
    ("node", run_node, ["node"]),
    ("java", run_java, ["java"]),
    ("redis-server", run_redis, ["redis-server"]),
)


def missing_proof(log, library, programs):
    """None if the linker's logs prove that `programs` ran and every process loaded the library; otherwise why not."""
    started = []
    for path in glob.glob(log + ".*"):
        with open(path, encoding="utf-8", errors="replace") as lines:
            text = lines.read()
        names = re.findall(r"initialize program: (.*)", text)
        if len(re.findall("calling init: " + re.escape(library), text)) < len(names):
            return "%s ran without %s" % (names, library)
        started += [os.path.basename(name.strip()) for name in names]
    for program in programs:
        if not any(name.startswith(program) for name in started):
            return "the linker's log shows no process of %s, only %s" % (program, sorted(set(started)))
    return None


def run_program(scratch, program, library):
    """Runs the program; returns its output in parts."""
    _, function, proof = program
    # Always the same directory, because its name may be part of the output.
    directory = os.path.join(scratch, "run")
    shutil.rmtree(directory, ignore_errors=True)
    os.mkdir(directory)
    logs = tempfile.mkdtemp(dir=scratch)
    log = os.path.join(logs, "ld")
    runner = Runner(directory, library, log)
    function(runner)
    if library:
        missing = missing_proof(log, library, proof)
        if missing:
            raise Failure(missing)
    return runner.output


def look_inside(scratch, profile, library):
    runner = Runner(scratch, library, os.path.join(scratch, "inside"))
    version = runner.run([sys.executable, "-s", "-c", LOOK_INSIDE], env={"PYTHONMALLOC": "malloc"}).decode()
    if " %s " % profile not in version:
        raise Failure("a library of the profile %s says it is %s" % (profile, version))


def check_controls(scratch, library):
    """Checks that both proofs fail without the library."""
    try:
        look_inside(scratch, "standard", None)
        return "statistics were found without the library"
    except Failure:
        pass
    log = os.path.join(scratch, "control")
    env = dict(os.environ, LD_DEBUG="libs", LD_DEBUG_OUTPUT=log)
    subprocess.run([tool("sort"), os.devnull], env=env, check=True)
    if not missing_proof(log, library, ["sort"]):
        return "the linker's log proved a run without the library"
    return None


def difference(wanted, seen):
    for i, (a, b) in enumerate(zip(wanted, seen)):
        if a == b:
            continue
        at = next((k for k, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        return "part %d, byte %d: %r for %r" % (i, at, b[at : at + 60], a[at : at + 60])
    return None if len(wanted) == len(seen) else "%d parts for %d" % (len(seen), len(wanted))


def main():
    global WORKLOAD
    WORKLOAD = os.path.abspath(sys.argv[1])
    libraries = [argument.split("=", 1) for argument in sys.argv[2:]]
    if not libraries:
        sys.exit("no library given")
    failures = 0
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as scratch:
        problem = check_controls(scratch, os.path.abspath(libraries[0][1]))
        if problem:
            failures += 1
            print("FAILED: control: " + problem)
        for profile, library in libraries:
            try:
                look_inside(scratch, profile, os.path.abspath(library))
                print("ok: %s serves the allocations" % profile)
            except (Failure, subprocess.TimeoutExpired) as error:
                failures += 1
                print("FAILED: %s: %s" % (profile, error))
        for program in PROGRAMS:
            if program[0] in OPTIONAL and not shutil.which(OPTIONAL[program[0]]):
                print("SKIPPED: %s is not installed: not compared" % program[0])
                continue
            try:
                wanted = run_program(scratch, program, None)
            except (Failure, subprocess.TimeoutExpired) as error:
                failures += 1
                print("FAILED: %s on the C library's malloc: %s" % (program[0], error))
                continue
            size = sum(map(len, wanted))
            if size < 1000:
                failures += 1
                print("FAILED: %s writes only %d bytes: nothing to compare" % (program[0], size))
            for profile, library in libraries:
                try:
                    different = difference(wanted, run_program(scratch, program, os.path.abspath(library)))
                except (Failure, subprocess.TimeoutExpired) as error:
                    different = str(error)
                if different:
                    failures += 1
                    print("FAILED: %s on %s: %s" % (program[0], profile, different))
                else:
                    print("ok: %s on %s: %d bytes equal" % (program[0], profile, size))
    if failures:
        sys.exit("%d failed" % failures)


if __name__ == "__main__":
    main()
