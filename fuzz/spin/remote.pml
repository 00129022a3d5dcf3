/* SPDX-License-Identifier: Apache-2.0
 *
 * Remote frees, adoption, and the life of heaps: allocator/heap/{remote,heap,heap_life,idle_slabs,thread_cache}.c,
 * allocator/reclaim/reclaim.c and allocator/slab/slab_pool.c.
 *
 * Threads open heaps, take blocks, free blocks that any of them took, visit each other's heaps, and end, in any order
 * and any number of times. Every access to data that threads share without a lock is a step of its own, marked `Step
 * R2` and so on. The code names the step where it makes the access (.ci/atomics.py compares). What one lock guards and
 * no other thread reads is done in one step. Memory is sequentially consistent here: the code explains the orders that
 * it needs beside its atomics, and ThreadSanitizer checks them.
 *
 * Not modelled: the caches (a cached block counts as held by the program), bitmaps, the return of pages, and that a
 * drain may stop within a chain: the rest of the chain is detached from its slab, under the heap's lock, and the slab
 * is not wholly free.
 *
 * Properties; -DONLY=number leaves one of them:
 *   1 no free is lost: at the end every block is free or held, and a slab without a held block is in the pool
 *   2 no block is freed twice, or is on a chain and elsewhere
 *   3 no slab is on the lists of two heaps
 *   4 a slab is changed only under the lock of its owner
 *   5 a notified slab is found: it is on at most one pending list, and does not change its owner while it is on one
 *   6 no thread retries forever: a closed heap owns nothing
 *   7 no deadlock: Spin's own check of end states
 * Each of the controls (-D names, see run_models.py) leaves out one thing, and must be found.
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef SLABS
#define SLABS 1
#endif
#ifndef BLOCKS
#define BLOCKS 2 /* of a slab in the larger class; 1 or 2 */
#endif
#ifndef HEAPS
#define HEAPS 2 /* records */
#endif
/* What each thread does: the sum of 1 open and close a heap, 2 take blocks, 4 free with a heap, 8 free without one, 16
 * visit other heaps. */
#ifndef ROLE_0
#define ROLE_0 31
#endif
#ifndef ROLE_1
#define ROLE_1 31
#endif
#ifndef ROLE_2
#define ROLE_2 31
#endif
#define MAY(action) (((_pid == 0 -> ROLE_0 : (_pid == 1 -> ROLE_1 : ROLE_2)) & action) != 0)
#ifndef ONLY
#define ONLY 0
#endif
#define CHECK(number, condition) assert(!(ONLY == 0 || ONLY == number) || (condition))

/* The owners of a slab, and whose lists it is on: 0 .. HEAPS - 1 are heaps. */
#define ORPHANAGE HEAPS
#define POOL (HEAPS + 1)
#define NOWHERE (HEAPS + 2)
#define NO_HEAP (HEAPS + 3)
/* Lists of slabs: 0 is NULL, otherwise the slab's number plus 1. Pending lists end with END: a list that reads as zero
/* is closed, because the record of a closed heap reads as zero after its memory was returned. */
#define CLOSED 0
#define END (SLABS + 1)
#define AFTER(link) ((link) == END -> 0 : (link))
/* States of a block. */
#define FREE 0
#define HELD 1    /* by the program, or in a cache */
#define IN_HAND 2 /* of the thread that frees it */
#define REMOTE 3  /* on the slab's chain */

byte owner[SLABS] = POOL;
byte first[SLABS]; /* of the chain: the block's number plus 1; with `count` one word of the code */
byte count[SLABS];
byte pending_next[SLABS];
byte capacity[SLABS];
byte block[SLABS * BLOCKS];
byte link[SLABS * BLOCKS];
byte pending[HEAPS]; /* CLOSED */
byte draining[HEAPS]; /* taken off `pending`; under the heap's lock */
bit in_use[HEAPS];
bit open[HEAPS];

byte registry_lock; /* each lock: 0, or the thread that holds it */
byte heap_lock[HEAPS];
byte late_lock; /* of threads without a heap */
byte orphanage_lock;

byte listed[SLABS] = NOWHERE; /* on whose lists the slab is; under the lock of that one */
byte notices[SLABS];          /* how often the slab is on pending lists; the model's own */
byte ended;
bit forked; /* from here on the model is the child of thread 1's fork, which has no other thread */
bit abandoned[HEAPS];

#define AT(s, i) ((s) * BLOCKS + (i))
#define WHOLLY_FREE(s) (block[AT(s, 0)] == FREE && block[AT(s, BLOCKS - 1)] == FREE)
#define HAS_FREE(s) (block[AT(s, 0)] == FREE || (capacity[s] == BLOCKS && block[AT(s, BLOCKS - 1)] == FREE))
#define HAS_HELD(s) (block[AT(s, 0)] == HELD || block[AT(s, BLOCKS - 1)] == HELD)
#define SOME_HELD (HAS_HELD(0) || HAS_HELD(SLABS - 1))
#define HOLDS(h) (((h) == ORPHANAGE && orphanage_lock == me) || ((h) < HEAPS && heap_lock[(h) % HEAPS] == me))

inline acquire(l) { atomic { l == 0 -> l = me } }
inline release(l) { l = 0 }

/* ---- Lists of slabs; within a step, under the owner's lock ---- */

inline give_to_pool(h, s) {
  CHECK(3, listed[s] == h);
  CHECK(4, owner[s] == h && HOLDS(h));
  CHECK(5, notices[s] == 0);
  CHECK(1, count[s] == 0);
  listed[s] = NOWHERE;
  owner[s] = POOL /* Step P2: hak_pool_give */
}
/* A slab that became empty: a heap keeps it or not, the orphanage never. */
inline after_put(h, s) {
  if
  :: WHOLLY_FREE(s) -> give_to_pool(h, s)
  :: !WHOLLY_FREE(s) || h != ORPHANAGE
  fi
}
inline put(h, s, i) {
  CHECK(4, owner[s] == h && HOLDS(h));
  CHECK(2, block[AT(s, i)] == IN_HAND || block[AT(s, i)] == REMOTE);
  block[AT(s, i)] = FREE
}
inline take_block(h, s) {
  CHECK(4, owner[s] == h && HOLDS(h));
  if
  :: block[AT(s, 0)] == FREE -> block[AT(s, 0)] = HELD
  :: else -> block[AT(s, BLOCKS - 1)] = HELD
  fi
}
inline choose_slab(s) {
  s = 0;
  do
  :: s + 1 < SLABS -> s++
  :: break
  od
}
inline release_empty(h) {
  atomic {
    s = 0;
    do
    :: s < SLABS ->
      if
      :: listed[s] == h && WHOLLY_FREE(s) -> give_to_pool(h, s)
      :: else
      fi;
      s++
    :: else -> break
    od;
    s = 0
  }
}

/* ---- remote.c ---- */

inline collect(h, s) { /* hak_remote_collect */
#ifdef COLLECT_IN_TWO
  atomic { at = first[s]; left = count[s] };
  atomic { first[s] = 0; count[s] = 0 };
#else
  atomic { at = first[s]; left = count[s]; first[s] = 0; count[s] = 0 }; /* Step R7 */
#endif
  atomic {
    CHECK(5, left != 0);
    do
    :: left != 0 ->
      CHECK(2, at != 0 && at <= capacity[s] && block[AT(s, (at - 1) % BLOCKS)] == REMOTE);
      i = (at - 1) % BLOCKS;
      at = link[AT(s, i)];
      link[AT(s, i)] = 0;
      put(h, s, i);
      left--
    :: else -> break
    od;
    CHECK(2, at == 0);
    at = 0;
    i = 0;
    after_put(h, s)
  }
}

inline notify(s) { /* hak_remote_notify and push_pending */
  do
  :: o = owner[s]; /* Step R3 */
    CHECK(5, o != POOL);
    if
    :: o < HEAPS ->
      atomic { head = pending[o]; CHECK(6, head != CLOSED || owner[s] != o) }; /* Step R4 */
      do
      :: head == CLOSED -> break
      :: head != CLOSED ->
        pending_next[s] = head;
#ifdef PENDING_STORE
        atomic { pending[o] = s + 1; notices[s]++; CHECK(5, notices[s] == 1); head = END; break }
#else
        if
        :: atomic { pending[o] == head -> pending[o] = s + 1; notices[s]++; CHECK(5, notices[s] == 1); head = END }; break /* Step R5 */
        :: atomic { pending[o] != head -> head = pending[o]; CHECK(6, head != CLOSED || owner[s] != o) }
        fi
#endif
      od;
      if
      :: head == CLOSED
      :: else -> head = 0; break
      fi
    :: else ->
#ifdef NOTIFY_UNLOCKED
      if
      :: owner[s] == ORPHANAGE -> collect(ORPHANAGE, s); break
      :: else
      fi
#else
      acquire(orphanage_lock);
      if
      :: owner[s] == ORPHANAGE -> collect(ORPHANAGE, s); release(orphanage_lock); break /* Step R6 */
      :: else -> release(orphanage_lock)
      fi
#endif
    fi
  od;
  o = 0
}

inline push(s) { /* hak_remote_push: the chain of `chained` blocks that begins with chain_first and ends with chain_last */
  atomic { at = first[s]; left = count[s] }; /* Step R1 */
  do
  :: atomic { CHECK(2, block[AT(s, chain_last - 1)] == IN_HAND); link[AT(s, chain_last - 1)] = at };
#ifdef PUSH_STORE
    atomic {
      if
      :: true ->
#else
    if
    :: atomic {
      first[s] == at && count[s] == left -> /* Step R2 */
#endif
      first[s] = chain_first;
      count[s] = left + chained;
      /* The chain's blocks are those in hand that are not on a chain yet. */
      do
      :: chained != 0 ->
        CHECK(2, block[AT(s, chain_first - 1)] == IN_HAND);
        block[AT(s, chain_first - 1)] = REMOTE;
        chain_first = link[AT(s, chain_first - 1)];
        chained--
      :: else -> break
      od;
      chain_first = 0;
      chain_last = 0;
      at = 0
#ifdef PUSH_STORE
      fi
    };
    break
#else
      };
      break
    :: atomic { first[s] != at || count[s] != left -> at = first[s]; left = count[s] }
    fi
#endif
  od;
  if
#ifdef NO_NOTICE
  :: left == 0 -> skip
#else
  :: left == 0 -> notify(s)
#endif
#ifdef NOTICE_EACH
  :: left != 0 -> left = 0; notify(s)
#else
  :: left != 0 -> left = 0
#endif
  fi
}

/* ---- thread_cache.c ---- */

/* hak_give_back of one or both blocks of a slab. */
inline return_blocks(h) {
  do
  :: hand != 0 ->
    atomic { i = (hand & 1 -> 0 : 1); hand = (hand & 1 -> hand - 1 : 0) };
    o = owner[s]; /* Step T1 */
    CHECK(4, o != POOL);
    if
    :: o == h -> atomic { put(h, s, i); i = 0; after_put(h, s) }
    :: else ->
      if
      :: o == ORPHANAGE ->
        acquire(orphanage_lock);
        if
#ifdef RETURN_UNCHECKED
        :: true -> atomic { put(ORPHANAGE, s, i); i = 0; after_put(ORPHANAGE, s) }
#else
        :: owner[s] == ORPHANAGE -> atomic { put(ORPHANAGE, s, i); i = 0; after_put(ORPHANAGE, s) } /* Step T2 */
        :: else -> o = NO_HEAP
#endif
        fi;
        release(orphanage_lock)
      :: else -> o = NO_HEAP
      fi;
      if
      :: o == NO_HEAP -> atomic { /* hak_chain_add */
          link[AT(s, i)] = chain_first;
          chain_first = i + 1;
          if
          :: chained == 0 -> chain_last = i + 1
          :: else
          fi;
          chained++;
          i = 0
        }
      :: else
      fi
    fi;
    o = 0
  :: else -> break
  od;
  if
  :: chained != 0 -> push(s)
  :: else
  fi;
  s = 0
}

inline free_some(h) {
  atomic {
    choose_slab(s);
    if
    :: block[AT(s, 0)] == HELD -> hand = 1
    :: block[AT(s, BLOCKS - 1)] == HELD -> hand = BLOCKS
    :: BLOCKS == 2 && block[AT(s, 0)] == HELD && block[AT(s, BLOCKS - 1)] == HELD -> hand = 3
    :: !HAS_HELD(s)
    fi;
    if
    :: hand & 1 -> block[AT(s, 0)] = IN_HAND
    :: else
    fi;
    if
    :: hand & 2 -> block[AT(s, BLOCKS - 1)] = IN_HAND
    :: else
    fi
  };
  return_blocks(h)
}

/* ---- heap.c ---- */

inline drain(h, some) { /* hak_remote_drain; with `some` hak_remote_drain_some, which may stop between two slabs */
  do
  :: draining[h] == 0 ->
    o = pending[h]; /* Step H1 */
    if
    :: o != END && o != CLOSED -> atomic { o = 0; draining[h] = pending[h]; pending[h] = END } /* Step H2 */
    :: else -> break
    fi
  :: draining[h] != 0 ->
    atomic { s = draining[h] - 1; draining[h] = AFTER(pending_next[s]); notices[s]-- };
    o = owner[s]; /* Step H3 */
#ifdef DRAIN_TRUSTS
    o = h;
#endif
    if
    :: o == h -> collect(h, s)
#ifdef DRAIN_DROPS
    :: else
#else
    :: else -> notify(s)
#endif
    fi
  :: some && draining[h] != 0 -> break
  od;
  atomic { s = 0; o = 0 }
}

inline adopt(h) {
  /* Step H4: a hint says whether to try; the try is chosen freely here. */
#ifndef ADOPT_UNLOCKED
  acquire(orphanage_lock);
#endif
  atomic {
    choose_slab(s);
    if
    :: listed[s] == ORPHANAGE && HAS_FREE(s)
    :: else -> s = SLABS
    fi
  };
  if
  :: s < SLABS ->
    atomic { CHECK(3, listed[s] == ORPHANAGE); CHECK(4, HOLDS(ORPHANAGE)); listed[s] = NOWHERE };
    owner[s] = h /* Step H5 */
  :: else
  fi;
#ifndef ADOPT_UNLOCKED
  release(orphanage_lock);
#endif
  if
  :: s < SLABS -> atomic { CHECK(3, listed[s] == NOWHERE); CHECK(4, owner[s] == h); listed[s] = h; take_block(h, s) }
  :: else
  fi;
  s = 0
}

/* One block from the heap's slabs, or one from the pool: hak_pool_take and hak_slab_format, under the pool's lock. */
inline take_own(h) {
  atomic {
    choose_slab(s);
    if
    :: listed[s] == h && HAS_FREE(s) -> take_block(h, s)
    :: owner[s] == POOL ->
      CHECK(3, listed[s] == NOWHERE);
      if
      :: capacity[s] = BLOCKS
      :: capacity[s] = 1 /* another class */
      fi;
      first[s] = 0;
      count[s] = 0; /* Step P3 */
      owner[s] = h; /* Step P1 */
      listed[s] = h;
      take_block(h, s)
    :: else
    fi;
    s = 0
  }
}

/* ---- heap_life.c ---- */

inline open_heap() {
  acquire(registry_lock);
  atomic {
    h = 0;
    do
    :: h < HEAPS && in_use[h] -> h++
    :: else -> break
    od
  };
  if
  :: h < HEAPS ->
    in_use[h] = 1;
    acquire(heap_lock[h]);
    release(registry_lock);
    CHECK(6, pending[h] == CLOSED);
    pending[h] = END; /* Step L1 */
    atomic { open[h] = 1; mine = h; h = 0; release(heap_lock[mine]) }
  :: else -> atomic { h = 0; release(registry_lock) } /* out of memory */
  fi
}

inline close_pending(h) {
  atomic { walk = AFTER(pending[h]); pending[h] = CLOSED } /* Step L3 */
}

inline orphan_slabs() {
  acquire(orphanage_lock);
  i = 0;
  do
  :: i < SLABS ->
    atomic {
      if
      :: listed[i] == h -> owner[i] = ORPHANAGE; listed[i] = ORPHANAGE /* Step L2 */
      :: else
      fi;
      i++
    }
  :: else -> break
  od;
  i = 0;
#ifndef CLOSE_FIRST
  close_pending(h);
#endif
#ifdef CLOSE_DROPS
  walk = 0;
#endif
  do
  :: walk != 0 ->
    atomic { s = walk - 1; walk = AFTER(pending_next[s]); notices[s]-- };
    if
    :: owner[s] == ORPHANAGE -> collect(ORPHANAGE, s) /* Step L4 */
    :: else -> pending_next[s] = foreign; foreign = s + 1
    fi
  :: else -> break
  od;
  s = 0;
  release(orphanage_lock);
  do
  :: foreign != 0 ->
    atomic { s = foreign - 1; foreign = pending_next[s] };
    notify(s)
  :: else -> break
  od;
  s = 0
}

inline close_heap() { /* hak_heap_close(h): by its thread, or of a heap that a fork left behind */
  acquire(heap_lock[h]);
  if
  :: open[h] ->
    drain(h, false);
    release_empty(h);
#ifdef CLOSE_FIRST
    close_pending(h);
#endif
    orphan_slabs();
    open[h] = 0
  :: else
  fi;
  release(heap_lock[h]);
  acquire(registry_lock);
  atomic { in_use[h] = 0; h = 0; release(registry_lock) }
}

/* ---- heap_records.c ---- */

inline rest_record() { /* The memory of a record that no thread has goes back. */
  atomic {
    registry_lock == 0;
    h = 0;
    do
    :: h + 1 < HEAPS -> h++
    :: break
    od;
    if
    :: !in_use[h] ->
      CHECK(6, heap_lock[h] == 0 && !open[h] && draining[h] == 0);
#ifdef REST_OPENS
      pending[h] = END
#else
      pending[h] = 0
#endif
    :: else
    fi;
    h = 0
  }
}

/* ---- reclaim.c ---- */

/* hak_idle_slabs_give: one slab of an idle heap goes to the orphanage or, if it is wholly free, to the pool. */
inline give_slab(h) {
#ifndef GIVE_UNLOCKED
  acquire(orphanage_lock);
#endif
  atomic {
    choose_slab(s);
    if
    :: listed[s] == h && count[s] == 0 /* Step G1 */
    :: else -> s = SLABS
    fi
  };
  if
  :: s < SLABS && WHOLLY_FREE(s) -> give_to_pool(h, s)
  :: s < SLABS && !WHOLLY_FREE(s) ->
    atomic { CHECK(3, listed[s] == h); CHECK(4, owner[s] == h && HOLDS(h)); listed[s] = NOWHERE };
    owner[s] = ORPHANAGE; /* Step G2 */
    atomic { CHECK(3, listed[s] == NOWHERE); CHECK(4, owner[s] == ORPHANAGE && HOLDS(ORPHANAGE)); listed[s] = ORPHANAGE }
  :: else
  fi;
  s = 0;
#ifndef GIVE_UNLOCKED
  release(orphanage_lock)
#endif
}

inline visit_heap() { /* hak_heap_visit_next */
#ifdef VISIT_UPWARDS
  atomic { choose_slab(h); acquire(heap_lock[h]) };
  acquire(registry_lock);
#else
  acquire(registry_lock);
  atomic {
    h = 0;
    do
    :: h + 1 < HEAPS -> h++
    :: break
    od
  };
#endif
  if
  :: in_use[h] && h != mine && abandoned[h] ->
    atomic { abandoned[h] = 0; release(registry_lock) };
    close_heap()
  :: in_use[h] && h != mine && !abandoned[h] ->
#if defined(VISIT_UNLOCKED) || defined(VISIT_UPWARDS)
    if
    :: open[h] ->
      drain(h, false);
      release_empty(h)
    :: else
    fi;
#ifdef VISIT_UPWARDS
    release(heap_lock[h]);
#endif
    atomic { h = 0; release(registry_lock) }
#else
    /* A busy heap is passed over. One that is open stays so under its lock, without the registry's. */
    if
    :: atomic { heap_lock[h] == 0 && open[h] -> heap_lock[h] = me };
      release(registry_lock);
      /* Step V1: whether anything waits is a hint; the drain looks again. */
      drain(h, false);
      release_empty(h);
      if
      :: give_slab(h)
      :: true
      fi;
      atomic { release(heap_lock[h]); h = 0 }
    :: else -> atomic { h = 0; release(registry_lock) }
    fi
#endif
  :: else ->
#ifdef VISIT_UPWARDS
    release(heap_lock[h]);
#endif
    atomic { h = 0; release(registry_lock) }
  fi
}

#ifdef FORK
inline fork_child() {
  acquire(registry_lock);
  h = 0;
  do
  :: h < HEAPS -> acquire(heap_lock[h]); h++
  :: else -> break
  od;
#ifndef FORK_MIDWAY
  acquire(late_lock);
#endif
  acquire(orphanage_lock);
  atomic {
    forked = 1;
    h = 0;
    do
    :: h < HEAPS ->
      abandoned[h] = (in_use[h] && h != mine -> 1 : 0);
      heap_lock[h] = 0;
      h++
    :: else -> break
    od;
    h = 0;
    orphanage_lock = 0;
    late_lock = 0;
    registry_lock = 0
  }
}
#endif

/* ---- A thread ---- */

active [THREADS] proctype thread() {
  byte me = _pid + 1;
  byte mine = NO_HEAP;
  byte h, s, o, head, walk, foreign, at, left, i;
  byte hand, chained, chain_first, chain_last;
  {
    do
    :: MAY(1) && mine == NO_HEAP -> open_heap()
    :: MAY(2) && mine != NO_HEAP ->
      acquire(heap_lock[mine]);
      drain(mine, true);
      if
      :: take_own(mine)
      :: adopt(mine)
      fi;
      release(heap_lock[mine])
    :: MAY(4) && mine != NO_HEAP && SOME_HELD ->
      acquire(heap_lock[mine]);
      free_some(mine);
      release(heap_lock[mine])
    :: MAY(8) && mine == NO_HEAP && SOME_HELD -> /* after its end */
      acquire(late_lock);
      free_some(NO_HEAP);
      release(late_lock)
    :: MAY(16) -> visit_heap()
    :: MAY(16) -> rest_record()
    :: mine != NO_HEAP -> h = mine; mine = NO_HEAP; close_heap()
#ifdef FORK
    :: _pid == 0 && !forked -> fork_child()
#endif
    :: mine == NO_HEAP && !abandoned[0] && !abandoned[HEAPS - 1] -> break
    od
  } unless { forked && _pid != 0 }
  ended++
}

init {
  byte s;
  ended == THREADS ->
  atomic {
    do
    :: s < SLABS ->
      CHECK(1, count[s] == 0 && block[AT(s, 0)] != REMOTE && block[AT(s, BLOCKS - 1)] != REMOTE);
      CHECK(1, owner[s] == POOL || forked || (owner[s] == ORPHANAGE && HAS_HELD(s)));
      CHECK(3, owner[s] == POOL || listed[s] == owner[s]);
      CHECK(5, notices[s] == 0);
      s++
    :: else -> break
    od
  }
}
