#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bad_model.sh PROGRAM: configurations and weights that are damaged, hostile or not ours: code 3 and one line that names
# the file and what in it. A llama of one layer and width 8 is written here byte by byte, so that each byte can be wrong.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=tests/e2e/lib.sh
. "$here/lib.sh"

words 3000 >text
mkdir model

# little BYTES VALUE: a whole number, least byte first
little() {
    little_text=
    little_value=$2
    little_left=$1
    while [ "$little_left" -gt 0 ]; do
        little_text="$little_text\\0$(printf '%o' $((little_value % 256)))"
        little_value=$((little_value / 256))
        little_left=$((little_left - 1))
    done
    printf '%b' "$little_text"
}

config='"model_type": "llama", "vocab_size": 256, "max_position_embeddings": 64, "hidden_size": 8, "num_hidden_layers": 1,
"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 8, "rms_norm_eps": 1e-5,
"tie_word_embeddings": true'

# config [SED-EXPRESSION]: model/config.json, changed
config() { printf '{%s}\n' "$config" | sed "${1-}" >model/config.json; }

# tensors: NAME SHAPE (rows or rows,columns) of every tensor, in the order of the file
tensors='model.embed_tokens.weight 256,8
model.layers.0.input_layernorm.weight 8
model.layers.0.self_attn.q_proj.weight 8,8
model.layers.0.self_attn.k_proj.weight 4,8
model.layers.0.self_attn.v_proj.weight 4,8
model.layers.0.self_attn.o_proj.weight 8,8
model.layers.0.post_attention_layernorm.weight 8
model.layers.0.mlp.gate_proj.weight 8,8
model.layers.0.mlp.up_proj.weight 8,8
model.layers.0.mlp.down_proj.weight 8,8
model.norm.weight 8'

# weights [SED-EXPRESSION]: model/model.safetensors of zeros, its header changed by the expression
weights() {
    printf '%s\n' "$tensors" | awk '
        BEGIN { printf "{" }
        {
            count = split($2, size, ",")
            bytes = 4 * size[1] * (count > 1 ? size[2] : 1)
            printf "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%d,%d]}", (NR > 1 ? "," : ""), $1, $2, at, at + bytes
            at += bytes
        }
        END {
            printf "}"
            print at >"data_bytes"
        }' | sed "${1-}" | tr -d '\n' >header
    file_of "$(wc -c <header)"
}

# file_of HEADER-BYTES: the file of the header and zeros, with that length at its start
file_of() {
    { little 8 "$1" && cat header && dd if=/dev/zero bs="$(cat data_bytes)" count=1 2>dd.log; } >model/model.safetensors
}

bad() {
    bad_words=$1
    shift
    if [ $# -gt 0 ]; then set -- "$bad_words" "$@"; else set -- "$bad_words"; fi
    refused 3 "$@" -- eval -m model -f text -c 16 -t 1
}

# ---- the whole model, for what is refused below to mean something ----------------------------------------------------

config
weights
expect 0 eval -m model -f text -c 16 -t 1 --json
grep -q '"perplexity":256\.0' out || fail "zeros must know nothing: $(cat out)"
pass "the model that the rest is made from: $(grep -o '"perplexity":[^,]*' out)"

# ---- config.json --------------------------------------------------------------------------------------------------

bad_config() {
    config "$1"
    shift
    bad model/config.json "$@"
    refused 3 model/config.json "$@" -- plan -m model -c 16
    refused 3 model/config.json "$@" -- train -m model -f text -c 16 -t 1
    refused 3 model/config.json "$@" -- generate -m model -p x -t 1
}
bad_config 's/:/;/' 'not valid JSON'
bad_config 's/}$//' 'not valid JSON'
bad_config 's/.*//' 'not valid JSON'
bad_config 's/^{\(.*\)/[\1/; s/}$/]/' 'not valid JSON'
bad_config 's/"hidden_size": 8,//' '"hidden_size" is missing'
bad_config 's/"hidden_size": 8/"hidden_size": -8/' '"hidden_size" is -8'
bad_config 's/"hidden_size": 8/"hidden_size": 0/' '"hidden_size" is 0'
bad_config 's/"hidden_size": 8/"hidden_size": "8"/' '"hidden_size"'
bad_config 's/"hidden_size": 8/"hidden_size": 8.5/' '"hidden_size"'
bad_config 's/"hidden_size": 8/"hidden_size": 99999999999999999999/' 'config.json'
bad_config 's/"hidden_size": 8/"hidden_size": 1099511627776/' 'config.json'
bad_config 's/"vocab_size": 256/"vocab_size": 1000000000000/' 'config.json'
bad_config 's/"num_hidden_layers": 1/"num_hidden_layers": 1000000000/' 'layers'
bad_config 's/"num_attention_heads": 2/"num_attention_heads": 3/; s/"head_dim": 4,//' 'config.json'
bad_config 's/"num_attention_heads": 2/"num_attention_heads": 3/; s/"num_key_value_heads": 1/"num_key_value_heads": 2/' 'heads'
bad_config 's/"head_dim": 4/"head_dim": 3/' 'head'
bad_config 's/"vocab_size": 256/"vocab_size": 256, "vocab_size": 256/' 'vocab_size'
bad_config 's/1e-5/-1/' '"rms_norm_eps"'
bad_config 's/llama/mamba/' 'model_type is mamba'
bad_config 's/"llama"/7/' '"model_type"'
bad_config 's/"vocab_size"/"rope_scaling": {"factor": 2}, "vocab_size"/' 'rope_scaling'
bad_config 's/"vocab_size"/"rope_scaling": {"rope_type": "longrope", "factor": 2}, "vocab_size"/' 'rope_type is longrope'
bad_config 's/"vocab_size"/"rope_scaling": {"rope_type": "yarn"}, "vocab_size"/' '"rope_scaling.factor" is missing'
rm model/config.json
refused 3 "model: expected config.json" -- eval -m model -f text -c 16
refused 3 "none: No such file or directory" -- eval -m none -f text -c 16

# ---- model.safetensors ------------------------------------------------------------------------------------------------

config
rm model/model.safetensors
bad 'model: neither model.safetensors nor model.safetensors.index.json'

# bad_weights SED-EXPRESSION WORD...: a header that is wrong
bad_weights() {
    weights "$1"
    shift
    bad model/model.safetensors "$@"
}
weights
file_of 100000000
bad model/model.safetensors header
{ printf '\377\377\377\377\377\377\377\177' && cat header; } >model/model.safetensors
bad model/model.safetensors header
printf 'abc' >model/model.safetensors
bad model/model.safetensors
: >model/model.safetensors
bad model/model.safetensors
weights
dd if=model/model.safetensors of=cut bs=1000 count=5 2>dd.log
mv cut model/model.safetensors
bad model/model.safetensors
bad_weights 's/"dtype"/dtype/' 'not valid JSON'
bad_weights 's/\[8192,8224\]/[8188,8224]/' 'model.layers.0.input_layernorm.weight'
bad_weights 's/\[8192,8224\]/[8160,8192]/' 'model.layers.0.input_layernorm.weight'
bad_weights 's/\[8192,8224\]/[8224,8192]/' 'model.layers.0.input_layernorm.weight'
bad_weights 's/\[8192,8224\]/[-32,8224]/' 'model.layers.0.input_layernorm.weight'
bad_weights 's/\[8192,8224\]/[9223372036854775800,9223372036854775807]/' 'model.layers.0.input_layernorm.weight'
bad_weights 's/\[256,8\]/[4611686018427387904,8]/' 'model.embed_tokens.weight'
bad_weights 's/"model.norm.weight"/"model.layers.0.input_layernorm.weight"/' 'duplicate object key'
bad_weights 's/\[8\],"data_offsets":\[8192/[4,2],"data_offsets":[8192/' 'model.layers.0.input_layernorm.weight' 'shape'
bad_weights 's/\[256,8\]/[8,256]/' 'model.embed_tokens.weight' 'shape'
bad_weights 's/"dtype":"F32","shape":\[256,8\]/"dtype":"I32","shape":[256,8]/' 'model.embed_tokens.weight' 'I32'
bad_weights 's/"dtype":"F32","shape":\[256,8\]/"dtype":"Q7","shape":[256,8]/' 'Q7'
weights 's/model.norm.weight/model.more.weight/'
bad model 'model.more.weight'
whole=$tensors
tensors=$(printf '%s\n' "$whole" | grep -v '^model.norm')
weights
bad model 'model.norm.weight'
tensors="$whole
model.layers.1.more.weight 3,5"
weights
bad model 'model.layers.1.more.weight'
tensors=$whole
weights
at=$(($(wc -c <header) + 8 + 4 * 77))
printf '\000\000\300\177' | dd of=model/model.safetensors bs=1 seek="$at" conv=notrunc 2>dd.log
bad model/model.safetensors 'model.embed_tokens.weight' 'element 77 is nan'
refused 3 'element 77 is nan' -- generate -m model -p x
refused 3 'element 77 is nan' -- inspect model
refused 3 'element 77 is nan' -- train -m model -f text -c 16 -o run
for folder in run runs; do [ ! -e $folder ] || fail "a refused run left a folder"; done
