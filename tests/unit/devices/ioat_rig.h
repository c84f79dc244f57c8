/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A DMA engine in this process and the smallest driver that can be. By hand it executes descriptors
 * in rig_run() only, so that a test sees what is between two of them.
 */
#ifndef IOAT_RIG_H
#define IOAT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "base/bytes.h"
#include "devices/ioat/ioat.h"

#define RIG_IOVA    0x100000ull
#define RIG_MEMORY  (4u << 20)
#define RIG_RECORD  0x8000u  /* where completions go */
#define RIG_SOURCE  0x10000u /* offsets of data */
#define RIG_TARGET  0x200000u
#define RIG_VECTORS 8
#define RIG_NOWHERE 0x7000000000ull

struct rig {
	struct uvf_device *dev;
	struct uvf_address_space *space;
	struct ioat *ioat; /* by hand only */
	uint8_t *memory;
	int fd;
	int irqs[RIG_VECTORS];
	int pin;
};

static inline uint64_t rig_iova(uint32_t offset)
{
	return RIG_IOVA + offset;
}

static inline uint64_t rig_get(struct rig *rig, uint64_t offset, size_t size)
{
	uint8_t bytes[8] = {0};

	assert_int_equal(uvf_region_read(rig->dev, VFIO_PCI_BAR0_REGION_INDEX, offset, bytes, size),
			 size);
	return uvf_get_le64(bytes);
}

static inline void rig_put(struct rig *rig, uint64_t offset, uint64_t value, size_t size)
{
	uint8_t bytes[8];

	uvf_put_le64(bytes, value);
	assert_int_equal(
		uvf_region_write(rig->dev, VFIO_PCI_BAR0_REGION_INDEX, offset, bytes, size), size);
}

/* A register of channel 0. */
static inline uint64_t rig_chan_get(struct rig *rig, uint64_t offset, size_t size)
{
	return rig_get(rig, IOAT_CHANNEL_0 + offset, size);
}

static inline void rig_chan_put(struct rig *rig, uint64_t offset, uint64_t value, size_t size)
{
	rig_put(rig, IOAT_CHANNEL_0 + offset, value, size);
}

static inline uint32_t rig_config_get(struct rig *rig, uint64_t offset)
{
	uint8_t bytes[4];

	assert_int_equal(uvf_region_read(rig->dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, 4),
			 4);
	return uvf_get_le32(bytes);
}

static inline void rig_config_put(struct rig *rig, uint64_t offset, uint32_t value, size_t size)
{
	uint8_t bytes[4];

	uvf_put_le32(bytes, value);
	assert_int_equal(
		uvf_region_write(rig->dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, size),
		size);
}

#define RIG_COMMAND (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)

static inline void rig_run(struct rig *rig)
{
	ioat_run(rig->ioat, UINT32_MAX);
}

static inline enum ioat_status rig_status(struct rig *rig)
{
	return (enum ioat_status)(rig_chan_get(rig, IOAT_CHANSTS, 8) & IOAT_STATUS_MASK);
}

static inline uint64_t rig_completed(struct rig *rig)
{
	return rig_chan_get(rig, IOAT_CHANSTS, 8) & ~(uint64_t)IOAT_STATUS_MASK;
}

static inline uint64_t rig_record(const struct rig *rig)
{
	return uvf_get_le64(rig->memory + RIG_RECORD);
}

/* For as long as it takes: what hangs is ended by the test's limit. */
static inline void rig_wait(struct rig *rig, enum ioat_status status)
{
	const struct timespec moment = {.tv_nsec = 100000};

	while (rig_status(rig) != status)
		nanosleep(&moment, NULL);
}

/* Descriptor @nth is at its place in the memory's beginning, and leads to the one after it. */
static inline uint64_t rig_descriptor(unsigned nth)
{
	return rig_iova(nth * (uint32_t)sizeof(struct ioat_descriptor));
}

static inline void rig_describe(struct rig *rig, unsigned nth, struct ioat_descriptor descriptor)
{
	if (!descriptor.next)
		descriptor.next = rig_descriptor(nth + 1);
	descriptor.size = htole32(descriptor.size);
	descriptor.control = htole32(descriptor.control);
	descriptor.source = htole64(descriptor.source);
	descriptor.destination = htole64(descriptor.destination);
	descriptor.next = htole64(descriptor.next);
	memcpy(rig->memory + nth * sizeof(descriptor), &descriptor, sizeof(descriptor));
}

static inline void rig_null(struct rig *rig, unsigned nth, uint32_t control)
{
	rig_describe(rig, nth,
		     (struct ioat_descriptor){.size = 1, .control = IOAT_DESC_NULL | control});
}

static inline void rig_copy(struct rig *rig, unsigned nth, uint32_t size, uint32_t control)
{
	rig_describe(rig, nth,
		     (struct ioat_descriptor){.size = size,
					      .control = control,
					      .source = rig_iova(RIG_SOURCE),
					      .destination = rig_iova(RIG_TARGET)});
}

/* Begins the chain at descriptor @first. */
static inline void rig_start(struct rig *rig, unsigned first, uint16_t count)
{
	rig_chan_put(rig, IOAT_CHAINADDR, rig_descriptor(first), 8);
	rig_chan_put(rig, IOAT_CHANCMP, rig_iova(RIG_RECORD), 8);
	rig_chan_put(rig, IOAT_DMACOUNT, count, 2);
}

static inline void rig_recover(struct rig *rig)
{
	rig_chan_put(rig, IOAT_CHANERR, rig_chan_get(rig, IOAT_CHANERR, 4), 4);
	rig_chan_put(rig, IOAT_CHANCMD, IOAT_CHANCMD_RESET, 1);
}

static inline void rig_irqs(struct rig *rig, uint32_t index, const int *fds, uint32_t count)
{
	const struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = index,
		.count = count,
		.fds = fds,
	};

	assert_int_equal(uvf_irq_set(rig->dev, &set), 0);
}

/* How often the vector was signalled since the last look. */
static inline uint64_t rig_count(int fd)
{
	eventfd_t value = 0;

	return eventfd_read(fd, &value) ? 0 : value;
}

/* Takes @dev over, wherever it is. */
static inline void rig_open_device(struct rig *rig, struct uvf_device *dev)
{
	memset(rig, 0, sizeof(*rig));
	rig->dev = dev;
	assert_int_equal(uvf_device_open(rig->dev), 0);
	assert_int_equal(uvf_address_space_new(NULL, &rig->space), 0);
	assert_int_equal(uvf_device_attach(rig->dev, UVF_PASID_NONE, rig->space), 0);
	rig->fd = memfd_create("rig", MFD_CLOEXEC);
	assert_true(rig->fd >= 0);
	assert_int_equal(ftruncate(rig->fd, RIG_MEMORY), 0);
	rig->memory = mmap(NULL, RIG_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, rig->fd, 0);
	assert_ptr_not_equal(rig->memory, MAP_FAILED);
	assert_int_equal(uvf_map_fd(rig->space, RIG_IOVA, RIG_MEMORY, UVF_PROT_RW, rig->fd, 0), 0);
	rig_config_put(rig, PCI_COMMAND, RIG_COMMAND, 2);
	for (uint32_t at = RIG_SOURCE; at < RIG_TARGET; at++)
		rig->memory[at] = (uint8_t)(at * 7 + at / 251);
	for (unsigned i = 0; i < RIG_VECTORS; i++) {
		rig->irqs[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_true(rig->irqs[i] >= 0);
	}
	rig->pin = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(rig->pin >= 0);
}

static inline void rig_open(struct rig *rig, const char *spec, bool by_hand)
{
	struct uvf_error error = {0};
	struct uvf_device *dev;
	int ret = by_hand ? ioat_new_by_hand(spec, &dev, &error)
			  : uvf_model_create(spec, &dev, &error);

	if (ret)
		fail_msg("%s: %s", spec, error.text);
	rig_open_device(rig, dev);
	rig->ioat = uvf_device_opaque(dev);
}

static inline void rig_close(struct rig *rig)
{
	uvf_device_free(rig->dev);
	uvf_address_space_put(rig->space);
	munmap(rig->memory, RIG_MEMORY);
	close(rig->fd);
	close(rig->pin);
	for (unsigned i = 0; i < RIG_VECTORS; i++)
		close(rig->irqs[i]);
}

#endif
