# SPDX-License-Identifier: Apache-2.0
"""The rules and providers that this tree and Bazel's own tools load from rules_cc: each is the one built into Bazel."""

load(":native.bzl", "NativeCcInfo", "NativeCcToolchainConfigInfo", "native_cc_common")

CcInfo = NativeCcInfo

CcToolchainConfigInfo = NativeCcToolchainConfigInfo

cc_common = native_cc_common

# buildifier: disable=native-cc-binary
cc_binary = native.cc_binary

# buildifier: disable=native-cc-import
cc_import = native.cc_import

# buildifier: disable=native-cc-library
cc_library = native.cc_library

# buildifier: disable=native-cc-proto
cc_proto_library = native.cc_proto_library

# buildifier: disable=native-cc-test
cc_test = native.cc_test

# buildifier: disable=native-cc-toolchain
cc_toolchain = native.cc_toolchain

# buildifier: disable=native-cc-toolchain-suite
cc_toolchain_suite = native.cc_toolchain_suite

# buildifier: disable=native-cc-fdo-prefetch-hints
fdo_prefetch_hints = native.fdo_prefetch_hints

# buildifier: disable=native-cc-fdo-profile
fdo_profile = native.fdo_profile

# buildifier: disable=native-cc-objc-import
objc_import = native.objc_import

# buildifier: disable=native-cc-objc-library
objc_library = native.objc_library
