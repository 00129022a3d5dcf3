#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# For scripts that build copies of this tree; they source it with `$scratch` set and the tree as current folder.

# copy_tree FOLDER: what git tracks and what it would track; .bazelrc.user, with its cache, is neither.
copy_tree() {
  mkdir -p "$1" &&
    git ls-files -z --cached --others --exclude-standard >"$scratch/files" &&
    tar --null --no-recursion --ignore-failed-read -cf - -T "$scratch/files" | tar -xf - -C "$1"
}

# in_copy COPY ARGS...: Bazel in a copy, with a server and an output base of its own. --nohome_rc: a cache that the user
# has would be shared.
in_copy() (
  cd "$1" || exit 1
  shift
  exec ./bazelw --nohome_rc --output_base="$(pwd)/../output_base" --max_idle_secs=60 "$@"
)

# remove_copies COPY...: ends their servers, and removes $scratch with all that is in it.
remove_copies() {
  for removed_copy in "$@"; do
    if [ -d "$removed_copy" ]; then in_copy "$removed_copy" shutdown >/dev/null 2>&1; fi
  done
  # Bazel takes the right to write from what it made.
  chmod -R u+w "$scratch" 2>/dev/null
  rm -rf "$scratch"
}
