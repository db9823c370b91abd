/*
 * The caches of the pools: two owners, one block that both free at the same moment, and who calls
 * all blocks in (R4.1, R6.4, R7.1, R10.4).
 *
 * What an owner stores while it is in its cache goes through its thread's store buffer and reaches
 * memory later, at any moment and in order; a barrier, a lock or an atomic operation empties the
 * buffer. The block's state is such a place, which both owners store to. README.md has the map from
 * these names to the code's, and what is left out.
 */

#ifndef REVOKES         /* how often all blocks are called in */
#define REVOKES 1
#endif
#ifndef FREES           /* of the block by each owner; all but the first after a free */
#define FREES 1
#endif
#ifndef ALLOCS          /* that each owner makes after both have freed; what it got it frees again */
#define ALLOCS 1
#endif
#ifndef BUFFER          /* stores that a buffer holds; the next one waits */
#define BUFFER 4
#endif
/* DRAINS: owners may give what they freed to the depot.
 * ALL_ATOMIC: there is no process-wide barrier, `busy` is swapped, and all owners share one state.
 * REUSE: the same, in memory of a manager with the barrier, whose owners used the fast path.
 * REFUSED: the system may refuse the barrier.
 * NULL_HANDLE: owners also try 0 as the handle, which a program may pass. */
#ifdef REUSE
#define ALL_ATOMIC
#endif
#ifdef ALL_ATOMIC
#define ASYMMETRIC false
#else
#define ASYMMETRIC true
#endif

#define OWNERS 2

/* Spans.State of the block. */
#define LIVE  1
#define DEPOT 2         /* free_block */
#ifdef ALL_ATOMIC
#define CODE(t) 3       /* owned_together */
#else
#ifdef ONE_STATE
#define CODE(t) DEPOT
#else
#define CODE(t) (3 + (t))
#endif
#endif

/* Places in memory that owners store to: the block's state; `busy`, and how often the block is in
 * the magazines, of each cache. */
#define STATE 0
#define BUSY(t) (1 + (t))
#define COUNT(t) (3 + (t))
byte memory[5];

typedef StoreBuffer {
    byte count;
    byte entry[BUFFER]      /* oldest first: address, value */
};
StoreBuffer buffer[OWNERS];
#define ENTRY(address, value) (((address) << 3) | (value))
#define ADDRESS(entry) ((entry) >> 3)
#define VALUE(entry)   ((entry) & 7)

/* hot.handle: of nobody, or of the manager. */
#ifdef NULL_IS_NOBODY
#define NOBODY 0
#else
#define NOBODY 2
#endif
#define MANAGER 1
byte handle[OWNERS];
/* The thread's slot: it may use its cache by the fast path. */
bool slot[OWNERS];
bool revoking, depot_lock;
byte depot;             /* how often the block is in the depot's magazines */

/* Of the model, not of the code. */
byte running, met, got, succeeded;
bool inside[OWNERS];
hidden byte together, handed_twice, lost, refused_both;
hidden byte at;

/* Within a d_step: all stores of thread t reach memory. */
inline flush(t) {
    at = 0;
    do
    :: at < buffer[t].count ->
        memory[ADDRESS(buffer[t].entry[at])] = VALUE(buffer[t].entry[at]);
        buffer[t].entry[at] = 0;
        at++
    :: else -> break
    od;
    buffer[t].count = 0;
    at = 0
}

/* The value as the thread itself sees it: its own youngest store, else memory. */
inline load(t, address, value) {
    value = memory[address];
    at = 0;
    do
    :: at < buffer[t].count ->
        if
        :: ADDRESS(buffer[t].entry[at]) == address -> value = VALUE(buffer[t].entry[at])
        :: else
        fi;
        at++
    :: else -> break
    od;
    at = 0
}

inline store(t, address, value) {
    d_step {
        buffer[t].count < BUFFER;
        buffer[t].entry[buffer[t].count] = ENTRY(address, value);
        buffer[t].count++
    }
}

proctype Memory(byte t) {
end:
    do
    :: d_step {
        buffer[t].count > 0 ->
        memory[ADDRESS(buffer[t].entry[0])] = VALUE(buffer[t].entry[0]);
        at = 0;
        do
        :: at + 1 < buffer[t].count ->
            buffer[t].entry[at] = buffer[t].entry[at + 1];
            at++
        :: else -> break
        od;
        buffer[t].entry[at] = 0;
        buffer[t].count--;
        at = 0
    }
    od
}

/* ---- Owners ------------------------------------------------------------------------------ */

/* Cache.enter and enterAny, with the handle that the caller passed. */
inline enter(plain, passed) {
    if
    :: plain -> store(me, BUSY(me), 1)
    :: !plain -> d_step { flush(me); memory[BUSY(me)] = 1 }
    fi;
    if
    :: d_step { handle[me] == passed -> inside[me] = true }
    :: handle[me] != passed -> store(me, BUSY(me), 0)
    fi
}

inline leave() {
    d_step { inside[me] = false };
    store(me, BUSY(me), 0)
}

/* By the fast path where the slot says so; else Pool.cacheOfThread, then enterAny. */
inline come_in() {
    if
    :: slot[me] -> enter(true, MANAGER)
    :: else
    fi;
#ifdef NULL_HANDLE
    if
    :: slot[me] && !inside[me] ->
        enter(true, 0);
        if
        :: inside[me] -> leave()
        :: else
        fi
    :: skip
    fi;
#endif
    do
    :: inside[me] -> break
    :: !inside[me] ->
        d_step { !revoking -> revoking = true; flush(me) };
        d_step {
            handle[me] = MANAGER;
#ifdef SLOT_KEPT
            slot[me] = slot[me] || ASYMMETRIC;
#else
            slot[me] = ASYMMETRIC;
#endif
            revoking = false
        };
#ifdef SLOT_KEPT
        enter(slot[me], MANAGER)
#else
        enter(ASYMMETRIC, MANAGER)
#endif
    od;
    skip
}

/* A look at the block's state, and a store if it is what is expected. */
inline claim(from, to) {
#if defined(ALL_ATOMIC) && !defined(CLAIM_BY_STORES)
    d_step {
        flush(me);
        was = (memory[STATE] == from);
        if
        :: was -> memory[STATE] = to
        :: else
        fi
    }
#else
    d_step { load(me, STATE, value); was = (value == from); value = 0 };
    if
    :: was -> store(me, STATE, to)
    :: else
    fi
#endif
}

inline change_count(by) {
    d_step {
        buffer[me].count < BUFFER;
        load(me, COUNT(me), value);
        buffer[me].entry[buffer[me].count] = ENTRY(COUNT(me), value + by);
        buffer[me].count++;
        value = 0
    }
}

/* Cache.push and put. The block is put into the magazine before its state says so, or after. */
inline free_block() {
    come_in();
    claim(LIVE, CODE(me));
    if
    :: was -> change_count(1); succeeded++
    :: else
#ifdef FORGET_WHEN_NOT_LIVE
        -> store(me, COUNT(me), 0)
#endif
    fi;
    was = false;
    leave()
}

/* Cache.fill: what the depot has is taken over, if it still is the depot's. */
inline fill() {
    d_step { !depot_lock -> depot_lock = true; flush(me) };
    do
    :: depot > 0 && !was ->
        depot--;
#ifdef FILL_WITHOUT_LOOK
        was = true;
        store(me, STATE, CODE(me))
#else
        claim(DEPOT, CODE(me))
#endif
    :: else -> break
    od;
    if
    :: was -> change_count(1)
    :: else
    fi;
    was = false;
    d_step { flush(me); depot_lock = false }
}

/* Cache.drain. */
inline drain() {
    come_in();
    d_step { !depot_lock -> depot_lock = true; flush(me) };
    do
    :: memory[COUNT(me)] > 0 ->
        claim(CODE(me), DEPOT);
        d_step { flush(me); memory[COUNT(me)] = memory[COUNT(me)] - 1 };
        if
        :: was -> was = false; depot++
        :: else
        fi
    :: else -> break
    od;
    skip;
    d_step { flush(me); depot_lock = false };
    leave()
}

/* Cache.pop, dropDoubles, fill, and pop again. */
inline alloc_block() {
    come_in();
    tried = false;
    do
    :: true ->
        d_step { load(me, COUNT(me), value); some = (value > 0); value = 0 };
        if
        :: some ->
#ifdef POP_WITHOUT_LOOK
            was = true;
            store(me, STATE, LIVE);
#else
            claim(CODE(me), LIVE);
#endif
            change_count(-1);
            if
            :: was -> was = false; mine = true; got++; break
            :: else
            fi
        :: !some && !tried -> tried = true; fill()
        :: !some && tried -> break
        fi
    od;
    some = false;
    leave()
}

/* Both have come here, as they would by any means of their own. */
inline meet(all) {
    d_step { flush(me); met++ };
    met >= all
}

proctype Owner(byte me) {
    byte value, todo;
    bool was, some, tried, mine;

    todo = FREES;
    do
    :: todo > 0 ->
        todo--;
        free_block();
#ifdef DRAINS
        if
        :: drain()
        :: skip
        fi
#endif
    :: else -> break
    od;
    meet(OWNERS);
    todo = ALLOCS;
    do
    :: todo > 0 && !mine -> todo--; alloc_block()
    :: todo > 0 && mine -> mine = false; got--; free_block()
    :: else -> break
    od;
    skip;
    d_step { flush(me); running-- }
}

/* ---- Who calls all blocks in --------------------------------------------------------------- */

inline barrier() {
#ifndef NO_BARRIER
    if
    :: ASYMMETRIC ->
        do
        :: k < OWNERS -> d_step { flush(k); k++ }
        :: else -> break
        od;
        k = 0
    :: else
    fi;
#endif
    skip
}

/* Pool.callIn and endRevoke. */
proctype Revoker() {
    byte todo = REVOKES, k;
    bool refused;

    do
    :: todo > 0 ->
        todo--;
        d_step { !revoking -> revoking = true };
#ifdef BARRIER_TOO_EARLY
        barrier();
#endif
        do
        :: k < OWNERS -> handle[k] = NOBODY; k++
        :: else -> break
        od;
        k = 0;
#ifdef REFUSED
        if
        :: refused = true
        :: barrier()
        fi;
#elif !defined(BARRIER_TOO_EARLY)
        barrier();
#endif
#ifdef EMPTY_THOUGH_REFUSED
        refused = false;
#endif
#ifndef BUSY_IGNORED
        do
        :: k < OWNERS && !refused -> memory[BUSY(k)] == 0; k++
        :: else -> break
        od;
        k = 0;
#endif
        if
        :: !refused ->
            d_step { !depot_lock -> depot_lock = true };
            /* Cache.empty */
            do
            :: k < OWNERS ->
                d_step { together = inside[k]; assert(!together) };
                do
                :: memory[COUNT(k)] > 0 -> d_step {
                    memory[COUNT(k)] = memory[COUNT(k)] - 1;
                    if
#ifdef EMPTY_WITHOUT_LOOK
                    :: true -> memory[STATE] = DEPOT; depot++
#else
                    :: memory[STATE] == CODE(k) -> memory[STATE] = DEPOT; depot++
#endif
                    :: else
                    fi
                }
                :: else -> break
                od;
                skip;
                d_step { together = inside[k]; assert(!together); k++ }
            :: else -> break
            od;
            k = 0;
            depot_lock = false
        :: else
        fi;
        refused = false;
        revoking = false
    :: else -> break
    od;
    running--
}

init {
    byte i;

    atomic {
        memory[STATE] = LIVE;
        do
        :: i < OWNERS ->
            handle[i] = NOBODY;
#ifdef REUSE
            slot[i] = true;
#endif
            running++;
            run Memory(i);
            run Owner(i);
            i++
        :: else -> break
        od;
        running++;
        run Revoker();
        i = 0
    };
    /* Nobody waits for ever: else this does, which spin reports. */
    running == 0;
    d_step {
        refused_both = (succeeded == 0);
        assert(!refused_both);
        handed_twice = (got > 1);
        assert(!handed_twice);
        /* Live, or where its state says that it is. */
        lost = !(got == 1 && memory[STATE] == LIVE ||
            got == 0 && memory[STATE] == DEPOT && depot > 0 ||
            got == 0 && memory[STATE] == CODE(0) && memory[COUNT(0)] > 0 ||
            got == 0 && memory[STATE] == CODE(1) && memory[COUNT(1)] > 0);
        assert(!lost)
    }
}
