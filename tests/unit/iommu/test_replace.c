/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory behind a mapping is replaced: nobody sees a gap, and nobody keeps what was there. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "helpers.h"

#define TOP_PAGE 0xfffffffffffff000ULL

static char left[4 * PAGE] __attribute__((aligned(4096)));
static char right[4 * PAGE] __attribute__((aligned(4096)));

static struct uvf_memory *new_local(void *base, uint64_t size)
{
	struct uvf_memory *memory;

	assert_int_equal(uvf_memory_new_local(base, size, &memory), 0);
	return memory;
}

static void leads_elsewhere(void **unused)
{
	struct uvf_memory *a = new_local(left, sizeof(left)), *b = new_local(right, sizeof(right));
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	char byte;

	for (uint64_t i = 0; i < 40; i++)
		assert_int_equal(uvf_map(space, i * PAGE, PAGE, UVF_PROT_RW, a, 0), 0);
	left[0] = 'a';
	right[PAGE] = 'b';
	for (uint64_t i = 0; i < 40; i += 3)
		assert_int_equal(uvf_replace(space, i * PAGE, PAGE, b, PAGE), 0);
	for (uint64_t i = 0; i < 40; i++) {
		assert_int_equal(uvf_attachment_read(attachment, i * PAGE, &byte, 1), 0);
		assert_int_equal(byte, i % 3 ? 'a' : 'b');
	}
	assert_int_equal(stats_of(space).mappings, 40);
	assert_int_equal(stats_of(space).bytes, 40 * PAGE);
	assert_int_equal(uvf_unmap(space, 0, 0, NULL), 0);
	assert_int_equal(stats_of(space).bytes, 0);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	uvf_memory_put(a);
	uvf_memory_put(b);
}

static int file_of(void *opaque, const struct uvf_mapping *mapping)
{
	*(int *)opaque = uvf_memory_fd(mapping->memory);
	return 1;
}

/* The window of the old memory goes, the new one's is counted; permissions stay. */
static void counts(void **unused)
{
	struct uvf_memory *a = new_local(left, sizeof(left)), *file;
	struct uvf_address_space *space = new_space();
	int fd = new_file(8 * PAGE), found = -1;

	assert_int_equal(uvf_memory_new_file(fd, UVF_PROT_READ, &file), 0);
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_READ, fd, 0), 0);
	assert_int_equal(uvf_map(space, PAGE, PAGE, UVF_PROT_RW, a, 0), 0);
	assert_int_equal(stats_of(space).windows, 1);
	assert_int_equal(uvf_replace(space, 0, PAGE, a, PAGE), 0);
	assert_int_equal(stats_of(space).windows, 0);
	assert_int_equal(uvf_replace(space, 0, PAGE, file, PAGE), 0);
	assert_int_equal(stats_of(space).windows, 1);
	assert_int_equal(uvf_replace(space, PAGE, PAGE, file, PAGE), -EACCES);
	assert_int_equal(uvf_for_each_mapping_in(space, PAGE, 2 * PAGE, file_of, &found), 1);
	assert_int_equal(found, -1);
	assert_int_equal(uvf_for_each_mapping_in(space, 0, 2 * PAGE, file_of, &found), 1);
	assert_true(found >= 0);
	assert_int_equal(uvf_for_each_mapping_in(space, 2 * PAGE, TOP_PAGE, file_of, &found), 0);
	uvf_address_space_put(space);
	uvf_memory_put(file);
	uvf_memory_put(a);
	close(fd);
}

static void arguments(void **unused)
{
	struct uvf_memory *a = new_local(left, sizeof(left));
	struct uvf_address_space *space = new_space();

	assert_int_equal(uvf_replace(space, 0, PAGE, a, 0), -ENOENT);
	assert_int_equal(uvf_map(space, PAGE, 2 * PAGE, UVF_PROT_RW, a, 0), 0);
	assert_int_equal(uvf_replace(space, 0, PAGE, a, 0), -ENOENT);
	assert_int_equal(uvf_replace(space, PAGE, PAGE, a, 0), -ENOENT);
	assert_int_equal(uvf_replace(space, 2 * PAGE, PAGE, a, 0), -ENOENT);
	assert_int_equal(uvf_replace(space, PAGE, 3 * PAGE, a, 0), -ENOENT);
	assert_int_equal(uvf_replace(space, PAGE, 0, a, 0), -EINVAL);
	assert_int_equal(uvf_replace(space, PAGE, 2 * PAGE, a, 1), -EINVAL);
	assert_int_equal(uvf_replace(space, TOP_PAGE, 2 * PAGE, a, 0), -EOVERFLOW);
	assert_int_equal(uvf_replace(space, PAGE, 2 * PAGE, a, TOP_PAGE), -EOVERFLOW);
	assert_int_equal(uvf_replace(space, PAGE, 2 * PAGE, a, 3 * PAGE), -EFAULT);
	assert_int_equal(stats_of(space).mappings, 1);
	assert_int_equal(uvf_replace(space, PAGE, 2 * PAGE, a, 2 * PAGE), 0);
	uvf_address_space_put(space);
	uvf_memory_put(a);
}

/* ---- Beside readers ---- */

struct reader {
	struct uvf_attachment *attachment;
	atomic_bool stop;
	atomic_uint faults, others;
};

static void *read_and_write(void *opaque)
{
	struct reader *reader = opaque;
	char bytes[2] = {0};

	while (!atomic_load(&reader->stop)) {
		if (uvf_attachment_read(reader->attachment, PAGE - 1, bytes, 2) ||
		    uvf_attachment_write(reader->attachment, PAGE + 8, bytes, 1))
			atomic_fetch_add(&reader->faults, 1);
		if ((bytes[0] != 'l' && bytes[0] != 'r') || (bytes[1] != 'l' && bytes[1] != 'r'))
			atomic_fetch_add(&reader->others, 1);
	}
	return NULL;
}

static void has_no_gap(void **unused)
{
	struct uvf_memory *memory[] = {new_local(left, sizeof(left)),
				       new_local(right, sizeof(right))};
	struct uvf_address_space *space = new_space();
	struct reader reader = {.attachment = new_attachment(space, &no_ops, NULL)};
	pthread_t thread;

	memset(left, 'l', sizeof(left));
	memset(right, 'r', sizeof(right));
	for (uint64_t i = 0; i < 20; i++)
		assert_int_equal(uvf_map(space, i * PAGE, PAGE, UVF_PROT_RW, memory[0], 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_and_write, &reader), 0);
	for (unsigned i = 0; i < 20000; i++)
		assert_int_equal(uvf_replace(space, i % 20 * PAGE, PAGE, memory[i / 20 & 1], 0), 0);
	atomic_store(&reader.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(reader.faults, 0);
	assert_int_equal(reader.others, 0);
	uvf_attachment_free(reader.attachment);
	uvf_address_space_put(space);
	uvf_memory_put(memory[0]);
	uvf_memory_put(memory[1]);
}

/* ---- Pins ---- */

struct holder {
	struct uvf_attachment *attachment;
	struct uvf_pin pin;
	struct iovec iov;
	unsigned asked;
};

/* Gives its pin up and takes it again at once, as a device with a queue may. */
static void pin_again(void *opaque, uvf_iova_t first, uvf_iova_t last)
{
	struct holder *holder = opaque;

	holder->asked++;
	if (!holder->pin.shard)
		return;
	uvf_attachment_unpin(&holder->pin);
	assert_int_equal(uvf_attachment_pin(holder->attachment, PAGE, PAGE, UVF_PROT_RW,
					    &holder->pin, &holder->iov, 1),
			 1);
}

static void pins_move(void **unused)
{
	static const struct uvf_attachment_ops ops = {.unmap = pin_again};
	struct uvf_memory *a = new_local(left, sizeof(left)), *b = new_local(right, sizeof(right));
	struct uvf_address_space *space = new_space();
	struct holder holder = {0};

	holder.attachment = new_attachment(space, &ops, &holder);
	assert_int_equal(uvf_map(space, PAGE, PAGE, UVF_PROT_RW, a, 0), 0);
	assert_int_equal(uvf_attachment_pin(holder.attachment, PAGE, PAGE, UVF_PROT_RW, &holder.pin,
					    &holder.iov, 1),
			 1);
	assert_ptr_equal(holder.iov.iov_base, left);
	assert_int_equal(uvf_replace(space, PAGE, PAGE, b, PAGE), 0);
	assert_int_equal(holder.asked, 1);
	assert_ptr_equal(holder.iov.iov_base, right + PAGE);
	assert_int_equal(uvf_replace(space, PAGE, PAGE, a, PAGE), 0);
	assert_int_equal(holder.asked, 2);
	assert_ptr_equal(holder.iov.iov_base, left + PAGE);
	uvf_attachment_unpin(&holder.pin);
	holder.pin.shard = NULL;
	assert_int_equal(stats_of(space).pins, 0);
	uvf_attachment_free(holder.attachment);
	uvf_address_space_put(space);
	uvf_memory_put(a);
	uvf_memory_put(b);
}

/* ---- Listeners ---- */

struct told {
	struct uvf_listener listener;
	struct uvf_memory *refused;
	char log[64];
};

static void note(struct told *told, char what)
{
	size_t length = strlen(told->log);

	assert_true(length < sizeof(told->log) - 1);
	told->log[length] = what;
}

static int told_map(struct uvf_listener *listener, const struct uvf_mapping *mapping)
{
	struct told *told = (struct told *)listener;

	note(told, mapping->memory == told->refused ? '!' : 'm');
	return mapping->memory == told->refused ? -EPERM : 0;
}

static void told_unmap(struct uvf_listener *listener, uvf_iova_t first, uvf_iova_t last)
{
	assert_int_equal(first, PAGE);
	assert_int_equal(last, 2 * PAGE - 1);
	note((struct told *)listener, 'u');
}

static void listeners_are_told(void **unused)
{
	struct uvf_memory *a = new_local(left, sizeof(left)), *b = new_local(right, sizeof(right));
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	struct told second = {.listener = {.map = told_map, .unmap = told_unmap}}, first = second;
	char byte = 0;

	left[0] = 'l';
	right[0] = 'r';
	assert_int_equal(uvf_map(space, PAGE, PAGE, UVF_PROT_RW, a, 0), 0);
	assert_int_equal(uvf_listener_add(space, &second.listener), 0);
	assert_int_equal(uvf_listener_add(space, &first.listener), 0);
	assert_int_equal(uvf_replace(space, PAGE, PAGE, b, 0), 0);
	assert_string_equal(first.log, "mum");
	assert_string_equal(second.log, "mum");
	/* The second one refuses: both have what was there before. */
	second.refused = a;
	assert_int_equal(uvf_replace(space, PAGE, PAGE, a, 0), -EPERM);
	assert_string_equal(first.log, "mumumum");
	assert_string_equal(second.log, "mumu!m");
	assert_int_equal(uvf_attachment_read(attachment, PAGE, &byte, 1), 0);
	assert_int_equal(byte, 'r');
	assert_int_equal(stats_of(space).mappings, 1);
	uvf_listener_remove(space, &first.listener);
	uvf_listener_remove(space, &second.listener);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	uvf_memory_put(a);
	uvf_memory_put(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leads_elsewhere), cmocka_unit_test(counts),
		cmocka_unit_test(arguments),	   cmocka_unit_test(has_no_gap),
		cmocka_unit_test(pins_move),	   cmocka_unit_test(listeners_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
