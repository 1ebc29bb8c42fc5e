/* SPDX-License-Identifier: Apache-2.0 */
/* Features of the highest degree in f32: what far_simd.h asks for beside far_panel.h. */

static int64_t sum_words(const fur_far_layout *l, int64_t tokens)
{
    (void)l, (void)tokens;
    return 0;
}

static void sum_pack(const fur_far_layout *l, token_sum *s, uint32_t *words)
{
    (void)l, (void)s, (void)words;
}

/* At most SUM_BLOCK features of all tokens, whose panels x and lower features stand one after the other. */
static void sum_top(const fur_far_layout *l, const token_sum *s, int64_t first, int64_t count, const float *x_TD,
                    const float *lower, float *top)
{
    int64_t begin = slice_of(l, first);
    for (int64_t t = 0; t < s->tokens; t += PANEL) {
        int64_t slice = begin;
        form(l, &slice, first, first + count, x_TD + t * l->dim, lower + t, top + t, s->ld);
    }
    sum_rows(s, first, count, top);
}

/* u += S phi */
static void read_top(const fur_far_call *call, const float *state_RE, const panel *p)
{
    const fur_far_layout *l = &call->layout;
    int64_t slice = l->top_slice;
    for (int64_t m = l->lower; m < l->features; m += BLOCK) {
        int64_t count = fur_min_i64(BLOCK, l->features - m);
        form(l, &slice, m, m + count, p->x, p->lower, p->top, PANEL);
        product(1, l->columns, state_RE + m * l->columns, 1, l->columns, p->top, count, p->u);
    }
}

static void gradient_pack(const fur_far_layout *l, const panel *p)
{
    (void)l, (void)p;
}

/* top = S^T y, features first .. first+count-1 */
static void gradient_top(const fur_far_call *call, const float *state_RE, const panel *p, int64_t first, int64_t count)
{
    int64_t E = call->layout.columns;
    product(0, count, state_RE + first * E, E, 1, p->y, E, p->top);
}

#define FAR_PACKING .packed_words = NULL, .pack = NULL
