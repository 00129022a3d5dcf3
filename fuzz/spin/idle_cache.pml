/* SPDX-License-Identifier: Apache-2.0
 *
 * Emptying another thread's cache: allocator/heap/idle_cache.{h,c} and the fast paths of allocator/hot/alloc.h.
 *
 * One bin of SLOTS slots above a NULL slot, BLOCKS blocks, its owner and a thief, which both run forever. The owner's
 * stores go through a buffer of BUFFER entries, which another process empties: in their order as on x86, or with
 * -DANY_ORDER in any order that keeps the order of stores to one place, as on weaker machines. The owner sees its own
 * stores at once. The thief's barrier empties the buffer. Steps are named as in remote.pml.
 *
 * Not modelled: which bins count as idle (here every bin does), and arrays that grow.
 *
 * Properties; -DONLY=number leaves one of them:
 *   1 malloc returns a block of the cache, and so none that the program or the slab has
 *   2 no cached block is lost: whenever the owner has the lock, each is in one slot
 *   3 the thief returns only cached blocks to the slab
 *   4 after the owner has closed the gaps there is none left
 *   5 no deadlock: Spin's own check of end states
 * Each of the controls (-D names, see run_models.py) leaves out one thing, and must be found.
 */
#ifndef SLOTS
#define SLOTS 3
#endif
#ifndef BLOCKS
#define BLOCKS 3
#endif
#ifndef BUFFER
#define BUFFER 3
#endif
#ifndef ONLY
#define ONLY 0
#endif
#define CHECK(number, condition) assert(!(ONLY == 0 || ONLY == number) || (condition))

/* States of a block. */
#define IN_SLAB 0
#define CACHED 1
#define HELD 2 /* by the program */

/* Memory as the thief sees it. slot[0] is the end mark; blocks are numbered from 1. */
byte slot[SLOTS + 1];
byte top;
byte limit = SLOTS;
byte state[BLOCKS + 1];
/* Under the lock of the heap. */
byte lock;
byte stolen;

/* The owner's buffer: place 0 is the top, every other place is a slot. */
byte place[BUFFER];
byte value[BUFFER];
byte buffered;

inline commit(j) { /* within a step */
  if
  :: place[j] == 0 -> top = value[j]
  :: else -> slot[place[j]] = value[j]
  fi;
  buffered--;
  do
  :: j < buffered -> place[j] = place[j + 1]; value[j] = value[j + 1]; j++
  :: else -> break
  od;
  place[buffered] = 0;
  value[buffered] = 0;
  j = 0
}
inline empty_buffer(j) {
  do
  :: buffered != 0 -> commit(j)
  :: else -> break
  od
}

active proctype memory() {
  byte j, k;
end:
  do
  :: atomic {
    buffered != 0 ->
#ifdef ANY_ORDER
    j = 0;
    do
    :: j + 1 < buffered -> j++
    :: break
    od;
    /* The oldest store to that place. */
    k = 0;
    do
    :: place[k] != place[j] -> k++
    :: else -> break
    od;
    j = k;
    k = 0;
#endif
    commit(j)
  }
  od
}

/* ---- The owner ---- */

inline store(where, what) {
  buffered < BUFFER -> place[buffered] = where; value[buffered] = what; buffered++
}
inline load_slot(where, to) {
  to = slot[where];
  j = 0;
  do
  :: j < buffered ->
    if
    :: place[j] == where && where != 0 -> to = value[j]
    :: else
    fi;
    j++
  :: else -> break
  od;
  j = 0
}

/* hak_cache_settle, within a step: the lock has emptied the buffer. */
inline settle() {
  limit = SLOTS;
  if
  :: stolen != 0 ->
    j = 1;
    k = 0;
    do
    :: j <= mine ->
      if
      :: slot[j] != 0 -> k++; slot[k] = slot[j]
      :: else
      fi;
      j++
    :: else -> break
    od;
    mine = k;
    top = k;
    stolen = 0
  :: else
  fi;
  /* Nothing is under way now: what is cached stands in the slots, once, and nothing else does. */
  j = 1;
  seen = 0;
  do
  :: j <= mine ->
    CHECK(4, slot[j] != 0);
    CHECK(1, slot[j] == 0 || state[slot[j]] == CACHED);
    CHECK(1, slot[j] == 0 || (seen & (1 << slot[j])) == 0);
    seen = seen | (1 << slot[j]);
    j++
  :: else -> break
  od;
  j = 1;
  do
  :: j <= BLOCKS -> CHECK(2, state[j] != CACHED || (seen & (1 << j)) != 0); j++
  :: else -> break
  od;
  j = 0;
  k = 0;
  seen = 0
}

inline give_out(b) { CHECK(1, state[b] == CACHED); state[b] = HELD }

inline slow_malloc() {
#ifdef SLOW_UNLOCKED
  atomic { buffered == 0 -> settle() };
#else
  atomic { lock == 0 && buffered == 0 -> lock = 1; settle() };
#endif
  atomic {
    if
    :: mine == 0 -> /* refill */
      j = 1;
      do
      :: j <= BLOCKS && mine < 2 ->
        if
        :: state[j] == IN_SLAB -> mine++; slot[mine] = j; state[j] = CACHED
        :: else
        fi;
        j++
      :: else -> break
      od;
      j = 0
    :: else
    fi;
    if
    :: mine != 0 -> give_out(slot[mine]); mine--
    :: else
    fi;
    top = mine;
    lock = 0
  }
}
inline slow_free(b) {
  atomic { lock == 0 && buffered == 0 -> lock = 1; settle() };
  atomic {
    if
    :: mine == SLOTS -> /* flush: the older half goes to the slab */
      k = (SLOTS + 1) / 2;
      j = 1;
      do
      :: j <= mine ->
        if
        :: j <= k -> state[slot[j]] = IN_SLAB
        :: else -> slot[j - k] = slot[j]
        fi;
        j++
      :: else -> break
      od;
      mine = mine - k;
      j = 0;
      k = 0
    :: else
    fi;
    mine++;
    slot[mine] = b;
    top = mine;
    state[b] = CACHED;
    b = 0;
    lock = 0
  }
}

active proctype owner() {
  byte mine; /* the top as its writer knows it */
  byte b, j, k, seen;
  do
  :: /* hak_hot_malloc. Step O1: the load of the top, which is `mine` */
    atomic {
      load_slot(mine, b); /* Step O2 */
      if
      :: b != 0 -> give_out(b)
      :: else
      fi
    };
    if
    :: b != 0 -> atomic { store(0, mine - 1); mine--; b = 0 } /* Step O3 */
    :: else -> slow_malloc()
    fi
  :: /* hak_hot_free of any block that the program holds */
    atomic {
      b = 1;
      do
      :: b < BLOCKS -> b++
      :: break
      od;
      if
      :: state[b] == HELD
      :: else -> b = 0
      fi
    };
    if
    :: b == 0
    :: b != 0 && mine < limit -> /* Step O4: the load of the limit */
      atomic { store(mine + 1, b); state[b] = CACHED; b = 0 }; /* Step O5 */
      atomic { store(0, mine + 1); mine++ } /* Step O6 */
    :: b != 0 && mine >= limit -> slow_free(b)
    fi
  od
}

/* ---- The thief ---- */

inline barrier() {
  if
  :: atomic { empty_buffer(j) }
  :: reached = 0 /* the kernel refuses */
  fi
}

active proctype thief() {
  byte t, i, j;
  byte taken[SLOTS + 1];
  bit reached;
  do
  :: atomic { lock == 0 -> lock = 2; i = 1 + stolen };
    /* take_from_bin. Step I0: the load of the top at each slot. */
    do
    :: i < top ->
      if
      :: slot[i] != 0 -> /* Step I1 */
#ifdef TAKE_IN_TWO
        taken[i] = slot[i];
        slot[i] = 0
#else
        atomic { taken[i] = slot[i]; slot[i] = 0 } /* Step I2 */
#endif
      :: else
      fi;
      i++
    :: else -> break
    od;
    /* settle_round */
    reached = 1;
#ifndef NO_FIRST_BARRIER
    barrier(); /* Step I3 */
#endif
    t = top; /* Step I4 */
#ifndef NO_SECOND_BARRIER
    barrier(); /* Step I5 */
#endif
    i = 1;
    do
    :: i <= SLOTS && taken[i] == 0 -> i++
    :: i <= SLOTS && taken[i] != 0 ->
      if
#ifdef JUDGE_TOP
      :: reached && i <= t ->
#else
      :: reached && i < t ->
#endif
        if
#ifdef NO_SECOND_LOOK
        :: true ->
#else
        :: slot[i] == 0 -> /* Step I6 */
#endif
          atomic {
            CHECK(3, state[taken[i]] == CACHED);
            state[taken[i]] = IN_SLAB;
#ifndef STOLEN_UNCOUNTED
            stolen++ /* Step I7 */
#endif
          }
#ifndef NO_SECOND_LOOK
        :: else
#endif
        fi
#ifdef NO_PUT_BACK
      :: !(reached && i < t)
#else
#ifdef JUDGE_TOP
      :: !reached || i == t + 1 ->
#else
      :: !reached || i == t || i == t + 1 ->
#endif
#ifdef PUT_BACK_STORE
        slot[i] = taken[i]
#else
        atomic {
          if
          :: slot[i] == 0 -> slot[i] = taken[i] /* Step I8 */
          :: else
          fi
        }
#endif
      :: reached && i > t + 1
#endif
      fi;
      taken[i] = 0;
      i++
    :: else -> break
    od;
    if
    :: limit = 0 /* Step I9: hak_idle_cache_trip */
    :: skip
    fi;
    atomic { t = 0; i = 0; reached = 0; lock = 0 }
  od
}
