# Completions of onecred for bash. "onecred complete" lists what fits the words up to the cursor.

_onecred() {
    local line="${COMP_LINE:0:COMP_POINT}" cur option="" prefix="" part char word
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[${#words[@]} - 1]}
    [[ $cur == --*=* ]] && option=${cur%%=*}=
    # bash replaces only what follows the last of these characters
    for char in @ : =; do
        if [[ $COMP_WORDBREAKS == *"$char"* && $cur == *"$char"* ]]; then
            part=${cur%"${cur##*"$char"}"}
            if ((${#part} > ${#prefix})); then prefix=$part; fi
        fi
    done
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        case $word in
            :files | :directories | :commands)
                case $word in
                    :files) part=-f ;;
                    :directories) part=-d ;;
                    :commands) part=-c ;;
                esac
                compopt -o filenames 2>/dev/null || :
                while read -r word; do
                    word=$option$word
                    COMPREPLY+=("${word#"$prefix"}")
                done < <(compgen "$part" -- "${cur#"$option"}")
                ;;
            *)
                word=${word#"$prefix"}
                # unit names can contain backslashes
                COMPREPLY+=("${word//\\/\\\\}")
                ;;
        esac
    done < <(onecred complete -- "${words[@]:1}" 2>/dev/null)
}

complete -F _onecred onecred
