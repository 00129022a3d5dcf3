// SPDX-License-Identifier: Apache-2.0

//! hakmem as the allocator of a Rust program:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: hakmem::Hakmem = hakmem::Hakmem;
//!
//! fn main() {
//!     let words = vec!["on", "hakmem"];
//!     assert!(hakmem::owns(words.as_ptr().cast()));
//! }
//! ```
//!
//! The calls are those of `<hakmem/hakmem.h>`. Each free passes the layout's size and alignment; OBSERVE and HARDENED
//! builds of hakmem check them.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::CStr;
use std::os::raw::c_void;

mod sys {
    use std::os::raw::{c_char, c_void};

    extern "C" {
        pub fn hak_malloc(size: usize) -> *mut c_void;
        pub fn hak_zalloc(size: usize) -> *mut c_void;
        pub fn hak_realloc(block: *mut c_void, size: usize) -> *mut c_void;
        pub fn hak_free_sized(block: *mut c_void, size: usize);
        pub fn hak_aligned_alloc(alignment: usize, size: usize) -> *mut c_void;
        pub fn hak_aligned_calloc(alignment: usize, count: usize, size: usize) -> *mut c_void;
        pub fn hak_aligned_realloc(block: *mut c_void, alignment: usize, size: usize) -> *mut c_void;
        pub fn hak_free_aligned_sized(block: *mut c_void, alignment: usize, size: usize);
        pub fn hak_usable_size(block: *const c_void) -> usize;
        pub fn hak_owns(address: *const c_void) -> bool;
        pub fn hak_thread_flush();
        pub fn hak_trim(keep_bytes: usize) -> usize;
        pub fn hak_version() -> *const c_char;
    }
}

/// The alignment that `hak_malloc` always gives.
const EVERY_ALIGNMENT: usize = 16;

/// hakmem, for `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hakmem;

// SAFETY: hakmem's functions do not unwind, are thread-safe, and return NULL or a block of that size and alignment.
// The layout's size is not 0, and its alignment a power of two, as GlobalAlloc requires of the caller.
unsafe impl GlobalAlloc for Hakmem {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= EVERY_ALIGNMENT {
            sys::hak_malloc(layout.size()).cast()
        } else {
            sys::hak_aligned_alloc(layout.align(), layout.size()).cast()
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= EVERY_ALIGNMENT {
            sys::hak_zalloc(layout.size()).cast()
        } else {
            sys::hak_aligned_calloc(layout.align(), 1, layout.size()).cast()
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.align() <= EVERY_ALIGNMENT {
            sys::hak_free_sized(block.cast(), layout.size());
        } else {
            sys::hak_free_aligned_sized(block.cast(), layout.align(), layout.size());
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= EVERY_ALIGNMENT {
            sys::hak_realloc(block.cast(), new_size).cast()
        } else {
            sys::hak_aligned_realloc(block.cast(), layout.align(), new_size).cast()
        }
    }
}

/// Whether a block of hakmem begins at the address; see `hak_owns` for freed blocks.
pub fn owns(address: *const c_void) -> bool {
    // SAFETY: hak_owns accepts every address.
    unsafe { sys::hak_owns(address) }
}

/// How many bytes of the block may be used; 0 for NULL.
///
/// # Safety
/// `block` is NULL or a live block of hakmem.
pub unsafe fn usable_size(block: *const c_void) -> usize {
    sys::hak_usable_size(block)
}

/// Returns the calling thread's cached blocks to their slabs, where other threads can reuse them.
pub fn thread_flush() {
    // SAFETY: it has no conditions.
    unsafe { sys::hak_thread_flush() }
}

/// Returns free memory to the system, except for `keep_bytes` of free slabs. Returns how many bytes were returned.
pub fn trim(keep_bytes: usize) -> usize {
    // SAFETY: it has no conditions.
    unsafe { sys::hak_trim(keep_bytes) }
}

/// Version, profile and header mode of the library in use, for example "0.1.0 standard header=none".
pub fn version() -> &'static str {
    // SAFETY: hak_version returns a static string that ends with a zero byte.
    unsafe { CStr::from_ptr(sys::hak_version()) }.to_str().unwrap_or("")
}
