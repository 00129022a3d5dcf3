#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# pre_commit.sh: runs what the stage `style` of .ci/run runs, on the files as they are in the working tree. It names
# badly formatted files, which `bash .ci/run fix` formats. Exits 0 if the change may be committed.
cd "$(dirname "$0")/.." || exit 1
# Git sets these for a hook. With them, the git commands of the checks would use the index that is being committed.
unset GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE GIT_PREFIX
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM
if bash .ci/run style >"$log" 2>&1; then
  exit 0
fi
cat "$log"
exit 1
