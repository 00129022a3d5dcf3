# SPDX-License-Identifier: Apache-2.0
"""What a WORKSPACE with hakmem needs besides bazel_skylib and rules_cc. Nothing is downloaded.

    load("@hakmem//configs:repositories.bzl", "hakmem_repositories")

    hakmem_repositories()
"""

def _shim_impl(ctx):
    folder = ctx.path(Label("//third_party:BUILD.bazel")).dirname.get_child(ctx.attr.folder)
    for entry in folder.readdir():
        ctx.symlink(entry, entry.basename)

_shim = repository_rule(
    implementation = _shim_impl,
    attrs = {"folder": attr.string(
        mandatory = True,
        doc = "The folder of third_party/.",
    )},
    local = True,
    doc = "A repository that is a folder of hakmem.",
)

def hakmem_repositories():
    """Declares rules_shell, unless the WORKSPACE has done so, with the rules that Bazel 4 to 7 have built in.

    Call it behind what else may declare that repository.
    """
    if not native.existing_rule("rules_shell"):
        _shim(
            name = "rules_shell",
            folder = "rules_shell",
        )
