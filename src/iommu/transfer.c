/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads, writes, compare-and-swap and pins by a device. Each mapping that a transfer touches is
 * looked up and used inside one section as a reader, except where using it can block.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/guard_move.h"
#include "iommu/space.h"

/* A section does no more than this, so that an unmap never waits long for a large transfer. */
#define SECTION_MAX (256U << 10)

enum direction { READ_MEMORY, WRITE_MEMORY };

static unsigned needed_prot(enum direction direction)
{
	return direction == WRITE_MEMORY ? UVF_PROT_WRITE : UVF_PROT_READ;
}

/* What was written outside a section, whatever has become of the view since. */
static void mark_late(struct uvf_attachment *attachment, struct uvf_address_space *space,
		      uvf_iova_t iova, uvf_iova_t last)
{
	struct uvf_reading reading = uvf_readers_enter(&attachment->readers);
	struct uvf_dirty_log *log = atomic_load_explicit(&attachment->log, memory_order_acquire);

	if (log)
		uvf_dirty_log_add(log, iova, last);
	uvf_readers_exit(reading);
	uvf_dirty_mark_late(space, iova, last);
}

/*
 * A transfer to memory that isn't mapped here. Called inside the section @reading, which it leaves:
 * the memory stays by a reference, and where the calls end by themselves a pin says that one is on.
 * Where they don't, nobody waits: the view can go meanwhile, the address space can't.
 */
static int transfer_by_call(struct uvf_attachment *attachment, struct uvf_view *view,
			    struct uvf_reading reading, struct uvf_memory *memory,
			    enum direction direction, uvf_iova_t iova, uint64_t offset, void *buf,
			    size_t size)
{
	struct uvf_pin pin = {
		.first = iova,
		.last = iova + (size - 1),
		.prot = needed_prot(direction),
	};
	struct uvf_address_space *space = uvf_address_space_get(view->space);
	bool pinned = memory->kind->ends;
	int result;

	uvf_memory_get(memory);
	if (pinned)
		uvf_pins_add(&view->space->pins, &pin, view, uvf_thread_number());
	uvf_readers_exit(reading);
	result = direction == WRITE_MEMORY ? memory->kind->write(memory, offset, buf, size)
					   : memory->kind->read(memory, offset, buf, size);
	if (pinned)
		uvf_attachment_unpin(&pin);
	else if (direction == WRITE_MEMORY)
		mark_late(attachment, space, iova, pin.last);
	uvf_memory_put(memory);
	uvf_address_space_put(space);
	return result;
}

/*
 * Moves what lies in the mapping that holds @iova: at most *@size bytes, and says how many. For a
 * write, @buf is only read.
 */
static int transfer_piece(struct uvf_attachment *attachment, enum direction direction,
			  uvf_iova_t iova, void *buf, size_t *size)
{
	const struct uvf_leaf_entry *entry;
	const struct uvf_leaf *leaf;
	struct uvf_memory *memory;
	struct uvf_view *view;
	struct uvf_reading reading;
	uvf_place_t place;
	uint64_t at, left;
	int result = -EPERM;

	reading = uvf_readers_enter(&attachment->readers);
	view = atomic_load_explicit(&attachment->active, memory_order_acquire);
	if (!view)
		goto out;
	result = -EFAULT;
	place = uvf_view_find(view, iova);
	if (!place)
		goto out;
	leaf = uvf_place_leaf(place);
	entry = &leaf->entry[uvf_place_index(place)];
	result = -EACCES;
	if (!(entry->object & needed_prot(direction)))
		goto out;
	/* One less than what is left of the mapping: that can be 2^64 bytes. */
	left = entry->last - iova;
	if (*size - 1 > left)
		*size = (size_t)left + 1;
	at = entry->value + (iova - leaf->first[uvf_place_index(place)]);
	if (__builtin_expect(!(entry->object & UVF_OBJECT_DIRECT), 0)) {
		memory = uvf_object_window(entry->object)->memory;
		if (memory->kind->ends && *size > SECTION_MAX)
			*size = SECTION_MAX;
		return transfer_by_call(attachment, view, reading, memory, direction, iova, at, buf,
					*size);
	}
	if (*size > SECTION_MAX)
		*size = SECTION_MAX;
	if (direction == WRITE_MEMORY) {
		result = uvf_guard_copy((void *)(uintptr_t)at, buf, *size);
		/* If it failed it may have written a part. */
		if (atomic_load_explicit(&attachment->logging, memory_order_relaxed))
			uvf_dirty_mark(view, iova, iova + (*size - 1));
	} else {
		result = uvf_guard_copy(buf, (const void *)(uintptr_t)at, *size);
	}
out:
	uvf_readers_exit(reading);
	return result;
}

static __attribute__((noinline)) int transfer(struct uvf_attachment *attachment,
					      enum direction direction, uvf_iova_t iova, char *buf,
					      size_t size)
{
	uint64_t last;

	if (!uvf_range_last(iova, size, &last))
		return size ? -EOVERFLOW : 0;
	for (;;) {
		size_t piece = size;
		int result = transfer_piece(attachment, direction, iova, buf, &piece);

		if (result || piece == size)
			return result;
		iova += piece;
		buf += piece;
		size -= piece;
	}
}

/*
 * Where [iova, iova + size) is, if it's all in the mapping at @place and that is of memory here and
 * allows it; else NULL. As a reader.
 */
static inline __attribute__((always_inline)) void *address_at(uvf_place_t place,
							      enum direction direction,
							      uvf_iova_t iova, size_t size)
{
	const struct uvf_leaf *leaf = uvf_place_leaf(place);
	const struct uvf_leaf_entry *entry = &leaf->entry[uvf_place_index(place)];
	uintptr_t bits = UVF_OBJECT_DIRECT | needed_prot(direction);

	/* A size of 0 is never found: size - 1 is above all. */
	if (__builtin_expect((bits & ~entry->object) || size - 1 > entry->last - iova ||
				     size > SECTION_MAX,
			     0))
		return NULL;
	return (void *)(uintptr_t)(entry->value + (iova - leaf->first[uvf_place_index(place)]));
}

static inline __attribute__((always_inline)) int copy(enum direction direction, void *at, void *buf,
						      size_t size)
{
	return direction == WRITE_MEMORY ? uvf_guard_copy(at, buf, size)
					 : uvf_guard_copy(buf, at, size);
}

/* The last hit wasn't it. */
static __attribute__((noinline)) int transfer_by_search(struct uvf_attachment *attachment,
							enum direction direction, uvf_iova_t iova,
							void *buf, size_t size)
{
	struct uvf_reading reading = uvf_readers_enter(&attachment->readers);
	struct uvf_view *view = atomic_load_explicit(&attachment->active, memory_order_acquire);
	uvf_place_t place = view ? uvf_view_find(view, iova) : 0;
	void *at = place ? address_at(place, direction, iova, size) : NULL;
	int result = at ? copy(direction, at, buf, size) : 0;

	if (at && direction == WRITE_MEMORY &&
	    atomic_load_explicit(&attachment->logging, memory_order_relaxed))
		uvf_dirty_mark(view, iova, iova + (size - 1));
	uvf_readers_exit(reading);
	return at ? result : transfer(attachment, direction, iova, buf, size);
}

/* Inside the section @reading, which it ends. */
static __attribute__((noinline)) int copy_and_exit(void *to, const void *from, size_t size,
						   struct uvf_reading reading)
{
	int result = uvf_guard_copy(to, from, size);

	uvf_readers_exit(reading);
	return result;
}

static __attribute__((noinline, cold)) int mark_and_exit(const struct uvf_view *view,
							 uvf_iova_t iova, uvf_iova_t last,
							 int result, struct uvf_reading reading)
{
	uvf_dirty_mark(view, iova, last);
	uvf_readers_exit(reading);
	return result;
}

/*
 * Inside the section @reading, which it ends: a write that is logged. Most go to a page that the
 * address space's log has already, and no other log is on: then it calls nothing.
 */
static __attribute__((noinline)) int log_and_exit(const struct uvf_view *view, uvf_iova_t iova,
						  uvf_iova_t last, int result,
						  struct uvf_reading reading)
{
	struct uvf_dirty_log *log = atomic_load_explicit(&view->space->log, memory_order_acquire);

	if (__builtin_expect(
		    !log || !uvf_dirty_log_has(log, iova, last) ||
			    atomic_load_explicit(&view->attachment->log, memory_order_acquire),
		    0))
		return mark_and_exit(view, iova, last, result, reading);
	uvf_readers_exit(reading);
	return result;
}

static __attribute__((noinline)) int copy_and_log(const struct uvf_view *view, void *to,
						  const void *from, size_t size, uvf_iova_t iova,
						  struct uvf_reading reading)
{
	int result = uvf_guard_copy(to, from, size);

	return log_and_exit(view, iova, iova + (size - 1), result, reading);
}

/*
 * A transfer that is like the one before. What can't be done at once is left to functions that are
 * called last, so that this one has no registers to save; registers and queue entries of devices
 * are moved without a call.
 */
static inline __attribute__((always_inline)) int transfer_again(struct uvf_attachment *attachment,
								enum direction direction,
								uvf_iova_t iova, void *buf,
								size_t size)
{
	struct uvf_reader_slot *slot = uvf_readers_own_slot(&attachment->readers);
	struct uvf_reading reading;
	struct uvf_view *view;
	uvf_place_t place;
	void *at, *to, *from;
	bool logs;
	int result;

	if (__builtin_expect(!slot, 0))
		return transfer_by_search(attachment, direction, iova, buf, size);
	reading = uvf_readers_enter_slot(&attachment->readers, slot);
	view = atomic_load_explicit(&attachment->active, memory_order_acquire);
	place = view ? uvf_view_find_again(view, iova) : 0;
	at = place ? address_at(place, direction, iova, size) : NULL;
	if (__builtin_expect(!at, 0)) {
		uvf_readers_exit(reading);
		return transfer_by_search(attachment, direction, iova, buf, size);
	}
	to = direction == WRITE_MEMORY ? at : buf;
	from = direction == WRITE_MEMORY ? buf : at;
	logs = direction == WRITE_MEMORY &&
	       atomic_load_explicit(&attachment->logging, memory_order_relaxed);
	if (size == 8)
		result = uvf_guard_move8(to, from);
	else if (size == 4)
		result = uvf_guard_move4(to, from);
	else if (__builtin_expect(logs, 0))
		return copy_and_log(view, to, from, size, iova, reading);
	else
		return copy_and_exit(to, from, size, reading);
	if (__builtin_expect(logs, 0))
		return log_and_exit(view, iova, iova + (size - 1), result, reading);
	uvf_readers_exit(reading);
	return result;
}

int uvf_attachment_read(struct uvf_attachment *attachment, uvf_iova_t iova, void *buf, size_t size)
{
	return transfer_again(attachment, READ_MEMORY, iova, buf, size);
}

int uvf_attachment_write(struct uvf_attachment *attachment, uvf_iova_t iova, const void *buf,
			 size_t size)
{
	return transfer_again(attachment, WRITE_MEMORY, iova, (void *)buf, size);
}

int uvf_attachment_compare_and_swap(struct uvf_attachment *attachment, uvf_iova_t iova, size_t size,
				    uint64_t *expected, uint64_t desired)
{
	const struct uvf_leaf_entry *entry;
	struct uvf_reading reading;
	struct uvf_view *view;
	uvf_place_t place;
	uint64_t at;
	int result = -EPERM;

	if ((size != 4 && size != 8) || !uvf_is_aligned(iova, size))
		return -EINVAL;
	reading = uvf_readers_enter(&attachment->readers);
	view = atomic_load_explicit(&attachment->active, memory_order_acquire);
	if (!view)
		goto out;
	result = -EFAULT;
	place = uvf_view_find(view, iova);
	if (!place)
		goto out;
	entry = &uvf_place_leaf(place)->entry[uvf_place_index(place)];
	if (size - 1 > entry->last - iova)
		goto out;
	result = -EACCES;
	if ((entry->object & UVF_PROT_RW) != UVF_PROT_RW)
		goto out;
	result = -EOPNOTSUPP;
	if (!(entry->object & UVF_OBJECT_DIRECT))
		goto out;
	at = entry->value + (iova - uvf_place_leaf(place)->first[uvf_place_index(place)]);
	/* The memory's own address decides what the processor can do at once. */
	result = uvf_is_aligned(at, size) ? uvf_guard_compare_and_swap((void *)(uintptr_t)at, size,
								       expected, desired)
					  : -EINVAL;
	if (result == 1 && atomic_load_explicit(&attachment->logging, memory_order_relaxed))
		uvf_dirty_mark(view, iova, iova + (size - 1));
out:
	uvf_readers_exit(reading);
	return result;
}

/* Inside a reader's section: [iova, last] as iovecs. */
static int translate(struct uvf_view *view, uvf_iova_t iova, uvf_iova_t last, unsigned prot,
		     struct iovec *iov, int max)
{
	int count = 0;

	for (;;) {
		uvf_place_t place = uvf_view_find(view, iova);
		const struct uvf_leaf_entry *entry;
		uvf_iova_t end;
		char *at;

		if (!place)
			return -EFAULT;
		entry = &uvf_place_leaf(place)->entry[uvf_place_index(place)];
		if (prot & ~entry->object)
			return -EACCES;
		if (!(entry->object & UVF_OBJECT_DIRECT))
			return -EOPNOTSUPP;
		at = (char *)(uintptr_t)(entry->value +
					 (iova -
					  uvf_place_leaf(place)->first[uvf_place_index(place)]));
		end = entry->last < last ? entry->last : last;
		if (count && (char *)iov[count - 1].iov_base + iov[count - 1].iov_len == at) {
			iov[count - 1].iov_len += end - iova + 1;
		} else {
			if (count >= max)
				return -ENOBUFS;
			iov[count++] = (struct iovec){at, end - iova + 1};
		}
		if (end == last)
			return count;
		iova = end + 1;
	}
}

int uvf_attachment_pin(struct uvf_attachment *attachment, uvf_iova_t iova, size_t size,
		       unsigned prot, struct uvf_pin *pin, struct iovec *iov, int max)
{
	struct uvf_reading reading;
	struct uvf_view *view;
	int result = -EPERM;
	bool narrows = false;
	uvf_iova_t last;

	if (!size || !prot || prot & ~(unsigned)UVF_PROT_RW)
		return -EINVAL;
	if (!uvf_range_last(iova, size, &last))
		return -EOVERFLOW;
	reading = uvf_readers_enter(&attachment->readers);
	view = atomic_load_explicit(&attachment->active, memory_order_acquire);
	if (view)
		result = translate(view, iova, last, prot, iov, max);
	if (result > 0) {
		pin->first = iova;
		pin->last = last;
		pin->prot = prot;
		uvf_pins_add(&view->space->pins, pin, view, uvf_thread_number());
		narrows = atomic_load_explicit(&view->wide, memory_order_relaxed);
	}
	uvf_readers_exit(reading);
	if (__builtin_expect(narrows, 0))
		uvf_view_narrow(view);
	return result;
}
