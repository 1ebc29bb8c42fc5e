/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUR_BASE_CLOCK_H
#define FUR_BASE_CLOCK_H

/* Seconds since some fixed moment; never goes back. */
double fur_clock_seconds(void);

#endif
