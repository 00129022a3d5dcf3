// SPDX-License-Identifier: Apache-2.0
//
// usage: deepbind_host WHAT [PLUGIN]
//
//   use      loads the plugin with RTLD_DEEPBIND, as PHP does, and frees blocks across the border
//   bound    prints the file that the plugin's malloc is in
//   change   the same, after hak_config_set("HAKMEM_DROP_DEEPBIND", "0"), and "1"
//   inner    as bound, but the plugin itself loads another PLUGIN of the same name from the folder `inner` beside it
//   early    as bound, for a plugin that the library libdeepbind_early.so has loaded
//   preinit  as bound, for a plugin that was loaded before all constructors of libraries
//   space    as bound, by dlmopen in a namespace of its own
//   names    names that are no plugin: NULL, "", and files that are missing
//
// With OWN_MALLOC it brings its own malloc, and takes its address. Exit status 0, or 1 after a line that says what
// failed.
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLAGS (RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND)

#ifdef OWN_MALLOC
static char arena[16 << 20] __attribute__((aligned(16)));
static size_t used;

void *malloc(size_t size) {
  // Relaxed: each call gets its own part.
  const size_t at = __atomic_fetch_add(&used, (size + 31) & ~(size_t)15, __ATOMIC_RELAXED);
  if (size > sizeof arena / 2 || at > sizeof arena / 2) return NULL;
  *(size_t *)(void *)(arena + at) = size;
  return arena + at + 16;
}
void free(void *ptr) { (void)ptr; }
void *calloc(size_t count, size_t size) { return malloc(count * size); }
void *realloc(void *ptr, size_t size) {
  void *block = malloc(size);
  if (ptr == NULL || block == NULL) return block;
  const size_t before = *(size_t *)(void *)((char *)ptr - 16);
  return memcpy(block, ptr, before < size ? before : size);
}
#endif

__attribute__((noreturn)) static void fail(const char *what) {
  const char *error = dlerror();  // NOLINT(concurrency-mt-unsafe): one thread
  printf("FAILED: %s: %s\n", what, error != NULL ? error : "no error of dlopen");
  exit(1);  // NOLINT(concurrency-mt-unsafe): one thread
}

static void *find(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) fail(name);
  return found;
}

static void *load(const char *name) {
  void *plugin = dlopen(name, FLAGS);
  if (plugin == NULL) fail("dlopen");
  return plugin;
}

static void use(void *plugin) {
  void *(*make)(size_t) = NULL;
  void (*give)(void *) = NULL;
  int (*use_libc)(void) = NULL;
  *(void **)&make = find(plugin, "plugin_make");
  *(void **)&give = find(plugin, "plugin_free");
  *(void **)&use_libc = find(plugin, "plugin_use_libc");
  for (size_t size = 1; size < 300000; size = size * 2 + 1) {
    void *ours = malloc(size);
    void *theirs = make(size);
    if (ours == NULL || theirs == NULL) fail("malloc");
    give(ours);
    void *larger = realloc(theirs, size * 2);
    if (larger == NULL) fail("realloc");
    free(larger);
  }
  if (use_libc() != 0) fail("a function of the C library");
}

static void print_bound(void *plugin) {
  void *(*bound)(void) = NULL;
  *(void **)&bound = find(plugin, "plugin_malloc");
  Dl_info info;
  if (dladdr(bound(), &info) == 0) fail("dladdr");
  const char *base = strrchr(info.dli_fname, '/');
  puts(base != NULL ? base + 1 : info.dli_fname);
}

static void print_bound_with(const char *setting, const char *name) {
  int (*set)(const char *, const char *) = NULL;
  *(void **)&set = find(RTLD_DEFAULT, "hak_config_set");
  const int error = set("HAKMEM_DROP_DEEPBIND", setting);
  if (error != 0) printf("hak_config_set: %s\n", strerror(error));  // NOLINT(concurrency-mt-unsafe)
  void *plugin = load(name);
  print_bound(plugin);
  if (dlclose(plugin) != 0) fail("dlclose");
}

static void expect_names(void) {
  void *program = dlopen(NULL, FLAGS);
  if (program == NULL || dlsym(program, "malloc") == NULL) fail("dlopen(NULL)");
  if (dlopen("", FLAGS) != program) fail("dlopen(\"\") is not the program");
  if (dlopen("/nowhere/libnone.so", FLAGS) != NULL) fail("dlopen of a missing file");
  const char *error = dlerror();  // NOLINT(concurrency-mt-unsafe)
  if (error == NULL || strstr(error, "/nowhere/libnone.so") == NULL) fail("the message does not name the file");
  // An error stays one: no RTLD_LAZY and no RTLD_NOW.
  if (dlopen("/nowhere/libnone.so", RTLD_DEEPBIND) != NULL) fail("dlopen with bad flags");
  error = dlerror();  // NOLINT(concurrency-mt-unsafe)
  if (error == NULL || strstr(error, "invalid mode") == NULL) fail("the message does not name the flags");
  if (dlopen("libdeepbind_plugin.so", FLAGS | RTLD_NOLOAD) != NULL) fail("RTLD_NOLOAD");
}

static void *before_constructors;

static void preinit(int argc, char **argv, char **environment) {
  (void)environment;
  if (argc == 3 && strcmp(argv[1], "preinit") == 0) before_constructors = dlopen(argv[2], FLAGS);
}
__attribute__((section(".preinit_array"), used)) static void (*const run_preinit)(int, char **, char **) = preinit;

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  const char *name = argc > 2 ? argv[2] : "";
  // The address of a function in a program that is not position-independent is one of the program.
  void *(*const volatile taken)(size_t) = malloc;
  void *(*const volatile taken_too)(void *, size_t) = realloc;
  free(taken_too(taken(1), 2));
  if (strcmp(what, "use") == 0) {
    use(load(name));
  } else if (strcmp(what, "bound") == 0) {
    print_bound(load(name));
  } else if (strcmp(what, "change") == 0) {
    print_bound_with("0", name);
    print_bound_with("1", name);
  } else if (strcmp(what, "inner") == 0) {
    void *(*open)(const char *, int) = NULL;
    *(void **)&open = find(load(name), "plugin_open");
    void *inner = open("libdeepbind_inner.so", FLAGS);
    if (inner == NULL) fail("dlopen by the plugin");
    print_bound(inner);
  } else if (strcmp(what, "early") == 0) {
    void *(*early)(void) = NULL;
    *(void **)&early = find(RTLD_DEFAULT, "early_plugin");
    print_bound(early());
    use(early());
  } else if (strcmp(what, "preinit") == 0) {
    if (before_constructors == NULL) fail("dlopen before the constructors");
    print_bound(before_constructors);
    use(before_constructors);
  } else if (strcmp(what, "space") == 0) {
    void *plugin = dlmopen(LM_ID_NEWLM, name, RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) fail("dlmopen");
    print_bound(plugin);
  } else if (strcmp(what, "names") == 0) {
    expect_names();
  } else {
    fail("no such case");
  }
  puts("good");
  return 0;
}
