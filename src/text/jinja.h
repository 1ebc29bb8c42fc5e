/* SPDX-License-Identifier: Apache-2.0 */
/* The part of Jinja that chat templates of the model families use, as transformers sets it up (trim_blocks,
 * lstrip_blocks): if, for, set, namespace, expressions, slices, the usual filters, tests and methods, {% generation %}.
 * What is not known is refused by name where it is met, never guessed; docs/TOKENIZERS.md lists what is known.
 *
 * Text carries a mark for each byte: where it came from. Marks follow the text through slices, strips and sums. */
#ifndef FUR_TEXT_JINJA_H
#define FUR_TEXT_JINJA_H

#include <stdbool.h>

#include <jansson.h>

#include "text/buffer.h"

typedef struct fur_jinja fur_jinja;

/* `name` is for errors. */
fur_status fur_jinja_parse(fur_error *error, const char *name, const char *text, int64_t bytes, fur_jinja **out);
void fur_jinja_destroy(fur_jinja *jinja);

#define FUR_JINJA_GENERATION 255

typedef struct fur_jinja_output {
    fur_string text;
    fur_string marks; /* as long; 0: of the template or unmarked; 1 to 254: of the variables, as marked;
                         FUR_JINJA_GENERATION: within {% generation %} */
    bool generation;  /* the template has such a block */
} fur_jinja_output;

/* The mark of strings found in variables, by their place: `message` is the index in the list "messages", -1 elsewhere;
 * role that of the message, or NULL. */
typedef unsigned char (*fur_jinja_mark)(int64_t message, const char *role);

/* variables: an object. Appends to the output. */
fur_status fur_jinja_render(fur_error *error, const fur_jinja *jinja, const json_t *variables, fur_jinja_mark mark,
                            fur_jinja_output *out);

#endif
