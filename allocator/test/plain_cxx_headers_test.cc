// SPDX-License-Identifier: Apache-2.0
//
// The C++ headers without exceptions and without type information, as in some code bases; stl_allocator.h and those of
// compat/ also as C++11. BUILD.bazel compiles this file in each of these ways.
#include <hakmem/compat/jemalloc.h>
#include <hakmem/compat/tcmalloc.h>
#include <hakmem/stl_allocator.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>
#if __cplusplus >= 201703L
#include <hakmem/memory_resource.h>
#endif

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this is to be compiled with -fno-exceptions -fno-rtti"
#endif

namespace {

// Whether the function ends the process by abort().
bool Aborts(void (*function)()) {
  const pid_t child = fork();
  if (child == 0) {
    function();
    _exit(0);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

int failed = 0;

void Expect(bool good, const char *what) {
  if (good) return;
  printf("FAILED: %s\n", what);
  failed = 1;
}

void TooLong() { (void)hakmem::StlAllocator<int>().allocate(SIZE_MAX); }

void TooMuch() { (void)hakmem::StlAllocator<char>().allocate(static_cast<size_t>(PTRDIFF_MAX) - 8192); }

}  // namespace

int main() {
  std::vector<int, hakmem::StlAllocator<int>> numbers;
  for (int i = 0; i < 1000; i++) numbers.push_back(i);
  Expect(numbers[999] == 999, "a vector keeps its numbers");
  Expect(Aborts(TooLong), "a length that overflows aborts");
  Expect(Aborts(TooMuch), "memory that cannot be had aborts");
  void *const block = mallocx(1000, MALLOCX_ALIGN(128) | MALLOCX_ZERO);
  Expect(MallocExtension::instance()->GetAllocatedSize(block) == sallocx(block, 0), "both headers have the same sizes");
  size_t live = 0;
  Expect(MallocExtension::instance()->GetNumericProperty("generic.current_allocated_bytes", &live) && live >= 1000,
         "a property");
  sdallocx(block, 1000, MALLOCX_ALIGN(128));
#if __cplusplus >= 201703L
  Expect(tcmalloc::MallocExtension::GetNumericProperty("generic.heap_size").value_or(0) > live, "a property of C++17");
  const std::pmr::vector<int> more(1000, 7, hakmem::hakmem_resource());
  Expect(more[999] == 7, "a pmr vector keeps its numbers");
  Expect(Aborts([] { (void)hakmem::hakmem_resource()->allocate(SIZE_MAX); }), "a resource without memory aborts");
  hakmem::MemoryResource one;
  const hakmem::MemoryResource other;
  Expect(one.is_equal(one) && !one.is_equal(other), "without type information only the same object is equal");
#endif
  if (failed == 0) puts("plain C++ is served");
  return failed;
}
