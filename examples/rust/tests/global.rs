// SPDX-License-Identifier: Apache-2.0

//! The tests' own collections are on hakmem. OBSERVE and HARDENED builds of it end the process at the first wrong size
//! or alignment of a free.

use hakmem::Hakmem;
use std::alloc::{alloc, alloc_zeroed, dealloc, realloc, GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

#[global_allocator]
static ALLOCATOR: Hakmem = Hakmem;

fn layouts() -> Vec<Layout> {
    let mut layouts = Vec::new();
    for exponent in 0..=22 {
        for size in [1, 7, 16, 100, 1000, 4096, 32768, 40000, 200000] {
            layouts.push(Layout::from_size_align(size, 1 << exponent).unwrap());
        }
    }
    layouts
}

unsafe fn all_are(block: *const u8, begin: usize, end: usize, value: u8) -> bool {
    (begin..end).all(|index| *block.add(index) == value)
}

#[test]
fn blocks_have_size_and_alignment() {
    for layout in layouts() {
        unsafe {
            let block = alloc(layout);
            assert!(!block.is_null() && hakmem::owns(block.cast()), "{:?}", layout);
            assert_eq!(block as usize % layout.align(), 0, "{:?}", layout);
            assert!(hakmem::usable_size(block.cast()) >= layout.size(), "{:?}", layout);
            block.write_bytes(0x5a, layout.size());
            dealloc(block, layout);
        }
    }
}

#[test]
fn zeroed_blocks_are_zero() {
    for layout in layouts() {
        unsafe {
            let dirty = alloc(layout);
            dirty.write_bytes(0xd7, layout.size());
            dealloc(dirty, layout);
            let block = alloc_zeroed(layout);
            assert!(all_are(block, 0, layout.size(), 0), "{:?}", layout);
            assert_eq!(block as usize % layout.align(), 0, "{:?}", layout);
            dealloc(block, layout);
        }
    }
}

#[test]
fn resized_blocks_keep_bytes_and_alignment() {
    for layout in layouts() {
        for new_size in [1, layout.size() + 1, layout.size() * 2, 50000] {
            unsafe {
                let block = alloc(layout);
                block.write_bytes(0x3c, layout.size());
                let resized = realloc(block, layout, new_size);
                assert!(!resized.is_null(), "{:?} {}", layout, new_size);
                assert_eq!(resized as usize % layout.align(), 0, "{:?} {}", layout, new_size);
                assert!(all_are(resized, 0, layout.size().min(new_size), 0x3c), "{:?} {}", layout, new_size);
                dealloc(resized, Layout::from_size_align(new_size, layout.align()).unwrap());
            }
        }
    }
}

#[test]
fn what_cannot_be_had_is_null_and_leaves_the_block() {
    let most = isize::MAX as usize;
    for align in [1, 16, 4096] {
        unsafe {
            let huge = Layout::from_size_align(most - align + 1, align).unwrap();
            assert!(ALLOCATOR.alloc(huge).is_null());
            assert!(ALLOCATOR.alloc_zeroed(huge).is_null());
            let layout = Layout::from_size_align(100, align).unwrap();
            let block = alloc(layout);
            block.write_bytes(0x42, 100);
            assert!(ALLOCATOR.realloc(block, layout, most - align + 1).is_null());
            assert!(all_are(block, 0, 100, 0x42));
            dealloc(block, layout);
        }
    }
    let mut vector: Vec<u8> = Vec::new();
    assert!(vector.try_reserve(most).is_err());
}

#[repr(align(4096))]
struct Page([u8; 4096]);

#[test]
fn collections_of_all_kinds() {
    let mut map = BTreeMap::new();
    for number in 0..10000_u64 {
        map.insert(number, number.to_string());
    }
    map.retain(|number, _| number % 3 == 0);
    assert!(map.iter().all(|(number, text)| *text == number.to_string()));

    let pages: Vec<Box<Page>> = (0..50).map(|number| Box::new(Page([number; 4096]))).collect();
    assert!(pages.iter().all(|page| (&**page as *const Page) as usize % 4096 == 0));
    assert!(pages.iter().enumerate().all(|(number, page)| page.0[4095] == number as u8));

    let mut text = String::new();
    for _ in 0..100000 {
        text.push('x');
    }
    text.truncate(10);
    text.shrink_to_fit();
    assert_eq!(text, "xxxxxxxxxx");
}

#[test]
fn other_threads_free() {
    let (sender, receiver) = mpsc::channel::<Vec<u32>>();
    let freeing = thread::spawn(move || receiver.iter().map(|numbers| numbers.len()).sum::<usize>());
    let sending: Vec<_> = (0..3)
        .map(|_| {
            let sender = sender.clone();
            thread::spawn(move || (0..2000).for_each(|length| sender.send(vec![7; length]).unwrap()))
        })
        .collect();
    drop(sender);
    sending.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(freeing.join().unwrap(), 3 * (0..2000).sum::<usize>());
    hakmem::thread_flush();
    hakmem::trim(0);
}

#[test]
fn the_library_is_named() {
    let version = hakmem::version();
    assert!(version.starts_with(concat!(env!("CARGO_PKG_VERSION"), " ")), "{}", version);
    assert!(version.contains("header="), "{}", version);
}
