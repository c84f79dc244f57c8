/* SPDX-License-Identifier: BSD-3-Clause */
/* Random maps, unmaps and transfers against a page table that is an array. */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "helpers.h"

#define SLOTS 256 /* pages of the address space */
#define FILES 3
#define STEPS 300000

struct slot {
	bool mapped;
	unsigned file, prot;
	uint64_t page;	      /* of the file */
	unsigned first, last; /* of its mapping */
};

static struct slot table[SLOTS];
static unsigned char content[FILES][SLOTS * PAGE];
static uint64_t state;

static unsigned pick(unsigned count)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)((state >> 32) % count);
}

static bool any_mapped(unsigned first, unsigned last)
{
	for (unsigned i = first; i <= last; i++)
		if (table[i].mapped)
			return true;
	return false;
}

static void map_some(struct uvf_address_space *space, const int *files)
{
	unsigned first = pick(SLOTS), last = first + pick(8), file = pick(FILES);
	unsigned prot = pick(3) + 1;
	uint64_t page = pick(SLOTS - 8);
	int result;

	last = last < SLOTS ? last : SLOTS - 1;
	result = uvf_map_fd(space, first * PAGE, (last - first + 1) * PAGE, prot, files[file],
			    page * PAGE);
	if (any_mapped(first, last)) {
		assert_int_equal(result, -EEXIST);
		return;
	}
	assert_int_equal(result, 0);
	for (unsigned i = first; i <= last; i++)
		table[i] = (struct slot){true, file, prot, page + i - first, first, last};
}

static void unmap_some(struct uvf_address_space *space)
{
	unsigned first = pick(SLOTS), last = first + pick(24);
	uint64_t unmapped, pages = 0;
	bool cut;
	int result;

	last = last < SLOTS ? last : SLOTS - 1;
	cut = (table[first].mapped && table[first].first < first) ||
	      (table[last].mapped && table[last].last > last);
	result = uvf_unmap(space, first * PAGE, (last - first + 1) * PAGE, &unmapped);
	assert_int_equal(result, cut ? -EINVAL : 0);
	for (unsigned i = first; !cut && i <= last; i++) {
		pages += table[i].mapped;
		table[i].mapped = false;
	}
	assert_int_equal(unmapped, pages * PAGE);
}

/* Moves byte by byte through the table. What was moved before an error stays moved. */
static int expect(uint64_t at, unsigned char *buf, size_t size, bool write)
{
	for (size_t i = 0; i < size; i++) {
		const struct slot *slot = &table[(at + i) / PAGE];
		unsigned char *byte;

		if ((at + i) / PAGE >= SLOTS || !slot->mapped)
			return -EFAULT;
		if (!(slot->prot & (write ? UVF_PROT_WRITE : UVF_PROT_READ)))
			return -EACCES;
		byte = &content[slot->file][slot->page * PAGE + (at + i) % PAGE];
		if (write)
			*byte = buf[i];
		else
			buf[i] = *byte;
	}
	return 0;
}

static void transfer_some(struct uvf_attachment *attachment)
{
	static unsigned char buf[4 * PAGE], expected[4 * PAGE];
	size_t size = pick(8) ? pick(128) : pick(4 * PAGE);
	uint64_t at = pick(SLOTS * PAGE);
	int result;

	if (pick(2)) {
		/* Twice the same byte of a file in one write would need an order. */
		memset(buf, (int)pick(256), size);
		assert_int_equal(uvf_attachment_write(attachment, at, buf, size),
				 expect(at, buf, size, true));
		return;
	}
	result = uvf_attachment_read(attachment, at, buf, size);
	assert_int_equal(result, expect(at, expected, size, false));
	if (!result)
		assert_memory_equal(buf, expected, size);
}

static void random_steps(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	const char *seed = getenv("UVF_TEST_SEED");
	int files[FILES];

	state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) | 1;
	printf("seed %llu\n", (unsigned long long)state);
	for (unsigned i = 0; i < FILES; i++)
		files[i] = new_file(SLOTS * PAGE);
	for (unsigned i = 0; i < STEPS; i++) {
		unsigned what = pick(16);

		if (what < 3)
			map_some(space, files);
		else if (what < 4)
			unmap_some(space);
		else
			transfer_some(attachment);
	}
	for (unsigned i = 0; i < FILES; i++) {
		static unsigned char now[SLOTS * PAGE];

		assert_int_equal(pread(files[i], now, sizeof(now), 0), sizeof(now));
		assert_memory_equal(now, content[i], sizeof(now));
		close(files[i]);
	}
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(random_steps)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
