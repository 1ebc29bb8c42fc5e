/* SPDX-License-Identifier: Apache-2.0 */
/* cli/options.h: numbers as people type them, one clear line where they are wrong, sources in their order, and help,
 * man pages and completion that name every option. */
#include "kit/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/help.h"
#include "cli/options.h"
#include "cli/text.h"

#define WORDS(...) ((char *const[]){__VA_ARGS__}), (int)(sizeof((char *const[]){__VA_ARGS__}) / sizeof(char *))

static cli_options parse(cli_verb verb, char *const *words, int count)
{
    char error[CLI_ERROR];
    cli_options options;
    int code = cli_options_parse(&options, verb, count, words, error);
    if (code != 0)
        print_message("refused: %s\n", error);
    assert_int_equal(code, 0);
    return options;
}

/* Fails unless the words are refused with `code` and a single line that holds `part`. */
static void refuse(cli_verb verb, int code, const char *part, char *const *words, int count)
{
    char error[CLI_ERROR];
    cli_options options;
    int got = cli_options_parse(&options, verb, count, words, error);
    if (got != code || strstr(error, part) == NULL)
        print_message("code %d, text '%s', expected %d and '%s'\n", got, error, code, part);
    assert_int_equal(got, code);
    assert_non_null(strstr(error, part));
    assert_null(strchr(error, '\n'));
    cli_options_clear(&options);
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t size, count; /* -1: not one */
    } cases[] = {
        {"0", 0, 0},
        {"4096", 4096, 4096},
        {"1K", 1024, 1024},
        {"1k", 1024, 1024},
        {"64K", 65536, 65536},
        {"1M", 1048576, 1048576},
        {"8G", 8589934592, -1},
        {"512MiB", 536870912, -1},
        {"512MB", 536870912, -1},
        {"12B", 12, -1},
        {"1.5G", 1610612736, -1},
        {"1.5K", 1536, 1536},
        {"2.6G", 2791728742, -1}, /* whole bytes below it */
        {"1.7K", 1740, -1},
        {"1T", 1099511627776, -1},
        {"9223372036854775807", INT64_MAX, INT64_MAX},
        {"9223372036854775808", -1, -1},
        {"9000000000T", -1, -1},
        {"1.5", -1, -1},
        {"", -1, -1},
        {"K", -1, -1},
        {"-1", -1, -1},
        {"+1", -1, -1},
        {"1e3", -1, -1},
        {"1KK", -1, -1},
        {"1 K", -1, -1},
        {"0x10", -1, -1},
        {"1.2.3K", -1, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t size = -1, count = -1;
        bool is_size = cli_parse_size(cases[i].text, &size), is_count = cli_parse_count(cases[i].text, &count);
        if (is_size != (cases[i].size >= 0) || is_count != (cases[i].count >= 0))
            print_message("'%s': size %d, count %d\n", cases[i].text, is_size, is_count);
        assert_int_equal(is_size, cases[i].size >= 0);
        assert_int_equal(is_count, cases[i].count >= 0);
        assert_true(size == cases[i].size && count == cases[i].count);
    }
    double real = 7.0;
    assert_true(cli_parse_real("3e-4", &real) && real == 3e-4);
    assert_true(cli_parse_real("-.5", &real) && real == -0.5);
    static const char *const not_real[] = {"", "nan", "inf", "0x1p3", "1e999", "1,5", "1 ", "e5"};
    for (size_t i = 0; i < sizeof not_real / sizeof not_real[0]; i++)
        assert_false(cli_parse_real(not_real[i], &real));
}

static void test_ramps(void **state)
{
    (void)state;
    cli_ramp ramp = {0};
    assert_true(cli_parse_ramp("512", &ramp));
    assert_int_equal(ramp.count, 1);
    assert_true(cli_parse_ramp("512,2K@800,8192@900", &ramp));
    assert_int_equal(ramp.count, 3);
    assert_true(ramp.phases[0].context == 512 && ramp.phases[0].from_step == 0);
    assert_true(ramp.phases[1].context == 2048 && ramp.phases[1].from_step == 800);
    assert_true(ramp.phases[2].context == 8192 && ramp.phases[2].from_step == 900);
    assert_true(ramp.phases[2].row_tokens == 0);
    assert_true(cli_parse_ramp("512/4K,2K@800", &ramp));
    assert_true(ramp.phases[0].context == 512 && ramp.phases[0].row_tokens == 4096 && ramp.phases[1].row_tokens == 0);
    static const char *const wrong[] = {"",          "512,",         "512,,1K@2",         ",512", "0",
                                        "512@5",     "512,2048",     "512,2K@9,8K@9",     "512@", "512,2K@9,4K@8",
                                        "512,2K@-1", "512,2048@8@9", "512,2048@800x,8@9", "512/", "512/0",
                                        "512@3/4"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(cli_parse_ramp(wrong[i], &ramp));
    cli_string many = {NULL, 0, 0};
    cli_append(&many, "1");
    for (int i = 1; i < FUR_MAX_PHASES; i++)
        cli_appendf(&many, ",%d@%d", i + 1, i);
    assert_true(cli_parse_ramp(many.text, &ramp));
    assert_int_equal(ramp.count, FUR_MAX_PHASES);
    cli_append(&many, ",9@99");
    assert_false(cli_parse_ramp(many.text, &ramp));
    cli_string_clear(&many);
}

static void test_words(void **state)
{
    (void)state;
    cli_options o = parse(CLI_TRAIN, WORDS("-f", "a.txt", "--file=b.txt", "-c64K", "--lr", "1e-3", "--skip-bad",
                                           "--memory", "8G", "--context", "2K"));
    assert_int_equal(o.files.count, 2);
    assert_string_equal(o.files.items[0], "a.txt");
    assert_string_equal(o.files.items[1], "b.txt");
    assert_true(o.context == 2048 && o.lr == 1e-3 && o.skip_bad && o.memory == (int64_t)8 << 30);
    assert_true(cli_source_of(&o, "lr") == CLI_FROM_COMMAND && cli_source_of(&o, "min-lr") == CLI_FROM_DEFAULT);
    assert_true(o.weight_decay == 0.1 && o.max_steps == 1000 && o.eval_tokens == 65536 && o.seed == 1);
    cli_options_clear(&o);

    o = parse(CLI_TRAIN, WORDS("--resume"));
    assert_string_equal(o.resume, "latest");
    cli_options_clear(&o);
    o = parse(CLI_TRAIN, WORDS("--resume", "runs/a/step-000010", "--json"));
    assert_string_equal(o.resume, "runs/a/step-000010");
    assert_true(o.json);
    cli_options_clear(&o);
    o = parse(CLI_TRAIN, WORDS("--resume", "-f", "x"));
    assert_string_equal(o.resume, "latest");
    assert_int_equal(o.files.count, 1);
    cli_options_clear(&o);

    o = parse(CLI_GENERATE, WORDS("-m", "folder", "-p", "", "--temp", "0", "-f", "-"));
    assert_string_equal(o.prompt, "");
    assert_string_equal(o.files.items[0], "-");
    assert_true(o.temperature == 0.0 && cli_given(&o, "temp"));
    cli_options_clear(&o);

    o = parse(CLI_BENCH, WORDS("attention", "--tokens", "4K"));
    assert_string_equal(o.mode, "attention");
    cli_options_clear(&o);
    o = parse(CLI_INSPECT, WORDS("--", "--odd-folder"));
    assert_string_equal(o.model, "--odd-folder");
    cli_options_clear(&o);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse(CLI_TRAIN, 2, "did you mean --preset?", WORDS("--presett", "x"));
    refuse(CLI_TRAIN, 2, "did you mean --max-steps?", WORDS("--max-step=4"));
    refuse(CLI_TRAIN, 2, "--temp is no option of train, only of others such as generate", WORDS("--temp", "1"));
    refuse(CLI_TRAIN, 2, "unknown option --zzzzzzzzz; 'furlong help train'", WORDS("--zzzzzzzzz"));
    refuse(CLI_TRAIN, 2, "unknown option -q", WORDS("-q"));
    refuse(CLI_TRAIN, 2, "-c: expected a count such as 4096, 64K or 1M, got '64Q'", WORDS("-c", "64Q"));
    refuse(CLI_TRAIN, 2, "--memory: expected a size such as 8G or 512M, got 'much'", WORDS("--memory", "much"));
    refuse(CLI_TRAIN, 2, "--lr: expected a number from 0 to 10, got '-1'", WORDS("--lr", "-1"));
    refuse(CLI_TRAIN, 2, "--lr: expected a number, got 'nan'", WORDS("--lr=nan"));
    refuse(CLI_TRAIN, 2, "--keep: expected one of auto|nothing|all, got 'some'", WORDS("--keep", "some"));
    refuse(CLI_TRAIN, 2, "--keep: expected one of auto|nothing|all, got 'auto|nothing'",
           WORDS("--keep", "auto|nothing"));
    refuse(CLI_TRAIN, 2, "--preset: expected NAME after it", WORDS("--preset"));
    refuse(CLI_TRAIN, 2, "--preset: expected NAME after it", WORDS("--preset", "--json"));
    refuse(CLI_TRAIN, 2, "--output-dir: expected FOLDER, got an empty word", WORDS("--output-dir="));
    refuse(CLI_TRAIN, 2, "--skip-bad: expected true or false, got 'maybe'", WORDS("--skip-bad=maybe"));
    refuse(CLI_TRAIN, 2, "unexpected word 'book.txt'", WORDS("book.txt"));
    refuse(CLI_INSPECT, 2, "unexpected word 'b'", WORDS("a", "b"));
    refuse(CLI_TRAIN, 2, "--threads: expected a whole number from 1 to 4096, got '0'",
           WORDS("-f", "x", "--threads", "0"));
    refuse(CLI_TRAIN, 2, "--context-ramp: expected contexts with rising steps", WORDS("--context-ramp", "512,2048"));
    refuse(CLI_TRAIN, 3, "nowhere.json: No such file", WORDS("--config", "nowhere.json"));
}

static void test_environment(void **state)
{
    (void)state;
    assert_int_equal(setenv("FURLONG_SEED", "7", 1), 0);
    assert_int_equal(setenv("FURLONG_MEMORY", "1G", 1), 0);
    cli_options o = parse(CLI_TRAIN, WORDS("--memory", "2G"));
    assert_true(o.seed == 7 && cli_source_of(&o, "seed") == CLI_FROM_ENVIRONMENT);
    assert_true(o.memory == (int64_t)2 << 30 && cli_source_of(&o, "memory") == CLI_FROM_COMMAND);
    cli_options_clear(&o);
    assert_int_equal(setenv("FURLONG_SEED", "seven", 1), 0);
    refuse(CLI_TRAIN, 2, "FURLONG_SEED: expected a whole number, got 'seven'", WORDS("-f", "x"));
    assert_int_equal(setenv("FURLONG_SEED", "", 1), 0); /* set and empty is not set */
    o = parse(CLI_TRAIN, WORDS("-f", "x"));
    assert_true(o.seed == 1);
    cli_options_clear(&o);
    assert_int_equal(unsetenv("FURLONG_SEED"), 0);
    assert_int_equal(unsetenv("FURLONG_MEMORY"), 0);
}

static void test_config(void **state)
{
    kit_folder *folder = *state;
    static const char good[] =
        "{\"written\": 1, \"program\": {\"options\": {\"file\": [\"a\", \"b\"], \"lr\": 0.001, \"max_steps\": 20, "
        "\"preset\": \"bytes-4m\", \"skip-bad\": true, \"memory\": \"4G\"}}}";
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", kit_write(folder, "run.json", good, -1));
    assert_int_equal(setenv("FURLONG_MEMORY", "1G", 1), 0);
    cli_options o = parse(CLI_TRAIN, WORDS("--config", path, "--max-steps", "30"));
    assert_true(o.files.count == 2 && o.lr == 0.001 && o.max_steps == 30 && o.skip_bad);
    assert_string_equal(o.preset, "bytes-4m");
    assert_true(o.memory == (int64_t)4 << 30); /* the file was asked for, the environment only there */
    cli_options_clear(&o);
    assert_int_equal(unsetenv("FURLONG_MEMORY"), 0);
    o = parse(CLI_TRAIN, WORDS("--config", path, "-f", "c"));
    assert_int_equal(o.files.count, 1);
    assert_string_equal(o.files.items[0], "c");
    cli_options_clear(&o);

    (void)kit_write(folder, "run.json", "{\"learning_ratee\": 1}", -1);
    refuse(CLI_TRAIN, 3, "\"learning_ratee\" is no option of train; did you mean learning-rate",
           WORDS("--config", path));
    (void)kit_write(folder, "run.json", "{\"lr\": {}}", -1);
    refuse(CLI_TRAIN, 3, "\"lr\": expected a number", WORDS("--config", path));
    (void)kit_write(folder, "run.json", "{\"lr\": 1,\n \"lr\": 2}", -1);
    refuse(CLI_TRAIN, 3, "line 2", WORDS("--config", path));
    (void)kit_write(folder, "run.json", "[1]", -1);
    refuse(CLI_TRAIN, 3, "expected a JSON object", WORDS("--config", path));
    (void)kit_write(folder, "run.json", "", -1);
    refuse(CLI_TRAIN, 3, "expected a JSON object", WORDS("--config", path));
}

/* Every option of the table is in the help of its verbs, in their man pages and in each completion. */
static void test_texts(void **state)
{
    (void)state;
    cli_style style = {false, false, 80, "", "", "", "", ""};
    cli_string shells[3] = {{NULL, 0, 0}, {NULL, 0, 0}, {NULL, 0, 0}};
    assert_true(cli_completion(&shells[0], "bash"));
    assert_true(cli_completion(&shells[1], "zsh"));
    assert_true(cli_completion(&shells[2], "fish"));
    assert_false(cli_completion(&shells[0], "tcsh"));
    for (int verb = 0; verb < CLI_VERBS; verb++) {
        cli_string help = {NULL, 0, 0}, man = {NULL, 0, 0};
        cli_help(&help, (cli_verb)verb, 80, &style);
        cli_man(&man, (cli_verb)verb);
        assert_null(strchr(help.text, '\t'));
        for (const cli_option *option = cli_option_table(); option->name != NULL; option++) {
            if ((option->verbs & 1u << verb) == 0)
                continue;
            cli_string name = {NULL, 0, 0};
            cli_appendf(&name, "--%s", option->name);
            assert_non_null(strstr(help.text, name.text));
            if (!cli_verbs[verb].hidden) {
                assert_non_null(strstr(shells[0].text, name.text));
                assert_non_null(strstr(shells[1].text, name.text));
                name.length = 0;
                cli_appendf(&name, "-l %s", option->name);
                assert_non_null(strstr(shells[2].text, name.text));
            }
            cli_string_clear(&name);
        }
        for (const char *line = help.text; line != NULL && *line != '\0';) {
            size_t length = strcspn(line, "\n");
            /* examples are commands to copy and are not wrapped; everything else is */
            if (strncmp(line, "  furlong", 9) != 0 && strncmp(line, "      ", 6) != 0)
                assert_true(length <= 80);
            line = line[length] == '\n' ? line + length + 1 : NULL;
        }
        assert_non_null(strstr(man.text, ".SH EXIT STATUS"));
        cli_string_clear(&help);
        cli_string_clear(&man);
    }
    for (int i = 0; i < 3; i++)
        cli_string_clear(&shells[i]);
}

/* Defaults written in the table are values the table accepts, letters and names are unique within a verb. */
static void test_table(void **state)
{
    (void)state;
    for (int verb = 0; verb < CLI_VERBS; verb++) {
        for (const cli_option *a = cli_option_table(); a->name != NULL; a++) {
            for (const cli_option *b = a + 1; b->name != NULL; b++) {
                if ((a->verbs & b->verbs & 1u << verb) == 0)
                    continue;
                assert_true(a->letter == 0 || a->letter != b->letter);
                assert_string_not_equal(a->name, b->name);
            }
        }
        cli_options o = parse((cli_verb)verb, NULL, 0);
        cli_options_clear(&o);
    }
}

static void test_units(void **state)
{
    (void)state;
    char out[CLI_UNIT];
    assert_string_equal(cli_bytes(out, 0), "0 B");
    assert_string_equal(cli_bytes(out, 999), "999 B");
    assert_string_equal(cli_bytes(out, 1000), "0.98 KiB");
    assert_string_equal(cli_bytes(out, (int64_t)512 << 20), "512 MiB");
    assert_string_equal(cli_bytes(out, (int64_t)8 << 30), "8 GiB");
    assert_string_equal(cli_bytes(out, 1300000000), "1.21 GiB");
    assert_string_equal(cli_bytes(out, INT64_MAX), "8 EiB");
    assert_string_equal(cli_thousands(out, 65536), "65,536");
    assert_string_equal(cli_thousands(out, 999), "999");
    assert_string_equal(cli_thousands(out, -1234567), "-1,234,567");
    assert_string_equal(cli_thousands(out, INT64_MAX), "9,223,372,036,854,775,807");
    assert_string_equal(cli_count(out, 65536), "64K");
    assert_string_equal(cli_count(out, 3 << 20), "3M");
    assert_string_equal(cli_count(out, 65537), "65,537");
    assert_string_equal(cli_seconds(out, 0.0), "0 s");
    assert_string_equal(cli_seconds(out, 4.2e-5), "42.0 us");
    assert_string_equal(cli_seconds(out, 0.0123), "12.3 ms");
    assert_string_equal(cli_seconds(out, 0.5), "0.50 s");
    assert_string_equal(cli_seconds(out, 9.0), "9 s");
    assert_string_equal(cli_seconds(out, 200.4), "3 min 20 s");
    assert_string_equal(cli_seconds(out, 3600.0), "1 h 00 min");
    assert_string_equal(cli_seconds(out, 864000.0), "10.0 days");
    assert_string_equal(cli_seconds(out, -1.0), "?");
    assert_string_equal(cli_rate(out, 41234.0), "41.2K");
    assert_string_equal(cli_rate(out, 12.0), "12");
}

/* What is not UTF-8 becomes U+FFFD, byte by byte; what is stays. */
static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *want;
    } cases[] = {
        {"plain", "plain"},
        {"\xC3\xA9", "\xC3\xA9"},
        {"\xF0\x9F\x8C\xBE", "\xF0\x9F\x8C\xBE"},
        {"a\x80z", "a\xEF\xBF\xBDz"},
        {"\xC3", "\xEF\xBF\xBD"},                                 /* cut short */
        {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},                 /* overlong */
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* surrogate */
        {"\xE0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* overlong */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cli_string out = {NULL, 0, 0};
        cli_append_utf8(&out, cases[i].bytes, strlen(cases[i].bytes));
        assert_string_equal(out.text, cases[i].want);
        cli_string_clear(&out);
    }
}

static int set_up(void **state)
{
    static kit_folder folder;
    kit_folder_init(&folder);
    *state = &folder;
    /* the tests say themselves what the environment holds */
    for (const cli_option *option = cli_option_table(); option->name != NULL; option++)
        if (option->environment != NULL)
            (void)unsetenv(option->environment);
    return 0;
}

static int tear_down(void **state)
{
    kit_folder_clear(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),  cmocka_unit_test(test_ramps),  cmocka_unit_test(test_words),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_config), cmocka_unit_test(test_environment),
        cmocka_unit_test(test_texts),    cmocka_unit_test(test_table),  cmocka_unit_test(test_units),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
