// SPDX-License-Identifier: Apache-2.0
//
// As component_controls_test.cc, for the engine of heap profiles.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fuzz/controls.h"
#include "fuzz/pprof_engine.h"

namespace hak_fuzz {
namespace {

// ---- Profiles -----------------------------------------------------------------------------------

void ExpectPprof(const PprofCalls &calls, const testing::Matcher<const std::string &> &what) {
  ExpectFinds([&](const uint8_t *data, size_t size) { RunPprofInput(calls, data, size); }, what);
}

TEST(PprofControl, NothingPlanted) { ExpectPprof({}, "nothing"); }

TEST(PprofControl, AStackIsLost) {
  PprofCalls calls;
  calls.add = [](hak_pprof *pprof, void *const *frame, uint32_t frames, const int64_t *values) {
    if (!StrikesOnceIn(7)) hak_pprof_add(pprof, frame, frames, values);
  };
  ExpectPprof(calls, testing::AnyOf(std::string("something is missing"), std::string("a value differs")));
}

TEST(PprofControl, TheAddressBehindTheCall) {
  PprofCalls calls;
  calls.add = [](hak_pprof *pprof, void *const *frame, uint32_t frames, const int64_t *values) {
    std::vector<void *> behind(frame, frame + frames);
    for (void *&address : behind) address = static_cast<char *>(address) + 1;
    hak_pprof_add(pprof, behind.data(), frames, values);
  };
  ExpectPprof(calls, testing::AnyOf(std::string("an address differs"), std::string("another number of frames")));
}

TEST(PprofControl, TheFramesNearestToTheAllocationAreCut) {
  PprofCalls calls;
  calls.add = [](hak_pprof *pprof, void *const *frame, uint32_t frames, const int64_t *values) {
    const uint32_t cut = frames > HAK_PPROF_MOST_FRAMES ? frames - HAK_PPROF_MOST_FRAMES : 0;
    hak_pprof_add(pprof, frame + cut, frames - cut, values);
  };
  ExpectPprof(calls, "an address differs");
}

TEST(PprofControl, NegativeValuesAreZero) {
  PprofCalls calls;
  calls.add = [](hak_pprof *pprof, void *const *frame, uint32_t frames, const int64_t *values) {
    int64_t others[HAK_PPROF_MOST_VALUES];
    for (uint32_t i = 0; i < pprof->values; ++i) others[i] = std::max<int64_t>(values[i], 0);
    hak_pprof_add(pprof, frame, frames, others);
  };
  ExpectPprof(calls, "a value differs");
}

TEST(PprofControl, AnIdentityIsUsedAgain) {
  PprofCalls calls;
  calls.add = [](hak_pprof *pprof, void *const *frame, uint32_t frames, const int64_t *values) {
    if (StrikesOnceIn(7)) std::fill_n(pprof->addresses, HAK_PPROF_ADDRESSES, 0);
    hak_pprof_add(pprof, frame, frames, values);
  };
  ExpectPprof(calls, "an identity of two addresses");
}

TEST(PprofControl, MappingsMayOverlap) {
  PprofCalls calls;
  calls.map = [](hak_pprof *pprof, const hak_mapping *mapping) {
    hak_mapping above = *mapping;
    if (pprof->mapping_count != 0) above.start = std::max(above.start, pprof->ranges[pprof->mapping_count - 1].limit);
    hak_pprof_add_mapping(pprof, &above);
  };
  ExpectPprof(calls, testing::AnyOf(std::string("a mapping more"), std::string("a mapping differs")));
}

TEST(PprofControl, AddressesStayWithoutTheirMapping) {
  PprofCalls calls;
  calls.map = [](hak_pprof *pprof, const hak_mapping *mapping) {
    hak_pprof_add_mapping(pprof, mapping);
    // The search finds the wrong one of two neighbours.
    if (pprof->mapping_count > 1) pprof->ranges[pprof->mapping_count - 2].limit = mapping->limit;
  };
  ExpectPprof(calls, testing::AnyOf(std::string("the mapping of an address differs"), std::string("a mapping more")));
}

TEST(PprofControl, CommentsAreCut) {
  PprofCalls calls;
  calls.comment = [](hak_pprof *pprof, const char *text) {
    hak_pprof_comment(pprof, std::string(text).substr(0, 100).c_str());
  };
  ExpectPprof(calls, "a comment differs in its length");
}

TEST(PprofControl, TheErrorIsLost) {
  PprofCalls calls;
  calls.end = [](hak_pprof *pprof) {
    hak_pprof_end(pprof);
    return 0;
  };
  ExpectPprof(calls, "the error of the sink is lost");
}

TEST(PprofControl, TheSinkIsCalledAgain) {
  PprofCalls calls;
  calls.end = [](hak_pprof *pprof) {
    pprof->gzip.error = 0;
    return hak_pprof_end(pprof);
  };
  ExpectPprof(calls, "the sink is called after it failed");
}

TEST(PprofControl, TheChecksumIsWrong) {
  PprofCalls calls;
  calls.end = [](hak_pprof *pprof) {
    pprof->gzip.crc ^= 1;
    return hak_pprof_end(pprof);
  };
  ExpectPprof(calls, "the checksum is wrong");
}

TEST(PprofControl, TheSizeIsWrong) {
  PprofCalls calls;
  calls.end = [](hak_pprof *pprof) {
    ++pprof->gzip.total;
    return hak_pprof_end(pprof);
  };
  ExpectPprof(calls, "the size is wrong");
}

TEST(PprofControl, ALineEndsWithItsPart) {
  PprofCalls calls;
  calls.feed = [](hak_mappings *mappings, const char *text, size_t size) {
    hak_mappings_feed(mappings, text, size);
    mappings->in_line = 0;
  };
  ExpectPprof(calls, "the list depends on its parts");
}

}  // namespace
}  // namespace hak_fuzz
