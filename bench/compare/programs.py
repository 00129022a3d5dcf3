# SPDX-License-Identifier: Apache-2.0
"""The real programs that real_programs.py runs, and the input it makes for them."""

import os
import re
import socket
import subprocess
import sys
import time
from typing import Callable, Dict, Optional, Tuple

from bench.compare import postgres
from bench.compare.program import TIMEOUT, Program, Skipped, Timing, executable, measured
from bench.lib.allocators import Allocator

# ---- Programs that run once and end ---------------------------------------------------------------------------------

PYTHON_SCRIPT = """
import collections, json, random, re, sqlite3
r = random.Random(1)
rows = [
    {"id": i, "name": "n%d" % r.randrange(10**6), "tags": ["t%d" % r.randrange(50) for _ in range(5)]}
    for i in range(SCALE)
]
for _ in range(3):
    rows = json.loads(json.dumps(rows))
words = collections.Counter(re.findall(r"[a-z]+\\\\d+", " ".join(row["name"] for row in rows)))
tree = {}
for row in rows:
    for tag in row["tags"]:
        tree.setdefault(tag, {}).setdefault(row["name"], []).append(row["id"])
db = sqlite3.connect(":memory:")
db.execute("create table t (id integer primary key, name text, n int)")
db.executemany("insert into t values (?, ?, ?)", [(row["id"], row["name"], len(row["tags"])) for row in rows])
db.execute("create index i on t (name)")
db.execute("select name, sum(n) from t group by name order by 2 desc, 1 limit 10").fetchall()
"""

NODE_SCRIPT = """
const rows = [];
let seed = 1;
const next = (n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
for (let i = 0; i < SCALE; i++) rows.push({ id: i, name: 'n' + next(1e6), tags: [next(50), next(50), next(50)] });
for (let i = 0; i < 3; i++) JSON.parse(JSON.stringify(rows));
const zlib = require('zlib');
let total = 0;
for (let i = 0; i < SCALE / 200; i++) {
  const text = Buffer.from(JSON.stringify(rows.slice(i, i + 50)));
  total += zlib.gunzipSync(zlib.gzipSync(text)).length;
}
const map = new Map();
for (const row of rows) map.set(row.name, [...(map.get(row.name) || []), row.id]);
if (total < 1 || map.size < 1) process.exit(1);
"""


JAVA_PROGRAM = """
import java.util.*;
import java.util.zip.*;
class Workload {
  public static void main(String[] arguments) throws Exception {
    Map<String, List<Integer>> names = new HashMap<>();
    Random random = new Random(1);
    for (int i = 0; i < SCALE; i++) names.computeIfAbsent("n" + random.nextInt(1000), k -> new ArrayList<>()).add(i);
    byte[] text = names.toString().getBytes("UTF-8");
    long total = 0;
    for (int i = 0; i < SCALE / 200; i++) {
      Deflater deflater = new Deflater();
      deflater.setInput(text, 0, Math.min(text.length, 20000));
      deflater.finish();
      byte[] out = new byte[30000];
      total += deflater.deflate(out);
      deflater.end();
    }
    if (total == 0) System.exit(1);
  }
}
"""


RUBY_SCRIPT = """
require 'json'
require 'zlib'
random = Random.new(1)
rows = Array.new(SCALE) { |i| { 'id' => i, 'name' => "n#{random.rand(1_000_000)}", 'tags' => Array.new(5) { "t#{random.rand(50)}" } } }
3.times { rows = JSON.parse(JSON.generate(rows)) }
tree = Hash.new { |names, tag| names[tag] = Hash.new { |ids, name| ids[name] = [] } }
rows.each { |row| row['tags'].each { |tag| tree[tag][row['name']] << row['id'] } }
words = rows.map { |row| row['name'] }.join(' ').scan(/[a-z]+[0-9]+/).tally
total = (0...SCALE / 200).sum { |i| Zlib.inflate(Zlib.deflate(JSON.generate(rows[i, 50]))).size }
exit 1 if total.zero? || words.empty? || tree.empty?
"""


def sqlite_script(rows: int) -> str:
    return (f"create table t(id integer primary key, name text, n int); create index i on t(name);"
            f"with recursive c(x) as (values(1) union all select x + 1 from c where x < {rows}) "
            "insert into t select x, hex(randomblob(4 + x % 40)), x % 97 from c;"
            "select n, count(*), group_concat(name) from t group by n order by 2 limit 20;"
            "update t set name = name || n where n < 30; delete from t where n % 3 = 0;"
            "select count(*) from t a join t b on a.n = b.n where a.id < 200;")


def cpp_source(scale: int) -> str:
    """C++ that makes the compiler instantiate many templates of the standard library."""
    parts = ["#include <algorithm>\n#include <functional>\n#include <map>\n#include <memory>\n#include <regex>\n"
             "#include <string>\n#include <tuple>\n#include <unordered_map>\n#include <variant>\n#include <vector>\n"]
    for i in range(scale):
        parts.append(f"""
struct Item{i} {{ int id; std::string name; std::vector<std::pair<int, std::string>> tags; }};
using Value{i} = std::variant<int, double, std::string, Item{i}, std::vector<Item{i}>>;
int work{i}(const std::map<std::string, Value{i}> &in) {{
  std::unordered_map<std::string, std::shared_ptr<Item{i}>> index;
  std::vector<std::tuple<int, std::string, Item{i}>> sorted;
  for (const auto &[key, value] : in)
    std::visit([&](const auto &v) {{
      using T = std::decay_t<decltype(v)>;
      if constexpr (std::is_same_v<T, Item{i}>) {{
        index[key] = std::make_shared<Item{i}>(v);
        sorted.emplace_back(v.id, key, v);
      }}
    }}, value);
  std::sort(sorted.begin(), sorted.end(),
            [](const auto &a, const auto &b) {{ return std::get<0>(a) < std::get<0>(b); }});
  std::function<int(int)> f = [&](int n) {{ return n <= 0 ? {i} : f(n - 1) + int(index.size()); }};
  return f(3) + int(std::regex_match(std::string("a{i}"), std::regex("[a-z]+{i}")));
}}
""")
    return "".join(parts)


def c_source(scale: int) -> str:
    parts = ["#include <stdio.h>\n#include <string.h>\n"]
    for i in range(scale * 40):
        parts.append(f"""
struct s{i} {{ int a[{i % 7 + 1}]; char name[{i % 13 + 4}]; struct s{i} *next; }};
int f{i}(struct s{i} *s, int n) {{
  int sum = 0;
  for (struct s{i} *p = s; p; p = p->next)
    for (int k = 0; k < {i % 7 + 1}; k++)
      switch ((p->a[k] + n) % 5) {{
        case 0: sum += p->a[k]; break;
        case 1: sum ^= (int)strlen(p->name); break;
        case 2: sum -= p->a[k] * {i + 3}; break;
        default: sum = sum * 31 + n;
      }}
  if (sum % 17 == 3) printf("%d %s\\n", sum, s->name);
  return sum;
}}
""")
    return "".join(parts)


def python_program(measure: str, directory: str, scale: int) -> Program:
    path = os.path.join(directory, "workload.py")
    with open(path, "w", encoding="ascii") as file:
        file.write(PYTHON_SCRIPT.replace("SCALE", str(6000 * scale)))
    command = [sys.executable, "-I", path]
    probe = [sys.executable, "-I", "-c", "1"]
    return Program("python3", "json, re, dicts, sqlite3", probe, measured(measure, command, directory))


def node_program(measure: str, directory: str, scale: int) -> Program:
    node = executable("node", "nodejs")
    path = os.path.join(directory, "workload.js")
    with open(path, "w", encoding="ascii") as file:
        file.write(NODE_SCRIPT.replace("SCALE", str(6000 * scale)))
    return Program("node", "JSON, zlib, maps", [node, "--version"], measured(measure, [node, path], directory))


def ruby_program(measure: str, directory: str, scale: int) -> Program:
    ruby = executable("ruby", "ruby3.1")
    path = os.path.join(directory, "workload.rb")
    with open(path, "w", encoding="ascii") as file:
        file.write(RUBY_SCRIPT.replace("SCALE", str(6000 * scale)))
    return Program("ruby", "JSON, zlib, hashes, a regular expression", [ruby, "--version"],
                   measured(measure, [ruby, path], directory))


def ffmpeg_program(measure: str, directory: str, scale: int) -> Program:
    ffmpeg = executable("ffmpeg")
    # It makes its own picture and sound; each build has these encoders.
    command = [ffmpeg, "-nostdin", "-v", "error", "-filter_complex_threads", "2",
               "-f", "lavfi", "-i", f"testsrc2=size=640x360:rate=25:duration={2 * scale}",
               "-f", "lavfi", "-i", f"sine=frequency=440:duration={2 * scale}",
               "-vf", "scale=320:180,hqdn3d", "-c:v", "mpeg4", "-threads", "2", "-c:a", "aac", "-f", "null", "-"]
    return Program("ffmpeg", f"scales, filters and encodes {2 * scale} s of a test picture and a tone",
                   [ffmpeg, "-v", "error", "-version"], measured(measure, command, directory))


def sqlite_program(measure: str, directory: str, scale: int) -> Program:
    sqlite = executable("sqlite3")
    command = [sqlite, ":memory:", sqlite_script(10000 * scale)]
    return Program("sqlite3", "a table in memory: inserts, groups, updates, a join", [sqlite, ":memory:", "select 1"],
                   measured(measure, command, directory))


def java_program(measure: str, directory: str, scale: int) -> Program:
    java = executable("java")
    compiler = executable("javac")
    with open(os.path.join(directory, "Workload.java"), "w", encoding="ascii") as file:
        file.write(JAVA_PROGRAM.replace("SCALE", str(6000 * scale)))
    done = subprocess.run([compiler, "Workload.java"], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise Skipped(f"javac: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    command = [java, "-Xmx128m", "-cp", directory, "Workload"]
    return Program("java", "maps, lists, zlib", [java, "-version"], measured(measure, command, directory))


def git_program(measure: str, directory: str, repository: str, limit: int) -> Program:
    git = executable("git")
    there = [git, "-C", repository, "--no-pager"]
    listed = subprocess.run([*there, "rev-list", "--count", "HEAD"], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        raise Skipped(f"{repository} is not a git repository with a commit; name one with --repo")
    count = min(int(listed.stdout), limit)
    command = [*there, "log", "-p", "--stat", f"-{count}"]
    text = f"log -p --stat of {count} commits"
    return Program("git", text, [*there, "log", "-1"], measured(measure, command, directory))


def compiler_program(measure: str, directory: str, scale: int, name: str) -> Program:
    clang = name == "clang++"
    compiler = executable("clang++-19", "clang++") if clang else executable("gcc")
    path = os.path.join(directory, "input.cc" if clang else "input.c")
    with open(path, "w", encoding="ascii") as file:
        file.write(cpp_source(scale) if clang else c_source(scale))
    flags = ["-std=c++17", "-O1"] if clang else ["-std=c17", "-O2"]
    command = [compiler, *flags, "-c", path, "-o", os.path.join(directory, name + ".o")]
    return Program(name, "compiles generated templates" if clang else "compiles generated C", [compiler, "--version"],
                   measured(measure, command, directory))


# ---- redis: a server under test, driven by a client on the C library's malloc ----------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_serving(server: subprocess.Popen, port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"redis-server ended at once with status {server.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("redis-server did not open its port within 60 s")


def _usage(pid: int) -> Tuple[float, int, int]:
    """Seconds of processor time, peak RSS in KiB and page faults of a process so far."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        peak = int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1))
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        # The name in parentheses may contain spaces; the third field is the first behind it.
        fields = file.read().rpartition(")")[2].split()
    minor, major, user, system = int(fields[7]), int(fields[9]), int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK"), peak, minor + major


def redis_program(directory: str, scale: int) -> Program:
    server_path, client_path = executable("redis-server"), executable("redis-benchmark")

    def run(allocator: Allocator) -> Timing:
        port = _free_port()
        command = [server_path, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no",
                   "--daemonize", "no", "--dir", directory, "--logfile", os.path.join(directory, "redis.log")]
        load = [client_path, "-h", "127.0.0.1", "-p", str(port), "-q", "-P", "16", "-n", str(20000 * scale),
                "-r", "100000", "-d", "200", "-t", "set,get,lpush,hset,sadd,zadd"]
        plain = Allocator("glibc", None).environment(dict(os.environ))
        server = subprocess.Popen(command, env=allocator.environment(dict(os.environ)), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until_serving(server, port)
            begin = time.monotonic()
            done = subprocess.run(load, env=plain, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False)
            seconds = time.monotonic() - begin
            if done.returncode != 0 or server.poll() is not None:
                state = f"redis-benchmark status {done.returncode}, server {server.poll()}"
                raise RuntimeError(f"{state}: {done.stderr.strip()}")
            return Timing(seconds, *_usage(server.pid))
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    return Program("redis", "redis-server under redis-benchmark, pipelines of 16", [server_path, "--version"], run)


def all_programs(measure: str, directory: str, scale: int, repository: str) -> Dict[str, Callable[[], Program]]:
    """Every program by name; calling the value prepares it or raises Skipped."""
    return {
        "redis": lambda: redis_program(directory, scale),
        "node": lambda: node_program(measure, directory, scale),
        "git": lambda: git_program(measure, directory, repository, 50 * scale),
        "clang++": lambda: compiler_program(measure, directory, scale, "clang++"),
        "gcc": lambda: compiler_program(measure, directory, scale, "gcc"),
        "sqlite3": lambda: sqlite_program(measure, directory, scale),
        "java": lambda: java_program(measure, directory, scale),
        "python3": lambda: python_program(measure, directory, scale),
        "ruby": lambda: ruby_program(measure, directory, scale),
        "postgres": lambda: postgres.postgres_program(measure, directory, scale),
        "ffmpeg": lambda: ffmpeg_program(measure, directory, scale),
    }


# ---- Proof -----------------------------------------------------------------------------------------------------------


BINDING = r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `malloc'"


def check_binding(program: Program, allocator: Allocator, libc: str, directory: str) -> Optional[str]:
    """What is wrong if the dynamic linker binds the program's malloc to another object than the allocator."""
    expected = os.path.realpath(allocator.path or libc)
    env = allocator.environment(dict(os.environ))
    env.update(LD_DEBUG="bindings", LD_DEBUG_OUTPUT=os.path.join(directory, "bindings"))
    subprocess.run(program.probe, env=env, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=60, check=False)
    bindings: Dict[str, set] = {}
    for name in os.listdir(directory):
        if not name.startswith("bindings."):
            continue
        path = os.path.join(directory, name)
        with open(path, encoding="utf-8", errors="replace") as file:
            for user, target in re.findall(BINDING, file.read()):
                bindings.setdefault(os.path.realpath(user), set()).add(os.path.realpath(target))
        os.unlink(path)
    if not bindings:
        return "the program never looked malloc up"
    for target in sorted(set().union(*bindings.values()) - {expected}):
        # In an executable that is not position-independent, a function's address is a jump in the executable itself,
        # and the target of that jump counts. An executable with its own malloc has no binding of it to another object.
        if expected not in bindings.get(target, ()):
            return f"malloc came from {target}, not from {expected}"
    return None
