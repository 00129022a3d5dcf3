// SPDX-License-Identifier: Apache-2.0

//! Counts words in several threads, on hakmem. `HAKMEM_SHOW_CONFIG=1` shows that hakmem serves it.

use std::collections::HashMap;
use std::thread;

#[global_allocator]
static ALLOCATOR: hakmem::Hakmem = hakmem::Hakmem;

const TEXT: &str = "the quick brown fox jumps over the lazy dog and the dog sleeps";

fn count(text: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for word in text.split(' ') {
        *counts.entry(word.to_string()).or_insert(0) += 1;
    }
    counts
}

fn main() {
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| count(&[TEXT; 1000].join(" ")))).collect();
    let mut total: HashMap<String, usize> = HashMap::new();
    for thread in threads {
        for (word, times) in thread.join().expect("a thread ended early") {
            *total.entry(word).or_insert(0) += times;
        }
    }
    let block = Box::new(total["the"]);
    let pointer: *const usize = &*block;
    assert!(hakmem::owns(pointer.cast()), "another allocator serves");
    println!("hakmem {}: {} times \"the\"", hakmem::version(), block);
}
