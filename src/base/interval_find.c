/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The interval map's search: in each node, count the keys that are not above the one looked for.
 * Counting all of a node's keys needs no branch that depends on them, and its cache lines are
 * fetched at once; a binary search would wait for three of them in turn.
 */
#include "base/interval_node.h"

#include "base/rcu.h"

#if defined(__x86_64__) && !defined(UVF_TSAN)
#define WIDE 1
#include <immintrin.h>
#endif

/*
 * From this level of the root on, leaves are not in a cache: the entries are fetched together with
 * the keys, to wait once instead of twice (15,000 intervals and more).
 */
#define LARGE_LEVEL 3
/* And from this one on the inner nodes above them are not near: likewise (500,000 and more). */
#define LARGER_LEVEL 4

/* How many of the @words words after the head are not above @key. */
typedef unsigned (*count_fn)(const uint64_t *node, unsigned words, uint64_t key);

static inline __attribute__((always_inline)) void fetch(const void *from, size_t size)
{
#pragma GCC unroll 8
	for (size_t i = 0; i < size; i += 64)
		__builtin_prefetch((const char *)from + i);
}

static inline __attribute__((always_inline)) uvf_place_t find(const uint64_t *node, uint64_t key,
							      count_fn count)
{
	const struct uvf_leaf *leaf;
	unsigned height = uvf_node_level(node);
	/* The only key that unused ones are not above. */
	bool is_top = key == UINT64_MAX;
	unsigned n;

	for (unsigned level = height; level; level--) {
		const struct uvf_inner *inner = (const struct uvf_inner *)node;

		if (level == 1 && height >= LARGER_LEVEL)
			fetch(inner->child, sizeof(inner->child));
		n = count(node, UVF_INNER_SIZE, key);
		if (is_top && n >= uvf_node_count(node))
			n = uvf_node_count(node) - 1;
		node = atomic_load_explicit(&inner->child[n], memory_order_acquire);
	}
	leaf = (const struct uvf_leaf *)node;
	if (height >= LARGE_LEVEL)
		fetch(leaf->entry, sizeof(leaf->entry));
	n = count(node, UVF_LEAF_SIZE + 1, key);
	if (is_top && n > uvf_node_count(node))
		n = uvf_node_count(node);
	if (!n || leaf->entry[n - 1].last < key)
		return 0;
	return (uvf_place_t)node | (n - 1);
}

static inline __attribute__((always_inline)) unsigned count_any(const uint64_t *node,
								unsigned words, uint64_t key)
{
	unsigned n = 0;

	/* Relaxed: bounds can change under us, between values that serve equally. */
	for (unsigned i = 1; i < words; i++)
		n += __atomic_load_n(&node[i], __ATOMIC_RELAXED) <= key;
	return n;
}

static uvf_place_t find_any(const uint64_t *root, uint64_t key)
{
	return find(root, key, count_any);
}

#ifdef WIDE

/* The head word is compared with the keys and then taken out again: it never changes. */

/* Which of 16 words are not above. */
__attribute__((target("avx512f,avx512bw,popcnt"), always_inline)) static inline __mmask16 not_above(
	const uint64_t *words, __m512i wanted)
{
	return _mm512_kunpackb(_mm512_cmple_epu64_mask(_mm512_load_si512(&words[8]), wanted),
			       _mm512_cmple_epu64_mask(_mm512_load_si512(&words[0]), wanted));
}

/* One mask for all words, and one count: masks are slow to move to where they can be counted. */
__attribute__((target("avx512f,avx512bw,popcnt"), always_inline)) static inline unsigned
count_avx512(const uint64_t *node, unsigned words, uint64_t key)
{
	__m512i wanted = _mm512_set1_epi64((long long)key);
	uint32_t mask = not_above(node, wanted);

	if (words > 16)
		mask = _mm512_kunpackw(not_above(&node[16], wanted), mask);
	return (unsigned)__builtin_popcount(mask & ~1U);
}
_Static_assert(UVF_LEAF_SIZE + 1 == 16 && UVF_INNER_SIZE == 32, "what count_avx512() can count");

__attribute__((target("avx512f,avx512bw,popcnt"))) static uvf_place_t find_avx512(
	const uint64_t *root, uint64_t key)
{
	return find(root, key, count_avx512);
}

__attribute__((target("avx2,popcnt"), always_inline)) static inline unsigned count_avx2(
	const uint64_t *node, unsigned words, uint64_t key)
{
	/* There is only a signed comparison: move both sides by 2^63. */
	__m256i sign = _mm256_set1_epi64x(INT64_MIN);
	__m256i wanted = _mm256_xor_si256(_mm256_set1_epi64x((long long)key), sign);
	__m256i above = _mm256_setzero_si256();
	uint64_t lanes[4];

#pragma GCC unroll 16
	for (unsigned i = 0; i < words; i += 4) {
		__m256i keys = _mm256_load_si256((const __m256i *)&node[i]);

		/* A lane is -1 where the key is above. */
		above = _mm256_add_epi64(above,
					 _mm256_cmpgt_epi64(_mm256_xor_si256(keys, sign), wanted));
	}
	_mm256_storeu_si256((__m256i *)lanes, above);
	return words + (unsigned)(lanes[0] + lanes[1] + lanes[2] + lanes[3]) - (*node <= key);
}

__attribute__((target("avx2,popcnt"))) static uvf_place_t find_avx2(const uint64_t *root,
								    uint64_t key)
{
	return find(root, key, count_avx2);
}

#endif

uvf_place_t (*uvf_interval_find_best(void))(const uint64_t *root, uint64_t key)
{
#ifdef WIDE
	if (__builtin_cpu_supports("avx512bw"))
		return find_avx512;
	if (__builtin_cpu_supports("avx2"))
		return find_avx2;
#endif
	return find_any;
}
