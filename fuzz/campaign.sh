#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: campaign.sh [OPTION]... TARGET|all MINUTES      campaign.py has the options and what it does
here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null 2>&1 || {
  echo 'campaign.sh: no program python3' >&2
  exit 2
}
PYTHONDONTWRITEBYTECODE=1 exec python3 "$here/campaign.py" "$@"
