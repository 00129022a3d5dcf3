# SPDX-License-Identifier: Apache-2.0
"""The Python program of real_programs_test: uses json, re, sqlite3, zlib and threads. Only they decide its output."""

import hashlib
import json
import re
import sqlite3
import threading
import zlib


def documents(seed, count):
    state = seed
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        yield {
            "id": i,
            "name": "item-%x" % (state >> 40),
            "tags": ["t%d" % ((state >> shift) % 97) for shift in range(20, 50, 3)],
            "text": "lorem ipsum %d dolor " % (state % 1000) * (1 + (state >> 33) % 9),
        }


def digest(seed):
    lines = [json.dumps(document, sort_keys=True) for document in documents(seed, 1500)]
    parsed = [json.loads(line) for line in lines]
    words = re.findall(r"(\w+) (\d+)", "\n".join(document["text"] for document in parsed))
    packed = zlib.compress("\n".join(lines).encode(), 6)
    grown = []
    for word, number in words:
        grown.append(word + number)
        if len(grown) > 500:
            grown = grown[250:]
    text = zlib.decompress(packed) + "".join(grown).encode()
    return hashlib.sha256(text).hexdigest()


def database():
    connection = sqlite3.connect(":memory:")
    connection.execute("create table item (id integer primary key, name text, text text)")
    rows = ((document["id"], document["name"], document["text"]) for document in documents(7, 4000))
    connection.executemany("insert into item values (?, ?, ?)", rows)
    connection.execute("create index by_name on item (name)")
    for row in connection.execute("select id, name, length(text) from item where id % 20 = 0 order by name"):
        print(*row)
    query = "select substr(name, 6, 1), count(*), sum(length(text)) from item group by 1 order by 1"
    return connection.execute(query).fetchall()


def main():
    results = {}

    def work(seed):
        results[seed] = digest(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in sorted(results):
        print(seed, results[seed])
    for row in database():
        print(*row)


if __name__ == "__main__":
    main()
