// SPDX-License-Identifier: Apache-2.0

package hakmem

import (
	"bytes"
	"errors"
	"math"
	"sync"
	"testing"
	"unsafe"
)

// slack is for blocks of Go's own C code, which hakmem serves too.
const slack = 65536

var sizes = []int{1, 7, 16, 100, 1000, 4096, 32768, 40000, 1 << 20}

func must(t *testing.T, b []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fill(b []byte, value byte) {
	for i := range b {
		b[i] = value
	}
}

func all(b []byte, value byte) bool {
	return bytes.Count(b, []byte{value}) == len(b)
}

func TestBlocks(t *testing.T) {
	live := LiveBytes()
	for _, size := range sizes {
		for round := 0; round < 3; round++ {
			b, err := New(size)
			must(t, b, err)
			if len(b) != size || cap(b) != size || !Owns(b) || !all(b, 0) {
				t.Errorf("a block of %d bytes: length %d, capacity %d", size, len(b), cap(b))
			}
			fill(b, 0xd7)
			Free(b[:0]) // the length does not matter
		}
	}
	if now := LiveBytes(); now > live+slack {
		t.Errorf("%d bytes are live, %d were", now, live)
	}
}

func TestAligned(t *testing.T) {
	for alignment := 1; alignment <= 4<<20; alignment *= 2 {
		for _, size := range sizes {
			b, err := NewAligned(size, alignment)
			must(t, b, err)
			if uintptr(unsafe.Pointer(&b[0]))%uintptr(alignment) != 0 || !all(b, 0) {
				t.Errorf("a block of %d bytes at a multiple of %d", size, alignment)
			}
			fill(b, 0xd7)
			FreeAligned(b, alignment)
		}
	}
}

func TestResize(t *testing.T) {
	for _, size := range sizes {
		for _, next := range []int{1, size + 1, 2 * size, 50000} {
			b, err := New(size)
			fill(must(t, b, err), 0x3c)
			resized, err := Resize(b, next)
			must(t, resized, err)
			kept := size
			if next < kept {
				kept = next
			}
			if len(resized) != next || !all(resized[:kept], 0x3c) || !all(resized[kept:], 0) {
				t.Errorf("from %d to %d bytes", size, next)
			}
			Free(resized)
		}
	}
}

func TestWhatCannotBeHad(t *testing.T) {
	if _, err := New(math.MaxInt); !errors.Is(err, ErrNoMemory) {
		t.Error(err)
	}
	if _, err := NewAligned(math.MaxInt, 4096); !errors.Is(err, ErrNoMemory) {
		t.Error(err)
	}
	b, err := New(100)
	fill(must(t, b, err), 0x42)
	if resized, err := Resize(b, math.MaxInt); !errors.Is(err, ErrNoMemory) || resized != nil {
		t.Error(err)
	}
	if !all(b, 0x42) || !Owns(b) {
		t.Error("the block changed")
	}
	Free(b)
	Free(nil)
	if Owns(nil) || Owns(make([]byte, 100)) {
		t.Error("Go's memory is not hakmem's")
	}
	for _, call := range []func(){
		func() { _, _ = New(0) }, func() { _, _ = NewAligned(1, 3) }, func() { _, _ = Resize(nil, -1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a wrong argument is accepted")
				}
			}()
			call()
		}()
	}
}

// Blocks are freed by other goroutines, and so by other threads, than those that made them.
func TestGoroutines(t *testing.T) {
	live := LiveBytes()
	blocks := make(chan []byte, 64)
	var makers, freers sync.WaitGroup
	for maker := 0; maker < 4; maker++ {
		makers.Add(1)
		go func(maker int) {
			defer makers.Done()
			for size := 1; size <= 3000; size++ {
				b, err := New(size)
				if err != nil {
					t.Error(err)
					return
				}
				fill(b, byte(maker))
				blocks <- b
			}
		}(maker)
	}
	for freer := 0; freer < 4; freer++ {
		freers.Add(1)
		go func() {
			defer freers.Done()
			for b := range blocks {
				if !all(b, b[0]) {
					t.Error("a block changed")
				}
				Free(b)
			}
		}()
	}
	makers.Wait()
	close(blocks)
	freers.Wait()
	if now := LiveBytes(); now > live+slack {
		t.Errorf("%d bytes are live, %d were", now, live)
	}
	Trim()
}

func TestCIsServedToo(t *testing.T) {
	if !ServesC() {
		t.Error("C code has another malloc")
	}
}
