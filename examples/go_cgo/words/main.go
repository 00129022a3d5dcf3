// SPDX-License-Identifier: Apache-2.0

// A cache of texts outside Go's heap: the garbage collector has nothing to scan in it. HAKMEM_SHOW_CONFIG=1 shows that
// hakmem serves the program.
package main

import (
	"fmt"
	"log"
	"runtime"

	"example.org/hakmem"
)

func main() {
	const texts = 10000
	cache := make(map[int][]byte, texts)
	for i := 0; i < texts; i++ {
		text := fmt.Sprintf("text %d", i)
		b, err := hakmem.New(1000 + len(text))
		if err != nil {
			log.Fatal(err)
		}
		copy(b, text)
		cache[i] = b
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	live := hakmem.LiveBytes()
	for i, b := range cache {
		if want := fmt.Sprintf("text %d", i); string(b[:len(want)]) != want {
			log.Fatalf("text %d changed", i)
		}
		hakmem.Free(b)
	}
	fmt.Printf("hakmem %s: %d texts; more on hakmem's heap than on Go's: %t\n",
		hakmem.Version(), texts, live > memory.HeapAlloc)
}
