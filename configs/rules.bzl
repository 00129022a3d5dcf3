# SPDX-License-Identifier: Apache-2.0
"""The rules and providers for C, C++ and scripts, which Bazel 9 no longer has built in.

    load("//configs:rules.bzl", "cc_library", "sh_test")

The only file that names where they come from: the modules rules_cc and rules_shell, or the folders of that name in
third_party/, which give Bazel 4 to 7 what is built into them. Of rules_cc it is the one file that every version has.
"""

load(
    "@rules_cc//cc:defs.bzl",
    _CcInfo = "CcInfo",
    _CcToolchainConfigInfo = "CcToolchainConfigInfo",
    _cc_binary = "cc_binary",
    _cc_common = "cc_common",
    _cc_library = "cc_library",
    _cc_test = "cc_test",
    _cc_toolchain = "cc_toolchain",
)
load("@rules_shell//shell:sh_binary.bzl", _sh_binary = "sh_binary")
load("@rules_shell//shell:sh_test.bzl", _sh_test = "sh_test")

CcInfo = _CcInfo
CcToolchainConfigInfo = _CcToolchainConfigInfo
cc_binary = _cc_binary
cc_common = _cc_common
cc_library = _cc_library
cc_test = _cc_test
cc_toolchain = _cc_toolchain
sh_binary = _sh_binary
sh_test = _sh_test
