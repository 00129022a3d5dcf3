# SPDX-License-Identifier: Apache-2.0
"""The rule sh_test under the name that rules_shell has for it: the rule built into Bazel."""

sh_test = native.sh_test  # buildifier: disable=native-sh-test
