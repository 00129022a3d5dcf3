# SPDX-License-Identifier: Apache-2.0
"""Built-in values under other names, because a file that defines a name cannot read the built-in of that name."""

# buildifier: disable=native-cc-info
NativeCcInfo = CcInfo

# buildifier: disable=native-cc-toolchain-config-info
NativeCcToolchainConfigInfo = CcToolchainConfigInfo

# buildifier: disable=native-cc-common
native_cc_common = cc_common
