// SPDX-License-Identifier: Apache-2.0

package hakmem

// Where header and library are, for the go command. rules_go knows it from cdeps.

// #cgo pkg-config: hakmem
import "C"
