// SPDX-License-Identifier: Apache-2.0
//
// What a lock guards and what a function expects of it, for clang's thread-safety analysis (-Wthread-safety): an access
// to a guarded field without its lock is an error in clang builds of the allocator's C files. Empty under gcc.
//
// In C an attribute can name a global, or what a parameter points at, but not the sibling of a field. So a field under
// a lock that exists once names that lock, and a field under a lock of which there are many names a role (struct
// hak_role): whoever takes any of these locks plays the role, and the compiler does not tell which one it was.
#ifndef HAKMEM_OS_LOCK_ANNOTATIONS_H_
#define HAKMEM_OS_LOCK_ANNOTATIONS_H_

#if defined(__clang__)
#define HAK_LOCK_ATTRIBUTE(attribute) __attribute__((attribute))
#else
#define HAK_LOCK_ATTRIBUTE(attribute)
#endif

// Of a struct: it is a lock, or stands for one. `kind` is what warnings call it.
#define HAK_CAPABILITY(kind) HAK_LOCK_ATTRIBUTE(capability(kind))

// Of a variable or a field: it, or what it points at, is read and written under the lock only. Not for atomics that
// others read at any time.
#define HAK_GUARDED_BY(lock) HAK_LOCK_ATTRIBUTE(guarded_by(lock))
#define HAK_PT_GUARDED_BY(lock) HAK_LOCK_ATTRIBUTE(pt_guarded_by(lock))

// Of a function: the caller holds the locks (REQUIRES) or does not (EXCLUDES); it takes them (ACQUIRE), gives them back
// (RELEASE), or takes them when it returns `result` (TRY_ACQUIRE).
#define HAK_REQUIRES(...) HAK_LOCK_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define HAK_EXCLUDES(...) HAK_LOCK_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define HAK_ACQUIRE(...) HAK_LOCK_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define HAK_RELEASE(...) HAK_LOCK_ATTRIBUTE(release_capability(__VA_ARGS__))
#define HAK_TRY_ACQUIRE(result, ...) HAK_LOCK_ATTRIBUTE(try_acquire_capability(result, __VA_ARGS__))

// Of a function's definition: its body is not analysed. `reason`, a string, says why.
#define HAK_NO_THREAD_SAFETY_ANALYSIS(reason) HAK_LOCK_ATTRIBUTE(no_thread_safety_analysis)

// The right to what one of several locks guards. Only declared, never defined: no code uses it.
struct HAK_CAPABILITY("role") hak_role;

#endif  // HAKMEM_OS_LOCK_ANNOTATIONS_H_
