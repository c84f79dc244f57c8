/* SPDX-License-Identifier: BSD-3-Clause */
/* Pins, and what unmap and detach do about them. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "helpers.h"

static void pieces(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	int fd = new_file(8 * PAGE);
	struct iovec iov[4];
	struct uvf_pin pin;

	/* 0 and 1 are neighbours in memory as well, 2 is not. */
	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_RW, fd, PAGE), 0);
	assert_int_equal(uvf_map_fd(space, PAGE, PAGE, UVF_PROT_RW, fd, 2 * PAGE), 0);
	assert_int_equal(uvf_map_fd(space, 2 * PAGE, PAGE, UVF_PROT_RW, fd, 5 * PAGE), 0);
	assert_int_equal(
		uvf_attachment_pin(attachment, 8, 3 * PAGE - 16, UVF_PROT_RW, &pin, iov, 4), 2);
	assert_int_equal(iov[0].iov_len, 2 * PAGE - 8);
	assert_int_equal(iov[1].iov_len, PAGE - 8);
	assert_int_equal((char *)iov[1].iov_base - (char *)iov[0].iov_base, 4 * PAGE - 8);
	assert_int_equal(stats_of(space).pins, 1);
	uvf_attachment_unpin(&pin);
	assert_int_equal(stats_of(space).pins, 0);
	assert_int_equal(
		uvf_attachment_pin(attachment, 8, 3 * PAGE - 16, UVF_PROT_RW, &pin, iov, 1),
		-ENOBUFS);
	assert_int_equal(uvf_attachment_pin(attachment, 0, 0, UVF_PROT_RW, &pin, iov, 4), -EINVAL);
	assert_int_equal(uvf_attachment_pin(attachment, 0, 1, 0, &pin, iov, 4), -EINVAL);
	assert_int_equal(uvf_attachment_pin(attachment, 0, 1, 8, &pin, iov, 4), -EINVAL);
	assert_int_equal(uvf_attachment_pin(attachment, 0, 4 * PAGE, UVF_PROT_RW, &pin, iov, 4),
			 -EFAULT);
	assert_int_equal(uvf_attachment_pin(attachment, 8, SIZE_MAX, UVF_PROT_RW, &pin, iov, 4),
			 -EOVERFLOW);
	assert_int_equal(stats_of(space).pins, 0);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	close(fd);
}

/* Gives its pin up when told, as a device with a long-lived one does. */
struct holder {
	struct uvf_pin pin;
	_Atomic(bool) pinned;
	unsigned told;
	uvf_iova_t first, last;
};

static void give_up(void *opaque, uvf_iova_t first, uvf_iova_t last)
{
	struct holder *holder = opaque;

	holder->told++;
	holder->first = first;
	holder->last = last;
	if (holder->pinned && holder->pin.first <= last && first <= holder->pin.last) {
		uvf_attachment_unpin(&holder->pin);
		holder->pinned = false;
	}
}

static const struct uvf_attachment_ops holder_ops = {give_up};

static void told_to_go(void **unused)
{
	struct uvf_address_space *space = new_space(), *other = new_space();
	struct holder holder = {0};
	struct uvf_attachment *attachment = new_attachment(space, &holder_ops, &holder);
	int fd = new_file(8 * PAGE);
	struct iovec iov;

	assert_int_equal(uvf_map_fd(space, 0, 4 * PAGE, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(uvf_map_fd(space, 8 * PAGE, 4 * PAGE, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(
		uvf_attachment_pin(attachment, PAGE, PAGE, UVF_PROT_RW, &holder.pin, &iov, 1), 1);
	holder.pinned = true;
	assert_int_equal(uvf_unmap(space, 8 * PAGE, 4 * PAGE, NULL), 0);
	assert_int_equal(holder.told, 1);
	assert_int_equal(holder.first, 8 * PAGE);
	assert_int_equal(holder.last, 12 * PAGE - 1);
	assert_true(holder.pinned);
	assert_int_equal(uvf_unmap(space, 0, 0, NULL), 0);
	assert_false(holder.pinned);
	assert_int_equal(holder.told, 2);
	/* Detaching tells of everything. */
	assert_int_equal(uvf_map_fd(space, 0, 4 * PAGE, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(
		uvf_attachment_pin(attachment, PAGE, PAGE, UVF_PROT_RW, &holder.pin, &iov, 1), 1);
	holder.pinned = true;
	assert_int_equal(uvf_attachment_set(attachment, other), 0);
	assert_false(holder.pinned);
	assert_int_equal(holder.first, 0);
	assert_true(holder.last == UINT64_MAX);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	uvf_address_space_put(other);
	close(fd);
}

/* A pin that another thread gives up later. */
struct late {
	struct uvf_address_space *space;
	struct uvf_pin pin;
	char *at;
	_Atomic(bool) unmapped;
};

static void *unpin_late(void *opaque)
{
	struct late *late = opaque;

	for (unsigned i = 0; i < 50; i++) {
		usleep(1000);
		/* The memory is there as long as the pin is. */
		late->at[i] = (char)i;
		assert_false(late->unmapped);
	}
	uvf_attachment_unpin(&late->pin);
	return NULL;
}

static void *unmap_too(void *opaque)
{
	struct late *late = opaque;

	/* It finds nothing, but must not return while the other unmap isn't done. */
	usleep(10000);
	assert_int_equal(uvf_unmap(late->space, 0, 0, NULL), 0);
	late->unmapped = true;
	return NULL;
}

static void waited_for(void **unused)
{
	struct uvf_address_space *space = new_space();
	struct uvf_attachment *attachment = new_attachment(space, &no_ops, NULL);
	struct late late = {.space = space};
	pthread_t threads[2];
	struct iovec iov;
	int fd = new_file(PAGE);
	char byte;

	assert_int_equal(uvf_map_fd(space, 0, PAGE, UVF_PROT_RW, fd, 0), 0);
	assert_int_equal(uvf_attachment_pin(attachment, 0, PAGE, UVF_PROT_RW, &late.pin, &iov, 1),
			 1);
	late.at = iov.iov_base;
	pthread_create(&threads[0], NULL, unpin_late, &late);
	pthread_create(&threads[1], NULL, unmap_too, &late);
	assert_int_equal(uvf_unmap(space, 0, PAGE, NULL), 0);
	late.unmapped = true;
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_int_equal(uvf_attachment_read(attachment, 0, &byte, 1), -EFAULT);
	assert_int_equal(stats_of(space).pins, 0);
	uvf_attachment_free(attachment);
	uvf_address_space_put(space);
	close(fd);
}

/* ---- Many threads ---- */

#define SLOTS	512
#define PINNERS 2

/*
 * The mapping at slot i always leads to a page that says so, in one of several files: a reader
 * that sees another number, or a pin whose page isn't there, is a failure.
 */
struct crowd {
	struct uvf_address_space *space;
	struct uvf_attachment *attachment;
	_Atomic(bool) stop;
	_Atomic(uint64_t) hits, pins;
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void *read_all_the_time(void *opaque)
{
	struct crowd *crowd = opaque;
	uint64_t state = (uintptr_t)&state | 1, hits = 0, pins = 0;

	while (!crowd->stop) {
		uint64_t slot = next_random(&state) % SLOTS, value = 0;
		struct uvf_pin pin;
		struct iovec iov;
		int result = uvf_attachment_read(crowd->attachment, slot * PAGE + 64, &value, 8);

		assert_true(!result || result == -EFAULT);
		if (!result) {
			assert_int_equal(value, slot);
			hits++;
		}
		result = uvf_attachment_pin(crowd->attachment, slot * PAGE + 64, 8, UVF_PROT_RW,
					    &pin, &iov, 1);
		assert_true(result == 1 || result == -EFAULT);
		if (result != 1)
			continue;
		/* Unguarded: were it unmapped, we would be killed. */
		assert_int_equal(__atomic_load_n((uint64_t *)iov.iov_base, __ATOMIC_RELAXED), slot);
		uvf_attachment_unpin(&pin);
		pins++;
	}
	crowd->hits += hits;
	crowd->pins += pins;
	return NULL;
}

static void count_told(void *opaque, uvf_iova_t first, uvf_iova_t last)
{
	++*(_Atomic(uint64_t) *)opaque;
}

static void *attach_all_the_time(void *opaque)
{
	static const struct uvf_attachment_ops ops = {count_told};
	struct crowd *crowd = opaque;
	_Atomic(uint64_t) told = 0;
	struct uvf_attachment *attachment;
	uint64_t value;

	assert_int_equal(uvf_attachment_new(&ops, &told, &attachment), 0);
	while (!crowd->stop) {
		assert_int_equal(uvf_attachment_set(attachment, crowd->space), 0);
		uvf_attachment_enable(attachment, true);
		uvf_attachment_read(attachment, 64, &value, 8);
		uvf_attachment_enable(attachment, false);
		assert_int_equal(uvf_attachment_read(attachment, 64, &value, 8), -EPERM);
		assert_int_equal(uvf_attachment_set(attachment, NULL), 0);
	}
	uvf_attachment_free(attachment);
	return NULL;
}

static void *map_and_unmap(void *opaque)
{
	struct crowd *crowd = opaque;
	uint64_t state = (uintptr_t)&state | 1;
	int files[4];

	for (unsigned f = 0; f < 4; f++) {
		files[f] = new_file(SLOTS * PAGE);
		for (uint64_t slot = 0; slot < SLOTS; slot++)
			assert_int_equal(pwrite(files[f], &slot, 8, (off_t)(slot * PAGE + 64)), 8);
	}
	for (unsigned i = 0; i < 6000; i++) {
		uint64_t slot = next_random(&state) % SLOTS, count = next_random(&state) % 8 + 1;

		if (slot + count > SLOTS)
			count = SLOTS - slot;
		if (next_random(&state) % 3 == 0) {
			int result = uvf_unmap(crowd->space, slot * PAGE, count * PAGE, NULL);

			assert_true(!result || result == -EINVAL);
		} else {
			int result = uvf_map_fd(crowd->space, slot * PAGE, count * PAGE,
						UVF_PROT_RW, files[i % 4], slot * PAGE);

			assert_true(!result || result == -EEXIST);
		}
		if (i % 1000 == 999)
			assert_int_equal(uvf_unmap(crowd->space, 0, 0, NULL), 0);
	}
	for (unsigned f = 0; f < 4; f++)
		close(files[f]);
	return NULL;
}

static void crowded(void **unused)
{
	struct crowd crowd = {.space = new_space()};
	pthread_t readers[PINNERS], attacher, mappers[2];

	crowd.attachment = new_attachment(crowd.space, &no_ops, NULL);
	for (unsigned i = 0; i < PINNERS; i++)
		pthread_create(&readers[i], NULL, read_all_the_time, &crowd);
	pthread_create(&attacher, NULL, attach_all_the_time, &crowd);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&mappers[i], NULL, map_and_unmap, &crowd);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(mappers[i], NULL);
	crowd.stop = true;
	for (unsigned i = 0; i < PINNERS; i++)
		pthread_join(readers[i], NULL);
	pthread_join(attacher, NULL);
	assert_int_equal(stats_of(crowd.space).pins, 0);
	assert_int_equal(uvf_unmap(crowd.space, 0, 0, NULL), 0);
	assert_int_equal(stats_of(crowd.space).mappings, 0);
	assert_int_equal(stats_of(crowd.space).windows, 0);
	uvf_attachment_free(crowd.attachment);
	uvf_address_space_put(crowd.space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces),
		cmocka_unit_test(told_to_go),
		cmocka_unit_test(waited_for),
		cmocka_unit_test(crowded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
