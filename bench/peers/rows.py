# SPDX-License-Identifier: Apache-2.0
"""The rows that a run of Furlong trains on, in their order, from its run.json: the same cuts and the same permutations
as src/train/cutter.c, from the same counter-based generator (Philox 4x32-10, src/base/random.c)."""

_MASK32 = (1 << 32) - 1
_STREAM_OFFSET, _STREAM_ORDER = 0x6F66, 0x6F72


def random_u64(seed, stream, counter):
    c = [counter & _MASK32, counter >> 32, stream & _MASK32, stream >> 32]
    k0, k1 = seed & _MASK32, seed >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k0, p1 & _MASK32, p0 >> 32 ^ c[3] ^ k1, p0 & _MASK32]
        k0, k1 = k0 + 0x9E3779B9 & _MASK32, k1 + 0xBB67AE85 & _MASK32
    return c[0] << 32 | c[1]


def _permuted(seed, key, count, index):
    half = 1
    while 1 << 2 * half < count:
        half += 1
    mask, x = (1 << half) - 1, index
    while True:
        left, right = x >> half, x & mask
        for turn in range(4):
            left, right = right, left ^ random_u64(seed, key, turn << 48 | right) & mask
        x = left << half | right
        if x < count:
            return x


class Cutter:
    """Rows of one document of `predictions` + 1 tokens."""

    def __init__(self, predictions, seed):
        self.predictions, self.seed = predictions, seed
        self.phase, self.epoch, self.index = 0, 0, 0

    def _key(self, stream):
        return stream << 48 | self.phase << 32 | self.epoch

    def _chunk(self, context):
        """(first, count) of the next chunk; begins another epoch where this one is used up."""
        offset = 0
        while True:
            if self.predictions > context:
                offset = random_u64(self.seed, self._key(_STREAM_OFFSET), 0) % context
            chunks = (offset > 0) + -(-(self.predictions - offset) // context)
            if self.index < chunks:
                break
            self.epoch, self.index = self.epoch + 1, 0
        within = _permuted(self.seed, self._key(_STREAM_ORDER), chunks, self.index)
        if offset == 0:
            start, end = within * context, (within + 1) * context
        elif within == 0:
            start, end = 0, offset
        else:
            start, end = offset + (within - 1) * context, offset + within * context
        return start, min(end, self.predictions) - start

    def row(self, phase, context, row_tokens):
        """List of (first, count): the documents of the next row."""
        if phase != self.phase:
            self.phase, self.epoch, self.index = phase, 0, 0
        documents, used = [], 0
        while True:
            first, count = self._chunk(context)
            if used + count > row_tokens:
                return documents
            documents.append((first, count))
            used += count
            self.index += 1
