// SPDX-License-Identifier: Apache-2.0
//
// The AddressSanitizer options of every fuzz target; ASAN_OPTIONS overrides them. The sanitizer's own malloc serves
// only the models and the engine, never the tested allocator. With its usual quarantine of 256 MiB, each of their
// short-lived containers lies in memory that was never touched before, and the page faults take a third of a short
// input's time. A quarantine of 256 KiB still holds some thousand freed blocks.

extern "C" __attribute__((used, visibility("default"))) const char *__asan_default_options();

const char *__asan_default_options() { return "quarantine_size_mb=1:thread_local_quarantine_size_kb=256"; }
