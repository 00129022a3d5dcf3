# SPDX-License-Identifier: Apache-2.0
"""The build setting //configs:profile.

    load("//configs:profile.bzl", "profile_flag")
"""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")

PROFILES = ["standard", "fast", "observe", "hardened"]

# As in allocator/policy/gate_table.inc.
_PRESETS = ["balanced", "speed", "lean"]

def _profile_flag_impl(ctx):
    value = ctx.build_setting_value
    if value not in PROFILES:
        hint = ""
        if value in _PRESETS:
            hint = "; %s is a preset: HAKMEM_PROFILE=%s when a program starts, or --%s=profile=%s" % (
                value,
                value,
                ctx.label.relative(":conf"),
                value,
            )
        fail("%s=%s is not accepted; accepted: %s%s" % (ctx.label, value, ", ".join(PROFILES), hint))
    return [BuildSettingInfo(value = value)]

profile_flag = rule(
    implementation = _profile_flag_impl,
    build_setting = config.string(flag = True),
    doc = "The build profile. Unlike a string_flag, it says what a preset is.",
)
