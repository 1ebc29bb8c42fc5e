/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over the files of a folder, each also cut short at every eighth of its length, without libFuzzer:
 * what was found once stays found, under every compiler. */
#include <dirent.h>

#include "fuzz.h"

enum { MAX_BYTES = 1 << 20, CUTS = 8 };

static int replay(const char *folder, const char *name)
{
    static uint8_t data[MAX_BYTES];
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    for (size_t cut = 0; cut <= CUTS; cut++)
        (void)LLVMFuzzerTestOneInput(data, size * cut / CUTS);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
        return EXIT_FAILURE;
    }
    DIR *folder = opendir(argv[1]);
    if (!folder) {
        perror(argv[1]);
        return EXIT_FAILURE;
    }
    int files = 0;
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (entry->d_name[0] != '.')
            files += replay(argv[1], entry->d_name);
    }
    closedir(folder);
    printf("%d files\n", files);
    return files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
