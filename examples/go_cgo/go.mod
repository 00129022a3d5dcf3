// SPDX-License-Identifier: Apache-2.0
module example.org/hakmem

go 1.19
