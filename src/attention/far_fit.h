/* SPDX-License-Identifier: Apache-2.0 */
/* The polynomial P(t) = sum_l c_l t^l that almost-linear attention puts in place of e^t, and what it errs. */
#ifndef FUR_ATTENTION_FAR_FIT_H
#define FUR_ATTENTION_FAR_FIT_H

#include <stdint.h>

/* Least squares of P(t_n) - e^(t_n), weighted: what attention's output errs by where logits are distributed so. Where
 * that is not positive on all of [-range, range], with relative errors over the range beside, of as little weight as
 * makes it so; at last the polynomial whose largest relative error there is least, which is always positive; range 0:
 * least squares as they are. c[degree + 1]. Returns 1 for that safe form, 0 for least squares. Degree at most 6. */
int fur_far_fit(int64_t count, const double *t, const double *weight, double range, int64_t degree, float *c);
/* For centred logits that are normal with standard deviation `deviation`, within [-range, range]. */
int fur_far_fit_normal(double deviation, double range, int64_t degree, float *c);
/* An upper bound on |P(t) / e^t - 1| over [-range, range]: the largest on a grid, and what P / e^t may rise between its
 * points by the size of its slope. Infinite where c is not finite. */
double fur_far_relative_error(const float *c, int64_t degree, double range);

/* alpha, beta with |P(t) - e^t| <= alpha + beta t^power on [-range, range], power even: those for which alpha + beta
 * mean is nearly least. Infinite where c is not finite. */
void fur_far_majorant(const float *c, int64_t degree, double range, int64_t power, double mean, double *alpha,
                      double *beta);

#endif
