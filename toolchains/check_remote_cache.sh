#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# check_remote_cache.sh: builds libhakmem.so with --config=remote in two copies of this tree at different paths, which share
# nothing but an HTTP cache on 127.0.0.1. The second copy must take every compilation and link from the cache.
# Exits 0 when it does, 1 when not, 2 for a bad call.

set -u

[ $# -eq 0 ] || {
  echo "usage: check_remote_cache.sh" >&2
  exit 2
}
cd "$(dirname "$0")/.." || exit 1
. toolchains/copies.sh
server=''
end() {
  [ -z "$server" ] || kill "$server" 2>/dev/null
}
two_copies

# The server ends by itself after ten minutes, whatever happens to this script.
cat >"$scratch/cache.py" <<'END'
import http.server, pathlib, sys, threading
folder = pathlib.Path(sys.argv[1])
class Cache(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def path_of(self):
        return folder / self.path.strip("/").replace("/", "_").replace("..", "_")
    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        path = self.path_of()
        self.answer(200, path.read_bytes()) if path.exists() else self.answer(404)
    def do_PUT(self):
        part = self.path_of().with_suffix(".%d" % threading.get_ident())
        part.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        part.rename(self.path_of())
        self.answer(200)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cache)
(folder / "port").write_text(str(server.server_port))
threading.Timer(600, server.shutdown).start()
server.serve_forever()
END
mkdir "$scratch/cache" || exit 1
python3 "$scratch/cache.py" "$scratch/cache" &
server=$!
tries=0
until [ -s "$scratch/cache/port" ]; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || {
    echo "check_remote_cache.sh: the cache does not start" >&2
    exit 1
  }
  sleep 0.1
done
cache=http://127.0.0.1:$(cat "$scratch/cache/port")

for copy in "$one" "$other"; do
  in_copy "$copy" build --config=ci --config=remote --disk_cache= --remote_cache="$cache" //allocator:libhakmem.so \
    >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    exit 1
  }
  grep -E 'processes?:' "$scratch/log" | sed "s|^|$(basename "$copy"): |"
  cp "$scratch/log" "$scratch/log.$(basename "$copy")"
done
if grep -q 'remote cache hit' "$scratch/log.a"; then
  echo "FAILED: the first copy found something in an empty cache" >&2
  exit 1
fi
hits=$(sed -n 's/.* \([0-9]*\) remote cache hit.*/\1/p' "$scratch/log.longer")
if [ "${hits:-0}" -lt 40 ] || grep -qE '[0-9]+ (linux-sandbox|processwrapper-sandbox|local)' "$scratch/log.longer"; then
  echo "FAILED: the second copy did not take all from the cache" >&2
  exit 1
fi
