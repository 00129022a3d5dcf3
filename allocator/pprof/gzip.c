// SPDX-License-Identifier: Apache-2.0
//
// A gzip compressor: fixed Huffman codes, greedy matches.
#include "allocator/pprof/gzip.h"

#include "allocator/os/bytes.h"

#define END_OF_BLOCK 256u
// A match of three bytes seldom takes fewer bits than the bytes.
#define MIN_MATCH 4u
#define MAX_MATCH 258u

static void flush(struct hak_gzip *gzip) {
  if (gzip->error == 0 && gzip->in_output != 0) {
    gzip->error = gzip->sink(gzip->context, gzip->output, gzip->in_output);
  }
  gzip->in_output = 0;
}

static void put_byte(struct hak_gzip *gzip, uint32_t byte) {
  if (gzip->in_output == sizeof gzip->output) flush(gzip);
  gzip->output[gzip->in_output++] = (unsigned char)byte;
}

// At most 16 bits, the lowest first.
static void put_bits(struct hak_gzip *gzip, uint32_t value, uint32_t count) {
  gzip->bits |= (uint64_t)value << gzip->bit_count;
  gzip->bit_count += count;
  for (; gzip->bit_count >= 8; gzip->bit_count -= 8, gzip->bits >>= 8) put_byte(gzip, (uint32_t)(gzip->bits & 0xFF));
}

// A Huffman code goes out with its highest bit first.
static void put_code(struct hak_gzip *gzip, uint32_t code, uint32_t count) {
  uint32_t reversed = 0;
  for (uint32_t i = 0; i < count; i++) reversed |= (code >> i & 1u) << (count - 1 - i);
  put_bits(gzip, reversed, count);
}

// RFC 1951, 3.2.6.
static void put_symbol(struct hak_gzip *gzip, uint32_t symbol) {
  if (symbol < 144) {
    put_code(gzip, 0x30 + symbol, 8);
  } else if (symbol < 256) {
    put_code(gzip, 0x190 + symbol - 144, 9);
  } else if (symbol < 280) {
    put_code(gzip, symbol - 256, 7);
  } else {
    put_code(gzip, 0xC0 + symbol - 280, 8);
  }
}

static uint32_t highest_bit(uint32_t value) { return 31u - (uint32_t)__builtin_clz(value); }

// RFC 1951, 3.2.5: each further group of four length codes has one more extra bit, and so has each further pair of
// distance codes.
static void put_match(struct hak_gzip *gzip, uint32_t length, uint32_t distance) {
  const uint32_t l = length - 3;
  if (length == MAX_MATCH) {
    put_symbol(gzip, 285);
  } else {
    const uint32_t extra = l < 8 ? 0 : highest_bit(l) - 2;
    put_symbol(gzip, 257 + 4 * extra + (l >> extra));
    put_bits(gzip, l & ((1u << extra) - 1), extra);
  }
  const uint32_t d = distance - 1;
  const uint32_t extra = d < 4 ? 0 : highest_bit(d) - 1;
  put_code(gzip, 2 * extra + (d >> extra), 5);
  put_bits(gzip, d & ((1u << extra) - 1), extra);
}

// Where the four bytes at `at` were last, and notes that they are here now.
static uint16_t note(struct hak_gzip *gzip, uint32_t at) {
  const unsigned char *in = gzip->input + at;
  const uint32_t four = in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
  uint16_t *head = &gzip->heads[four * 2654435761u >> 19];
  const uint16_t before = *head;
  *head = (uint16_t)(at + 1);
  return before;
}
static_assert(HAK_GZIP_HEADS == 1u << (32 - 19), "a hash is an index");
static_assert(HAK_GZIP_BLOCK <= UINT16_MAX, "a place in a block, plus 1, fits");

static uint32_t match(const struct hak_gzip *gzip, uint32_t from, uint32_t at) {
  const uint32_t most = gzip->in_input - at < MAX_MATCH ? gzip->in_input - at : MAX_MATCH;
  uint32_t length = 0;
  while (length < most && gzip->input[from + length] == gzip->input[at + length]) length++;
  return length;
}

static void compress(struct hak_gzip *gzip, bool is_last) {
  hak_bytes_fill(gzip->heads, 0, sizeof gzip->heads);
  put_bits(gzip, is_last ? 1 : 0, 1);
  put_bits(gzip, 1, 2);
  for (uint32_t at = 0; at < gzip->in_input;) {
    const uint16_t before = at + MIN_MATCH <= gzip->in_input ? note(gzip, at) : 0;
    const uint32_t length = before != 0 ? match(gzip, before - 1u, at) : 0;
    if (length < MIN_MATCH) {
      put_symbol(gzip, gzip->input[at++]);
      continue;
    }
    put_match(gzip, length, at + 1 - before);
    const uint32_t end = at + length;
    for (at++; at < end; at++) {
      if (at + MIN_MATCH <= gzip->in_input) note(gzip, at);
    }
  }
  put_symbol(gzip, END_OF_BLOCK);
  gzip->in_input = 0;
}

// Half a byte at a time: the table for whole bytes would take a KiB.
static uint32_t crc_of(uint32_t crc, const unsigned char *bytes, size_t size) {
  static const uint32_t table[16] = {
      0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
      0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
  };
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return crc;
}

HAK_COLD void hak_gzip_begin(struct hak_gzip *gzip, hak_gzip_sink *sink, void *context) {
  gzip->sink = sink;
  gzip->context = context;
  gzip->error = 0;
  gzip->crc = UINT32_MAX;
  gzip->total = 0;
  gzip->bits = 0;
  gzip->bit_count = 0;
  gzip->in_input = 0;
  gzip->in_output = 0;
  // Magic, deflate, no flags, no time, no hint, Unix.
  static const unsigned char header[10] = {0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3};
  for (size_t i = 0; i < sizeof header; i++) put_byte(gzip, header[i]);
}

HAK_COLD void hak_gzip_put(struct hak_gzip *gzip, const void *bytes, size_t size) {
  if (gzip->error != 0) return;
  const unsigned char *from = bytes;
  gzip->crc = crc_of(gzip->crc, from, size);
  gzip->total += (uint32_t)size;
  while (size != 0) {
    if (gzip->in_input == HAK_GZIP_BLOCK) compress(gzip, false);
    const size_t room = HAK_GZIP_BLOCK - gzip->in_input;
    const size_t part = size < room ? size : room;
    hak_bytes_copy(gzip->input + gzip->in_input, from, part);
    gzip->in_input += (uint32_t)part;
    from += part;
    size -= part;
  }
}

HAK_COLD int hak_gzip_end(struct hak_gzip *gzip) {
  compress(gzip, true);
  put_bits(gzip, 0, (8 - gzip->bit_count) & 7);
  for (uint32_t i = 0; i < 4; i++) put_byte(gzip, ~gzip->crc >> (8 * i) & 0xFF);
  for (uint32_t i = 0; i < 4; i++) put_byte(gzip, gzip->total >> (8 * i) & 0xFF);
  flush(gzip);
  return gzip->error;
}
