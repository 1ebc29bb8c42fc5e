/* SPDX-License-Identifier: Apache-2.0 */
/* Prints which instruction sets of this build the machine runs and which it does not. ./dev test shows it, because a
 * variant that was never run is not tested, however green the rest. */
#include <stdio.h>
#include <stdlib.h>

#include "furlong/furlong.h"

int main(void)
{
    fur_context_settings settings;
    fur_context_settings_defaults(&settings);
    settings.isa = "ref"; /* not what FURLONG_ISA caps, but what the machine has */
    fur_context *context = NULL;
    char error[512];
    if (fur_context_create(&settings, &context, error, sizeof error) != FUR_OK) {
        fprintf(stderr, "%s\n", error);
        return EXIT_FAILURE;
    }
    fur_machine machine;
    if (fur_machine_read(context, &machine) != FUR_OK) {
        fprintf(stderr, "%s\n", fur_context_error(context));
        fur_context_destroy(context);
        return EXIT_FAILURE;
    }
    printf("processor: %s\navailable: %s\nmissing: %s\n", machine.cpu_name, machine.isa_available, machine.isa_missing);
    fur_context_destroy(context);
    return EXIT_SUCCESS;
}
