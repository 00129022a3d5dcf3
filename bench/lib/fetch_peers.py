# SPDX-License-Identifier: Apache-2.0
"""Peers that this Debian release does not have: the package of Debian sid, unpacked into a cache and not installed.

apt fetches the package, with lists of its own in a temporary folder, and checks the signature of the mirror.
"""

import glob
import os
import re
import shutil
import subprocess
import tempfile
from typing import Dict, List, Optional

from bench.lib import allocators

PACKAGE = "libmimalloc3"
PEER = "mimalloc3"
SUITE = "sid"
TIMEOUT = 600.0

CONFIGURATION = """
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "{root}/none";
Dir::Etc::preferences "{root}/none/file";
Dir::Etc::preferencesparts "{root}/none";
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
APT::Sandbox::User "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


class FetchError(Exception):
    """Nothing was fetched; the message, of one line, says why."""


def is_mirror(text: str) -> bool:
    return bool(re.fullmatch(r"(https?://[^/\s\[\]]|file:///)[^\s\[\]]*", text))


def run(command: List[str], environment: Dict[str, str], directory: str, what: str) -> str:
    """Its output. FetchError: it failed, with the first complaint of apt."""
    try:
        done = subprocess.run(command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace", timeout=TIMEOUT, check=False)
    except FileNotFoundError:
        raise FetchError(f"{what}: {command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"{what}: {command[0]} is still running after {TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("E:")] or lines or ["no message"]
        raise FetchError(f"{what}: {told[0]}")
    return done.stdout


def mirror_of_this_machine() -> str:
    """Where apt gets Debian's packages from."""
    form = "$(REPO_URI) $(LABEL)"
    listed = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"], dict(os.environ), "/",
                 "the mirror of this machine")
    for line in listed.splitlines():
        mirror, _, label = line.partition(" ")
        if label == "Debian" and is_mirror(mirror):
            return mirror
    raise FetchError("apt knows no mirror of Debian here; name one: --fetch-peers=URL")


def check_that_it_loads(library: str) -> None:
    """A package of another release may need a newer C library."""
    if re.search(r"[\s:]", library):
        raise FetchError(f"ld.so cannot preload {library}, because of a character in its name")
    done = subprocess.run(["/bin/true"], env=dict(os.environ, LD_PRELOAD=library), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0 or done.stderr.strip():
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise FetchError(f"{PACKAGE} does not run here: {last}")


def fetch(mirror: Optional[str]) -> str:
    """Unpacks the package into the cache, in place of an older one. Returns its version. `mirror`: None for the
    machine's own."""
    mirror = mirror or mirror_of_this_machine()
    # A folder of this machine is trusted as it is; all else must be signed by Debian.
    trusted = "[trusted=yes] " if mirror.startswith("file:") else ""
    os.makedirs(allocators.PEER_CACHE, exist_ok=True)
    # In the cache, so that the result can be renamed.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=allocators.PEER_CACHE) as root:
        for folder in ("state/lists/partial", "cache/archives/partial", "none"):
            os.makedirs(os.path.join(root, folder))
        for name, text in (("status", ""), ("sources.list", f"deb {trusted}{mirror} {SUITE} main\n"),
                           ("apt.conf", CONFIGURATION.format(root=root))):
            with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                file.write(text)
        environment = dict(os.environ, APT_CONFIG=os.path.join(root, "apt.conf"), LC_ALL="C")
        run(["apt-get", "-q", "--error-on=any", "update"], environment, root, f"cannot read {mirror}")
        run(["apt-get", "-q", "download", PACKAGE], environment, root, f"cannot get {PACKAGE} of {SUITE} from {mirror}")
        packages = glob.glob(os.path.join(root, PACKAGE + "_*.deb"))
        if len(packages) != 1:
            raise FetchError(f"{mirror} gave {len(packages)} packages for {PACKAGE}")
        version = run(["dpkg-deb", "--field", packages[0], "Version"], environment, root, "the package").strip()
        tree = os.path.join(root, "tree")
        run(["dpkg-deb", "--extract", packages[0], tree], environment, root, "the package")
        found = [path for pattern in allocators.PEERS[PEER] for path in glob.glob(os.path.join(tree, "usr/lib/*/" + pattern))]
        if not found:
            raise FetchError(f"{PACKAGE} {version} has no {allocators.PEERS[PEER][0]}")
        check_that_it_loads(found[0])
        with open(os.path.join(tree, "VERSION"), "w", encoding="utf-8") as file:
            file.write(f"{PACKAGE} {version} of Debian {SUITE}\n")
        place = os.path.join(allocators.PEER_CACHE, PEER)
        shutil.rmtree(place, ignore_errors=True)
        os.rename(tree, place)
    return version
