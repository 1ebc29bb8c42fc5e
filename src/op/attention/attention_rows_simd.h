/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of dq, dk and dv that backward gathers, the same for products of f32 and of bf16 (no include guard: each variant
 * includes it once, after the vocabulary). */

/* Where chunk `chunk` gathers dq of a virtual row. */
static float *dq_of(const fur_attention_call *call, const fur_attention_rows *rows, int64_t chunk, int64_t v)
{
    const fur_attention_args *a = call->args;
    if (chunk == 0 || rows->owner != FUR_ATTENTION_SPREAD)
        return a->dq_THD + fur_attention_offset(call, rows, v, a->lddq);
    int64_t row = (chunk - 1) * call->rows + rows->first_row + v / call->group;
    return call->dq_part_CTHD + (row * a->heads + rows->kv_head * call->group + v % call->group) * a->head_dim;
}

/* to[d] += factor * from[d] */
static void add_row(float *to, const float *from, float factor, int64_t count)
{
    int64_t d = 0;
    for (; d + VL <= count; d += VL)
        vstore(to + d, vfma(vset(factor), vload(from + d), vload(to + d)));
    if (d < count)
        vstore_part(to + d, count - d,
                    vfma(vset(factor), vload_part(from + d, count - d), vload_part(to + d, count - d)));
}

/* Zeroes what the chunk gathers of dq. */
static void clear_dq(const fur_attention_call *call, int64_t kv_head, int64_t chunk)
{
    for (int64_t r = 0; r < call->run_count; r++) {
        fur_attention_rows rows = fur_attention_rows_of(call, &call->runs[r], kv_head);
        if (rows.owner == chunk || rows.owner == FUR_ATTENTION_SPREAD)
            for (int64_t v = 0; v < rows.end; v++)
                memset(dq_of(call, &rows, chunk, v), 0, (size_t)call->args->head_dim * sizeof(float));
    }
}
