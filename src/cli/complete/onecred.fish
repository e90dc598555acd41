# Completions of onecred for fish. "onecred complete" lists what fits the words up to the cursor.

function __onecred_complete
    set -l words (commandline -opc)
    set -e words[1]
    set -l current (commandline -ct)
    set -l option (string match -r -- '^--[^=]*=' "$current")
    set -l part (string replace -r -- '^--[^=]*=' '' "$current")
    for line in (onecred complete -- $words "$current" 2>/dev/null)
        switch $line
            case :files
                printf '%s\n' "$option"(__fish_complete_path "$part")
            case :directories
                printf '%s\n' "$option"(__fish_complete_directories "$part" '')
            case :commands
                complete -C "$part"
            case '*'
                printf '%s\n' $line
        end
    end
end

complete -c onecred -f -a '(__onecred_complete)'
