/*
 * The gate of one dimension: readers in, writer, unload and reload apart (R4.1-R4.5, R10.4).
 *
 * Every store a reader makes to a counter goes through its thread's store buffer and reaches
 * memory later, at any moment; a barrier or an atomic operation empties the buffer. Everything
 * else happens in memory, one step at a time, in any order spin can find. A reader reads payload
 * as its last step before it leaves: spin delays that step as long as it likes, so it stands for
 * every read from the moment the reader is inside.
 *
 * README.md has the map from these names to the code's, and what is left out.
 */

/* Size of the world; run.sh sets them. */
#ifndef READERS
#define READERS 2
#endif
#ifndef ACQUIRES        /* that each reader makes */
#define ACQUIRES 1
#endif
#ifndef DEPTH           /* views that a reader holds at once, at most 2 */
#define DEPTH 1
#endif
#ifndef WRITERS
#define WRITERS 0
#endif
#ifndef WRITES          /* by each writer */
#define WRITES 1
#endif
#ifndef RELOADS
#define RELOADS 0
#endif
/* IMPATIENT: readers give up where they would wait, for worlds that are too large otherwise. */
#ifndef BUFFER          /* stores that a buffer holds; the next one waits */
#define BUFFER 2
#endif
#ifndef MODULUS         /* of the counters: one more than the pins that can be outstanding */
#ifdef CROSS
#define MODULUS (READERS * DEPTH + 2)
#else
#define MODULUS (READERS * DEPTH + 1)
#endif
#endif

/* How unload treats live views. */
#define UNLOAD_NONE   0
#define UNLOAD_REFUSE 1
#define UNLOAD_WAIT   2
#define UNLOAD_DEFER  3
#ifndef UNLOAD
#define UNLOAD UNLOAD_NONE
#endif

/* Who closes the manager, with views treated as by UNLOAD_WAIT and by UNLOAD_DEFER. */
#ifndef WAITING_CLOSERS
#define WAITING_CLOSERS 0
#endif
#ifndef DEFERRING_CLOSERS
#define DEFERRING_CLOSERS 0
#endif

/* When a time-out may strike: never, only when nothing else can happen, or at any moment. */
#define NEVER false
#define STUCK timeout
#define ANY   true
#ifndef READ_TIMEOUT
#define READ_TIMEOUT NEVER
#endif
#ifndef RARE_TIMEOUT
#define RARE_TIMEOUT NEVER
#endif

/* Readers from this one on share one row, the crowd's, and move it by atomic additions. */
#ifndef CROWD
#define CROWD READERS
#endif
/* ALL_ATOMIC: so do all readers with their own rows, where there is no process-wide barrier.
 * HAND_ON: the last reader starts when the first has ended, and takes over its row. */
#ifdef ALL_ATOMIC
#define ATOMIC(t) true
#else
#define ATOMIC(t) (t >= CROWD)
#endif
#ifdef HAND_ON
#define ROWS   (READERS - 1)
#define ROW(t) (t % ROWS)
#elif CROWD < READERS
#define ROWS   (CROWD + 1)
#define ROW(t) (t < CROWD -> t : CROWD)
#else
#define ROWS   READERS
#define ROW(t) t
#endif
#define LAST (READERS - 1)

/* Counters, then the mailbox for views, then the mark of a row that is free. */
#define IN  0
#define OUT 1
#define CELL(row, side, slot) (4 * (row) + 2 * (side) + (slot))
#define MAIL (4 * ROWS)
#define FREE (4 * ROWS + 1)
byte memory[4 * ROWS + 2];

typedef StoreBuffer {
    byte count;
    short entry[BUFFER]     /* oldest first: address, value */
};
StoreBuffer buffer[READERS];
#define ENTRY(address, value) (((address) << 8) | (value))
#define ADDRESS(entry) ((entry) >> 8)
#define VALUE(entry)   ((entry) & 255)

/* Gate.Word */
#define OPEN      0
#define BLOCKED   1
#define UNLOADING 2
#define EMPTY     3
#define CLOSED    4
#define WORD(generation, slot, state) ((generation) << 4 | (slot) << 3 | (state))
#define STATE(word)      ((word) & 7)
#define SLOT(word)       (((word) >> 3) & 1)
#define GENERATION(word) ((word) >> 4)
byte word = WORD(1, 0, OPEN);

/* Gate.Drain */
#define WAKE   1
#define RETIRE 2
byte draining[2];

/* What is mapped in a slot: a generation, or nothing, or what a writer is at. */
#define NOTHING 0
#define BEING_WRITTEN 255
byte payload[2];

/* Dimension. Its lock, and what is moved only under it. */
bool lock;
#define IDLE     0
#define LOADING  1
#define WAITING  2      /* Activity.draining: for views, and for a writer */
#define CLOSING  3
byte activity;
byte number[2];         /* of the generation that has the slot; 0: the slot is free */
byte last_number = 1;
bool retiring[2];
/* A barrier was issued since readers were let in last: the sums are exact. */
bool settled[2];
/* Somebody who does not wait has unloaded what is being loaded. */
bool unwanted;
bool writing[2];
byte readers_waiting, sleepers;
/* Set without the lock: a leaver asks for a sweep that it could not make. */
bool sweep_wanted;

/* The two futex words, as each sleeper sees them. Readers and the rare side sleep on `changed`,
 * the rare side on `drained`. A bump makes a later wait return at once, a wake ends it. */
#define MOVED  0        /* since the sleeper read it */
#define FRESH  1
#define ASLEEP 2
#define RARE (WRITERS + 2 + WAITING_CLOSERS + DEFERRING_CLOSERS)
byte changed[READERS + RARE];
byte drained[RARE];

#ifdef VIEW_FIRST
/* The reader has a view from before the unload, keeps it until that has looked, and is let in
 * meanwhile. */
bool inside, looked;
#endif
/* Of the model, not of the code: processes that have not ended, and what must never be true. */
byte running;
hidden byte torn_read, wrong_unmap, left_over, unbalanced, kept_out;
#ifdef CROSS
bool ended, mailed;
#endif
hidden byte at;
#ifdef WEAK
byte glanced[READERS];
#endif

/* ---- Memory ---------------------------------------------------------------------------- */

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
    buffer[t].entry[buffer[t].count] = ENTRY(address, value);
    buffer[t].count++
}

/* Counters.Row.move. Load and store are one step here: nobody else stores to this row. */
inline move(side, slot) {
    if
    :: ATOMIC(me) -> d_step {
        flush(me);
        memory[CELL(row, side, slot)] = (memory[CELL(row, side, slot)] + 1) % MODULUS
    }
    :: !ATOMIC(me) && buffer[me].count < BUFFER -> d_step {
        load(me, CELL(row, side, slot), value);
        store(me, CELL(row, side, slot), (value + 1) % MODULUS);
        value = 0
    }
    fi
}

/* One store of thread t, at position i of its buffer, reaches memory. */
inline drain(t, i) {
    memory[ADDRESS(buffer[t].entry[i])] = VALUE(buffer[t].entry[i]);
    at = i;
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

/* A store may overtake older ones to other addresses, unless it is a release: `in` may. */
#define PLAIN(t, i) (ADDRESS(buffer[t].entry[i]) < MAIL && ADDRESS(buffer[t].entry[i]) % 4 < 2)
#define OTHER(t, i, j) (ADDRESS(buffer[t].entry[i]) != ADDRESS(buffer[t].entry[j]))

proctype Memory(byte t) {
end:
    do
    :: d_step { buffer[t].count > 0 -> drain(t, 0) }
#ifdef WEAK
    :: d_step { buffer[t].count > 1 && PLAIN(t, 1) && OTHER(t, 1, 0) -> drain(t, 1) }
    :: d_step { buffer[t].count > 2 && PLAIN(t, 2) && OTHER(t, 2, 0) && OTHER(t, 2, 1) ->
        drain(t, 2) }
#endif
    od
}

/* ---- What both sides do ------------------------------------------------------------------ */

#define FOR_ALL(futex, count, from, to) \
    at = 0; \
    do \
    :: at < count && futex[at] == from -> futex[at] = to; at++ \
    :: at < count && futex[at] != from -> at++ \
    :: else -> break \
    od; \
    at = 0
#define BUMP_CHANGED FOR_ALL(changed, READERS + RARE, FRESH, MOVED)
#define WAKE_CHANGED FOR_ALL(changed, READERS + RARE, ASLEEP, MOVED)
#define BUMP_DRAINED FOR_ALL(drained, RARE, FRESH, MOVED)
#define WAKE_DRAINED FOR_ALL(drained, RARE, ASLEEP, MOVED)

/* os.futexWait; late: not until the deadline. (A macro, because `timeout` cannot be an argument of
 * an inline.) */
#define FUTEX_WAIT(futex, deadline) \
    d_step { \
        if \
        :: futex == FRESH -> futex = ASLEEP \
        :: else \
        fi \
    }; \
    if \
    :: futex == MOVED \
    :: deadline -> late = true \
    fi; \
    futex = MOVED

/* Within a d_step, as what follows it in the code touches nothing that others look at. */
inline announce() {
    BUMP_CHANGED;
    if
    :: sleepers + readers_waiting > 0 -> WAKE_CHANGED
    :: else
    fi
}

/* Counters.held. */
#ifdef IN_SUMMED_FIRST
#define FIRST IN
#else
#define FIRST OUT
#endif
#define SUMMED(slot) memory[CELL(k % ROWS, (k < ROWS -> FIRST : 1 - FIRST), slot)]

inline sum(slot) {
    total = 0;
    do
    :: k < 2 * ROWS -> d_step {
        total = ((k < ROWS) == (FIRST == IN) ->
            total + SUMMED(slot) : total + MODULUS - SUMMED(slot)) % MODULUS;
        k++
    }
    :: else -> break
    od;
    k = 0
}

/* Each thread meets the barrier at a moment of its own. */
inline barrier() {
#ifdef NO_BARRIER
    skip
#else
    do
    :: k < READERS -> d_step {
        flush(k);
#ifdef WEAK
        glanced[k] = 0;
#endif
        k++
    }
    :: else -> break
    od;
    k = 0
#endif
}

/* Dimension.settle: with BARRIER_REFUSED the system may refuse it, and does not say so to who does
 * not ask. */
inline settle() {
    if
#ifdef BARRIER_REFUSED
    :: denied = true
#endif
    :: true ->
        barrier();
        d_step {
            settled[0] = settled[0] || STATE(word) != OPEN || SLOT(word) != 0;
            settled[1] = settled[1] || STATE(word) != OPEN || SLOT(word) != 1
        }
    fi
}

/* Dimension.admit */
#ifdef SETTLED_KEPT
#define ADMIT(slot, generation) word = WORD(generation, slot, OPEN)
#else
#define ADMIT(slot, generation) \
    d_step { settled[slot] = false; word = WORD(generation, slot, OPEN) }
#endif

inline unmap(slot) {
    d_step {
        /* A second time, or under a writer. */
        wrong_unmap = (payload[slot] == NOTHING || payload[slot] == BEING_WRITTEN);
        assert(!wrong_unmap);
        payload[slot] = NOTHING
    };
    draining[slot] = 0;
    d_step {
        announce();
#ifndef UNMAP_SILENTLY
        /* For who closes: the last leaver may find the flag cleared already. */
        BUMP_DRAINED;
        WAKE_DRAINED;
#endif
        if
        :: STATE(word) == UNLOADING && GENERATION(word) == number[slot] ->
            word = WORD(GENERATION(word), slot, EMPTY)
        :: else
        fi;
        number[slot] = 0;
        retiring[slot] = false;
        settled[slot] = false
    }
}

#ifdef SWEEP_UNSETTLED
#define SUMMABLE(slot) true
#else
#define SUMMABLE(slot) settled[slot]
#endif
#define SWEEPABLE(slot) (retiring[slot] && !writing[slot])

inline sweep() {
    d_step { s = (SWEEPABLE(0) -> 0 : (SWEEPABLE(1) -> 1 : 2)) };
    do
    :: s < 2 ->
#ifndef SWEEP_UNSETTLED
        if
        :: !settled[s] -> settle(); denied = false
        :: else
        fi;
#endif
        if
#ifndef SWEEP_UNSETTLED
        :: !settled[s]
#endif
        :: SUMMABLE(s) ->
            sum(s);
            if
            :: total == 0 -> unmap(s)
            :: else -> total = 0
            fi
        fi;
        d_step { s = (s == 0 && SWEEPABLE(1) -> 1 : 2) }
    :: else -> break
    od;
    s = 0
}

inline sweep_if_wanted() {
    do
    :: sweep_wanted ->
        if
#ifdef SWEEP_WITHOUT_LOCK
        :: true
#else
        :: d_step { !lock -> lock = true }
        :: lock -> break
#endif
        fi;
#ifdef SWEEP_WANTED_CLEARED_LATE
        sweep();
        sweep_wanted = false;
#else
        sweep_wanted = false;
        sweep();
#endif
#ifndef SWEEP_WITHOUT_LOCK
        lock = false
#endif
    :: else -> break
    od;
    skip
}

#ifdef UNLOCK_WITHOUT_LOOK
#define unlocked() skip
#else
#define unlocked() sweep_if_wanted()
#endif

inline unlock() {
    lock = false;
    unlocked()
}

/* A writer is in, or the slot is not mapped, or what it shows is another generation. */
#define TORN(view) (payload[SLOT(view)] != GENERATION(view))

/* ---- Readers ----------------------------------------------------------------------------- */

#ifdef WEAK
/* The load of the drain flag may be satisfied before older reads and stores; a barrier in between
 * makes it start over. */
#define GLANCE(slot) if :: !ATOMIC(me) -> glanced[me] = 4 | draining[slot] :: skip fi
#define LOOK_AT_FLAG(slot) d_step { \
    flag = (glanced[me] -> glanced[me] & 3 : draining[slot]); glanced[me] = 0 }
#else
#define GLANCE(slot) skip
#define LOOK_AT_FLAG(slot) flag = draining[slot]
#endif

/* Gate.leave, and Dimension.afterLeaving. */
inline leave(slot) {
    move(OUT, slot);
    LOOK_AT_FLAG(slot);
    if
    :: flag & WAKE ->
        d_step { flush(me); BUMP_DRAINED; WAKE_DRAINED }
    :: else
    fi;
    if
    :: flag & RETIRE ->
        d_step { flush(me); sweep_wanted = true };
        sweep_if_wanted()
    :: else
    fi;
    flag = 0
}

inline refused(slot) {
    GLANCE(slot);
#ifdef REFUSED_LEAVE_SILENTLY
    move(OUT, slot)
#else
    leave(slot)
#endif
}

#ifdef NO_PRECHECK
#define MAY_TRY(word) true
#else
#define MAY_TRY(word) (STATE(word) == OPEN)
#endif
#ifdef NO_RECHECK
#define STILL true
#elif defined(RECHECK_SLOT_ONLY)
#define STILL (STATE(word) == OPEN && SLOT(word) == SLOT(seen))
#else
#define STILL (word == seen)
#endif

#define READ(view) d_step { torn_read = TORN(view); assert(!torn_read) }

#define LOCK d_step { !lock -> lock = true; flush(me) }

#ifdef VIEW_FIRST
#define MAY_LEAVE(count) (count > 0 && looked)
#else
#define MAY_LEAVE(count) (count > 0)
#endif

proctype Reader(byte me) {
    byte todo = ACQUIRES, count, held[DEPTH], seen, view, row, value, flag, total, k, s;
    bool waits, late, denied;
#ifdef PAYLOAD_BEFORE_RECHECK
    bool torn;
#endif

    row = ROW(me);
#ifdef HAND_ON
    if
    :: me == LAST ->
        d_step { memory[FREE] == 1 -> memory[FREE] = 0 };
#ifdef ROW_ZEROED
        d_step { memory[0] = 0; memory[1] = 0; memory[2] = 0; memory[3] = 0 }
#endif
    :: else
    fi;
#endif
    do
    :: todo > 0 && count < DEPTH ->
        todo--;
enter:
        if
        :: waits -> changed[me] = FRESH
        :: else
        fi;
        seen = word;
        if
        :: MAY_TRY(seen) ->
            move(IN, SLOT(seen));
#ifdef PAYLOAD_BEFORE_RECHECK
            torn = TORN(seen);
#endif
            if
            :: STILL ->
#ifdef PAYLOAD_BEFORE_RECHECK
                d_step { torn_read = torn; assert(!torn_read) };
#endif
                d_step { held[count] = seen; count++ };
#ifdef VIEW_FIRST
                inside = true;
#endif
                goto entered
            :: else -> refused(SLOT(seen))
            fi
        :: else
        fi;
        /* Refused: again, or wait for the writer, or give up. */
        seen = word;
#ifdef VIEW_FIRST
        d_step { kept_out = (count > 0 && STATE(seen) == BLOCKED); assert(!kept_out) };
#endif
#ifdef READER_SEQUENCE_LATE
        if
        :: waits -> changed[me] = FRESH
        :: else
        fi;
#endif
        if
#ifdef IMPATIENT
        :: STATE(seen) == BLOCKED && !waits
#else
        :: STATE(seen) == BLOCKED && !waits ->
            d_step { flush(me); readers_waiting++ };
            waits = true;
            goto enter
#endif
        :: STATE(seen) == OPEN -> goto enter
        :: STATE(seen) == BLOCKED && waits && !late ->
            FUTEX_WAIT(changed[me], READ_TIMEOUT);
            goto enter
        :: STATE(seen) == BLOCKED && late
        :: STATE(seen) > BLOCKED
        fi;
entered:
        seen = 0;
        late = false;
        changed[me] = MOVED;
        if
        :: waits ->
            waits = false;
            d_step { flush(me); readers_waiting-- }
        :: else
        fi

#ifdef PINS
    /* Dimension.pin: under the lock no second look is needed; a writer may be in. */
    :: todo > 0 ->
        todo--;
        LOCK;
        if
        :: STATE(word) <= BLOCKED ->
            view = word;
            move(IN, SLOT(view));
            d_step { flush(me); lock = false };
            sweep_if_wanted();
            d_step {
                torn_read = TORN(view) && payload[SLOT(view)] != BEING_WRITTEN;
                assert(!torn_read)
            };
            leave(SLOT(view));
            view = 0
        :: else -> unlock()
        fi
#endif

    :: MAY_LEAVE(count) ->
        /* The youngest view or the oldest. */
        d_step { count--; view = held[count]; held[count] = 0 };
#if DEPTH > 1
        if
        :: count == 1 -> d_step { seen = held[0]; held[0] = view; view = seen; seen = 0 }
        :: skip
        fi;
#endif
        GLANCE(SLOT(view));
#ifdef OUT_BEFORE_PAYLOAD
        leave(SLOT(view));
        READ(view);
#else
        READ(view);
        leave(SLOT(view));
#endif
        view = 0

#ifdef CROSS
    /* The first reader hands a view to the last, which releases it. */
    :: me == 0 && count > 0 && !mailed && buffer[me].count < BUFFER -> d_step {
        mailed = true;
        count--;
        store(me, MAIL, held[count]);
        held[count] = 0
    }
    :: me == LAST && count < DEPTH && memory[MAIL] != 0 -> d_step {
        held[count] = memory[MAIL];
        count++;
        memory[MAIL] = 0;
        mailed = false
    }
    :: todo == 0 && count == 0 &&
        (me != LAST || (ended && !mailed)) -> break
#else
    :: todo == 0 && count == 0 -> break
#endif
    od;
#ifdef HAND_ON
    if
#ifdef ROW_FREE_TOO_EARLY
    :: me == 0 -> memory[FREE] = 1
#else
    :: me == 0 -> d_step { buffer[me].count < BUFFER -> store(me, FREE, 1) }
#endif
    :: else
    fi;
#endif
#ifdef CROSS
    ended = ended || me == 0;
#endif
    running--
}

/* ---- The rare side ------------------------------------------------------------------------ */

#define RARE_LOCK d_step { !lock -> lock = true }

/* Dimension.sleep: under the lock, which is free meanwhile; late: the deadline has passed. */
#define SLEEP(deadline) \
    d_step { changed[READERS + me] = FRESH; sleepers++; lock = false }; \
    unlocked(); \
    FUTEX_WAIT(changed[READERS + me], deadline); \
    d_step { !lock -> lock = true; sleepers-- }

inline retire(slot) {
    d_step { retiring[slot] = true; draining[slot] = RETIRE };
    d_step {
        BUMP_DRAINED;
        if
        :: activity != IDLE -> WAKE_DRAINED
        :: else
        fi
    }
}

inline begin_draining(state) {
#ifdef BARRIER_TOO_EARLY
    barrier();
#endif
    d_step { activity = WAITING; word = WORD(GENERATION(word), slot, state) };
#ifndef FLAG_TOO_LATE
    draining[slot] = WAKE;
#endif
#ifndef BARRIER_TOO_EARLY
    settle()
#endif
}

inline end_activity() {
    d_step { activity = IDLE; announce() }
}

/* alone: neither views nor a writer; taken: somebody who does not wait took the generation, and
 * the activity is ended. */
inline drain_slot() {
    do
    :: skip;
#ifndef RARE_SEQUENCE_LATE
        drained[me] = FRESH;
#endif
#ifndef DRAIN_WHAT_IS_TAKEN
        if
        :: retiring[slot] || number[slot] == 0 ->
            d_step { taken = true; activity = IDLE; announce() };
            break
        :: else
        fi;
#endif
        sum(slot);
        if
        :: total == 0 && !writing[slot] -> alone = true; break
        :: else -> total = 0
        fi;
        if
        :: late -> break
        :: else
        fi;
#ifdef FLAG_TOO_LATE
        draining[slot] = WAKE;
#endif
#ifdef RARE_SEQUENCE_LATE
        drained[me] = FRESH;
#endif
#ifdef LOCK_HELD_ASLEEP
        FUTEX_WAIT(drained[me], RARE_TIMEOUT)
#else
        unlock();
        FUTEX_WAIT(drained[me], RARE_TIMEOUT);
        RARE_LOCK
#endif
    od;
    drained[me] = MOVED
}

/* With the gate as it was before begin_draining. */
inline reopen() {
    draining[slot] = 0;
    if
    :: writing[slot] -> word = WORD(GENERATION(word), slot, BLOCKED)
    :: else -> ADMIT(slot, GENERATION(word))
    fi;
    end_activity()
}

/* What follows begin_draining: nothing, with all as before, if the system refuses the barrier. */
inline drain_if_granted() {
    if
    :: denied -> denied = false; taken = true; reopen()
    :: else -> drain_slot()
    fi
}

proctype Writer(byte me) {
    byte rounds = WRITES, slot, total, k, s;
    bool alone, taken, late, denied;

    do
    :: rounds > 0 ->
        rounds--;
        RARE_LOCK;
        /* awaitTurn */
        do
        :: STATE(word) > BLOCKED || late -> taken = true; break
        :: STATE(word) <= BLOCKED && !late ->
            slot = SLOT(word);
            if
            /* Readers that go first are let go first until a moment has passed: any moment. */
            :: activity == IDLE && !writing[slot] -> break
            :: else -> SLEEP(RARE_TIMEOUT)
            fi
        od;
        if
        :: !taken ->
            begin_draining(BLOCKED);
            drain_if_granted()
        :: else
        fi;
        if
        :: alone ->
            d_step { alone = false; draining[slot] = 0; writing[slot] = true };
            d_step {
                activity = IDLE;
                if
                :: sleepers > 0 -> announce()
                :: else
                fi
            };
            unlock();
            d_step {
                torn_read = payload[slot] == NOTHING || payload[slot] != number[slot];
                assert(!torn_read)
            };
            payload[slot] = BEING_WRITTEN;
            d_step { assert(payload[slot] == BEING_WRITTEN); payload[slot] = number[slot] };
            /* endWrite */
            d_step { !lock -> lock = true; writing[slot] = false };
            if
            :: STATE(word) == BLOCKED && SLOT(word) == slot && activity == IDLE ->
                ADMIT(slot, GENERATION(word))
            :: else
            fi;
            d_step { BUMP_DRAINED; WAKE_DRAINED };
            d_step { announce() };
            sweep()
        :: !alone && !taken -> reopen()
        :: taken -> taken = false
        fi;
        unlock();
        slot = 0;
        late = false
    :: else -> break
    od;
    running--
}

#if UNLOAD == UNLOAD_REFUSE
#define UNLOADING_STATE BLOCKED
#else
#define UNLOADING_STATE UNLOADING
#endif

#ifdef UNWANTED_IGNORED
#define WANTED true
#else
#define WANTED (STATE(word) != CLOSED && !unwanted)
#endif

/* Dimension.load and reload: what they have in common, under the lock with the activity idle. */
inline claim() {
    sweep();
    slot = (number[0] == 0 -> 0 : (number[1] == 0 -> 1 : 2));
    if
    :: slot < 2 ->
        d_step {
            last_number++;
            number[slot] = last_number;
            activity = LOADING;
            lock = false
        };
        unlocked();
        payload[slot] = number[slot];
        RARE_LOCK;
        /* completeLoad */
        if
#ifndef UNWANTED_IGNORED
        :: STATE(word) == CLOSED || unwanted ->
            retire(slot);
            sweep();
            slot = 2
#endif
        :: WANTED -> ADMIT(slot, number[slot])
        fi;
        unwanted = false
    :: else
    fi
}

proctype Unloader(byte me) {
    byte slot, total, k, s;
#if UNLOAD == UNLOAD_DEFER
    byte before, flags;
#endif
    bool alone, taken, late, denied;

#ifdef VIEW_FIRST
    inside;
#endif
    RARE_LOCK;
#if UNLOAD == UNLOAD_DEFER
    /* Whatever others do with it; what is being loaded is not wanted any more. */
    slot = SLOT(word);
    if
    :: STATE(word) <= BLOCKED || (STATE(word) == UNLOADING && !retiring[slot]) ->
        /* retireAtOnce */
        d_step {
            before = word;
            flags = draining[slot];
            word = WORD(GENERATION(word), slot, UNLOADING);
            draining[slot] = WAKE | RETIRE
        };
        settle();
        if
        :: denied && !settled[slot] ->
            draining[slot] = flags;
            if
            :: STATE(before) == OPEN -> ADMIT(slot, GENERATION(word))
            :: else -> word = before
            fi
        :: else ->
            retire(slot);
            unwanted = (activity == LOADING);
            sweep();
            d_step { announce() }
        fi;
        denied = false
    :: else -> unwanted = (STATE(word) != CLOSED && activity == LOADING)
    fi;
#else
    do
    :: STATE(word) > BLOCKED || late -> taken = true; break
    :: STATE(word) <= BLOCKED && !late ->
        slot = SLOT(word);
        if
#if UNLOAD == UNLOAD_REFUSE
        :: activity == IDLE ->
#ifdef REFUSE_WITHOUT_LOOK
            break
#else
            /* A look that keeps nobody out, more than one until a moment has passed. */
            sum(slot);
            if
            :: total == 0 && !writing[slot] -> break
            :: total != 0 || writing[slot] -> taken = true; break
            :: total != 0 || writing[slot] -> total = 0; unlock(); RARE_LOCK
            fi
#endif
        :: activity == WAITING || activity == CLOSING -> taken = true; break
#else
        :: activity == IDLE -> break
        :: activity == WAITING || activity == CLOSING -> SLEEP(RARE_TIMEOUT)
#endif
        :: activity == LOADING -> SLEEP(RARE_TIMEOUT)
        fi
    od;
    total = 0;
    if
    :: !taken ->
        begin_draining(UNLOADING_STATE);
        drain_if_granted();
        if
        :: alone ->
            end_activity();
            word = WORD(GENERATION(word), slot, UNLOADING);
            retire(slot);
#ifndef RETIRE_WITHOUT_BARRIER
            settle();
            denied = false;
#endif
            sweep();
            d_step { announce() }
        :: !alone && !taken -> reopen()
        :: taken
        fi
    :: else
    fi;
#endif
    unlock();
#ifdef VIEW_FIRST
    looked = true;
#endif
#ifdef LOAD_AGAIN
    RARE_LOCK;
    do
    :: STATE(word) <= BLOCKED || STATE(word) == CLOSED ||
        (STATE(word) == UNLOADING && !retiring[SLOT(word)]) -> break
    :: else ->
        if
        :: activity == IDLE ->
            claim();
            end_activity();
            break
        :: else -> SLEEP(NEVER)
        fi
    od;
    unlock();
#endif
    running--
}

proctype Reloader(byte me) {
    byte rounds = RELOADS, slot, total, k, s;
    bool late, denied;

    do
    :: rounds > 0 ->
        rounds--;
        RARE_LOCK;
        do
        :: STATE(word) > BLOCKED || late -> break
        :: STATE(word) <= BLOCKED && !late ->
            if
            :: activity == IDLE && !writing[SLOT(word)] ->
#ifdef BARRIER_REFUSED
                /* It asks before anything has changed. */
                if
                :: break
                :: skip
                fi;
#endif
                claim();
                if
                :: slot < 2 ->
                    slot = 1 - slot;
                    if
                    :: number[slot] != 0 -> retire(slot); sweep()
                    :: else
                    fi
                :: else
                fi;
                end_activity();
                break
            :: else -> SLEEP(RARE_TIMEOUT)
            fi
        od;
        unlock();
        slot = 0;
        late = false
    :: else -> break
    od;
    running--
}

/* Manager.close, of one dimension. */
#if WAITING_CLOSERS + DEFERRING_CLOSERS > 0
bool closed;

proctype Closer(byte me; bool waits) {
    byte slot, total, k, s, before;
    bool late, given_up, denied;

    if
    :: waits ->
        /* beginClose */
        RARE_LOCK;
        do
        :: activity == IDLE || late -> break
        :: activity == LOADING && !late -> SLEEP(NEVER)
        :: (activity == WAITING || activity == CLOSING) && !late -> SLEEP(RARE_TIMEOUT)
        od;
        if
        :: activity == IDLE ->
            activity = CLOSING;
            before = word;
            slot = SLOT(before);
            if
            :: STATE(before) <= BLOCKED ->
                word = WORD(GENERATION(before), slot, UNLOADING);
                draining[slot] = WAKE
            :: else
            fi;
            unlock();
            if
#ifdef BARRIER_REFUSED
            :: given_up = true; goto closing
#endif
            :: barrier()
            fi;
            /* drainToClose */
            RARE_LOCK;
            do
            :: true ->
                drained[me] = FRESH;
                total = 0;
                if
                :: STATE(word) == CLOSED -> break
                :: else -> d_step { settled[0] = true; settled[1] = true }
                fi;
                if
                :: number[0] != 0 -> sum(0)
                :: else
                fi;
                if
                :: total == 0 && number[1] != 0 -> sum(1)
                :: else
                fi;
                if
                :: total == 0 && !writing[0] && !writing[1] -> break
                :: else -> total = 0
                fi;
                if
                :: late -> given_up = true; break
                :: else
                fi;
                unlock();
                FUTEX_WAIT(drained[me], RARE_TIMEOUT);
                RARE_LOCK
            od;
            drained[me] = MOVED;
            unlock()
        :: else -> unlock(); goto over
        fi
    :: else
    fi;
closing:
    skip;
    /* markClosed */
    d_step { given_up = given_up || closed; closed = closed || !given_up };
    if
    :: given_up && waits ->
        /* revertClose */
        RARE_LOCK;
        slot = SLOT(word);
        if
#ifdef REVERT_WHAT_IS_TAKEN
        :: STATE(before) <= BLOCKED && STATE(word) != CLOSED -> reopen()
#else
        :: STATE(before) <= BLOCKED && STATE(word) != CLOSED && number[slot] != 0 &&
            !retiring[slot] && GENERATION(word) == number[slot] -> reopen()
#endif
        :: else -> end_activity()
        fi;
        unlock()
    :: given_up && !waits
    :: !given_up ->
        /* close */
        RARE_LOCK;
        word = WORD(GENERATION(word), SLOT(word), CLOSED);
        slot = 0;
        do
        :: slot < 2 ->
            if
            :: number[slot] != 0 && !(activity == LOADING && number[slot] == last_number) ->
                retire(slot)
            :: else
            fi;
            slot++
        :: else -> break
        od;
        settle();
        denied = false;
        sweep();
        if
        :: waits -> end_activity()
        :: else -> d_step { announce() }
        fi;
        unlock()
    fi;
over:
    running--
}
#endif

/* ---- Beginning and end ---------------------------------------------------------------------- */



#if WAITING_CLOSERS + DEFERRING_CLOSERS > 0
#define EVER_CLOSED closed
#else
#define EVER_CLOSED false
#endif
/* Where barriers are refused nobody may be able to prove that it has no views, or leave a message
 * when the last of them goes: it stays until the next operation. */
#ifdef BARRIER_REFUSED
#define STAYS(slot) (retiring[slot] && payload[slot] != NOTHING)
#else
#define STAYS(slot) false
#endif

init {
    byte i, total, k;

    atomic {
        payload[0] = 1;
        number[0] = 1;
        do
        :: i < READERS -> running++; run Memory(i); run Reader(i); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < WRITERS -> running++; run Writer(i); i++
        :: else -> break
        od;
#if UNLOAD != UNLOAD_NONE
        running++;
        run Unloader(WRITERS);
#endif
#if RELOADS > 0
        running++;
        run Reloader(WRITERS + 1);
#endif
#if WAITING_CLOSERS > 0
        running++;
        run Closer(WRITERS + 2, true);
#endif
#if DEFERRING_CLOSERS > 0
        running++;
        run Closer(WRITERS + 2 + WAITING_CLOSERS, false);
#endif
        i = 0
    };
    /* Nobody sleeps for ever: else this waits for ever, which spin reports. */
    d_step { running == 0 -> i = 0 };
    do
    :: i < READERS -> d_step { flush(i); i++ }
    :: else -> break
    od;
    /* Nothing is left over: what is mapped is what the gate admits to, and pins balance. */
    i = 0;
    do
    :: i < 2 ->
        d_step {
            left_over = lock || activity != IDLE || sleepers || readers_waiting || unwanted ||
                writing[i] || (!STAYS(i) && (draining[i] || retiring[i] ||
                (payload[i] != NOTHING) != (STATE(word) == OPEN && SLOT(word) == i))) ||
                (EVER_CLOSED && STATE(word) != CLOSED);
            assert(!left_over)
        };
        sum(i);
        d_step {
            unbalanced = (total != 0);
            assert(!unbalanced);
            i++
        }
    :: else -> break
    od
}
