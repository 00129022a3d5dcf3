# SPDX-License-Identifier: Apache-2.0
"""How the tests of packages start commands."""

import subprocess


def run(*command, cwd=None, check=False, text=True, **variables):
    """The finished command, with what it wrote as text or as bytes.

    Its environment is `variables` and a plain PATH alone. With `check` one that fails is an AssertionError.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    environment.update(variables)
    done = subprocess.run([str(word) for word in command], env=environment, cwd=cwd, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=text, timeout=240)
    if check and done.returncode != 0:
        raise AssertionError((command, done.stdout, done.stderr))
    return done
