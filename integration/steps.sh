# Steps of a test run: each has its own output, duration and time limit, and a line in the summary. Sourced by integration/run.
#
# Steps may run at the same time, each in a subshell: what they report later is in files below $work.

work=$(mktemp -d)
mkdir "$work/skipped" "$work/steps"
started=$SECONDS
trap 'rm -rf "$work"' EXIT

# Records a skipped step or test, and the reason.
skip() { printf '%s\n' "$*" | tee -a "$work/skipped/$BASHPID" | sed 's/^/skipped: /'; }

# Runs a command as a step, and prints its output when it has ended. A step that fails does not end the run.
# LIMIT is its time limit in seconds, NICE what is added to its niceness.
check() {
    local what=$1 log status=0
    shift
    log=$(mktemp "$work/steps/XXXXXX")
    TIMEFORMAT='%R %U %S'
    { time limited "$@" >"$log" 2>&1 || status=$?; } 2>"$log.time"
    printf '%s\t%s\t%s\n' "$status" "$(tail -n 1 "$log.time")" "$what" >>"$work/results"
    (
        flock 8
        printf '\n== %s\n' "$what"
        cat "$log"
    ) 8>"$work/output.lock"
}

# Runs a program or a function. At the limit, ends it with everything that it started. A function runs in a separate shell, because timeout
# runs only programs. Each program that cargo tests with also has a limit, TEST_LIMIT in seconds, so that it can be named.
limited() {
    local status=0 limit=${LIMIT:-1200} what=$1 variables
    if [ "$(type -t "$1")" = function ]; then
        variables=$(declare -p cache work me suites auditable 2>/dev/null || true)
        set -- bash -euo pipefail -c "$variables"$'\n'"$(declare -f)"$'\n''"$@"' "$me" "$@"
    fi
    env "$(runner)=timeout --foreground --kill-after=10 ${TEST_LIMIT:-600}" nice -n "${NICE:-0}" timeout --kill-after=10 "$limit" "$@" || status=$?
    [ "$status" != 124 ] || echo "$what has not ended after $limit s"
    return "$status"
}

# Runs test programs, which the words before -- select. Tests that fail while other steps run are run again one after another, and that
# result counts. More than eight failures have another cause than the load.
tests() {
    local log failed selection=()
    log=$(mktemp "$work/tests.XXXXXX")
    cargo test --quiet --workspace --no-fail-fast "$@" 2>&1 | tee "$log" && return 0
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        selection+=("$1")
        shift
    done
    mapfile -t failed < <(sed -n 's/^    \([A-Za-z0-9_]*\(::[A-Za-z0-9_]*\)*\)$/\1/p' "$log" | sort -u)
    [ ${#failed[@]} -gt 0 ] && [ ${#failed[@]} -le 8 ] || return 1
    echo "again, one after another: ${failed[*]}"
    cargo test --quiet --workspace --no-fail-fast "${selection[@]}" -- --test-threads 1 --exact "${failed[@]}" || return 1
    printf '%s\n' "${failed[@]}" >>"$work/disturbed"
}

# The variable that sets how cargo starts programs.
runner() { echo "CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER"; }

# Prints what took longest, what was skipped, and what failed with the command that repeats it. Fails if anything did.
summary() {
    local status wall user system what failed=0
    printf '\n== summary\n'
    echo "steps, with their time and processor time in seconds:"
    sort -t $'\t' -k2,2 -gr "$work/results" | while IFS=$'\t' read -r status times what; do
        read -r wall user system <<<"$times"
        printf '%7.0f %7.0f  %s\n' "$wall" "$(awk "BEGIN { print $user + $system }")" "$what"
    done
    if [ -s "$work/times" ]; then
        printf '%s cases; the slowest, with their time and the processor time of their machine meanwhile:\n' "$(wc -l <"$work/times")"
        sort -t $'\t' -k3,3 -nr "$work/times" \
            | awk -F '\t' 'NR <= 10 { printf "%7.0f %7.0f  %s\n", $3 / 1000, $4 / 1000, $1 }'
    fi
    times >"$work/times.self" # not in a subshell, which has children of its own
    printf 'in all %s s, %s s of processor time\n' "$((SECONDS - started))" \
        "$(awk 'NR == 2 { gsub(/[ms]/, " "); print int($1 * 60 + $2 + $3 * 60 + $4) }' "$work/times.self")"
    disk_use
    cat "$work"/skipped/* 2>/dev/null | sort -u | sed 's/^/skipped: /' || true
    while IFS=$'\t' read -r status times what; do
        [ "$status" = 0 ] || { echo "FAILED: $what"; failed=1; }
    done <"$work/results"
    while IFS=$'\t' read -r what status _; do
        case $status in
            ok) ;;
            disturbed) echo "disturbed: $what failed while other cases ran, and passed alone" ;;
            *) echo "FAILED: $what; repeat it: integration/run --suite ${what%%::*} --filter $what" ;;
        esac
    done < <(cat "$work/times" 2>/dev/null)
    cat "$work/disturbed" 2>/dev/null | sed 's/.*/disturbed: & failed while other steps ran, and passed when run again/' || true
    [ "$failed" = 0 ]
}

# The disk space that the run uses.
disk_use() {
    local target=${CARGO_TARGET_DIR:-target} kib
    kib=$(du -skc "$target" "$cache" 2>/dev/null | awk 'END { print $1 }')
    printf 'on disk %s: %s in %s, %s in %s\n' "$(gibibytes "$kib")" "$(gibibytes "$(du -sk "$target" 2>/dev/null | cut -f1)")" "$target" \
        "$(gibibytes "$(du -sk "$cache" 2>/dev/null | cut -f1)")" "$cache"
}
gibibytes() { awk "BEGIN { printf \"%.1f GiB\", ${1:-0} / 1048576 }"; }

# What the files that differ from a commit concern, one word per line, according to integration/changed.map.
concerned() { { git diff --name-only "$1"; git ls-files --others --exclude-standard; } | sort -u | concerned_by; }

# What the files on standard input concern.
concerned_by() {
    local file pattern words found
    while IFS= read -r file; do
        found=""
        while read -r pattern words; do
            case $pattern in "" | "#"*) continue ;; esac
            # shellcheck disable=SC2254 # it is a pattern
            case $file in $pattern) found=1; printf '%s\n' $words ;; esac
        done <integration/changed.map
        case $file in integration/cases/*) found=1; themes_of "$file" ;; esac
        [ -n "$found" ] || echo all
    done | sort -u
}

# The themes in a file of cases; everything if it has none, because other files may use it.
themes_of() {
    { [ -f "$1" ] && grep -ohE 'name: "[^"]+"' "$1"; } | sed 's/name: "\(.*\)"/\1/' | grep . || echo all
}
