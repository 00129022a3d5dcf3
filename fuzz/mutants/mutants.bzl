# SPDX-License-Identifier: Apache-2.0
"""All mutants. README.md explains the fields."""

load(":table_api.bzl", "API_MUTANTS")
load(":table_calls.bzl", "CALL_MUTANTS")
load(":table_floor.bzl", "FLOOR_MUTANTS")
load(":table_gates.bzl", "GATE_MUTANTS")
load(":table_heaps.bzl", "HEAP_MUTANTS")
load(":table_observe.bzl", "OBSERVE_MUTANTS")
load(":table_pages.bzl", "PAGE_MUTANTS")
load(":table_prof.bzl", "PROF_MUTANTS")
load(":table_profiles.bzl", "PROFILE_MUTANTS")
load(":table_remote.bzl", "REMOTE_MUTANTS")
load(":table_reports.bzl", "REPORT_MUTANTS")
load(":table_slabs.bzl", "SLAB_MUTANTS")

MUTANTS = (
    FLOOR_MUTANTS + GATE_MUTANTS + SLAB_MUTANTS + PAGE_MUTANTS + HEAP_MUTANTS + REMOTE_MUTANTS +
    CALL_MUTANTS + API_MUTANTS + OBSERVE_MUTANTS + REPORT_MUTANTS + PROF_MUTANTS +
    PROFILE_MUTANTS
)

MUTANT_NAMES = [mutant["name"] for mutant in MUTANTS]

def _label(path):
    folder, _, name = path.rpartition("/")
    return "//%s:%s" % (folder, name)

MUTANT_HEADERS = list({_label(mutant["file"]): True for mutant in MUTANTS if mutant["file"].endswith(".h")})

MUTANT_FILES = list({_label(mutant["file"]): True for mutant in MUTANTS})
