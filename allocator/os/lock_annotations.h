// SPDX-License-Identifier: Apache-2.0
//
// What a lock guards and what a function expects of it, for clang's thread-safety analysis (-Wthread-safety): an access
// to a guarded field without its lock is an error in clang builds of the allocator's C files. Empty under gcc.
//
// In C an attribute can name a global, or what a parameter points at, but not another field of the same struct. So a
// field under a global lock names that lock. A field under a lock that exists many times names a role (struct
// hak_role): whoever takes any of these locks has the role, and the compiler does not check which lock it was.
#ifndef HAKMEM_OS_LOCK_ANNOTATIONS_H_
#define HAKMEM_OS_LOCK_ANNOTATIONS_H_

#if defined(__clang__)
#define HAK_LOCK_ATTRIBUTE(attribute) __attribute__((attribute))
#else
#define HAK_LOCK_ATTRIBUTE(attribute)
#endif

// For a struct: it is a lock, or stands for one. Warnings call it `kind`.
#define HAK_CAPABILITY(kind) HAK_LOCK_ATTRIBUTE(capability(kind))

// For a variable or a field: it, or what it points at, is read and written under the lock only. Not for atomics that
// others read at any time.
#define HAK_GUARDED_BY(lock) HAK_LOCK_ATTRIBUTE(guarded_by(lock))
#define HAK_PT_GUARDED_BY(lock) HAK_LOCK_ATTRIBUTE(pt_guarded_by(lock))

// For a function: the caller holds the locks (REQUIRES) or does not (EXCLUDES); the function takes them (ACQUIRE),
// releases them (RELEASE), or has taken them if it returns `result` (TRY_ACQUIRE).
#define HAK_REQUIRES(...) HAK_LOCK_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define HAK_EXCLUDES(...) HAK_LOCK_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define HAK_ACQUIRE(...) HAK_LOCK_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define HAK_RELEASE(...) HAK_LOCK_ATTRIBUTE(release_capability(__VA_ARGS__))
#define HAK_TRY_ACQUIRE(result, ...) HAK_LOCK_ATTRIBUTE(try_acquire_capability(result, __VA_ARGS__))

// For a function's definition: its body is not analysed. `reason`, a string, says why.
#define HAK_NO_THREAD_SAFETY_ANALYSIS(reason) HAK_LOCK_ATTRIBUTE(no_thread_safety_analysis)

// The right to what one of several locks guards. Roles are declared but never defined, because no code uses them.
struct HAK_CAPABILITY("role") hak_role;

#endif  // HAKMEM_OS_LOCK_ANNOTATIONS_H_
