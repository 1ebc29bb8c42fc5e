/* SPDX-License-Identifier: Apache-2.0 */
/* Completion for bash, zsh and fish from the tables. */
#include "help.h"

#include <string.h>

static void append_words(cli_string *out, const char *choices)
{
    for (; *choices != '\0'; choices++)
        cli_append_bytes(out, *choices == '|' ? " " : choices, 1);
}

/* The words an option takes, separated by blanks; NULL where it takes a path or anything. */
static bool option_words(cli_string *out, const cli_option *option)
{
    if (option->type == CLI_CHOICE) {
        append_words(out, option->choices);
        return true;
    }
    if (strcmp(option->name, "preset") == 0) {
        const char *const *names = fur_config_preset_names();
        for (int i = 0; names[i] != NULL; i++)
            cli_appendf(out, "%s%s", i > 0 ? " " : "", names[i]);
        return true;
    }
    return false;
}

static bool takes_path(const cli_option *option)
{
    return option->argument != NULL &&
           (strstr(option->argument, "PATH") != NULL || strcmp(option->argument, "FILE") == 0 ||
            strcmp(option->argument, "FOLDER") == 0);
}

static void bash(cli_string *out)
{
    cli_append(out,
               "# bash completion of furlong\n"
               "_furlong() {\n"
               "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}\n"
               "    COMPREPLY=()\n"
               "    if [ \"$COMP_CWORD\" -eq 1 ] || { [ \"$COMP_CWORD\" -eq 2 ] && [ \"$verb\" = help ]; }; then\n"
               "        COMPREPLY=($(compgen -W '");
    for (int verb = 0; verb < CLI_VERBS; verb++)
        if (!cli_verbs[verb].hidden)
            cli_appendf(out, "%s ", cli_verbs[verb].name);
    cli_append(out, "help' -- \"$word\"))\n        return\n    fi\n    case $before in\n");
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
        cli_string words = {NULL, 0, 0};
        bool listed = option_words(&words, option);
        if (listed || takes_path(option)) {
            cli_appendf(out, "    --%s", option->name);
            if (option->letter != 0)
                cli_appendf(out, "|-%c", option->letter);
            if (listed)
                cli_appendf(out, ") COMPREPLY=($(compgen -W '%s' -- \"$word\")); return ;;\n", words.text);
            else
                cli_append(out, ") COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n");
        }
        cli_string_clear(&words);
    }
    cli_append(out, "    esac\n    case $verb in\n");
    for (int verb = 0; verb < CLI_VERBS; verb++) {
        if (cli_verbs[verb].hidden)
            continue;
        cli_appendf(out, "    %s) set -- '", cli_verbs[verb].name);
        for (const cli_option *option = cli_option_table(); option->name != NULL; option++)
            if ((option->verbs & 1u << verb) != 0)
                cli_appendf(out, "--%s ", option->name);
        if (verb == CLI_BENCH)
            append_words(out, cli_option_find(CLI_BENCH, "mode", 4)->choices);
        cli_append(out, "' ;;\n");
    }
    cli_append(out, "    *) set -- '' ;;\n    esac\n"
                    "    COMPREPLY=($(compgen -W \"$1\" -- \"$word\"))\n"
                    "    if [ \"${word#-}\" = \"$word\" ]; then COMPREPLY+=($(compgen -f -- \"$word\")); fi\n"
                    "}\n"
                    "complete -o filenames -F _furlong furlong\n");
}

/* For text inside '...' of zsh and fish: quotes closed and opened again, brackets and colons escaped for zsh. */
static void append_quoted(cli_string *out, const char *text, bool zsh)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            cli_append(out, "'\\''");
        else if (zsh && strchr("[]:\\", *text) != NULL)
            cli_appendf(out, "\\%c", *text);
        else if (!zsh && *text == '\\')
            cli_append(out, "\\\\");
        else
            cli_append_bytes(out, text, 1);
    }
}

static void zsh_option(cli_string *out, const cli_option *option)
{
    cli_string words = {NULL, 0, 0};
    bool listed = option_words(&words, option);
    cli_appendf(out, " \\\n            '%s--%s%s[", option->type == CLI_LIST ? "*" : "", option->name,
                option->argument != NULL ? "=" : "");
    append_quoted(out, option->help, true);
    cli_append(out, "]");
    if (option->argument != NULL) {
        cli_append(out, ":");
        append_quoted(out, option->argument, true);
        if (listed)
            cli_appendf(out, ":(%s)", words.text);
        else
            cli_append(out, takes_path(option) ? ":_files" : ":");
    }
    cli_append(out, "'");
    cli_string_clear(&words);
}

static void zsh(cli_string *out)
{
    cli_append(out, "#compdef furlong\n_furlong() {\n    local -a verbs\n    verbs=(\n");
    for (int verb = 0; verb < CLI_VERBS; verb++) {
        if (!cli_verbs[verb].hidden) {
            cli_appendf(out, "        '%s:", cli_verbs[verb].name);
            append_quoted(out, cli_verbs[verb].summary, true);
            cli_append(out, "'\n");
        }
    }
    cli_append(out, "        'help:options of a verb'\n    )\n"
                    "    if (( CURRENT == 2 )); then _describe verb verbs; return; fi\n"
                    "    local verb=$words[2]\n    shift words; (( CURRENT-- ))\n    case $verb in\n");
    for (int verb = 0; verb < CLI_VERBS; verb++) {
        if (cli_verbs[verb].hidden)
            continue;
        cli_appendf(out, "        %s) _arguments", cli_verbs[verb].name);
        for (const cli_option *option = cli_option_table(); option->name != NULL; option++)
            if ((option->verbs & 1u << verb) != 0)
                zsh_option(out, option);
        if (verb == CLI_BENCH) {
            cli_append(out, " \\\n            ':mode:(");
            append_words(out, cli_option_find(CLI_BENCH, "mode", 4)->choices);
            cli_append(out, ")'");
        } else if (cli_verbs[verb].positional != NULL) {
            cli_append(out, " \\\n            ':path:_files'");
        }
        cli_append(out, " ;;\n");
    }
    cli_append(out, "        help) _describe verb verbs ;;\n    esac\n}\ncompdef _furlong furlong\n");
}

static void fish(cli_string *out)
{
    cli_append(out,
               "# fish completion of furlong\ncomplete -c furlong -f -n __fish_use_subcommand -a help -d 'options of "
               "a verb'\n");
    for (int verb = 0; verb < CLI_VERBS; verb++) {
        const char *name = cli_verbs[verb].name;
        if (cli_verbs[verb].hidden)
            continue;
        cli_appendf(out, "complete -c furlong -f -n __fish_use_subcommand -a %s -d '", name);
        append_quoted(out, cli_verbs[verb].summary, false);
        cli_append(out, "'\n");
        for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
            if ((option->verbs & 1u << verb) == 0)
                continue;
            cli_string words = {NULL, 0, 0};
            bool listed = option_words(&words, option);
            cli_appendf(out, "complete -c furlong -n '__fish_seen_subcommand_from %s' -l %s", name, option->name);
            if (option->letter != 0)
                cli_appendf(out, " -s %c", option->letter);
            if (listed)
                cli_appendf(out, " -x -a '%s'", words.text);
            else if (option->argument != NULL)
                cli_append(out, takes_path(option) ? " -r -F" : " -x");
            cli_append(out, " -d '");
            append_quoted(out, option->help, false);
            cli_append(out, "'\n");
            cli_string_clear(&words);
        }
        if (verb == CLI_BENCH) {
            cli_append(out, "complete -c furlong -n '__fish_seen_subcommand_from bench' -f -a '");
            append_words(out, cli_option_find(CLI_BENCH, "mode", 4)->choices);
            cli_append(out, "'\n");
        }
    }
}

bool cli_completion(cli_string *out, const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        bash(out);
    else if (strcmp(shell, "zsh") == 0)
        zsh(out);
    else if (strcmp(shell, "fish") == 0)
        fish(out);
    else
        return false;
    return true;
}
