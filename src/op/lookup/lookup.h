/* SPDX-License-Identifier: Apache-2.0 */
/* Lookup projections: the memory layers of MemoryFormer (arXiv 2411.12992), after the released formula.
 *
 * A row x of `in` numbers is cut into K = in / bits chunks z_k. The signs of a chunk are the number of a row of table
 * k, its size is the row's weight, and a map is the sum of what the tables give:
 *
 *   code_k = sum_i [z_ki >= 0] 2^(bits - 1 - i)             first coordinate: highest bit
 *   m_i = |z_ki|,  s = sum_i m_i,  P = prod_i 1 / (1 + e^(-2 m_i / t))
 *   w_k = s P (MAGNITUDE, t = 1: what the authors' code runs)  or  P (PROBABILITY)
 *   y = bias + sum_k w_k T_k[code_k]                        summed over k in ascending order
 *
 * +0 and -0 have the bit 1; NaN has the bit 0, and is refused.
 *
 * P is the weight of row `code` in a softmax of <z, S_r> / t over all rows r with sign vectors S_r (LookupFFN), s is
 * <z, S_code>. Where a coordinate changes its sign, another row takes over, and y jumps. With `two_rows` the row with
 * the least certain bit flipped (j: the first of least m; code ^ bit j) is added with its own weight of that softmax,
 *
 *   w'_k = (s - 2 m_j) P e^(-2 m_j)  or  P e^(-2 m_j / t),
 *
 * which at m_j = 0 is that of the row itself: y is continuous there. (It still jumps where another coordinate becomes
 * the least certain, by the weight of the flipped rows.) Slots: 0 .. K-1 are the rows, K .. 2K-1 the flipped ones.
 *
 * Backward. No gradient goes through the code. With g_k = <dy, T_k[code_k]>, q_i = 1 / (1 + e^(2 m_i / t)), sgn 1 at 0:
 *   dT_k[code_k] += w_k dy,   dbias += dy,
 *   dz_ki = sgn(z_ki) g_k P (1 + 2 s q_i)   or   sgn(z_ki) g_k P (2 / t) q_i
 * and for a flipped row, with e = e^(-2 m_j / t), s' = s - 2 m_j, i != j the same with e P for P, s' for s, and
 *   dz_kj = -sgn(z_kj) g'_k e P (1 + 2 s' (1 - q_j))   or   -sgn(z_kj) g'_k e P (2 / t) (1 - q_j).
 *
 * Legend: T tokens, I in, O out, K tables, R = 2^bits rows of a table, S slots. Elementwise bounds: lookup_test.c.
 * All results are the same bits for any number of threads; y and dx of a row also for any number of rows beside it. */
#ifndef FUR_OP_LOOKUP_H
#define FUR_OP_LOOKUP_H

#include "base/exec.h"

#define FUR_LOOKUP_TILE                                                                                                \
    ((int64_t)64) /* columns of a tile: 256 rows of f32 in 64 KB, eight tables in half of a 1 MB cache */
#define FUR_LOOKUP_MOST_BITS 12

typedef enum fur_lookup_score { FUR_LOOKUP_MAGNITUDE = 0, FUR_LOOKUP_PROBABILITY = 1 } fur_lookup_score;
typedef enum fur_lookup_type { FUR_LOOKUP_F32 = 0, FUR_LOOKUP_BF16 = 1, FUR_LOOKUP_I8 = 2 } fur_lookup_type;
/* Where element (table k, row r, column o) lies.
 *   TILES  [ceil(O / TILE)][K][R][TILE], the last tile padded with zeros: for training, many tokens
 *   ROWS   [K][R][O]: for decoding, a row is one stretch of memory */
typedef enum fur_lookup_layout { FUR_LOOKUP_TILES = 0, FUR_LOOKUP_ROWS = 1 } fur_lookup_layout;

/* One map. The arrays are the caller's. */
typedef struct fur_lookup {
    int64_t in, out, bits; /* bits 1 .. FUR_LOOKUP_MOST_BITS, divides in */
    fur_lookup_score score;
    float temperature; /* t; PROBABILITY alone, above 0 */
    int two_rows;      /* MAGNITUDE: needs bits >= 2 (with one bit y is continuous as it is, and w' negative) */
    fur_lookup_layout layout;
    fur_lookup_type type;
    const void *table;         /* float, bf16 as uint16_t, or int8_t */
    const float *row_scale_KR; /* I8 alone: a row's values are scale * int8; finite and above 0 */
    const float *bias_O;       /* or NULL */
} fur_lookup;

/* Whether maps of these settings exist: in, out, bits, score, temperature, two_rows, layout, type; not the arrays.
 * Errors: FUR_E_SHAPE (in, out, bits; more elements than an int64_t counts), FUR_E_ARGUMENT. */
fur_status fur_lookup_check(fur_error *error, const fur_lookup *map);
/* K, R, and 1 or 2 times K. */
int64_t fur_lookup_tables(const fur_lookup *map);
int64_t fur_lookup_rows(const fur_lookup *map);
int64_t fur_lookup_slots(const fur_lookup *map);
/* Elements of the table in its layout, padding included; INT64_MAX where that overflows. */
int64_t fur_lookup_table_elements(const fur_lookup *map);
/* Bytes of an element of the type. */
int64_t fur_lookup_type_bytes(fur_lookup_type type);

/* Codes and weights of rows: made once for all maps that read the same input with equal in, bits, score, temperature
 * and two_rows (q, k, v). By slots: a table's are contiguous. 6 bytes a slot and token. */
typedef struct fur_lookup_codes {
    int64_t tokens;
    uint16_t *code_ST;
    float *weight_ST;
} fur_lookup_codes;

/* Bytes of both arrays, a multiple of FUR_ARENA_ALIGN; INT64_MAX where that overflows. Place: at `memory`, of that many
 * bytes, aligned likewise. */
int64_t fur_lookup_codes_bytes(const fur_lookup *map, int64_t tokens);
void fur_lookup_codes_place(const fur_lookup *map, int64_t tokens, void *memory, fur_lookup_codes *out);

/* Fills placed codes from x_TI, rows ldx floats apart. One exponential an element. FUR_E_NONFINITE: a NaN or infinity,
 * the text names the first row that has one; the codes are then set all the same. FUR_E_SHAPE. */
fur_status fur_lookup_hash(const fur_exec *exec, const fur_lookup *map, const float *x_TI, int64_t ldx,
                           fur_lookup_codes *out);

/* y = map of the coded rows; add: y += that, added last. Rows ldy floats apart; columns beyond out are not touched.
 * S O multiply-adds a token. Layout TILES: the table is read once per 8,192 tokens; ROWS: once per token.
 * I8 in TILES: weights times scales are rounded to 15 bits of the token's largest, which errs by at most
 *   2^-16 max_s(w_s scale_s) sum_s |int8 value|
 * an element, far below the rounding of the tables themselves; the reference and ROWS do not. Weights that overflow f32
 * when scaled: undefined y. Errors: FUR_E_SHAPE, FUR_E_ARGUMENT (a scale missing), FUR_E_MEMORY (workspace). */
fur_status fur_lookup_forward(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes, int add,
                              float *y_TO, int64_t ldy);

/* Gradient of the table, in f32 and layout TILES (whatever the map's type and layout), and of the bias.
 * touched_KR, a byte a row: 0, the row of `dtable` holds nothing yet and is stored, then 1; 1, it is added to. Rows
 * that no token reads are left as they are, touched or not. A row's sum is in order of tokens, flipped rows after rows
 * of the same token. dbias_O is added to; NULL: not wanted. The map's table is not read. Cost: S O multiply-adds a
 * token; dtable's touched rows are written once per 8,192 tokens. */
fur_status fur_lookup_backward_tables(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes,
                                      const float *dy_TO, int64_t lddy, float *dtable, uint8_t *touched_KR,
                                      float *dbias_O);

/* dx = gradient by x; add: dx += that. x_TI and codes as in forward; dx_TI may be x_TI. Needs an f32 table in TILES
 * (FUR_E_UNSUPPORTED). */
fur_status fur_lookup_backward_input(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes,
                                     const float *x_TI, int64_t ldx, const float *dy_TO, int64_t lddy, int add,
                                     float *dx_TI, int64_t lddx);

/* Bytes that any call on this map (its type and layout count) pushes on exec->workspace for that many tokens, with
 * backward those of the two backward calls, the update and the sum of squares too; no more for fewer tokens, nor for
 * more than 8,192. */
int64_t fur_lookup_workspace(const fur_exec *exec, const fur_lookup *map, int64_t tokens, int backward);

/* count_KR[k][r] += slots of all tokens that read row r of table k. */
fur_status fur_lookup_count_rows(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes,
                                 uint32_t *count_KR);

/* ---- training: rows that were touched --------------------------------------------------------------------------- */

#define FUR_LOOKUP_MOST_EVEN 16

/* Sum of squares of dtable over touched rows, in double and a fixed order; and what the update reads: each row's own in
 * square_KR (0: not touched); in even_O the factors that make columns equal in size, sqrt(mean of columns' sums of
 * squares / the column's), at most FUR_LOOKUP_MOST_EVEN, 1 for a column of zeros. even_O: fur_lookup_columns floats.
 * The gradient is read once. */
fur_status fur_lookup_sum_squares(const fur_exec *exec, const fur_lookup *map, const float *dtable,
                                  const uint8_t *touched_KR, float *square_KR, float *even_O, double *sum);
int64_t fur_lookup_columns(const fur_lookup *map); /* out, rounded up to whole tiles */

#define FUR_LOOKUP_BEHIND 64 /* most steps that a row may be behind */

typedef struct fur_lookup_update {
    double lr;
    const double *lr_before; /* [FUR_LOOKUP_BEHIND] of steps step - 1, step - 2 ..; fur_lookup_catch_up alone reads it,
                                as far back as a row is behind */
    double beta1, beta2;     /* in [0, 1) */
    double eps;              /* above 0 */
    double weight_decay;     /* decoupled */
    int64_t step;            /* of this update; the first is 1 */
    float grad_scale;        /* clipping and averaging; 1 for none */
} fur_lookup_update;

/* Moments of a table: the first per element in bf16, in the table's layout; the second per row, the mean over the row
 * of the gradient's square; and the step of the row's last update, 0 for none. Zeroed to begin with. 2 bytes an
 * element. */
typedef struct fur_lookup_moments {
    uint16_t *m;
    float *v_KR;
    uint32_t *last_KR;
} fur_lookup_moments;

/* Rows that no token used in the steps after `last` have missed what AdamW does without a gradient: m and v decay, and
 * w moves on by m. Catching up makes that good, up to args->step - 1, and must come before a row is read in a step:
 *
 *   m_i = beta1^i m,  v_i = beta2^i v                      i = 1 .. gap = step - 1 - last
 *   w <- (1 - lr_i weight_decay) w - lr_i / (1 - beta1^(last + i)) m_i / (sqrt(v_i / (1 - beta2^(last + i))) + eps)
 *
 * with the lr that each step had. Of this a row needs three factors, of w, of m in w, and of m, so that the cost is 12
 * bytes an element of a row that is behind, whatever the gap. codes: of the rows that are to be read; NULL: all rows.
 * Errors: FUR_E_ARGUMENT (a factor out of range; a row more than FUR_LOOKUP_BEHIND behind, or beyond), and then
 * nothing has changed; FUR_E_UNSUPPORTED as below. */
fur_status fur_lookup_catch_up(const fur_exec *exec, const fur_lookup *map, const fur_lookup_codes *codes, float *table,
                               const fur_lookup_moments *moments, const fur_lookup_update *args);

/* AdamW of touched rows, which are up to date (last = step - 1); others are left for later. With g' = grad_scale g and
 * e_o = even_O:
 *
 *   m <- beta1 m + (1 - beta1) e_o g'               rounded to bf16, nearest even, for the next step alone
 *   v <- beta2 v + (1 - beta2) mean_row(g'^2)
 *   w <- w (1 - lr weight_decay) - lr / (1 - beta1^step) m / (sqrt(v / (1 - beta2^step)) + eps)
 *
 * that is, with rows caught up before they are read, dense AdamW with one v a row and a rounded m, of gradients whose
 * columns were made equal in size. (Where the second moment of an element is one factor of its row times one of its
 * column, as Adafactor has it, arXiv 1804.04235, that is what AdamW does; one v a row alone moves quiet columns too
 * little.)
 * Rounding m to nearest: what 1 - beta1 of a gradient adds is lost where it is below 2^-9 m, so that m stays within
 * 2^-9 / (1 - beta1) of its exact value's size: 2 % at 0.9, 4 % at 0.95; beta1 above 0.99 is refused. map: f32, TILES
 * (FUR_E_UNSUPPORTED otherwise); its table is `table`. square_KR and even_O: of fur_lookup_sum_squares on this dtable.
 * 16 bytes an element of a touched row. Errors: FUR_E_ARGUMENT (a factor out of range; a touched row that is not up to
 * date). */
fur_status fur_lookup_update_lazy(const fur_exec *exec, const fur_lookup *map, float *table, const float *dtable,
                                  const uint8_t *touched_KR, const float *square_KR, const float *even_O,
                                  const fur_lookup_moments *moments, const fur_lookup_update *args);

/* ---- layouts and types ------------------------------------------------------------------------------------------ */

/* from->table in another layout and type: from f32 to any type (bf16: nearest even; int8: scale = max|row| / 127, 1 for
 * a row of zeros, values nearest even), else the type must stay (I8: scales stay the caller's, row_scale_KR is not
 * written). `to`: fur_lookup_table_elements of the new map, not overlapping. FUR_E_NONFINITE: to int8, a row that is
 * not finite; the text names it. FUR_E_UNSUPPORTED: another change of type. */
fur_status fur_lookup_pack(const fur_exec *exec, const fur_lookup *from, fur_lookup_layout layout, fur_lookup_type type,
                           void *to, float *row_scale_KR);

/* One row, rounded as fur_lookup_pack rounds it, for writers of files that go through tables row by row. Its scale: 1
 * but for int8, and there infinite where a value is not finite. Decoding gives what forward multiplies weights by. */
float fur_lookup_row_scale(fur_lookup_type type, int64_t columns, const float *row_O);
void fur_lookup_row_encode(fur_lookup_type type, int64_t columns, const float *row_O, float scale, void *out);
void fur_lookup_row_decode(fur_lookup_type type, int64_t columns, const void *row, float scale, float *out_O);

#endif
