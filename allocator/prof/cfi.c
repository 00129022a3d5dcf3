// SPDX-License-Identifier: Apache-2.0
//
// Reads the index and the entries of call frame information.
#include "allocator/prof/cfi.h"

#include "allocator/os/bytes.h"

// ---- Numbers ------------------------------------------------------------------------------------

uint64_t hak_cfi_number(struct hak_cfi_bytes *bytes, size_t size) {
  uint64_t number = 0;
  if ((size_t)(bytes->end - bytes->at) < size) {
    bytes->bad = true;
    bytes->at = bytes->end;
    return 0;
  }
  for (size_t i = 0; i < size; i++) number |= (uint64_t)bytes->at[i] << (8 * i);
  bytes->at += size;
  return number;
}

// Bits beyond 64 are lost.
static uint64_t leb(struct hak_cfi_bytes *bytes, bool is_signed) {
  uint64_t number = 0;
  uint32_t shift = 0;
  uint64_t byte;
  do {
    byte = hak_cfi_number(bytes, 1);
    if (shift < 64) number |= (byte & 0x7f) << shift;
    shift += 7;
  } while ((byte & 0x80) != 0);
  if (is_signed && shift < 64 && (byte & 0x40) != 0) number |= ~(uint64_t)0 << shift;
  return number;
}
uint64_t hak_cfi_uleb(struct hak_cfi_bytes *bytes) { return leb(bytes, false); }
int64_t hak_cfi_sleb(struct hak_cfi_bytes *bytes) { return (int64_t)leb(bytes, true); }

static void skip(struct hak_cfi_bytes *bytes, uint64_t size) {
  if (size > (uint64_t)(bytes->end - bytes->at)) {
    bytes->bad = true;
    size = (uint64_t)(bytes->end - bytes->at);
  }
  bytes->at += size;
}

// Encodings of addresses: the format, what it counts from, and whether it names a place with the address.
#define FORMAT 0x0fu
#define FORMAT_POINTER 0x00u
#define FORMAT_ULEB 0x01u
#define FORMAT_SIGNED 0x08u
#define FORMAT_SLEB 0x09u
#define FORMAT_INT32 0x0bu
#define FROM 0x70u
#define FROM_ZERO 0x00u
#define FROM_HERE 0x10u
#define FROM_INDEX 0x30u
#define INDIRECT 0x80u
#define OMITTED 0xffu
#define INDEX_ENCODING (FROM_INDEX | FORMAT_INT32)

static uint64_t signed_number(struct hak_cfi_bytes *bytes, size_t size) {
  const uint64_t number = hak_cfi_number(bytes, size);
  const uint32_t unused = (uint32_t)(64 - 8 * size);
  return (uint64_t)((int64_t)(number << unused) >> unused);
}

static uint64_t formatted(struct hak_cfi_bytes *bytes, uint32_t format) {
  switch (format) {
    case FORMAT_POINTER:
    case FORMAT_POINTER | FORMAT_SIGNED:
    case 0x04:
    case 0x04 | FORMAT_SIGNED:
      return hak_cfi_number(bytes, 8);
    case FORMAT_ULEB:
      return hak_cfi_uleb(bytes);
    case FORMAT_SLEB:
      return (uint64_t)hak_cfi_sleb(bytes);
    case 0x02:
      return hak_cfi_number(bytes, 2);
    case 0x02 | FORMAT_SIGNED:
      return signed_number(bytes, 2);
    case 0x03:
      return hak_cfi_number(bytes, 4);
    case FORMAT_INT32:
      return signed_number(bytes, 4);
    default:
      bytes->bad = true;
      return 0;
  }
}

static uint64_t encoded(struct hak_cfi_bytes *bytes, uint32_t encoding, const uint8_t *index) {
  if (encoding == OMITTED) return 0;
  const uint64_t here = (uint64_t)(uintptr_t)bytes->at;
  const uint64_t number = formatted(bytes, encoding & FORMAT);
  switch (encoding & FROM) {
    case FROM_ZERO:
      return number;
    case FROM_HERE:
      return here + number;
    case FROM_INDEX:
      return (uint64_t)(uintptr_t)index + number;
    default:
      bytes->bad = true;
      return 0;
  }
}

// ---- The index ----------------------------------------------------------------------------------

// An entry of the index: the first byte of a function and its description, both counted from the index.
#define INDEX_ENTRY_BYTES 8u

static int64_t index_number(const uint8_t *at) {
  struct hak_cfi_bytes bytes = {.at = at, .end = at + 4};
  return (int64_t)signed_number(&bytes, 4);
}

const uint8_t *hak_cfi_entry(const struct hak_cfi_tables *tables, uintptr_t pc) {
  struct hak_cfi_bytes bytes = {.at = tables->index, .end = tables->high};
  const uint64_t version = hak_cfi_number(&bytes, 1);
  const uint32_t of_tables = (uint32_t)hak_cfi_number(&bytes, 1);
  const uint32_t of_count = (uint32_t)hak_cfi_number(&bytes, 1);
  const uint32_t of_entries = (uint32_t)hak_cfi_number(&bytes, 1);
  (void)encoded(&bytes, of_tables, tables->index);
  const uint64_t count = encoded(&bytes, of_count, tables->index);
  if (bytes.bad || version != 1 || of_count == OMITTED || of_entries != INDEX_ENCODING || count == 0 ||
      count > (uint64_t)(bytes.end - bytes.at) / INDEX_ENTRY_BYTES) {
    return NULL;
  }
  const int64_t wanted = (int64_t)(pc - (uintptr_t)tables->index);
  // The last entry that is not behind `wanted` is in [low, high).
  uint64_t low = 0;
  for (uint64_t high = count; high - low > 1;) {
    const uint64_t middle = low + (high - low) / 2;
    if (index_number(bytes.at + middle * INDEX_ENTRY_BYTES) <= wanted) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const uint8_t *const found = bytes.at + low * INDEX_ENTRY_BYTES;
  if (index_number(found) > wanted) return NULL;
  const int64_t entry = index_number(found + 4);
  if (entry < tables->low - tables->index || entry > tables->high - tables->index - (int64_t)HAK_CFI_ENTRY_LEAST) {
    return NULL;
  }
  return tables->index + entry;
}

// ---- Entries ------------------------------------------------------------------------------------

// What the descriptions of several functions share.
struct common {
  uint64_t code_factor;
  int64_t data_factor;
  uint64_t return_register;
  uint32_t encoding;  // of addresses
  bool has_extra;     // a description has a length and bytes that this reader skips
  bool is_signal;
  struct hak_cfi_bytes program;
};

// The rest of an entry at `at`, after its length.
static struct hak_cfi_bytes open_entry(const struct hak_cfi_tables *tables, const uint8_t *at) {
  struct hak_cfi_bytes bytes = {.at = at, .end = tables->high};
  uint64_t length = hak_cfi_number(&bytes, 4);
  if (length == 0xffffffff) length = hak_cfi_number(&bytes, 8);
  // Programs of a real function are short, and a damaged length must not make us read for long.
  if (length == 0 || length > (uint64_t)(bytes.end - bytes.at) || length > (uint64_t)1 << 20) bytes.bad = true;
  if (!bytes.bad) bytes.end = bytes.at + length;
  return bytes;
}

static bool read_augmentation(struct hak_cfi_bytes *bytes, const char *letters, const uint8_t *index,
                              struct common *common) {
  const uint64_t size = hak_cfi_uleb(bytes);
  if (bytes->bad || size > (uint64_t)(bytes->end - bytes->at)) return false;
  common->program = (struct hak_cfi_bytes){.at = bytes->at + size, .end = bytes->end};
  bytes->end = bytes->at + size;
  for (; *letters != '\0'; letters++) {
    switch (*letters) {
      case 'L':
        (void)hak_cfi_number(bytes, 1);
        break;
      case 'P': {
        const uint32_t encoding = (uint32_t)hak_cfi_number(bytes, 1);
        if (!bytes->bad) (void)encoded(bytes, encoding & ~INDIRECT, index);
        break;
      }
      case 'R':
        common->encoding = (uint32_t)hak_cfi_number(bytes, 1);
        break;
      case 'S':
        common->is_signal = true;
        break;
      default:
        break;  // B and G, of aarch64, have no bytes. The length tells where the rest begins.
    }
  }
  return !bytes->bad && (common->encoding & INDIRECT) == 0;
}

static bool read_common(const struct hak_cfi_tables *tables, const uint8_t *at, struct common *common) {
  if (at < tables->low || at >= tables->high) return false;
  struct hak_cfi_bytes bytes = open_entry(tables, at);
  if (hak_cfi_number(&bytes, 4) != 0) return false;
  const uint64_t version = hak_cfi_number(&bytes, 1);
  if (bytes.bad || (version != 1 && version != 3 && version != 4)) return false;
  const char *const letters = (const char *)bytes.at;
  while (hak_cfi_number(&bytes, 1) != 0) continue;  // After the end it reads 0.
  // Version 4 gives the sizes of addresses and of segments.
  if (version == 4 && hak_cfi_number(&bytes, 2) != 8) return false;
  *common = (struct common){.encoding = FORMAT_POINTER};
  common->code_factor = hak_cfi_uleb(&bytes);
  common->data_factor = hak_cfi_sleb(&bytes);
  common->return_register = version == 1 ? hak_cfi_number(&bytes, 1) : hak_cfi_uleb(&bytes);
  if (bytes.bad) return false;
  common->program = bytes;
  if (letters[0] == '\0') return true;
  if (letters[0] != 'z') return false;
  common->has_extra = true;
  return read_augmentation(&bytes, letters + 1, tables->index, common);
}

// ---- Programs -----------------------------------------------------------------------------------

uint32_t hak_cfi_slot(uint64_t number) {
#if defined(__x86_64__)
  switch (number) {
    case 3:
      return HAK_CFI_RBX;
    case 6:
      return HAK_CFI_FP;
    case 7:
      return HAK_CFI_SP;
    case 12:
      return HAK_CFI_R12;
    case 13:
      return HAK_CFI_R13;
    case 14:
      return HAK_CFI_R14;
    case 15:
      return HAK_CFI_R15;
    case 16:
      return HAK_CFI_RETURN;
    default:
      return HAK_CFI_OTHER;
  }
#else
  if (number >= 19 && number <= 30) return (uint32_t)number - 19;
  return number == 31 ? HAK_CFI_SP : HAK_CFI_OTHER;
#endif
}

// The states that DW_CFA_remember_state may stack up.
#define REMEMBERED_MAX 8u

struct run {
  const struct hak_cfi_tables *tables;
  const struct common *common;
  const struct hak_cfi_rule *first;  // by the common part alone; NULL: this is the common part
  struct hak_cfi_rule *rule;
  uint64_t location;
  uint64_t pc;
  uint32_t remembered;
  bool done;  // what follows holds behind the pc
  bool bad;
  struct hak_cfi_rule stack[REMEMBERED_MAX];
};

static int32_t narrow(struct run *run, int64_t value) {
  if (value < INT32_MIN || value > INT32_MAX) run->bad = true;
  return (int32_t)value;
}
static int64_t scaled(const struct run *run, uint64_t value) {
  return (int64_t)(value * (uint64_t)run->common->data_factor);
}

static void set_cell(struct run *run, uint64_t number, enum hak_cfi_kind kind, int64_t value) {
  const uint32_t slot = hak_cfi_slot(number);
  if (slot >= HAK_CFI_SLOTS) return;
  run->rule->cells[slot] = (struct hak_cfi_cell){.value = narrow(run, value), .kind = kind};
}

static void restore(struct run *run, uint64_t number) {
  const uint32_t slot = hak_cfi_slot(number);
  if (slot >= HAK_CFI_SLOTS) return;
  if (run->first != NULL) {
    run->rule->cells[slot] = run->first->cells[slot];
  } else {
    run->bad = true;
  }
}

static void set_frame_register(struct run *run, uint64_t number) {
  const uint32_t slot = hak_cfi_slot(number);
  run->rule->frame_kind = HAK_CFI_REGISTER;
  run->rule->frame_slot = (uint8_t)slot;
}

// An instruction changes a part of the frame address, which must be a register and an offset (DWARF 5, 6.4.2.2).
static void require_register(struct run *run) {
  if (run->rule->frame_kind != HAK_CFI_REGISTER) run->bad = true;
}

// Skips an expression and returns where it stands.
static int64_t expression(struct run *run, struct hak_cfi_bytes *bytes) {
  const int64_t place = bytes->at - run->tables->index;
  skip(bytes, hak_cfi_uleb(bytes));
  return place;
}

static void advance(struct run *run, uint64_t by) {
  uint64_t to;
  if (__builtin_mul_overflow(by, run->common->code_factor, &to) ||
      __builtin_add_overflow(run->location, to, &run->location) || run->location > run->pc) {
    run->done = true;
  }
}

static void remember(struct run *run) {
  if (run->remembered == REMEMBERED_MAX) {
    run->bad = true;
  } else {
    run->stack[run->remembered++] = *run->rule;
  }
}

static void recall(struct run *run) {
  if (run->remembered == 0) {
    run->bad = true;
  } else {
    *run->rule = run->stack[--run->remembered];
  }
}

// Instructions that take up the whole byte, by DWARF's numbers.
enum {
  NOP = 0x00,
  SET_LOC = 0x01,
  ADVANCE_LOC1 = 0x02,
  ADVANCE_LOC2 = 0x03,
  ADVANCE_LOC4 = 0x04,
  OFFSET_EXTENDED = 0x05,
  RESTORE_EXTENDED = 0x06,
  UNDEFINED = 0x07,
  SAME_VALUE = 0x08,
  REGISTER = 0x09,
  REMEMBER_STATE = 0x0a,
  RESTORE_STATE = 0x0b,
  DEF_CFA = 0x0c,
  DEF_CFA_REGISTER = 0x0d,
  DEF_CFA_OFFSET = 0x0e,
  DEF_CFA_EXPRESSION = 0x0f,
  EXPRESSION = 0x10,
  OFFSET_EXTENDED_SF = 0x11,
  DEF_CFA_SF = 0x12,
  DEF_CFA_OFFSET_SF = 0x13,
  VAL_OFFSET = 0x14,
  VAL_OFFSET_SF = 0x15,
  VAL_EXPRESSION = 0x16,
  // Signed return addresses: the signature is removed whether there is one or not.
  NEGATE_RA_STATE_WITH_PC = 0x2c,
  NEGATE_RA_STATE = 0x2d,
  ARGS_SIZE = 0x2e,
  NEGATIVE_OFFSET_EXTENDED = 0x2f,
};

static void do_location(struct run *run, struct hak_cfi_bytes *bytes, uint32_t instruction) {
  switch (instruction) {
    case SET_LOC:
      run->location = encoded(bytes, run->common->encoding, run->tables->index);
      if (run->location > run->pc) run->done = true;
      break;
    case ADVANCE_LOC1:
      advance(run, hak_cfi_number(bytes, 1));
      break;
    case ADVANCE_LOC2:
      advance(run, hak_cfi_number(bytes, 2));
      break;
    default:
      advance(run, hak_cfi_number(bytes, 4));
      break;
  }
}

static void do_frame(struct run *run, struct hak_cfi_bytes *bytes, uint32_t instruction) {
  switch (instruction) {
    case DEF_CFA:
      set_frame_register(run, hak_cfi_uleb(bytes));
      run->rule->frame_offset = narrow(run, (int64_t)hak_cfi_uleb(bytes));
      break;
    case DEF_CFA_SF:
      set_frame_register(run, hak_cfi_uleb(bytes));
      run->rule->frame_offset = narrow(run, scaled(run, (uint64_t)hak_cfi_sleb(bytes)));
      break;
    case DEF_CFA_REGISTER:
      require_register(run);
      set_frame_register(run, hak_cfi_uleb(bytes));
      break;
    case DEF_CFA_OFFSET:
      require_register(run);
      run->rule->frame_offset = narrow(run, (int64_t)hak_cfi_uleb(bytes));
      break;
    case DEF_CFA_OFFSET_SF:
      require_register(run);
      run->rule->frame_offset = narrow(run, scaled(run, (uint64_t)hak_cfi_sleb(bytes)));
      break;
    default:
      run->rule->frame_kind = HAK_CFI_EXPRESSION;
      run->rule->frame_offset = narrow(run, expression(run, bytes));
      break;
  }
}

static void do_register(struct run *run, struct hak_cfi_bytes *bytes, uint32_t instruction) {
  const uint64_t number = hak_cfi_uleb(bytes);
  switch (instruction) {
    case OFFSET_EXTENDED:
      set_cell(run, number, HAK_CFI_OFFSET, scaled(run, hak_cfi_uleb(bytes)));
      break;
    case OFFSET_EXTENDED_SF:
      set_cell(run, number, HAK_CFI_OFFSET, scaled(run, (uint64_t)hak_cfi_sleb(bytes)));
      break;
    case NEGATIVE_OFFSET_EXTENDED:
      set_cell(run, number, HAK_CFI_OFFSET, scaled(run, 0 - hak_cfi_uleb(bytes)));
      break;
    case VAL_OFFSET:
      set_cell(run, number, HAK_CFI_VAL_OFFSET, scaled(run, hak_cfi_uleb(bytes)));
      break;
    case VAL_OFFSET_SF:
      set_cell(run, number, HAK_CFI_VAL_OFFSET, scaled(run, (uint64_t)hak_cfi_sleb(bytes)));
      break;
    case REGISTER: {
      const uint32_t slot = hak_cfi_slot(hak_cfi_uleb(bytes));
      set_cell(run, number, slot == HAK_CFI_OTHER ? HAK_CFI_UNDEFINED : HAK_CFI_REGISTER, slot);
      break;
    }
    case EXPRESSION:
      set_cell(run, number, HAK_CFI_EXPRESSION, expression(run, bytes));
      break;
    case VAL_EXPRESSION:
      set_cell(run, number, HAK_CFI_VAL_EXPRESSION, expression(run, bytes));
      break;
    case RESTORE_EXTENDED:
      restore(run, number);
      break;
    case UNDEFINED:
      set_cell(run, number, HAK_CFI_UNDEFINED, 0);
      break;
    default:
      set_cell(run, number, HAK_CFI_SAME, 0);
      break;
  }
}

static void do_instruction(struct run *run, struct hak_cfi_bytes *bytes, uint32_t instruction) {
  switch (instruction) {
    case NOP:
    case NEGATE_RA_STATE_WITH_PC:
    case NEGATE_RA_STATE:
      break;
    case ARGS_SIZE:
      (void)hak_cfi_uleb(bytes);
      break;
    case SET_LOC:
    case ADVANCE_LOC1:
    case ADVANCE_LOC2:
    case ADVANCE_LOC4:
      do_location(run, bytes, instruction);
      break;
    case REMEMBER_STATE:
      remember(run);
      break;
    case RESTORE_STATE:
      recall(run);
      break;
    case DEF_CFA:
    case DEF_CFA_REGISTER:
    case DEF_CFA_OFFSET:
    case DEF_CFA_EXPRESSION:
    case DEF_CFA_SF:
    case DEF_CFA_OFFSET_SF:
      do_frame(run, bytes, instruction);
      break;
    default:
      if (instruction > VAL_EXPRESSION && instruction != NEGATIVE_OFFSET_EXTENDED) {
        run->bad = true;
      } else {
        do_register(run, bytes, instruction);
      }
      break;
  }
}

static bool run_program(struct run *run, struct hak_cfi_bytes bytes) {
  while (bytes.at < bytes.end && !bytes.bad && !run->bad && !run->done) {
    const uint32_t byte = *bytes.at++;
    const uint32_t low = byte & 0x3f;
    switch (byte >> 6) {
      case 1:
        advance(run, low);
        break;
      case 2:
        set_cell(run, low, HAK_CFI_OFFSET, scaled(run, hak_cfi_uleb(&bytes)));
        break;
      case 3:
        restore(run, low);
        break;
      default:
        do_instruction(run, &bytes, low);
        break;
    }
  }
  return !bytes.bad && !run->bad;
}

bool hak_cfi_rule_of(const struct hak_cfi_tables *tables, const uint8_t *entry, uintptr_t pc,
                     struct hak_cfi_rule *rule) {
  struct hak_cfi_bytes bytes = open_entry(tables, entry);
  const uint8_t *const here = bytes.at;
  const uint64_t back = hak_cfi_number(&bytes, 4);
  struct common common;
  if (bytes.bad || back == 0 || back > (uint64_t)(here - tables->low) || !read_common(tables, here - back, &common)) {
    return false;
  }
  const uint64_t start = encoded(&bytes, common.encoding, tables->index);
  const uint64_t size = formatted(&bytes, common.encoding & FORMAT);
  if (common.has_extra) skip(&bytes, hak_cfi_uleb(&bytes));
  if (bytes.bad || pc < start || pc - start >= size) return false;
  // What a program does not mention is preserved. A rule has a frame address only once a program has set it.
  *rule = (struct hak_cfi_rule){.frame_kind = HAK_CFI_UNDEFINED, .is_signal = common.is_signal};
  // A function with another register for the return address is none that a compiler wrote.
  if (hak_cfi_slot(common.return_register) != HAK_CFI_RETURN) return false;
  struct run run = {.tables = tables, .common = &common, .rule = rule, .location = start, .pc = UINT64_MAX};
  if (!run_program(&run, common.program)) return false;
  const struct hak_cfi_rule first = *rule;
  run.first = &first;
  run.pc = pc;
  run.location = start;
  run.remembered = 0;
  run.done = false;
  if (!run_program(&run, bytes)) return false;
  return rule->frame_kind == HAK_CFI_EXPRESSION ||
         (rule->frame_kind == HAK_CFI_REGISTER && rule->frame_slot <= HAK_CFI_SP);
}
