/* SPDX-License-Identifier: Apache-2.0 */
/* Help and man pages from the tables. */
#include "help.h"

#include <string.h>

static const struct {
    int code;
    const char *meaning;
} exit_codes[] = {
    {0, "done"},
    {1, "failed"},
    {2, "wrong command line"},
    {3, "bad input file"},
    {4, "does not fit the memory limit"},
    {5, "a loss, gradient or weight is not finite"},
    {6, "stopped before convergence; the result is written"},
    {130, "stopped by SIGINT after a saved checkpoint"},
    {143, "stopped by SIGTERM after a saved checkpoint"},
};
#define EXIT_CODES (sizeof exit_codes / sizeof exit_codes[0])

static const char *const general_text =
    "Trains, evaluates and runs transformers over long sequences, inside a memory limit that you give. A plan is "
    "printed before the run, and the run is held to it.";

/* ---- help --------------------------------------------------------------------------------------------------- */

/* Appends `text` wrapped to `width`, each line after `indent` spaces; the first is already there. */
static void wrap(cli_string *out, const char *text, int indent, int width)
{
    int column = indent;
    bool fresh = true;
    while (*text != '\0') {
        size_t length = strcspn(text, " \n");
        if (!fresh && column + 1 + (int)length > width) {
            cli_appendf(out, "\n%*s", indent, "");
            column = indent;
            fresh = true;
        }
        if (!fresh) {
            cli_append(out, " ");
            column++;
        }
        cli_append_bytes(out, text, length);
        column += (int)length;
        fresh = false;
        text += length;
        if (strncmp(text, "\n\n", 2) == 0) {
            cli_appendf(out, "\n\n%*s", indent, "");
            column = indent;
            fresh = true;
        }
        text += strspn(text, " \n");
    }
    cli_append(out, "\n");
}

/* "-c, --ctx-size TOKENS" */
static void option_names(cli_string *out, const cli_option *option)
{
    if (option->letter != 0)
        cli_appendf(out, "-%c, ", option->letter);
    cli_appendf(out, "--%s", option->name);
    if (option->argument != NULL)
        cli_appendf(out, " %s", option->argument);
}

/* The help of an option with its default, alias and variable: one text for terminal and man page. */
static void option_text(cli_string *out, const cli_option *option)
{
    cli_append(out, option->help);
    if (option->fallback != NULL) {
        size_t length = strlen(option->fallback);
        if (option->fallback[0] == '(')
            cli_appendf(out, "; default: %.*s", (int)length - 2, option->fallback + 1);
        else
            cli_appendf(out, "; default: %s", option->fallback);
    }
    if (option->type == CLI_CHOICE)
        cli_appendf(out, " [%s]", option->choices);
    if (option->alias != NULL)
        cli_appendf(out, "; also --%s", option->alias);
    if (option->environment != NULL)
        cli_appendf(out, "; environment: %s", option->environment);
}

static void help_option(cli_string *out, const cli_option *option, int width)
{
    const int column = 30;
    size_t start = out->length;
    cli_append(out, option->letter != 0 ? "  " : "      ");
    option_names(out, option);
    int used = (int)(out->length - start);
    if (used > column - 2)
        cli_appendf(out, "\n%*s", column, "");
    else
        cli_appendf(out, "%*s", column - used, "");
    cli_string text = {NULL, 0, 0};
    option_text(&text, option);
    wrap(out, text.text, column, width);
    cli_string_clear(&text);
}

static void help_main(cli_string *out, int width, const cli_style *style)
{
    cli_append(out, "usage: furlong VERB [options]\n\n");
    wrap(out, general_text, 0, width);
    cli_appendf(out, "\n%sVerbs%s\n", style->bold, style->off);
    for (int verb = 0; verb < CLI_VERBS; verb++)
        if (!cli_verbs[verb].hidden)
            cli_appendf(out, "  %-10s %s\n", cli_verbs[verb].name, cli_verbs[verb].summary);
    cli_appendf(out, "\n%sMore%s\n", style->bold, style->off);
    cli_append(out, "  furlong help VERB                      options and examples of a verb\n"
                    "  furlong --man [VERB]                   man page, for man -l or mandoc\n"
                    "  furlong --completion bash|zsh|fish     completion for the shell\n"
                    "  furlong --version                      version\n");
    cli_appendf(out, "\n%sExit codes%s\n", style->bold, style->off);
    for (size_t i = 0; i < EXIT_CODES; i++)
        cli_appendf(out, "  %3d  %s\n", exit_codes[i].code, exit_codes[i].meaning);
}

void cli_help(cli_string *out, cli_verb verb, int width, const cli_style *style)
{
    width = width > 110 ? 110 : width < 60 ? 60 : width;
    if (verb == CLI_VERBS) {
        help_main(out, width, style);
        return;
    }
    const cli_verb_info *info = &cli_verbs[verb];
    cli_appendf(out, "usage: furlong %s %s\n\n", info->name, info->usage);
    wrap(out, info->text, 0, width);
    const char *group = "";
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
        if ((option->verbs & 1u << verb) == 0)
            continue;
        if (strcmp(group, option->group) != 0)
            cli_appendf(out, "\n%s%s%s\n", style->bold, option->group, style->off);
        group = option->group;
        help_option(out, option, width);
    }
    if (info->examples != NULL) {
        cli_appendf(out, "\n%sExamples%s\n", style->bold, style->off);
        for (const char *at = info->examples; *at != '\0';) {
            size_t command = strcspn(at, "\t"), text = strcspn(at + command + 1, "\n");
            cli_appendf(out, "  %.*s\n      %s%.*s%s\n", (int)command, at, style->dim, (int)text, at + command + 1,
                        style->off);
            at += command + 1 + text;
            at += *at == '\n';
        }
    }
}

/* ---- man pages ---------------------------------------------------------------------------------------------- */

/* Text safe for roff: backslashes and hyphens escaped, no line that begins with a request. Blank lines become .PP */
static void roff(cli_string *out, const char *text)
{
    bool start = out->length == 0 || out->text[out->length - 1] == '\n';
    for (; *text != '\0'; text++) {
        if (text[0] == '\n' && text[1] == '\n') {
            cli_append(out, "\n.PP\n");
            text++;
            start = true;
            continue;
        }
        if (start && (*text == '.' || *text == '\''))
            cli_append(out, "\\&");
        start = *text == '\n';
        if (*text == '\\')
            cli_append(out, "\\e");
        else if (*text == '-')
            cli_append(out, "\\-");
        else
            cli_append_bytes(out, text, 1);
    }
}

static void man_codes(cli_string *out)
{
    cli_append(out, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < EXIT_CODES; i++)
        cli_appendf(out, ".TP\n.B %d\n%s\n", exit_codes[i].code, exit_codes[i].meaning);
}

static void man_main(cli_string *out)
{
    cli_append(out, ".SH NAME\nfurlong \\- trains transformers over long sequences inside a memory limit\n"
                    ".SH SYNOPSIS\n.B furlong\n.I verb\n.RI [ options ]\n.br\n.B furlong help\n.I verb\n"
                    ".SH DESCRIPTION\n");
    roff(out, general_text);
    cli_append(out, "\n.SH VERBS\n");
    for (int verb = 0; verb < CLI_VERBS; verb++) {
        if (!cli_verbs[verb].hidden) {
            cli_appendf(out, ".TP\n.BR furlong\\-%s (1)\n", cli_verbs[verb].name);
            roff(out, cli_verbs[verb].summary);
            cli_append(out, "\n");
        }
    }
    cli_append(out,
               ".SH OUTPUT\nData goes to standard output, progress to standard error. With\n.B \\-\\-json\n"
               "the last line of standard output is one JSON object. No colour and no moving line where the output "
               "is no terminal.\n.SH ENVIRONMENT\n");
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
        if (option->environment != NULL) {
            cli_appendf(out, ".TP\n.B %s\nas \\-\\-", option->environment);
            roff(out, option->name);
            cli_append(out, "\n");
        }
    }
    cli_append(out, ".TP\n.B NO_COLOR\nno colour where set and not empty\n");
}

static void man_options(cli_string *out, cli_verb verb)
{
    cli_append(out, "\n.SH OPTIONS\n");
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
        if ((option->verbs & 1u << verb) == 0)
            continue;
        cli_string text = {NULL, 0, 0};
        cli_append(out, ".TP\n.B ");
        option_names(&text, option);
        roff(out, text.text);
        cli_append(out, "\n");
        text.length = 0;
        option_text(&text, option);
        roff(out, text.text);
        cli_append(out, "\n");
        cli_string_clear(&text);
    }
}

static void man_examples(cli_string *out, const char *examples)
{
    cli_append(out, ".SH EXAMPLES\n");
    for (const char *at = examples; *at != '\0';) {
        size_t line = strcspn(at, "\n"), command = strcspn(at, "\t");
        cli_string part = {NULL, 0, 0};
        cli_append_bytes(&part, at, command);
        cli_append(out, ".TP\n.B ");
        roff(out, part.text);
        cli_append(out, "\n");
        part.length = 0;
        cli_append_bytes(&part, at + command + 1, line - command - 1);
        roff(out, part.text);
        cli_append(out, "\n");
        cli_string_clear(&part);
        at += line + (at[line] == '\n');
    }
}

void cli_man(cli_string *out, cli_verb verb)
{
    const cli_verb_info *info = verb == CLI_VERBS ? NULL : &cli_verbs[verb];
    cli_string title = {NULL, 0, 0};
    cli_append(&title, "FURLONG");
    for (const char *c = info != NULL ? info->name : ""; *c != '\0'; c++)
        cli_appendf(&title, "%s%c", c == info->name ? "\\-" : "", *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
    cli_appendf(out, ".TH %s 1 \"\" \"furlong %d.%d.%d\" \"User Commands\"\n", title.text, FUR_VERSION_MAJOR,
                FUR_VERSION_MINOR, FUR_VERSION_PATCH);
    cli_string_clear(&title);
    if (info == NULL) {
        man_main(out);
    } else {
        cli_appendf(out, ".SH NAME\nfurlong\\-%s \\- ", info->name);
        roff(out, info->summary);
        cli_appendf(out, "\n.SH SYNOPSIS\n.B furlong %s\n", info->name);
        roff(out, info->usage);
        cli_append(out, "\n.SH DESCRIPTION\n");
        roff(out, info->text);
        man_options(out, verb);
        if (info->examples != NULL)
            man_examples(out, info->examples);
    }
    man_codes(out);
    cli_append(out, info == NULL ? "" : ".SH SEE ALSO\n.BR furlong (1)\n");
}
