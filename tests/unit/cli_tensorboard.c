/* SPDX-License-Identifier: Apache-2.0 */
/* cli/tensorboard.h: checksums with known answers, an event byte by byte, and a file read back record by record. */
#include "kit/files.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/tensorboard.h"
#include "cli/text.h"

/* RFC 3720, appendix B.4, and the check value of the algorithm's catalogue entry. */
static void test_crc(void **state)
{
    (void)state;
    unsigned char bytes[32];
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(cli_crc32c(bytes, sizeof bytes), 0x8A9136AA);
    memset(bytes, 0xFF, sizeof bytes);
    assert_int_equal(cli_crc32c(bytes, sizeof bytes), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(cli_crc32c(bytes, sizeof bytes), 0x46DD794E);
    for (int i = 0; i < 32; i++)
        bytes[i] = (unsigned char)(31 - i);
    assert_int_equal(cli_crc32c(bytes, sizeof bytes), 0x113FDB5C);
    assert_int_equal(cli_crc32c("123456789", 9), 0xE3069283);
    assert_int_equal(cli_crc32c("", 0), 0);
    /* ((crc >> 15) | (crc << 17)) + 0xA282EAD8 of 0xE3069283, by hand */
    assert_int_equal(cli_crc32c_masked("123456789", 9), (0xE3069283u >> 15 | 0xE3069283u << 17) + 0xA282EAD8u);
}

static void test_event(void **state)
{
    (void)state;
    static const unsigned char want[] = {
        0x09, 0,    0,    0,    0,    0,   0, 0xF8, 0x3F, /* wall_time = 1.5 */
        0x10, 0xAC, 0x02,                                 /* step = 300 */
        0x2A, 0x0D,                                       /* summary, 13 bytes */
        0x0A, 0x0B,                                       /* value, 11 bytes */
        0x0A, 0x04, 'l',  'o',  's',  's',                /* tag */
        0x15, 0x00, 0x00, 0x20, 0x40,                     /* simple_value = 2.5 */
    };
    unsigned char got[CLI_EVENT_BYTES];
    assert_int_equal(cli_event_encode(got, 1.5, 300, "loss", 2.5f), sizeof want);
    assert_memory_equal(got, want, sizeof want);
}

static uint64_t fixed(const unsigned char *bytes, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

/* Checks the framing of every record and counts those that hold `tag`. */
static int records_with(const unsigned char *bytes, size_t size, const char *tag, int *records)
{
    int found = 0;
    *records = 0;
    for (size_t at = 0; at < size;) {
        assert_true(size - at > 16);
        uint64_t length = fixed(bytes + at, 8);
        assert_true(length <= size - at - 16);
        assert_int_equal(fixed(bytes + at + 8, 4), cli_crc32c_masked(bytes + at, 8));
        const unsigned char *data = bytes + at + 12;
        assert_int_equal(fixed(data + length, 4), cli_crc32c_masked(data, length));
        for (uint64_t i = 0; i + strlen(tag) <= length; i++)
            found += memcmp(data + i, tag, strlen(tag)) == 0;
        (*records)++;
        at += 16 + length;
    }
    return found;
}

static void test_file(void **state)
{
    (void)state;
    kit_folder folder;
    cli_tensorboard board;
    kit_folder_init(&folder);
    assert_true(cli_tensorboard_open(&board, folder.path));
    fur_train_event event = {.type = FUR_EVENT_STEP, .step = 1, .loss = 2.5, .lr = 1e-3, .grad_norm = 0.5};
    cli_tensorboard_event(&board, &event);
    event.loss = (double)NAN; /* not a number: that scalar is left out, the others are not */
    cli_tensorboard_event(&board, &event);
    event = (fur_train_event){.type = FUR_EVENT_EVAL, .step = 2, .loss = 2.25};
    cli_tensorboard_event(&board, &event);
    event.type = FUR_EVENT_SAVE;
    cli_tensorboard_event(&board, &event);
    assert_true(cli_tensorboard_close(&board));

    DIR *entries = opendir(folder.path);
    assert_non_null(entries);
    int files = 0;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        assert_int_equal(strncmp(entry->d_name, "events.out.tfevents.", 20), 0);
        FILE *file = fopen(kit_path(&folder, entry->d_name), "rb");
        static unsigned char bytes[8192];
        size_t size = fread(bytes, 1, sizeof bytes, file);
        assert_true(size > 0 && size < sizeof bytes);
        (void)fclose(file);
        int records;
        assert_int_equal(records_with(bytes, size, "brain.Event:2", &records), 1);
        assert_int_equal(records, 1 + 6 + 5 + 1);
        assert_int_equal(records_with(bytes, size, "loss/train", &records), 1);
        assert_int_equal(records_with(bytes, size, "loss/held_out", &records), 1);
        assert_int_equal(records_with(bytes, size, "memory/planned_peak_bytes", &records), 2);
        files++;
    }
    (void)closedir(entries);
    assert_int_equal(files, 1);
    kit_folder_clear(&folder);
}

static void test_no_folder(void **state)
{
    (void)state;
    cli_tensorboard board;
    assert_false(cli_tensorboard_open(&board, "/nonexistent/folder"));
    fur_train_event event = {.type = FUR_EVENT_STEP, .step = 1, .loss = 2.5};
    cli_tensorboard_event(&board, &event); /* nothing happens */
    assert_false(cli_tensorboard_close(&board));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_no_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
