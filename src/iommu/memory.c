/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory in general, and the kinds that are one window: local and remote. */
#include "iommu/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/guard.h"
#include "iommu/iommu.h"

struct uvf_memory *uvf_memory_alloc(const struct uvf_memory_kind *kind, unsigned prot)
{
	struct uvf_memory *memory = aligned_alloc(64, sizeof(*memory));

	if (!memory)
		return NULL;
	*memory = (struct uvf_memory){.kind = kind, .references = 1, .prot = prot, .fd = -1};
	pthread_mutex_init(&memory->lock, NULL);
	memory->whole.memory = memory;
	memory->whole.size = UINT64_MAX;
	return memory;
}

struct uvf_memory *uvf_memory_get(struct uvf_memory *memory)
{
	atomic_fetch_add_explicit(&memory->references, 1, memory_order_relaxed);
	return memory;
}

void uvf_memory_put(struct uvf_memory *memory)
{
	if (atomic_fetch_sub_explicit(&memory->references, 1, memory_order_acq_rel) != 1)
		return;
	if (memory->kind->destroy)
		memory->kind->destroy(memory);
	if (memory->fd >= 0)
		close(memory->fd);
	pthread_mutex_destroy(&memory->lock);
	free(memory);
}

int uvf_memory_fd(const struct uvf_memory *memory)
{
	/* A process's is a way in, not a file that somebody could map. */
	return memory->kind->direct ? memory->fd : -1;
}

int uvf_memory_read(struct uvf_memory *memory, uint64_t offset, void *buf, size_t size)
{
	struct uvf_window *window;
	int result;

	if (!(memory->prot & UVF_PROT_READ))
		return -EACCES;
	if (!memory->kind->direct)
		return memory->kind->read(memory, offset, buf, size);
	result = memory->kind->window_get(memory, offset, size, &window);
	if (result < 0)
		return result;
	result = uvf_guard_copy(
		buf, (const void *)(uintptr_t)(window->value + (offset - window->offset)), size);
	memory->kind->window_put(window);
	return result;
}

int uvf_memory_whole_get(struct uvf_memory *memory, uint64_t offset, uint64_t size,
			 struct uvf_window **windowp)
{
	if (!uvf_range_inside(offset, size, memory->whole.size))
		return -EFAULT;
	uvf_memory_get(memory);
	*windowp = &memory->whole;
	return 0;
}

bool uvf_memory_whole_put(struct uvf_window *window)
{
	uvf_memory_put(window->memory);
	return false;
}

static void tell_owner(struct uvf_memory *memory)
{
	if (memory->ops.release)
		memory->ops.release(memory->opaque);
}

/* ---- Local ---- */

static const struct uvf_memory_kind local_kind = {
	.direct = true,
	.window_get = uvf_memory_whole_get,
	.window_put = uvf_memory_whole_put,
	.destroy = tell_owner,
};

int uvf_memory_new_local(void *base, uint64_t size, struct uvf_memory **memoryp)
{
	return uvf_memory_new_owned(base, size, UVF_PROT_RW, NULL, NULL, memoryp);
}

int uvf_memory_new_owned(void *base, uint64_t size, unsigned prot, void (*release)(void *opaque),
			 void *opaque, struct uvf_memory **memoryp)
{
	struct uvf_memory *memory = uvf_memory_alloc(&local_kind, prot);

	if (!memory)
		return -ENOMEM;
	memory->whole.value = (uintptr_t)base;
	memory->whole.size = size;
	memory->ops.release = release;
	memory->opaque = opaque;
	/* It may be the caller's mapping of a file. */
	uvf_guard_install();
	*memoryp = memory;
	return 0;
}

/* ---- Remote ---- */

static int remote_read(struct uvf_memory *memory, uint64_t offset, void *buf, size_t count)
{
	return memory->ops.read(memory->opaque, offset, buf, count);
}

static int remote_write(struct uvf_memory *memory, uint64_t offset, const void *buf, size_t count)
{
	return memory->ops.write(memory->opaque, offset, buf, count);
}

static const struct uvf_memory_kind remote_kind = {
	.read = remote_read,
	.write = remote_write,
	.window_get = uvf_memory_whole_get,
	.window_put = uvf_memory_whole_put,
	.destroy = tell_owner,
};

int uvf_memory_new_remote(const struct uvf_memory_remote_ops *ops, void *opaque,
			  struct uvf_memory **memoryp)
{
	unsigned prot = (ops->read ? UVF_PROT_READ : 0U) | (ops->write ? UVF_PROT_WRITE : 0U);
	struct uvf_memory *memory = uvf_memory_alloc(&remote_kind, prot);

	if (!memory)
		return -ENOMEM;
	memory->ops = *ops;
	memory->opaque = opaque;
	*memoryp = memory;
	return 0;
}
