# SPDX-License-Identifier: Apache-2.0
"""The rule sh_binary under the name that rules_shell has for it: the rule built into Bazel."""

sh_binary = native.sh_binary  # buildifier: disable=native-sh-binary
