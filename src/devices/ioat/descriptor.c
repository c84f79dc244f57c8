/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors: fetched once, checked, executed in pieces. */
#include "devices/ioat/ioat.h"

#include <errno.h>

#include "base/bytes.h"

/* What an operation may have in its control field, and what it does with one piece. */
struct operation {
	uint8_t code;
	uint32_t control;
	bool reads;
	uint32_t (*move)(struct ioat *ioat, struct ioat_job *job, uint64_t done, size_t size);
};

static bool moved(struct ioat_job *job, int ret)
{
	job->off_bus = ret == -EPERM;
	return !ret;
}

bool ioat_read(struct ioat *ioat, struct ioat_job *job, uint64_t from, void *to, size_t size)
{
	return moved(job, uvf_dma_read(ioat->dev, UVF_PASID_NONE, from, to, size));
}

bool ioat_write(struct ioat *ioat, struct ioat_job *job, uint64_t to, const void *from, size_t size)
{
	return moved(job, uvf_dma_write(ioat->dev, UVF_PASID_NONE, to, from, size));
}

static uint32_t write_piece(struct ioat *ioat, struct ioat_job *job, uint64_t done, size_t size)
{
	uint64_t to = job->descriptor.destination + done;

	return ioat_write(ioat, job, to, ioat->piece, size) ? 0 : IOAT_ERR_WRITE_DATA;
}

static uint32_t copy_piece(struct ioat *ioat, struct ioat_job *job, uint64_t done, size_t size)
{
	if (!ioat_read(ioat, job, job->descriptor.source + done, ioat->piece, size))
		return IOAT_ERR_READ_DATA;
	return write_piece(ioat, job, done, size);
}

/* Pieces are a multiple of the pattern: each begins with its first byte. */
static uint32_t fill_piece(struct ioat *ioat, struct ioat_job *job, uint64_t done, size_t size)
{
	if (!done) {
		for (size_t at = 0; at < size; at += sizeof(uint64_t))
			uvf_put_le64(ioat->piece + at, job->descriptor.source);
	}
	return write_piece(ioat, job, done, size);
}
_Static_assert(IOAT_PIECE % sizeof(uint64_t) == 0, "a piece is whole patterns");

#define COMMON                                                                                     \
	(IOAT_DESC_INT | IOAT_DESC_DESTINATION_NO_SNOOP | IOAT_DESC_COMPLETION | IOAT_DESC_FENCE | \
	 IOAT_DESC_BUNDLE)

static const struct operation operations[] = {
	{IOAT_OP_COPY,
	 COMMON | IOAT_DESC_SOURCE_NO_SNOOP | IOAT_DESC_NULL | IOAT_DESC_DCA | IOAT_DESC_HINT, true,
	 copy_piece},
	{IOAT_OP_FILL, COMMON, false, fill_piece},
};

static const struct operation *find_operation(uint32_t control)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(operations); i++) {
		if (operations[i].code == control >> IOAT_DESC_OP_SHIFT)
			return &operations[i];
	}
	return NULL;
}

static uint32_t fetch(struct ioat *ioat, struct ioat_job *job)
{
	struct ioat_descriptor *descriptor = &job->descriptor;

	if (!uvf_is_aligned(job->address, sizeof(*descriptor)))
		return job->at_start ? IOAT_ERR_CHAIN_ADDRESS : IOAT_ERR_NEXT_ALIGNMENT;
	if (!ioat_read(ioat, job, job->address, descriptor, sizeof(*descriptor)))
		return job->at_start ? IOAT_ERR_CHAIN_ADDRESS : IOAT_ERR_NEXT_ADDRESS;
	descriptor->size = le32toh(descriptor->size);
	descriptor->control = le32toh(descriptor->control);
	descriptor->source = le64toh(descriptor->source);
	descriptor->destination = le64toh(descriptor->destination);
	descriptor->next = le64toh(descriptor->next);
	return 0;
}

/* A null descriptor's addresses mean nothing, but its length must be right. */
static uint32_t check(const struct ioat *ioat, const struct ioat_descriptor *descriptor,
		      const struct operation *operation)
{
	uint32_t operation_bits = UINT32_MAX << IOAT_DESC_OP_SHIFT;
	uint32_t errors = 0;
	uint64_t last;

	if (!operation || descriptor->control & ~(operation->control | operation_bits))
		return IOAT_ERR_CONTROL;
	if (!descriptor->size || descriptor->size > 1ULL << ioat->xfercap)
		return IOAT_ERR_LENGTH;
	if (descriptor->control & IOAT_DESC_NULL)
		return 0;
	if (operation->reads && !uvf_range_last(descriptor->source, descriptor->size, &last))
		errors |= IOAT_ERR_SOURCE_ADDRESS;
	if (!uvf_range_last(descriptor->destination, descriptor->size, &last))
		errors |= IOAT_ERR_DESTINATION_ADDRESS;
	return errors;
}

bool ioat_job_wanted(struct ioat *ioat, const struct ioat_job *job)
{
	bool wanted;

	pthread_mutex_lock(&ioat->lock);
	wanted = ioat->epochs[job->channel] == job->epoch;
	pthread_mutex_unlock(&ioat->lock);
	return wanted;
}

uint32_t ioat_execute(struct ioat *ioat, struct ioat_job *job)
{
	const struct ioat_descriptor *descriptor = &job->descriptor;
	const struct operation *operation;
	uint32_t errors = fetch(ioat, job);

	if (errors)
		return errors;
	operation = find_operation(descriptor->control);
	errors = check(ioat, descriptor, operation);
	if (errors || descriptor->control & IOAT_DESC_NULL)
		return errors;
	for (uint64_t done = 0; !errors && done < descriptor->size; done += IOAT_PIECE) {
		uint64_t left = descriptor->size - done;

		if (done && !ioat_job_wanted(ioat, job))
			break;
		errors = operation->move(ioat, job, done,
					 left < IOAT_PIECE ? (size_t)left : IOAT_PIECE);
	}
	return errors;
}
