# SPDX-License-Identifier: Apache-2.0
"""The rule sh_library under the name that rules_shell has for it: the rule built into Bazel."""

sh_library = native.sh_library  # buildifier: disable=native-sh-library
