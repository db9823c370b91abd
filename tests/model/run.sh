#!/bin/bash
# Checks the protocols of the gate (R4.1-R4.5, R10.2, R10.4) and of the pools' caches (`pool-…`;
# R6.4, R7.1) in every interleaving, and that the check can fail: a configuration with a step of the protocol left out must end in the named fault.
#
#   run.sh            what a change has to pass: two minutes on two free cores, under 2 GB
#   run.sh --long     everything, with larger bounds: half an hour, 12 GB
#   run.sh NAME…      only these
#
# Prints for each configuration: name, expected, found, states, seconds. Exit code 77: skipped,
# because spin or gcc is missing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# NAME EXPECTED WHEN DEFINES. Expected: `holds`, `stuck` (somebody waits for ever), or the
# condition of gate.pml, or pool.pml, that comes true. Without -DREADERS there are two.
readonly write="-DWRITERS=1 -DACQUIRES=2"
readonly nested="-DWRITERS=1 -DACQUIRES=2 -DDEPTH=2"
readonly any="-DREAD_TIMEOUT=ANY -DRARE_TIMEOUT=ANY"
readonly hand_on="-DHAND_ON -DREADERS=3 -DWRITERS=1 -DREAD_TIMEOUT=STUCK -DRARE_TIMEOUT=STUCK"
readonly wait="-DUNLOAD=UNLOAD_WAIT" defer="-DUNLOAD=UNLOAD_DEFER"
readonly refuse="-DUNLOAD=UNLOAD_REFUSE -DRARE_TIMEOUT=ANY"
# A deferred unload takes the generation from the writer, who lets the nested reader go.
readonly taken="-DREADERS=1 $nested $defer"
readonly close_wait="-DWAITING_CLOSERS=1" close_defer="-DDEFERRING_CLOSERS=1"
# A reader with a view from before the call takes another one meanwhile.
readonly view_first="-DREADERS=1 -DACQUIRES=2 -DDEPTH=2 -DALL_ATOMIC -DNO_BARRIER $refuse -DVIEW_FIRST"
readonly close_both="$close_wait $close_defer"
configurations="
write                  holds       short $write
write-timeouts         holds       short -DWRITERS=1 $any
write-twice            holds       short -DREADERS=1 -DACQUIRES=2 -DWRITERS=1 -DWRITES=2
writers                holds       short -DREADERS=1 -DACQUIRES=2 -DWRITERS=2
unload-refuse          holds       short $refuse -DLOAD_AGAIN
unload-wait            holds       short $wait -DLOAD_AGAIN
unload-wait-timeout    holds       short $wait -DRARE_TIMEOUT=ANY
unload-defer           holds       short $defer
unload-defer-load      holds       short $defer -DLOAD_AGAIN -DREADERS=1 -DACQUIRES=2
reload                 holds       short -DRELOADS=1
reload-twice           holds       short -DRELOADS=2 -DREADERS=1 -DACQUIRES=2
write-unload-refuse    holds       short -DREADERS=1 -DACQUIRES=2 -DWRITERS=1 $refuse
write-unload-wait      holds       short -DREADERS=1 -DACQUIRES=2 -DWRITERS=1 $wait
write-unload-defer     holds       short -DREADERS=1 -DACQUIRES=2 -DWRITERS=1 $defer
write-reload           holds       short -DREADERS=1 -DACQUIRES=2 -DWRITERS=1 -DRELOADS=1
reload-unload          holds       short -DREADERS=1 -DACQUIRES=2 -DRELOADS=1 $defer -DLOAD_AGAIN
close-wait             holds       short $close_wait
close-wait-reload      holds       short -DREADERS=1 -DACQUIRES=2 -DRELOADS=1 $close_wait
close-wait-write       holds       short -DREADERS=1 -DWRITERS=1 $close_wait $any
close-defer            holds       short $close_defer
close-defer-write      holds       short -DREADERS=1 -DWRITERS=1 $close_defer
close-both             holds       short -DREADERS=1 $close_both $any
close-defer-reload     holds       short -DREADERS=1 -DACQUIRES=2 -DRELOADS=1 $close_defer
close-wait-defer       holds       short -DREADERS=1 $close_wait $defer $any
refuse-keeps-none-out  holds       short $view_first
refused-write          holds       short -DWRITERS=1 -DREADERS=1 -DACQUIRES=2 -DBARRIER_REFUSED
refused-unload         holds       short -DREADERS=1 $wait -DBARRIER_REFUSED
refused-defer          holds       short $defer -DBARRIER_REFUSED
refused-reload         holds       short -DRELOADS=1 -DBARRIER_REFUSED
refused-close          holds       short -DREADERS=1 $close_both $any -DBARRIER_REFUSED
pin-write              holds       short -DPINS -DWRITERS=1
pin-unload             holds       short -DPINS $defer
cross-write            holds       short -DCROSS -DWRITERS=1 -DREAD_TIMEOUT=ANY
cross-reload           holds       short -DCROSS -DRELOADS=1
hand-on                holds       short $hand_on
hand-on-cross          holds       short $hand_on -DCROSS -DIMPATIENT
nested                 holds       short $nested -DREAD_TIMEOUT=STUCK -DRARE_TIMEOUT=STUCK
nested-reader-timeout  holds       short $nested -DREAD_TIMEOUT=STUCK
nested-writer-timeout  holds       short $nested -DRARE_TIMEOUT=STUCK
nested-both-slots      holds       short -DREADERS=1 -DRELOADS=1 $nested -DREAD_TIMEOUT=ANY
nested-taken           holds       short $taken
crowd                  holds       short $write -DCROWD=1
all-atomic             holds       short $write -DALL_ATOMIC -DNO_BARRIER
all-atomic-reload      holds       short -DRELOADS=1 -DALL_ATOMIC -DNO_BARRIER
weak-write             holds       short -DWEAK -DWRITERS=1
weak-unload            holds       short -DWEAK $defer
weak-reload            holds       short -DWEAK -DRELOADS=1

no-barrier             torn_read   short $write -DRARE_TIMEOUT=ANY -DNO_BARRIER
no-barrier-wake        stuck       short $write -DNO_BARRIER
no-barrier-reload      left_over   short -DRELOADS=1 -DNO_BARRIER
barrier-too-early      torn_read   short $write -DRARE_TIMEOUT=ANY -DBARRIER_TOO_EARLY
in-summed-first        torn_read   short $write -DIN_SUMMED_FIRST
no-pre-check           torn_read   short $write -DNO_PRECHECK -DREAD_TIMEOUT=ANY
no-re-check            torn_read   short $write -DNO_RECHECK
re-check-slot-only     torn_read   short $defer -DLOAD_AGAIN -DRECHECK_SLOT_ONLY
payload-before-re-check torn_read  short $write -DPAYLOAD_BEFORE_RECHECK
out-before-payload     torn_read   short $write -DOUT_BEFORE_PAYLOAD
modulus-too-small      torn_read   short $write -DMODULUS=2
flag-too-late          stuck       short $write -DFLAG_TOO_LATE
refused-leave-silently stuck       short $write -DREFUSED_LEAVE_SILENTLY
refused-leave-retired  left_over   short -DRELOADS=1 -DREFUSED_LEAVE_SILENTLY
reader-sequence-late   stuck       short $write -DREADER_SEQUENCE_LATE
retire-without-barrier left_over   short $refuse -DRETIRE_WITHOUT_BARRIER
rare-sequence-late     stuck       short $write -DRARE_SEQUENCE_LATE
sweep-without-lock     wrong_unmap short -DRELOADS=1 -DSWEEP_WITHOUT_LOCK
unmap-silently         stuck       short -DREADERS=1 -DRELOADS=1 $close_wait -DUNMAP_SILENTLY
unlock-without-look    left_over   short -DRELOADS=1 -DUNLOCK_WITHOUT_LOOK
sweep-wanted-cleared-late left_over short -DRELOADS=1 -DSWEEP_WANTED_CLEARED_LATE
lock-held-asleep       stuck       short $taken -DLOCK_HELD_ASLEEP
nested-no-timeout      stuck       short $nested
row-free-too-early     unbalanced  short $hand_on -DROW_FREE_TOO_EARLY
row-zeroed             unbalanced  short $hand_on -DCROSS -DROW_ZEROED
settled-kept           left_over   short -DREADERS=1 -DWRITERS=1 -DRELOADS=1 -DSETTLED_KEPT
sweep-unsettled        torn_read   short -DRELOADS=1 -DBARRIER_REFUSED -DSWEEP_UNSETTLED
refuse-without-look    kept_out    short $view_first -DREFUSE_WITHOUT_LOOK
unwanted-ignored       left_over   short -DREADERS=1 -DRELOADS=1 $close_defer -DUNWANTED_IGNORED
drain-what-is-taken    torn_read   short -DREADERS=1 -DWRITERS=1 $close_defer -DDRAIN_WHAT_IS_TAKEN
revert-what-is-taken   torn_read   short -DREADERS=1 $close_wait $defer $any -DREVERT_WHAT_IS_TAKEN
weak-no-barrier        torn_read   short -DWEAK $write -DRARE_TIMEOUT=ANY -DNO_BARRIER

pool                   holds       short -DDRAINS
pool-freed-again       holds       short -DFREES=2
pool-taken-again       holds       long  -DALLOCS=2 -DREVOKES=2
pool-all-atomic        holds       short -DALL_ATOMIC -DDRAINS -DALLOCS=2
pool-memory-reused     holds       short -DREUSE -DALLOCS=2
pool-barrier-refused   holds       short -DREFUSED
pool-null-handle       holds       short -DNULL_HANDLE

pool-no-barrier        together    short -DNO_BARRIER
pool-barrier-too-early together    short -DBARRIER_TOO_EARLY
pool-busy-ignored      together    short -DBUSY_IGNORED
pool-slot-kept         together    short -DREUSE -DSLOT_KEPT
pool-null-is-nobody    together    short -DNULL_HANDLE -DNULL_IS_NOBODY
pool-emptied-though-refused together short -DREFUSED -DEMPTY_THOUGH_REFUSED
pool-one-state-for-all handed_twice short -DONE_STATE
pool-pop-without-look  handed_twice short -DPOP_WITHOUT_LOOK
pool-fill-without-look handed_twice short -DDRAINS -DFILL_WITHOUT_LOOK
pool-empty-without-look handed_twice short -DEMPTY_WITHOUT_LOOK
pool-claim-by-stores   handed_twice short -DALL_ATOMIC -DCLAIM_BY_STORES
pool-forgets-when-not-live lost    short -DFREES=2 -DFORGET_WHEN_NOT_LIVE

pool-long              holds       long  -DDRAINS -DREVOKES=2 -DALLOCS=2
pool-three-times       holds       long  -DALLOCS=3
pool-refused-long      holds       long  -DREVOKES=2 -DALLOCS=2 -DREFUSED
pool-buffer            holds       long  -DDRAINS -DREVOKES=2 -DBUFFER=6
write-long             holds       long  $write -DBUFFER=4
write-timeouts-long    holds       long  $write $any
write-twice-long       holds       long  $write -DWRITES=2
writers-long           holds       long  -DWRITERS=2
write-three-readers    holds       long  -DREADERS=3 -DWRITERS=1 -DIMPATIENT
unload-defer-load-long holds       long  $defer -DLOAD_AGAIN -DACQUIRES=2 -DBUFFER=3
reload-long            holds       long  -DRELOADS=1 -DBUFFER=3
reload-twice-long      holds       long  -DRELOADS=2
write-refuse-long      holds       long  -DWRITERS=1 $refuse -DIMPATIENT
write-wait-long        holds       long  -DWRITERS=1 $wait -DIMPATIENT
write-defer-long       holds       long  -DWRITERS=1 $defer
write-reload-long      holds       long  -DWRITERS=1 -DRELOADS=1 -DIMPATIENT
reload-unload-long     holds       long  -DRELOADS=1 $defer -DIMPATIENT
everything-one-reader  holds       long  -DREADERS=1 -DACQUIRES=2 -DWRITERS=1 -DRELOADS=1 $defer
close-wait-reload-long holds       long  $close_wait -DRELOADS=1 -DIMPATIENT
close-both-long        holds       long  $close_both -DIMPATIENT
close-both-reload      holds       long  -DREADERS=1 -DRELOADS=1 $close_both $any
cross-long             holds       long  -DCROSS -DACQUIRES=2 -DRELOADS=1 -DIMPATIENT
crowd-long             holds       long  -DREADERS=3 -DCROWD=1 -DWRITERS=1 -DIMPATIENT
weak-write-long        holds       long  -DWEAK $write -DBUFFER=3
weak-reload-long       holds       long  -DWEAK -DRELOADS=1 -DACQUIRES=2
"

# What spin found: the expected words, or `incomplete`.
outcome_of() {
    local error
    error=$(sed -n 's/^pan:1: //p' "$1" | head -1)
    case $error in
        'assertion violated'*) echo "$error" | sed 's/[^!]*!(* *\([a-z_]*\).*/\1/' ;;
        'invalid end state'*) echo stuck ;;
        *)
            if [ -z "$error" ] && grep -q 'errors: 0' "$1" && ! grep -q 'not completed' "$1"; then
                echo holds
            else
                echo incomplete
            fi
            ;;
    esac
}

check() {
    local name=$1 expected=$2 model=gate.pml found states started=${EPOCHREALTIME/./} verdict=
    case $name in pool*) model=pool.pml ;; esac
    shift 3
    local folder
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' RETURN
    cd "$folder"
    {
        spin -a "$@" "$here/$model" &&
            gcc "$optimize" -w -DSAFETY -DCOLLAPSE -DMEMLIM="$memory_mb" -o pan pan.c &&
            ./pan -m10000 -w24
    } >pan.log 2>&1 || true
    found=$(outcome_of pan.log)
    states=$(awk '/states, stored/ { print $1 }' pan.log)
    [ "$found" = "$expected" ] || verdict="  FAILED"
    printf '%-24s %-12s %-12s %11s %5d.%d s%s\n' "$name" "$expected" "$found" "${states:--}" \
        $(((${EPOCHREALTIME/./} - started) / 1000000)) \
        $(((${EPOCHREALTIME/./} - started) / 100000 % 10)) "$verdict"
    if [ -n "$verdict" ] && [ -f "$model.trail" ]; then
        echo "the last steps that led there:"
        spin -k "$model.trail" -t -p "$@" "$here/$model" | grep 'proc ' | tail -40 | cut -c1-120
    fi
}

if ! command -v spin >/dev/null || ! command -v gcc >/dev/null; then
    echo "run.sh: skipped: the model needs spin and gcc" >&2
    exit 77
fi

chosen=$(mktemp) report=$(mktemp)
trap 'rm -f "$chosen" "$report"' EXIT
# Without optimisation: most of these take longer to compile than to run.
memory_mb=900 optimize=-O0
case ${1:-} in
    "") awk '$3 == "short"' <<<"$configurations" >"$chosen" ;;
    --long) memory_mb=9000 optimize=-O2 && grep . <<<"$configurations" >"$chosen" ;;
    *)
        memory_mb=9000 optimize=-O2
        for name in "$@"; do
            if ! grep "^$name " <<<"$configurations"; then
                echo "run.sh: no configuration is named $name" >&2
                exit 2
            fi >>"$chosen"
        done
        ;;
esac

export here memory_mb optimize
export -f check outcome_of
xargs -P "$(nproc)" -I {} bash -euc 'check {}' <"$chosen" | tee "$report"
wanted=$(grep -c . "$chosen")
passed=$(grep -c ' s$' "$report" || true)
echo "$passed passed, $((wanted - passed)) failed"
[ "$passed" = "$wanted" ]
