/* json_index.c - the positions of a text's structure; see json_index.h.
 *
 * A block of 64 bytes becomes bits: where its quotes are, and where brackets, colons and commas
 * are. A quote opens or closes a string in turn, so the parity of the quotes up to a byte says
 * whether it is in a string. Backslashes, control characters and bytes that are not ASCII are rare: a
 * block is first asked whether it has any.
 *
 * The loop over the blocks is written once and compiled for each kind of machine: the functions that
 * look at a block are constants where `build` is inlined.
 */
#include "core/json_index.h"

#include <string.h>

#include "base/inline.h"
#include "core/json_scan.h"

#if defined __x86_64__ && defined __GNUC__
#include <immintrin.h>
#define HAVE_AVX2 1
#define AVX2 __attribute__((target("avx2,bmi,bmi2,pclmul")))
#endif

struct mesa_json_index mesa_json_index;

/* A bit for each byte of a block, the first byte's being the lowest. */
struct common_bits {
    uint64_t quotes;
    uint64_t structure; /* {}[]:, and maybe control characters other than white space */
    bool rare;          /* any of the bits below */
};
struct rare_bits {
    uint64_t backslashes, control, high;
    uint64_t breaks; /* tabulators, line feeds and carriage returns, which are control characters */
};

/* How a kind of machine looks at the 64 bytes at `p`. */
struct looks {
    /* Whether the block has no quote and nothing rare. */
    bool (*plain)(const char *p);
    struct common_bits (*common)(const char *p);
    struct rare_bits (*rare)(const char *p);
    uint64_t (*blanks)(const char *p);
    /* Bit n of the result is the parity of the bits 0 to n. */
    uint64_t (*parity)(uint64_t bits);
};

/* ---- the loop ---- */

/* What is known about the text up to a block. */
struct progress {
    struct mesa_json_entry *next;
    uint64_t in_string;        /* all ones: the last block ended within a string */
    uint64_t behind_structure; /* 1: its last byte was a bracket, colon or comma */
};

/* The bits of a block from `p` on. */
static inline uint64_t bits_from(const char *block, const char *p)
{
    if (p <= block)
        return ~UINT64_C(0);
    return p - block < MESA_JSON_BLOCK ? ~UINT64_C(0) << (p - block) : 0;
}

/* Behind the escape at `p`, or NULL. */
static inline const char *scan_escape(const char *p, const char *end)
{
    struct mesa_json_fault f;
    if (end - p > 1 && (p[1] == 'n' || p[1] == '"' || p[1] == '\\'))
        return p + 2; /* most of them */
    return mesa_json_scan_escape(p, end, &f);
}

/* The quotes of a block without those of escapes, all of which it checks. */
static uint64_t take_escapes(struct mesa_json_index *x, const char *block, uint64_t quotes,
                             uint64_t backslashes)
{
    uint64_t rest = bits_from(block, x->escape_end);
    quotes &= rest;
    for (backslashes &= rest; backslashes != 0; backslashes &= rest) {
        unsigned at = (unsigned)__builtin_ctzll(backslashes);
        const char *behind = scan_escape(block + at, x->end);
        if (behind == NULL) {
            x->invalid = true;
            break;
        }
        quotes &= ~(UINT64_C(2) << at); /* no escape has a quote further on */
        rest = bits_from(block, behind);
        x->escapes = true;
        x->escape_end = behind;
    }
    return quotes;
}

/* Checks the UTF-8 that begins in a block. */
static void take_high(struct mesa_json_index *x, const char *block, uint64_t high)
{
    for (high &= bits_from(block, x->high_end); high != 0; high &= bits_from(block, x->high_end)) {
        const char *p = block + __builtin_ctzll(high);
        do {
            unsigned n = mesa_utf8_sequence(p, x->end);
            if (n == 0) {
                x->invalid = true;
                return;
            }
            p += n;
        } while (p < x->end && (*p & 0x80));
        x->high_end = p;
    }
}

/* What follows the `starts`, or the white space that begins there: adding carries a bit through a run
 * of blanks. */
static inline uint64_t behind_blanks(uint64_t starts, uint64_t blanks)
{
    return (starts & ~blanks) | (((starts & blanks) + blanks) & ~blanks);
}

/* Whether the string that opens at `p` has white space before it, and a bracket, colon or comma
 * before that. */
static bool follows_structure(const char *text, const char *p)
{
    while (p > text && (unsigned char)p[-1] <= ' ')
        p--;
    return p > text && (p[-1] == ',' || p[-1] == ':' || p[-1] == '{' || p[-1] == '[');
}

/* One block of the text, which is read at `from`: `shift` bytes before it at the end of a text. */
MESA_INLINE bool take_block(struct mesa_json_index *x, const char *text, const char *block,
                            const char *from, unsigned shift, struct progress *s,
                            const struct looks *look)
{
    if (s->in_string != 0 && look->plain(from))
        return true;
    struct common_bits b = look->common(from);
    struct rare_bits rare = {0, 0, 0, 0};
    uint64_t quotes = b.quotes >> shift;
    if (__builtin_expect(b.rare || x->escape_end > block, 0)) {
        rare = look->rare(from);
        if ((rare.control ^ rare.breaks) >> shift != 0)
            return false;
        if (rare.backslashes != 0 || x->escape_end > block)
            quotes = take_escapes(x, block, quotes, rare.backslashes >> shift);
        if (rare.high != 0)
            take_high(x, block, rare.high >> shift);
        if (x->invalid)
            return false;
    }

    uint64_t in_string = look->parity(quotes) ^ s->in_string;
    uint64_t bits = b.structure >> shift & ~in_string;
    if (((rare.breaks >> shift) & in_string) != 0 ||
        ((rare.backslashes >> shift) & ~in_string) != 0)
        return false;
    uint64_t starts = bits << 1 | s->behind_structure, opening = quotes & in_string;
    if ((opening & ~starts) != 0) {
        opening &= ~behind_blanks(starts, look->blanks(from) >> shift);
        for (; opening != 0; opening &= opening - 1)
            if (!follows_structure(text, block + __builtin_ctzll(opening)))
                return false;
    }
    s->in_string = in_string >> 63 != 0 ? ~UINT64_C(0) : 0;
    s->behind_structure = bits >> 63;
    for (unsigned base = (unsigned)(block - text); bits != 0; bits &= bits - 1)
        (s->next++)->at = (uint16_t)(base + (unsigned)__builtin_ctzll(bits));
    return true;
}

MESA_INLINE bool build(struct mesa_json_index *x, const char *text, size_t len,
                       const struct looks *look)
{
    struct progress s = {x->entries, 0, 0};
    const char *p = text, *end = text + len, *from;
    x->generation++;
    if (len > MESA_JSON_INDEX_MAX_BYTES)
        return false;
    x->end = end;
    x->escape_end = x->high_end = text;
    x->escapes = x->invalid = false;
    for (; end - p >= MESA_JSON_BLOCK; p += MESA_JSON_BLOCK)
        if (!take_block(x, text, p, p, 0, &s, look))
            return false;
    size_t rest = (size_t)(end - p);
    if (rest > 0) {
        if (len >= MESA_JSON_BLOCK) {
            from = end - MESA_JSON_BLOCK;
        } else {
            memset(x->copy, ' ', sizeof x->copy);
            memcpy(x->copy + MESA_JSON_BLOCK - rest, p, rest);
            from = x->copy;
        }
        if (!take_block(x, text, p, from, MESA_JSON_BLOCK - (unsigned)rest, &s, look))
            return false;
    }
    x->count = (size_t)(s.next - x->entries);
    return s.in_string == 0;
}

/* ---- any machine: words of eight bytes ---- */

#define EACH (~UINT64_C(0) / 255) /* a one in each byte */

/* The high bit of each byte of `v` that is `c`. */
static inline uint64_t equal(uint64_t v, char c)
{
    uint64_t x = v ^ EACH * (unsigned char)c;
    return ~(((x & EACH * 0x7f) + EACH * 0x7f) | x) & EACH * 0x80;
}

/* The high bit of each byte of `v` below ' '. */
static inline uint64_t below_space(uint64_t v)
{
    return ~(((v & EACH * 0x7f) + EACH * 0x60) | v) & EACH * 0x80;
}

/* The high bits of the bytes as eight bits next to each other. */
static inline uint64_t gather(uint64_t v)
{
    return (v >> 7) * UINT64_C(0x0102040810204080) >> 56;
}

static inline bool words_plain(const char *p)
{
    uint64_t special = 0;
    for (unsigned i = 0; i < MESA_JSON_BLOCK; i += 8)
        special |= mesa_json_special(mesa_json_word(p + i));
    return special == 0;
}

static inline struct common_bits words_common(const char *p)
{
    struct common_bits b = {0};
    uint64_t rare = 0;
    for (unsigned i = 0; i < MESA_JSON_BLOCK; i += 8) {
        uint64_t v = mesa_json_word(p + i), folded = v | EACH * 0x20;
        b.quotes |= gather(equal(v, '"')) << i;
        b.structure |=
            gather(equal(folded, '{') | equal(folded, '}') | equal(v, ':') | equal(v, ',')) << i;
        rare |= equal(v, '\\') | below_space(v) | (v & EACH * 0x80);
    }
    b.rare = rare != 0;
    return b;
}

static inline struct rare_bits words_rare(const char *p)
{
    struct rare_bits b = {0};
    for (unsigned i = 0; i < MESA_JSON_BLOCK; i += 8) {
        uint64_t v = mesa_json_word(p + i);
        b.backslashes |= gather(equal(v, '\\')) << i;
        b.control |= gather(below_space(v)) << i;
        b.high |= gather(v & EACH * 0x80) << i;
        b.breaks |= gather(equal(v, '\t') | equal(v, '\n') | equal(v, '\r')) << i;
    }
    return b;
}

static inline uint64_t words_blanks(const char *p)
{
    uint64_t blanks = 0;
    for (unsigned i = 0; i < MESA_JSON_BLOCK; i += 8) {
        uint64_t v = mesa_json_word(p + i);
        blanks |= gather(equal(v, ' ') | below_space(v)) << i;
    }
    return blanks;
}

static inline uint64_t shifted_parity(uint64_t bits)
{
    for (unsigned n = 1; n < MESA_JSON_BLOCK; n *= 2)
        bits ^= bits << n;
    return bits;
}

static bool build_by_words(struct mesa_json_index *x, const char *text, size_t len)
{
    static const struct looks look = {words_plain, words_common, words_rare, words_blanks,
                                      shifted_parity};
    return build(x, text, len, &look);
}

#ifdef __SSE2__
/* ---- 16 bytes at a time ---- */

#define LOAD16(p, i) _mm_loadu_si128((const __m128i *)(const void *)((p) + 16 * (i)))
#define BITS16(v) ((uint64_t)(unsigned)_mm_movemask_epi8(v))
#define IS16(v, c) _mm_cmpeq_epi8(v, _mm_set1_epi8(c))
#define OR16(a, b) _mm_or_si128(a, b)

static inline __m128i below_space16(__m128i v)
{
    return _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
}

static inline __m128i structure16(__m128i v)
{
    __m128i folded = OR16(v, _mm_set1_epi8(0x20));
    return OR16(OR16(IS16(folded, '{'), IS16(folded, '}')), OR16(IS16(v, ':'), IS16(v, ',')));
}

static inline bool sse2_plain(const char *p)
{
    __m128i special = _mm_setzero_si128();
    for (int i = 0; i < 4; i++) {
        __m128i v = LOAD16(p, i);
        special = OR16(special, OR16(OR16(v, IS16(v, '"')), OR16(IS16(v, '\\'), below_space16(v))));
    }
    return BITS16(special) == 0;
}

static inline struct common_bits sse2_common(const char *p)
{
    struct common_bits b = {0};
    __m128i rare = _mm_setzero_si128();
    for (int i = 0; i < 4; i++) {
        __m128i v = LOAD16(p, i);
        rare = OR16(OR16(rare, v), OR16(IS16(v, '\\'), below_space16(v)));
        b.quotes |= BITS16(IS16(v, '"')) << 16 * i;
        b.structure |= BITS16(structure16(v)) << 16 * i;
    }
    b.rare = BITS16(rare) != 0;
    return b;
}

static inline struct rare_bits sse2_rare(const char *p)
{
    struct rare_bits b = {0};
    for (int i = 0; i < 4; i++) {
        __m128i v = LOAD16(p, i);
        b.backslashes |= BITS16(IS16(v, '\\')) << 16 * i;
        b.control |= BITS16(below_space16(v)) << 16 * i;
        b.high |= BITS16(v) << 16 * i;
        b.breaks |= BITS16(OR16(OR16(IS16(v, '\t'), IS16(v, '\n')), IS16(v, '\r'))) << 16 * i;
    }
    return b;
}

static inline uint64_t sse2_blanks(const char *p)
{
    uint64_t blanks = 0;
    for (int i = 0; i < 4; i++) {
        __m128i v = LOAD16(p, i);
        blanks |= BITS16(OR16(IS16(v, ' '), below_space16(v))) << 16 * i;
    }
    return blanks;
}

static bool build_sse2(struct mesa_json_index *x, const char *text, size_t len)
{
    static const struct looks look = {sse2_plain, sse2_common, sse2_rare, sse2_blanks,
                                      shifted_parity};
    return build(x, text, len, &look);
}
#endif

#ifdef HAVE_AVX2
/* ---- 32 bytes at a time ---- */

#define LOAD32(p, i) _mm256_loadu_si256((const __m256i *)(const void *)((p) + 32 * (i)))
#define BITS32(v) ((uint64_t)(unsigned)_mm256_movemask_epi8(v))
#define IS32(v, c) _mm256_cmpeq_epi8(v, _mm256_set1_epi8(c))
#define OR32(a, b) _mm256_or_si256(a, b)

AVX2 static inline __m256i below_space32(__m256i v)
{
    return _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v);
}

/* The low half of a byte says which of the four it could be; bytes that are not ASCII become 0. */
AVX2 static inline __m256i structure32(__m256i v)
{
    const __m256i could_be =
        _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0, 0, 0, 0, 0, 0, 0,
                         0, 0, 0, 0, ':', '{', ',', '}', 0, 0);
    __m256i folded = OR32(v, _mm256_set1_epi8(0x20));
    return _mm256_cmpeq_epi8(_mm256_shuffle_epi8(could_be, v), folded);
}

AVX2 static inline bool avx2_plain(const char *p)
{
    __m256i special = _mm256_setzero_si256();
    for (int i = 0; i < 2; i++) {
        __m256i v = LOAD32(p, i);
        special = OR32(special, OR32(OR32(v, IS32(v, '"')), OR32(IS32(v, '\\'), below_space32(v))));
    }
    return BITS32(special) == 0;
}

AVX2 static inline struct common_bits avx2_common(const char *p)
{
    struct common_bits b = {0};
    __m256i rare = _mm256_setzero_si256();
    for (int i = 0; i < 2; i++) {
        __m256i v = LOAD32(p, i);
        rare = OR32(OR32(rare, v), OR32(IS32(v, '\\'), below_space32(v)));
        b.quotes |= BITS32(IS32(v, '"')) << 32 * i;
        b.structure |= BITS32(structure32(v)) << 32 * i;
    }
    b.rare = BITS32(rare) != 0;
    return b;
}

AVX2 static inline struct rare_bits avx2_rare(const char *p)
{
    struct rare_bits b = {0};
    for (int i = 0; i < 2; i++) {
        __m256i v = LOAD32(p, i);
        b.backslashes |= BITS32(IS32(v, '\\')) << 32 * i;
        b.control |= BITS32(below_space32(v)) << 32 * i;
        b.high |= BITS32(v) << 32 * i;
        b.breaks |= BITS32(OR32(OR32(IS32(v, '\t'), IS32(v, '\n')), IS32(v, '\r'))) << 32 * i;
    }
    return b;
}

AVX2 static inline uint64_t avx2_blanks(const char *p)
{
    uint64_t blanks = 0;
    for (int i = 0; i < 2; i++) {
        __m256i v = LOAD32(p, i);
        blanks |= BITS32(OR32(IS32(v, ' '), below_space32(v))) << 32 * i;
    }
    return blanks;
}

/* Multiplying by all ones without carries adds up the bits below each. */
AVX2 static inline uint64_t multiplied_parity(uint64_t bits)
{
    __m128i product =
        _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)bits), _mm_set1_epi8((char)0xff), 0);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

AVX2 static bool build_avx2(struct mesa_json_index *x, const char *text, size_t len)
{
    static const struct looks look = {avx2_plain, avx2_common, avx2_rare, avx2_blanks,
                                      multiplied_parity};
    return build(x, text, len, &look);
}

static inline bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("pclmul");
}
#endif

/* ---- the choice ---- */

bool mesa_json_index_build(struct mesa_json_index *x, const char *text, size_t len)
{
#ifdef HAVE_AVX2
    if (has_avx2())
        return build_avx2(x, text, len);
#endif
#ifdef __SSE2__
    return build_sse2(x, text, len);
#else
    return build_by_words(x, text, len);
#endif
}

size_t mesa_json_index_variants(mesa_json_index_fn out[3])
{
    size_t n = 0;
    out[n++] = build_by_words;
#ifdef __SSE2__
    out[n++] = build_sse2;
#endif
#ifdef HAVE_AVX2
    if (has_avx2())
        out[n++] = build_avx2;
#endif
    return n;
}
