// SPDX-License-Identifier: Apache-2.0

// Package hakmem gives Go programs memory of hakmem: blocks outside Go's heap, which the garbage collector neither scans
// nor counts, for caches and buffers that are large or shared with C.
//
// A block is a slice whose capacity is the size of the request. It must hold no Go pointers, and it lives until Free.
// Any goroutine may free it.
package hakmem

// #include <hakmem/hakmem.h>
// #include <stdlib.h>
import "C"

import (
	"errors"
	"unsafe"
)

// ErrNoMemory says that a request cannot be served. The block that was to be resized is unchanged.
var ErrNoMemory = errors.New("hakmem: out of memory")

// everyAlignment is the alignment that every block has.
const everyAlignment = 16

func block(pointer unsafe.Pointer, size int) ([]byte, error) {
	if pointer == nil {
		return nil, ErrNoMemory
	}
	return unsafe.Slice((*byte)(pointer), size), nil
}

func address(b []byte) unsafe.Pointer {
	if cap(b) == 0 {
		return nil
	}
	return unsafe.Pointer(&b[:1][0])
}

// New returns a block of size bytes, all of them zero. The size must be above 0.
func New(size int) ([]byte, error) {
	if size <= 0 {
		panic("hakmem.New: the size must be above 0")
	}
	return block(C.hak_zalloc(C.size_t(size)), size)
}

// NewAligned is New at a multiple of alignment, a power of two. FreeAligned frees the block.
func NewAligned(size, alignment int) ([]byte, error) {
	if size <= 0 || alignment <= 0 || alignment&(alignment-1) != 0 {
		panic("hakmem.NewAligned: the size must be above 0, the alignment a power of two")
	}
	return block(C.hak_aligned_calloc(C.size_t(alignment), 1, C.size_t(size)), size)
}

// Resize returns a block of size bytes with the bytes of b, a block of New or Resize, which must not be used any more.
// New bytes are zero. On an error b is unchanged and still to be freed.
func Resize(b []byte, size int) ([]byte, error) {
	if size <= 0 {
		panic("hakmem.Resize: the size must be above 0")
	}
	before := cap(b)
	resized, err := block(C.hak_realloc(address(b), C.size_t(size)), size)
	for i := before; i < len(resized); i++ {
		resized[i] = 0
	}
	return resized, err
}

// Free frees b, a block of New or Resize; its length may have changed, its beginning not. Builds of hakmem that check
// sizes check its capacity.
func Free(b []byte) {
	C.hak_free_sized(address(b), C.size_t(cap(b)))
}

// FreeAligned frees b, a block of NewAligned with that alignment.
func FreeAligned(b []byte, alignment int) {
	C.hak_free_aligned_sized(address(b), C.size_t(alignment), C.size_t(cap(b)))
}

// Owns tells whether b is a block of hakmem.
func Owns(b []byte) bool {
	return bool(C.hak_owns(address(b)))
}

// LiveBytes returns how many bytes of hakmem's blocks are in use, by Go and C together.
func LiveBytes() uint64 {
	var stats C.hak_stats
	stats.version = C.HAK_STATS_VERSION
	C.hak_stats_get(&stats)
	return uint64(stats.live_bytes)
}

// Trim returns free memory to the system, and how many bytes that were.
func Trim() uint64 {
	return uint64(C.hak_trim(0))
}

// Version returns version, profile and header mode of the library in use.
func Version() string {
	return C.GoString(C.hak_version())
}

// ServesC tells whether the malloc of the C code in this program is hakmem too.
func ServesC() bool {
	pointer := C.malloc(100)
	defer C.free(pointer)
	return bool(C.hak_owns(pointer))
}
