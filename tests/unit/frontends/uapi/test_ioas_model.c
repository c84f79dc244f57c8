/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random maps, unmaps, copies, invalidations, reads and writes on two small address spaces, against
 * an array that says of each page where it leads. With a seed as argument it does only that one.
 */
#include <errno.h>

#include "ioas_rig.h"

#define PAGES	64 /* of each address space */
#define SOURCES 48 /* pages of the program: private ones, then two files */
#define FILE_1	16
#define FILE_2	32
#define LIMIT	20 /* mappings */
#define STEPS	100000

/* A page of an address space. */
struct page {
	unsigned mapping; /* 0: none; else the number of the mapping that it is of */
	unsigned source;
	unsigned prot;
	bool writable;
	bool invalid;
};

struct model {
	struct rig rig[2];
	struct page page[2][PAGES];
	unsigned mappings; /* numbers given */
	char *source;
	char content[SOURCES]; /* the first byte of each */
	uint64_t state;
	char last; /* byte written */
};

static unsigned pick(struct model *model, unsigned count)
{
	model->state ^= model->state << 13;
	model->state ^= model->state >> 7;
	model->state ^= model->state << 17;
	return (unsigned)((model->state >> 32) % count);
}

static unsigned count_mappings(const struct page *page)
{
	unsigned count = 0;

	for (unsigned i = 0; i < PAGES; i++)
		count += page[i].mapping && (!i || page[i - 1].mapping != page[i].mapping);
	return count;
}

static bool is_free(const struct page *page, unsigned first, unsigned size)
{
	for (unsigned i = first; i < first + size; i++)
		if (page[i].mapping)
			return false;
	return true;
}

/* Whether [first, first + size) has a mapping's end inside, but not all of it. */
static bool cuts(const struct page *page, unsigned first, unsigned size)
{
	unsigned end = first + size;

	return (first && page[first].mapping && page[first - 1].mapping == page[first].mapping) ||
	       (end < PAGES && page[end - 1].mapping && page[end].mapping == page[end - 1].mapping);
}

static void map(struct model *model, unsigned space)
{
	unsigned first = pick(model, PAGES), size = 1 + pick(model, 8);
	unsigned source = pick(model, SOURCES), prot = 1 + pick(model, 3);
	struct page *page = model->page[space];
	int expected = 0, result;
	bool iommufd = pick(model, 2);

	if (first + size > PAGES)
		size = PAGES - first;
	if (source + size > SOURCES)
		source = SOURCES - size;
	if (!is_free(page, first, size))
		expected = -EEXIST;
	else if (!iommufd && count_mappings(page) >= LIMIT)
		expected = -ENOSPC;
	result = (iommufd ? rig_map_iommufd : rig_map)(
		&model->rig[space], first * PAGE, size * PAGE, prot, model->source + source * PAGE);
	assert_int_equal(result, expected);
	if (result)
		return;
	model->mappings++;
	for (unsigned i = 0; i < size; i++)
		page[first + i] = (struct page){model->mappings, source + i, prot,
						prot & UVF_PROT_WRITE, false};
}

static void unmap(struct model *model, unsigned space)
{
	unsigned first = pick(model, PAGES), size = 1 + pick(model, 16), expected = 0;
	struct page *page = model->page[space];
	uint64_t unmapped = 1;
	int result;

	if (!pick(model, 200)) {
		first = 0;
		size = PAGES;
	}
	if (first + size > PAGES)
		size = PAGES - first;
	result = uapi_ioas_unmap(model->rig[space].ioas, first * PAGE, (first + size) * PAGE - 1,
				 &unmapped);
	assert_int_equal(result, cuts(page, first, size) ? -ENOENT : 0);
	for (unsigned i = first; !result && i < first + size; i++) {
		expected += page[i].mapping != 0;
		page[i] = (struct page){0};
	}
	assert_int_equal(unmapped, expected * PAGE);
}

static int copy_expected(const struct page *to, unsigned first, const struct page *from,
			 unsigned source, unsigned size, unsigned prot)
{
	bool writable = true;

	for (unsigned i = source; i < source + size; i++) {
		if (!from[i].mapping)
			return -ENOENT;
		writable = writable && from[i].writable;
	}
	if (!is_free(to, first, size))
		return -EEXIST;
	return prot & UVF_PROT_WRITE && !writable ? -EPERM : 0;
}

static void copy(struct model *model, unsigned space)
{
	unsigned other = pick(model, 2), first = pick(model, PAGES), size = 1 + pick(model, 8);
	unsigned source = pick(model, PAGES), prot = 1 + pick(model, 3), last = 0;
	struct page *to = model->page[space], *from = model->page[other];
	struct page copied[8];
	int result;

	if (first + size > PAGES)
		size = PAGES - first;
	if (source + size > PAGES)
		size = PAGES - source;
	result = uapi_ioas_copy(model->rig[space].ioas, first * PAGE, size * PAGE, prot,
				model->rig[other].ioas, source * PAGE);
	assert_int_equal(result, copy_expected(to, first, from, source, size, prot));
	if (result)
		return;
	memcpy(copied, from + source, size * sizeof(*copied));
	for (unsigned i = 0; i < size; i++) {
		if (copied[i].mapping != last)
			model->mappings++;
		last = copied[i].mapping;
		to[first + i] = copied[i];
		to[first + i].mapping = model->mappings;
		to[first + i].prot = prot;
		to[first + i].invalid = false;
	}
}

static void invalidate(struct model *model, unsigned space)
{
	unsigned first = pick(model, PAGES), size = 1 + pick(model, 8), expected = 0;
	struct page *page = model->page[space];
	bool already = false;
	uint64_t bytes;
	int result;

	if (first + size > PAGES)
		size = PAGES - first;
	if (cuts(page, first, size))
		return;
	for (unsigned i = first; i < first + size; i++) {
		already = already || page[i].invalid;
		expected += page[i].mapping != 0;
	}
	result = uapi_ioas_vaddr_invalidate(model->rig[space].ioas, first * PAGE,
					    (first + size) * PAGE - 1, &bytes);
	assert_int_equal(result, already ? -EINVAL : 0);
	assert_int_equal(bytes, already ? 0 : expected * PAGE);
	for (unsigned i = first; !result && i < first + size; i++)
		page[i].invalid = page[i].mapping != 0;
}

static void replace(struct model *model, unsigned space)
{
	unsigned first = pick(model, PAGES), size = 1, source;
	struct page *page = model->page[space];
	int expected = 0;

	while (first && page[first].mapping && page[first - 1].mapping == page[first].mapping)
		first--;
	while (first + size < PAGES && page[first].mapping &&
	       page[first + size].mapping == page[first].mapping)
		size++;
	source = pick(model, SOURCES - size + 1);
	if (!page[first].mapping)
		expected = -ENOENT;
	else if (!page[first].invalid)
		expected = -EINVAL;
	assert_int_equal(uapi_ioas_vaddr_replace(model->rig[space].ioas, &model->rig[space].call,
						 first * PAGE, size * PAGE,
						 (uintptr_t)model->source + source * PAGE),
			 expected);
	for (unsigned i = 0; !expected && i < size; i++) {
		page[first + i].source = source + i;
		page[first + i].invalid = false;
	}
}

static void access_page(struct model *model, unsigned space)
{
	unsigned at = pick(model, PAGES);
	const struct page *page = &model->page[space][at];
	struct uvf_attachment *attachment = model->rig[space].attachment;
	char byte = ++model->last;
	int result;

	result = uvf_attachment_write(attachment, at * PAGE, &byte, 1);
	assert_int_equal(result, !page->mapping		       ? -EFAULT
				 : page->prot & UVF_PROT_WRITE ? 0
							       : -EACCES);
	if (!result)
		model->content[page->source] = byte;
	result = uvf_attachment_read(attachment, at * PAGE, &byte, 1);
	assert_int_equal(result, !page->mapping		      ? -EFAULT
				 : page->prot & UVF_PROT_READ ? 0
							      : -EACCES);
	if (!result)
		assert_int_equal(byte, model->content[page->source]);
}

static void check(struct model *model, unsigned space)
{
	const struct page *page = model->page[space];
	unsigned bytes = 0, mappings = count_mappings(page), invalid = 0;
	struct uvf_iova_range found;
	uint64_t next = 0;

	for (unsigned i = 0; i < PAGES; i++) {
		bytes += page[i].mapping != 0;
		invalid += page[i].invalid;
	}
	assert_int_equal(rig_stats(&model->rig[space]).bytes, bytes * PAGE);
	assert_int_equal(uapi_ioas_available(model->rig[space].ioas),
			 mappings < LIMIT ? LIMIT - mappings : 0);
	assert_int_equal(uapi_ioas_has_invalid_vaddr(model->rig[space].ioas), invalid > 0);
	for (; uapi_ioas_find(model->rig[space].ioas, next, UINT64_MAX, &found);
	     next = found.last + 1) {
		assert_int_equal(page[found.first / PAGE].mapping, page[found.last / PAGE].mapping);
		mappings--;
	}
	assert_int_equal(mappings, 0);
	for (unsigned i = 0; i < SOURCES; i++)
		assert_int_equal(model->source[i * PAGE], model->content[i]);
}

static void run(uint64_t seed)
{
	static void (*const operations[])(struct model * model, unsigned space) = {
		map, map, map, unmap, unmap, copy, invalidate, replace, access_page, access_page,
	};
	const struct uvf_run_config config = {.max_mappings = LIMIT};
	struct model model = {.state = seed};
	int fds[2];
	char *files[2];

	model.source = rig_pages(SOURCES);
	for (unsigned i = 0; i < 2; i++) {
		rig_new(&model.rig[i], &config);
		files[i] = rig_file(16, &fds[i]);
		assert_ptr_not_equal(mmap(model.source + (i ? FILE_2 : FILE_1) * PAGE, 16 * PAGE,
					  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fds[i],
					  0),
				     MAP_FAILED);
	}
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned space = pick(&model, 2);

		operations[pick(&model, sizeof(operations) / sizeof(operations[0]))](&model, space);
		if (step % 64 == 0)
			check(&model, space);
	}
	for (unsigned i = 0; i < 2; i++) {
		check(&model, i);
		rig_unmap(&model.rig[i], 0, UINT64_MAX);
		assert_int_equal(rig_stats(&model.rig[i]).mappings, 0);
		rig_free(&model.rig[i]);
		munmap(files[i], 16 * PAGE);
		close(fds[i]);
	}
	munmap(model.source, SOURCES * PAGE);
}

static uint64_t chosen;

static void agrees_with_the_model(void **unused)
{
	static const uint64_t seeds[] = {0x9e3779b97f4a7c15, 42};

	for (size_t i = 0; !chosen && i < sizeof(seeds) / sizeof(seeds[0]); i++) {
		print_message("seed %#jx\n", (uintmax_t)seeds[i]);
		run(seeds[i]);
	}
	if (chosen)
		run(chosen);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_the_model),
	};

	if (argc > 1)
		chosen = strtoull(argv[1], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
