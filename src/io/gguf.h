/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF, versions 2 and 3, little endian: what is known of a model, and its tensors, in one file.
 *
 *      | "GGUF" | version | n tensors | n values | values: key, type, value | tensors: name, sizes, type, offset |
 *      | to a multiple of general.alignment (32 if not said) | tensor bytes, each at a multiple of it |
 *
 * Integers are of 4 bytes (version, types, numbers of dimensions) or 8 (counts, lengths, sizes, offsets); a text is its
 * length and its bytes. A file is checked whole when opened, before anything is allocated by what it says: counts and
 * lengths fit into the bytes that are left, and are within the limits below; no key or tensor twice; known types, rows
 * of whole blocks; sizes whose product does not overflow; aligned offsets, tensors inside the file that do not overlap.
 * Sizes are told here in our order, rows last; the file has them the other way round. After the format's documentation.
 */
#ifndef FUR_IO_GGUF_H
#define FUR_IO_GGUF_H

#include "io/tensor.h"

/* Ours. The largest published models have some 2,000 tensors, and vocabularies of some 260,000 tokens. */
#define FUR_GGUF_MAX_VALUES   65536
#define FUR_GGUF_MAX_TENSORS  262144
#define FUR_GGUF_MAX_KEY      65535    /* bytes; the format's */
#define FUR_GGUF_MAX_NAME     255      /* bytes of a tensor's name; the format's tools have 63 */
#define FUR_GGUF_MAX_RANK     4        /* the format's */
#define FUR_GGUF_MAX_TEXT     16777216 /* bytes of a text */
#define FUR_GGUF_MAX_ELEMENTS 16777216 /* of an array */
#define FUR_GGUF_MOST_ALIGNED 65536
#define FUR_GGUF_ALIGNMENT    32

/* As the file numbers them. */
typedef enum fur_gguf_type {
    FUR_GGUF_U8 = 0,
    FUR_GGUF_I8,
    FUR_GGUF_U16,
    FUR_GGUF_I16,
    FUR_GGUF_U32,
    FUR_GGUF_I32,
    FUR_GGUF_F32,
    FUR_GGUF_BOOL,
    FUR_GGUF_TEXT,
    FUR_GGUF_ARRAY,
    FUR_GGUF_U64,
    FUR_GGUF_I64,
    FUR_GGUF_F64,
    FUR_GGUF_TYPES
} fur_gguf_type;
const char *fur_gguf_type_name(fur_gguf_type type); /* "u8", ..., "text", "array", ... */

typedef struct fur_gguf_value {
    const char *key;
    fur_gguf_type type; /* of an array's elements, never an array */
    bool array;
    int64_t count;  /* elements; 1 of what is no array */
    int64_t offset; /* of the first from the start of the file; of a text, of its length */
    int64_t bytes;
} fur_gguf_value;

typedef struct fur_gguf fur_gguf;

/* By its first bytes, or else by the end of its name: .gguf. FUR_E_IO: it cannot be read. */
fur_status fur_gguf_is(fur_error *error, const char *path, bool *is);
fur_status fur_gguf_open(fur_error *error, const char *path, fur_gguf **out);
void fur_gguf_close(fur_gguf *file); /* NULL allowed */
const fur_input *fur_gguf_input(const fur_gguf *file);
int64_t fur_gguf_version(const fur_gguf *file);

/* ---- tensors, in the file's order; index < count ----------------------------------------------------------------- */

int64_t fur_gguf_count(const fur_gguf *file);
const fur_tensor_info *fur_gguf_at(const fur_gguf *file, int64_t index);
const fur_tensor_info *fur_gguf_find(const fur_gguf *file, const char *name); /* NULL: none */

/* ---- values, in the file's order; index < count ------------------------------------------------------------------ */

int64_t fur_gguf_values(const fur_gguf *file);
const fur_gguf_value *fur_gguf_value_at(const fur_gguf *file, int64_t index);
const fur_gguf_value *fur_gguf_value_find(const fur_gguf *file, const char *key); /* NULL: none */

/* The value of a key of that kind within the range, or FUR_E_FORMAT naming it; *out is left where it fails. Integers of
 * any width are integers, f32 and f64 numbers. The _or forms: what is given where the key is not there. */
fur_status fur_gguf_int(fur_error *error, const fur_gguf *file, const char *key, int64_t low, int64_t high,
                        int64_t *out);
fur_status fur_gguf_int_or(fur_error *error, const fur_gguf *file, const char *key, int64_t low, int64_t high,
                           int64_t missing, int64_t *out);
fur_status fur_gguf_number(fur_error *error, const fur_gguf *file, const char *key, double low, double high,
                           double *out);
fur_status fur_gguf_number_or(fur_error *error, const fur_gguf *file, const char *key, double low, double high,
                              double missing, double *out);
fur_status fur_gguf_bool_or(fur_error *error, const fur_gguf *file, const char *key, bool missing, bool *out);
/* A NUL follows it; free *out with fur_free. NULL, with _or alone: not there. FUR_E_FORMAT besides: a NUL in it. */
fur_status fur_gguf_text(fur_error *error, const fur_gguf *file, const char *key, char **out);
fur_status fur_gguf_text_or_null(fur_error *error, const fur_gguf *file, const char *key, char **out);

/* An array of texts, one after the other, a NUL behind each. */
typedef struct fur_gguf_texts {
    char *bytes;
    int64_t *starts; /* count + 1; text i has starts[i + 1] - starts[i] - 1 bytes */
    int64_t count;
} fur_gguf_texts;
fur_status fur_gguf_texts_read(fur_error *error, const fur_gguf *file, const char *key, fur_gguf_texts *out);
void fur_gguf_texts_clear(fur_gguf_texts *texts); /* also of a zeroed one */
/* An array of exactly `count` i32 or f32. */
fur_status fur_gguf_array_read(fur_error *error, const fur_gguf *file, const char *key, fur_gguf_type type,
                               int64_t count, void *out);

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* Values one after the other, as the file has them. Appending does nothing once memory was short, which writing then
 * says. */
typedef struct fur_gguf_builder {
    unsigned char *data;
    int64_t bytes, capacity;
    int64_t values;
    bool failed;
} fur_gguf_builder;
void fur_gguf_builder_clear(fur_gguf_builder *builder);                      /* also of a zeroed one */
void fur_gguf_put_u32(fur_gguf_builder *to, const char *key, int64_t value); /* 0 to UINT32_MAX */
void fur_gguf_put_f32(fur_gguf_builder *to, const char *key, double value);
void fur_gguf_put_bool(fur_gguf_builder *to, const char *key, bool value);
void fur_gguf_put_text(fur_gguf_builder *to, const char *key, const char *value);
/* An array of `count` i32, f32 or, where texts follow one by one, text. */
void fur_gguf_put_array(fur_gguf_builder *to, const char *key, fur_gguf_type type, int64_t count, const void *numbers);
/* A value as another file has it. */
fur_status fur_gguf_put_copy(fur_error *error, fur_gguf_builder *to, const fur_gguf *from, const fur_gguf_value *value);
void fur_gguf_put_element(fur_gguf_builder *to, const char *text, int64_t bytes);

typedef struct fur_gguf_entry {
    const char *name;
    fur_dtype dtype; /* F32, BF16 or Q8_0 */
    int rank;
    int64_t shape[FUR_GGUF_MAX_RANK]; /* rows last, whole blocks */
    fur_tensor_fill fill;             /* f32, whole blocks at a time */
    void *user;
} fur_gguf_entry;

/* Writes version 3, whole or not at all (io/file.h), tensors in the order given. FUR_E_NONFINITE, naming the tensor: an
 * element, or a block's scale, that the type has no finite value for. FUR_E_ARGUMENT: a name too long or given twice,
 * or a shape that is none. */
fur_status fur_gguf_write(fur_error *error, const char *path, const fur_gguf_builder *values,
                          const fur_gguf_entry *entries, int64_t count);

/* ---- types of tensors -------------------------------------------------------------------------------------------- */

/* The file's number of a type. */
bool fur_gguf_dtype(uint32_t number, fur_dtype *out);
uint32_t fur_gguf_dtype_number(fur_dtype dtype);

#endif
