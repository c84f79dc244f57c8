/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registers and descriptors of whatever content, against a DMA engine in this process. The input is
 * a list of steps: a byte that says what, then its operands.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "base/bytes.h"
#include "devices/ioat/ioat.h"

#define IOVA	    0x100000ull
#define MEMORY	    (1u << 18)
#define DESCRIPTORS 64u
#define STEPS	    64
#define RUN_LIMIT   256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct uvf_device *dev;
	struct uvf_address_space *space;
	int fd;
	uint8_t *memory;
	const uint8_t *data;
	size_t size;
};

/* The next @count bytes, zeroes past the end. */
static void take(struct fuzz *fuzz, void *to, size_t count)
{
	size_t here = count < fuzz->size ? count : fuzz->size;

	memset(to, 0, count);
	memcpy(to, fuzz->data, here);
	fuzz->data += here;
	fuzz->size -= here;
}

static uint64_t channel_at(unsigned channel)
{
	return IOAT_CHANNEL_0 + (channel % IOAT_MAX_CHANNELS) * (uint64_t)IOAT_CHANNEL_SIZE;
}

static void put(struct fuzz *fuzz, uint64_t offset, uint64_t value, size_t size)
{
	uint8_t bytes[8];

	uvf_put_le64(bytes, value);
	uvf_region_write(fuzz->dev, VFIO_PCI_BAR0_REGION_INDEX, offset, bytes, size);
}

static void run(struct fuzz *fuzz)
{
	ioat_run(uvf_device_opaque(fuzz->dev), RUN_LIMIT);
}

/* Addresses in the driver's memory more often than not. */
static uint64_t near_memory(uint64_t address)
{
	return address >> 62 == 3 ? address : IOVA + address % (MEMORY + 4096);
}

static void describe(struct fuzz *fuzz)
{
	struct ioat_descriptor descriptor;
	uint8_t nth;

	take(fuzz, &nth, 1);
	take(fuzz, &descriptor, sizeof(descriptor));
	if (descriptor.control & htole32(0x10000))
		descriptor.control &= htole32(0x0100073f);
	if (descriptor.control & htole32(0x20000))
		descriptor.size &= htole32(0xffff);
	descriptor.source = htole64(near_memory(le64toh(descriptor.source)));
	descriptor.destination = htole64(near_memory(le64toh(descriptor.destination)));
	if (le64toh(descriptor.next) >> 63)
		descriptor.next =
			htole64(IOVA + le64toh(descriptor.next) % DESCRIPTORS * sizeof(descriptor));
	memcpy(fuzz->memory + nth % DESCRIPTORS * sizeof(descriptor), &descriptor,
	       sizeof(descriptor));
}

/* Out of whatever state it is in, to a chain. */
static void start(struct fuzz *fuzz)
{
	struct {
		uint8_t channel, first;
		uint16_t count, record;
	} operands;
	uint64_t at;

	take(fuzz, &operands, sizeof(operands));
	at = channel_at(operands.channel);
	put(fuzz, at + IOAT_CHANERR, UINT32_MAX, 4);
	put(fuzz, at + IOAT_CHANCMD, IOAT_CHANCMD_RESET, 1);
	put(fuzz, at + IOAT_CHANCTRL, IOAT_CHANCTRL_ERR_COMPLETION_EN | IOAT_CHANCTRL_ERR_INT_EN,
	    2);
	put(fuzz, at + IOAT_CHANCMP, IOVA + operands.record, 8);
	put(fuzz, at + IOAT_CHAINADDR,
	    IOVA + operands.first % DESCRIPTORS * sizeof(struct ioat_descriptor), 8);
	put(fuzz, at + IOAT_DMACOUNT, operands.count, 2);
}

static void access_registers(struct fuzz *fuzz, uint32_t region, uint64_t limit, bool write)
{
	uint8_t bytes[32], count;
	uint16_t at;

	take(fuzz, &at, 2);
	take(fuzz, &count, 1);
	count = count % sizeof(bytes) + 1;
	take(fuzz, bytes, write ? count : 0);
	if (write)
		uvf_region_write(fuzz->dev, region, at % limit, bytes, count);
	else
		uvf_region_read(fuzz->dev, region, at % limit, bytes, count);
}

static void step(struct fuzz *fuzz)
{
	uint8_t what;

	take(fuzz, &what, 1);
	switch (what % 8) {
	case 0:
		describe(fuzz);
		break;
	case 1:
		start(fuzz);
		break;
	case 2:
		run(fuzz);
		break;
	case 3:
		access_registers(fuzz, VFIO_PCI_BAR0_REGION_INDEX, 0x500, true);
		break;
	case 4:
		access_registers(fuzz, VFIO_PCI_BAR0_REGION_INDEX, 0x500, false);
		break;
	case 5:
		access_registers(fuzz, VFIO_PCI_CONFIG_REGION_INDEX, 0x190, true);
		break;
	case 6:
		access_registers(fuzz, VFIO_PCI_CONFIG_REGION_INDEX, 0x190, false);
		break;
	default:
		uvf_unmap(fuzz->space, IOVA, MEMORY, NULL);
		if (what & 8)
			run(fuzz);
		uvf_map_fd(fuzz->space, IOVA, MEMORY, UVF_PROT_RW, fuzz->fd, 0);
		break;
	}
}

static void make(struct fuzz *fuzz)
{
	struct uvf_error error;

	fuzz->fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fuzz->fd < 0 || ftruncate(fuzz->fd, MEMORY) ||
	    ioat_new_by_hand("ioat,channels=8,xfercap=64K", &fuzz->dev, &error) ||
	    uvf_address_space_new(NULL, &fuzz->space))
		abort();
	fuzz->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fuzz->fd, 0);
	if (fuzz->memory == MAP_FAILED ||
	    uvf_map_fd(fuzz->space, IOVA, MEMORY, UVF_PROT_RW, fuzz->fd, 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz fuzz;
	uint16_t command = htole16(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);

	if (!fuzz.dev)
		make(&fuzz);
	fuzz.data = data;
	fuzz.size = size;
	memset(fuzz.memory, 0, DESCRIPTORS * sizeof(struct ioat_descriptor));
	if (uvf_device_open(fuzz.dev) || uvf_device_attach(fuzz.dev, UVF_PASID_NONE, fuzz.space))
		abort();
	uvf_region_write(fuzz.dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command, 2);
	for (int i = 0; i < STEPS && fuzz.size; i++)
		step(&fuzz);
	uvf_device_close(fuzz.dev);
	return 0;
}
