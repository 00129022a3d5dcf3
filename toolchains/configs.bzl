# SPDX-License-Identifier: Apache-2.0
"""The configurations of .bazelrc that exclude each other, and the features of the toolchains."""

# At most one of each row may be requested.
EXCLUSIVE = {
    "compiler": ["gcc", "clang", "musl"],
    "machine": ["x86_64", "aarch64", "musl"],
    "profile": ["fast", "observe", "hardened"],
}

# musl is gcc on x86-64, so it is in two rows.
CONFIGS = {name: None for names in EXCLUSIVE.values() for name in names}.keys()

# Sanitizers whose runtimes have their own memory layout: one at a time.
OWN_RUNTIME = ["asan", "msan", "tsan"]

SANITIZERS = OWN_RUNTIME + ["ubsan"]

# The accepted names for --features: hakmem's, and those of Bazel that work with any toolchain. Bazel ignores all
# others.
KNOWN_FEATURES = SANITIZERS + [
    "full_lto",
    "fuzzer",
    "lto",
    "pgo_generate",
    "pgo_use",
] + [
    "dynamic_linking_mode",
    "hakmem_warnings",
    "per_object_debug_info",
    "pic",
    "random_seed",
    "static_linking_mode",
    "strip_debug_symbols",
    "supports_dynamic_linker",
    "supports_pic",
]

def contradiction(chosen, features, compiler, cpu, native, missing_runtime, pgo_profile):
    """Why nothing can be built this way, or None.

    Args:
      chosen: the names of CONFIGS that are on.
      features: what --features names.
      compiler: "gcc", "clang", or "musl": gcc with the musl C library.
      cpu: the machine that it compiles for.
      native: whether it is the machine that compiles.
      missing_runtime: missing Debian packages that the compiler's sanitizers need, separated by blanks.
      pgo_profile: the value of //toolchains/cc:pgo_profile.

    Returns:
      A sentence that says what contradicts what, or None.
    """
    for row, names in EXCLUSIVE.items():
        both = [name for name in names if name in chosen]
        if len(both) > 1:
            return "--config=%s and --config=%s exclude each other: there is one %s" % (both[0], both[1], row)
    for name in features:
        if name not in KNOWN_FEATURES:
            return "--features=%s is unknown, and Bazel would ignore it; known are %s" % (name, ", ".join(KNOWN_FEATURES))
    own = [name for name in OWN_RUNTIME if name in features]
    if len(own) > 1:
        return "%s and %s exclude each other: each brings a runtime of its own" % (own[0], own[1])
    sanitizers = [name for name in SANITIZERS + ["fuzzer"] if name in features]
    if compiler == "musl" and sanitizers:
        return "%s exists with glibc alone: leave --config=musl out" % sanitizers[0]
    if compiler != "clang":
        for name in ["msan", "fuzzer"]:
            if name in features:
                return "gcc has no %s: add --config=clang" % name
    elif sanitizers and not native:
        return "Debian has no runtime of clang's %s for %s; gcc has one: --config=%s --features=%s without --config=clang" % (
            sanitizers[0],
            cpu,
            cpu,
            sanitizers[0],
        )
    elif sanitizers and missing_runtime:
        return "%s needs a runtime that is not installed: apt-get install %s" % (sanitizers[0], missing_runtime)
    if "lto" in features and "full_lto" in features:
        return "lto and full_lto exclude each other: both say how the linker optimises"
    if "pgo_generate" in features and "pgo_use" in features:
        return "pgo_generate and pgo_use exclude each other: first the one, then the other; toolchains/pgo.sh does both"
    if ("pgo_generate" in features or "pgo_use" in features) and not pgo_profile.startswith("/"):
        return "pgo needs --//toolchains/cc:pgo_profile=, an absolute path, not \"%s\"" % pgo_profile
    if sanitizers and [name for name in ["pgo_generate", "pgo_use"] if name in features]:
        return "%s and pgo exclude each other: a profile of the sanitizer's code is of no use" % sanitizers[0]
    return None
