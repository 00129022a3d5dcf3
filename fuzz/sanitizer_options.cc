// SPDX-License-Identifier: Apache-2.0
//
// What every fuzz target asks of AddressSanitizer; ASAN_OPTIONS beats it. The sanitizer's own malloc serves the models
// and the engine alone, never the allocator that is tested. Its usual quarantine of 256 MiB has each of their
// short-lived containers on memory that was never touched before, and the page faults take a third of a short input's
// time. A quarter of a MiB still keeps what was freed while some thousand more blocks come and go.

extern "C" __attribute__((used, visibility("default"))) const char *__asan_default_options();

const char *__asan_default_options() { return "quarantine_size_mb=1:thread_local_quarantine_size_kb=256"; }
