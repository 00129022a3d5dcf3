#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# For scripts that build copies of this tree. They source it in the tree's folder, with `$scratch` set unless they call
# two_copies.

# copy_tree FOLDER: copies what git tracks and what it would track. .bazelrc.user, which may name a cache, is neither.
copy_tree() {
  mkdir -p "$1" &&
    git ls-files -z --cached --others --exclude-standard >"$scratch/files" &&
    tar --null --no-recursion --ignore-failed-read -cf - -T "$scratch/files" | tar -xf - -C "$1"
}

# in_copy COPY ARGS...: runs Bazel in a copy, with a server and an output base of its own. --nohome_rc: both copies
# would share a cache of the user.
in_copy() (
  cd "$1" || exit 1
  shift
  exec ./bazelw --nohome_rc --output_base="$(pwd)/../output_base" --max_idle_secs=60 "$@"
)

# two_copies: makes the copies $one and $other, at paths of different length below $scratch, a temporary folder. When
# the script ends, their servers end and the folder is removed. A script that must end something else defines `end`.
two_copies() {
  scratch=$(mktemp -d) || exit 1
  one=$scratch/a
  other=$scratch/another/path/which/is/longer
  trap remove_copies EXIT
  trap 'exit 1' HUP INT TERM
  copy_tree "$one" && copy_tree "$other" || exit 1
}

end() { :; }

remove_copies() {
  end
  for removed_copy in "$one" "$other"; do
    if [ -d "$removed_copy" ]; then in_copy "$removed_copy" shutdown >/dev/null 2>&1; fi
  done
  # Bazel removes the write permission from its outputs.
  chmod -R u+w "$scratch" 2>/dev/null
  rm -rf "$scratch"
}
