// SPDX-License-Identifier: Apache-2.0
//
// Writes a profile in pprof's format (profile.proto of github.com/google/pprof, in gzip), as a stream: samples go out
// as they come, in no memory but the writer's. Async-signal-safe; takes no lock; preserves errno.
//
//   hak_pprof_begin, hak_pprof_add_process, then any number of hak_pprof_add and hak_pprof_comment, hak_pprof_end
#ifndef HAKMEM_PPROF_PROFILE_H_
#define HAKMEM_PPROF_PROFILE_H_

#include "allocator/os/base.h"
#include "allocator/pprof/gzip.h"
#include "allocator/pprof/mappings.h"

HAK_C_BEGIN

// Values of a sample.
#define HAK_PPROF_MOST_VALUES 12u
// Frames of a stack; of a deeper one the callers farthest from the allocation are left out.
#define HAK_PPROF_MOST_FRAMES 256u
// Mappings. Addresses in further ones stay without a file.
#define HAK_PPROF_MOST_MAPPINGS 1024u
// Addresses that are written only once. Further ones are written each time they occur: the file grows, but stays right.
#define HAK_PPROF_ADDRESSES 16384u

// What a number counts, and its unit: {"inuse_space", "bytes"}.
struct hak_pprof_type {
  char type[24];
  char unit[16];
};

// The values of a heap profile, in the order that pprof's users expect: alloc_objects, alloc_space, inuse_objects,
// inuse_space, peak_objects, peak_space, fragmentation, lifetime_objects, lifetime_space, lifetime_time,
// growth_objects, growth_space; and the one that is shown first. lifetime_time is in microseconds: in nanoseconds a
// million blocks of three hours each would not fit.
#define HAK_PPROF_HEAP_VALUES 12u
#define HAK_PPROF_HEAP_FIRST 3u
extern const struct hak_pprof_type hak_pprof_heap_types[HAK_PPROF_HEAP_VALUES];

struct hak_pprof_about {
  const struct hak_pprof_type *types;  // of each sample's values
  uint32_t values;                     // how many, 1 to HAK_PPROF_MOST_VALUES
  uint32_t first;                      // index of the one that is shown first
  struct hak_pprof_type period_type;   // what is sampled; type "": not told
  int64_t period;                      // the mean distance between samples, in that unit
  uint64_t time_ns;                    // since 1970; 0: not told
  uint64_t duration_ns;                // 0: not told
};

// About 210 KiB, by the caller, with any contents. Nothing else reads or writes the fields.
struct hak_pprof {
  struct hak_gzip gzip;
  struct hak_mappings mappings;
  uint32_t values;
  uint32_t strings;  // written so far
  uint32_t mapping_count;
  uint64_t next_location;  // the identity of the next address that finds no place in `addresses`
  uint64_t cut_stacks;     // stacks with more than HAK_PPROF_MOST_FRAMES frames
  uint64_t left_mappings;  // mappings beyond HAK_PPROF_MOST_MAPPINGS
  struct hak_pprof_range {
    uintptr_t start, limit;
  } ranges[HAK_PPROF_MOST_MAPPINGS];         // of the mappings, ascending
  uint64_t stack[HAK_PPROF_MOST_FRAMES];     // identities of the addresses of one stack
  uintptr_t addresses[HAK_PPROF_ADDRESSES];  // a hash table; the identity is 1 + the index; 0: no address
};

// Begins a profile that goes to the sink.
void hak_pprof_begin(struct hak_pprof *pprof, hak_gzip_sink *sink, void *context, const struct hak_pprof_about *about);
// Adds the files whose code is mapped into this process. Returns false if the kernel does not tell them: addresses then
// stay numbers.
bool hak_pprof_add_process(struct hak_pprof *pprof);
// Adds one mapping. It must lie above the ones before it, otherwise it is left out; it must come before the samples.
void hak_pprof_add_mapping(struct hak_pprof *pprof, const struct hak_mapping *mapping);
// Adds a stack with its values, as many as `about` says. `frame` are return addresses, that of the innermost call
// first. Equal stacks may come several times: readers add them up.
void hak_pprof_add(struct hak_pprof *pprof, void *const *frame, uint32_t frames, const int64_t *values);
// Adds a line of text that pprof -comments shows.
void hak_pprof_comment(struct hak_pprof *pprof, const char *text);
// The same: a number, and a text of at most 75 bytes behind it; nothing if the number is 0.
void hak_pprof_comment_number(struct hak_pprof *pprof, uint64_t value, const char *what);
// Ends it. Returns 0 when the sink got everything, otherwise its error number.
int hak_pprof_end(struct hak_pprof *pprof);

HAK_C_END

#endif  // HAKMEM_PPROF_PROFILE_H_
