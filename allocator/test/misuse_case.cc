// SPDX-License-Identifier: Apache-2.0
//
// misuse_case NAME SIZE same|remote   does one misuse, then goes on as a program would
// misuse_case --list                  prints all cases
//
// Progress goes to the file descriptor that MISUSE_PROGRESS names, else to standard output. After the misuse come the
// stages
//   next          the next calls that meet the block or its memory
//   again         blocks of the size are allocated and filled, all live blocks checked, then freed
//   flush         so many blocks are allocated and freed that every cache is flushed; the heap is verified
//   thread_end    the remote thread ends, and the main thread goes through the same stages
//   process_end   exit
#include "allocator/test/misuse_case.h"

#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <new>

// Only hakmem has this function.
extern "C" __attribute__((weak)) decltype(hak_heap_verify) hak_heap_verify;

namespace misuse {
namespace {

constexpr size_t kSizes[] = {16, 4096, 256 * 1024, 2 * 1024 * 1024};
// Exit codes: the case could not be set up; the case does not apply.
constexpr int kBroken = 3;
constexpr int kNotApplicable = 4;

int g_progress = STDOUT_FILENO;
Scene g_scene;

void Say(const char *line) {
  size_t left = strlen(line);
  while (left > 0) {
    const ssize_t n = write(g_progress, line, left);
    if (n <= 0) _exit(kBroken);
    line += n;
    left -= static_cast<size_t>(n);
  }
}

void SayTwo(const char *first, const char *second) {
  char line[200];
  snprintf(line, sizeof line, "%s %s\n", first, second);
  Say(line);
}

// Eight bytes of a block's contents. All bytes are odd.
uint64_t Pattern(uint64_t id, size_t offset) {
  uint64_t x = id * 0x9E3779B97F4A7C15u + offset;
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9u;
  x ^= x >> 27;
  return x | 0x0101010101010101u;
}

// Calls visit(offset, length) for each word of the block until it returns false. Of a large block it visits only both
// ends and the middle, 16 KiB each: the cases write there.
template <typename Visit>
bool ForWords(size_t size, Visit visit) {
  constexpr size_t kPart = 16 * 1024;
  const size_t parts = size > 4 * kPart ? 3 : 1;
  for (size_t part = 0; part < parts; ++part) {
    const size_t begin = part * (size - kPart) / 2;
    const size_t end = parts == 1 ? size : begin + kPart;
    for (size_t i = parts == 1 ? 0 : begin; i < end; i += 8) {
      if (!visit(i, std::min<size_t>(8, end - i))) return false;
    }
  }
  return true;
}

void Fill(const Block &block) {
  ForWords(block.size, [&block](size_t offset, size_t length) {
    const uint64_t word = Pattern(block.id, offset);
    memcpy(block.start + offset, &word, length);
    return true;
  });
}

bool IsIntact(const Block &block) {
  return ForWords(block.size, [&block](size_t offset, size_t length) {
    const uint64_t word = Pattern(block.id, offset);
    return memcmp(block.start + offset, &word, length) == 0;
  });
}

}  // namespace

// ---- The progress pipe --------------------------------------------------------------------------

void Stage(const char *name) { SayTwo("stage", name); }

void StageMisuse(const void *pointer) {
  char text[40];
  snprintf(text, sizeof text, "0x%zx", reinterpret_cast<size_t>(pointer));
  SayTwo("pointer", text);
  Stage("misuse");
}

void Harm(const char *what) { SayTwo("harm", what); }

void NotApplicable(const char *what) {
  SayTwo("lacks", what);
  _exit(kNotApplicable);
}

// ---- Blocks -------------------------------------------------------------------------------------

unsigned char *LiveSet::New(size_t size) {
  void *start = Hide(malloc(size));
  if (start == nullptr) {
    SayTwo("harm", "no memory");
    _exit(0);
  }
  Add(start, size);
  return static_cast<unsigned char *>(start);
}

void LiveSet::Add(void *start, size_t size) {
  auto *bytes = static_cast<unsigned char *>(start);
  if (reinterpret_cast<uintptr_t>(start) % 16 != 0) Harm("misaligned block");
  for (size_t i = 0; i < count_; ++i) {
    if (bytes < blocks_[i].start + blocks_[i].size && blocks_[i].start < bytes + size) Harm("handed out twice");
  }
  if (count_ == kMost) _exit(kBroken);
  blocks_[count_] = {bytes, size, next_id_++};
  Fill(blocks_[count_++]);
}

void LiveSet::Forget(const void *start) {
  for (size_t i = count_; i > 0; --i) {
    if (blocks_[i - 1].start != start) continue;
    std::copy(blocks_ + i, blocks_ + count_, blocks_ + i - 1);
    --count_;
    return;
  }
  _exit(kBroken);
}

void LiveSet::Free(void *start) {
  Forget(start);
  free(Hide(start));
}

void LiveSet::Check() {
  for (size_t i = 0; i < count_; ++i) {
    if (!IsIntact(blocks_[i])) Harm("contents changed");
  }
}

void LiveSet::FreeFrom(size_t first) {
  for (size_t i = first; i < count_; ++i) free(Hide(blocks_[i].start));
  count_ = first;
}

void LiveSet::SortByAddress() {
  std::sort(blocks_, blocks_ + count_, [](const Block &a, const Block &b) { return a.start < b.start; });
}

// ---- What cases do ------------------------------------------------------------------------------

size_t CrowdOf(size_t size) { return size <= 16 ? 1200 : size <= 4096 ? 24 : 8; }
size_t AgainOf(size_t size) { return size <= 4096 ? 64 : size <= 256 * 1024 ? 10 : 6; }
size_t StormOf(size_t size) { return size <= 16 ? 4000 : size <= 4096 ? 300 : size <= 256 * 1024 ? 40 : 24; }

void UseAgain(Scene &scene) {
  for (size_t i = 0; i < AgainOf(scene.size); ++i) scene.live.New(scene.size);
}

void TakeSpares(Scene &scene) {
  for (scene.spares = 0; scene.spares < StormOf(scene.size); ++scene.spares) {
    void *p = Hide(malloc(scene.size));
    if (p == nullptr) _exit(kBroken);
    memset(p, 1, 16);
    scene.spare[scene.spares] = p;
  }
}

void FreeSpares(Scene &scene) {
  for (size_t i = 0; i < scene.spares; ++i) free(Hide(scene.spare[i]));
  scene.spares = 0;
}

namespace {

struct Errand {
  void (*function)(Scene &);
  Scene *scene;
};

void *RunErrand(void *errand) {
  const Errand *mine = static_cast<Errand *>(errand);
  // Like nearly every thread, it has allocated. For a thread that only frees, the allocator has no cache to compare
  // with.
  free(Hide(malloc(2000)));
  mine->function(*mine->scene);
  return nullptr;
}

}  // namespace

void OnAnotherThread(void (*function)(Scene &), Scene &scene) {
  Errand errand = {function, &scene};
  pthread_t thread;
  if (pthread_create(&thread, nullptr, RunErrand, &errand) != 0) _exit(kBroken);
  if (pthread_join(thread, nullptr) != 0) _exit(kBroken);
}

namespace {

void Storm(Scene &scene) {
  TakeSpares(scene);
  // Overlapping blocks are neighbours in the order of addresses.
  std::sort(scene.spare, scene.spare + scene.spares);
  for (size_t i = 1; i < scene.spares; ++i) {
    const auto *before = static_cast<unsigned char *>(scene.spare[i - 1]);
    if (before + scene.size > static_cast<unsigned char *>(scene.spare[i])) Harm("handed out twice");
  }
  FreeSpares(scene);
}

// What a program does next, so that late checks can notice the misuse.
void GoOn(Scene &scene) {
  Stage("again");
  scene.live.Check();
  UseAgain(scene);
  scene.live.Check();
  scene.live.FreeFrom(0);
  Stage("flush");
  Storm(scene);
  if (hak_heap_verify != nullptr && !hak_heap_verify()) Harm("heap does not verify");
}

const Case *g_case;

void MisuseAndGoOn(Scene &scene) {
  g_case->misuse(scene);
  if ((g_case->flags & kQuiet) == 0) GoOn(scene);
}

void MisuseOnAThread(Scene &scene) {
  MisuseAndGoOn(scene);
  Stage("thread_end");
}

// Many blocks around the victim, so that its slab, page or run stays in use.
void SetScene(Scene &scene) {
  for (size_t i = 0; i < CrowdOf(scene.size); ++i) scene.live.New(scene.size);
  scene.victim = scene.live[scene.live.Count() / 2].start;
  scene.other = scene.live[scene.live.Count() / 2 + 1].start;
}

int Run() {
  Scene &scene = g_scene;
  SetScene(scene);
  if (g_case->prepare != nullptr) g_case->prepare(scene);
  if (!scene.remote || (g_case->flags & kByMain) != 0) {
    MisuseAndGoOn(scene);
  } else {
    OnAnotherThread(MisuseOnAThread, scene);
    if ((g_case->flags & kQuiet) == 0) GoOn(scene);
  }
  Stage("process_end");
  return 0;
}

template <typename Visit>
void ForAllCases(Visit visit) {
  for (const CaseList &list : {DoubleFrees(), WrongCalls(), Writes()}) {
    for (size_t i = 0; i < list.count; ++i) visit(list.cases[i]);
  }
}

int List() {
  ForAllCases([](const Case &one) {
    for (const size_t size : kSizes) {
      if ((one.flags & kRemoteOnly) == 0) printf("%s %zu same\n", one.name, size);
      printf("%s %zu remote\n", one.name, size);
    }
  });
  return fflush(stdout) == 0 ? 0 : 1;
}

int Usage(const char *what, const char *word) {
  fprintf(stderr, "misuse_case: %s%s\nusage: misuse_case NAME SIZE same|remote\n       misuse_case --list\n", what,
          word);
  return 2;
}

int Main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--list") == 0) return List();
  if (argc != 4) return Usage("wants three arguments", "");
  ForAllCases([argv](const Case &one) {
    if (strcmp(one.name, argv[1]) == 0) g_case = &one;
  });
  if (g_case == nullptr) return Usage("no such case: ", argv[1]);
  for (const size_t size : kSizes) {
    char text[24];
    snprintf(text, sizeof text, "%zu", size);
    if (strcmp(text, argv[2]) == 0) g_scene.size = size;
  }
  if (g_scene.size == 0) return Usage("no such size: ", argv[2]);
  g_scene.remote = strcmp(argv[3], "remote") == 0;
  if (!g_scene.remote && strcmp(argv[3], "same") != 0) return Usage("neither same nor remote: ", argv[3]);
  if (!g_scene.remote && (g_case->flags & kRemoteOnly) != 0) return Usage("only remote: ", argv[1]);
  // As in most C++ programs, something besides operator new links the C++ runtime.
  std::set_new_handler(nullptr);
  const char *progress = getenv("MISUSE_PROGRESS");
  if (progress != nullptr) g_progress = atoi(progress);
  return Run();
}

}  // namespace
}  // namespace misuse

int main(int argc, char **argv) { return misuse::Main(argc, argv); }
