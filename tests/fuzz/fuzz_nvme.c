/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registers, doorbells, admin and I/O commands with whatever PRPs and SGLs, against a controller in
 * this process. The input is a list of steps: a byte that says what, then its operands.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "base/bytes.h"
#include "devices/nvme/nvme.h"

#define IOVA	0x100000ull
#define MEMORY	(1u << 20)
#define ENTRIES 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct uvf_device *dev;
	struct uvf_address_space *space;
	int fd;
	uint8_t *memory;
	uint32_t tails[3];
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

static void write32(struct fuzz *fuzz, uint64_t offset, uint32_t value)
{
	value = htole32(value);
	uvf_region_write(fuzz->dev, VFIO_PCI_BAR0_REGION_INDEX, offset, &value, 4);
}

static uint32_t read32(struct fuzz *fuzz, uint64_t offset)
{
	uint32_t value = 0;

	uvf_region_read(fuzz->dev, VFIO_PCI_BAR0_REGION_INDEX, offset, &value, 4);
	return le32toh(value);
}

/* The controller has no threads: it does its work when it is told to, all of it. */
static void run(struct fuzz *fuzz)
{
	nvme_run(uvf_device_opaque(fuzz->dev));
}

/* Queue @id has its SQ at (2 * id) pages and its CQ one page further. */
static void submit(struct fuzz *fuzz, unsigned id, const struct nvme_sqe *sqe)
{
	memcpy(fuzz->memory + id * 0x2000 + fuzz->tails[id] * sizeof(*sqe), sqe, sizeof(*sqe));
	fuzz->tails[id] = (fuzz->tails[id] + 1) % ENTRIES;
	write32(fuzz, NVME_REG_DOORBELLS + id * 8, fuzz->tails[id]);
	run(fuzz);
	/* Take whatever there is: the entries themselves are not looked at. */
	write32(fuzz, NVME_REG_DOORBELLS + id * 8 + 4, fuzz->tails[id]);
}

static void enable(struct fuzz *fuzz)
{
	write32(fuzz, NVME_REG_CC, 0);
	run(fuzz);
	memset(fuzz->tails, 0, sizeof(fuzz->tails));
	write32(fuzz, NVME_REG_AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	write32(fuzz, NVME_REG_ASQ, IOVA);
	write32(fuzz, NVME_REG_ASQ + 4, 0);
	write32(fuzz, NVME_REG_ACQ, IOVA + 0x1000);
	write32(fuzz, NVME_REG_ACQ + 4, 0);
	write32(fuzz, NVME_REG_CC, NVME_CC_EN | NVME_SQES << 16 | NVME_CQES << 20);
	run(fuzz);
	submit(fuzz, 0,
	       &(struct nvme_sqe){.opcode = NVME_ADM_CREATE_CQ,
				  .prp1 = htole64(IOVA + 0x3000),
				  .cdw10 = htole32((ENTRIES - 1) << 16 | 1),
				  .cdw11 = htole32(1)});
	submit(fuzz, 0,
	       &(struct nvme_sqe){.opcode = NVME_ADM_CREATE_SQ,
				  .prp1 = htole64(IOVA + 0x2000),
				  .cdw10 = htole32((ENTRIES - 1) << 16 | 1),
				  .cdw11 = htole32(1 << 16 | 1)});
}

/* Addresses in the driver's memory more often than not. */
static void near_memory(uint64_t *address)
{
	uint64_t value = le64toh(*address);

	if (value >> 62 != 3)
		*address = htole64(IOVA + value % (MEMORY + NVME_PAGE_SIZE));
}

static void command(struct fuzz *fuzz, unsigned id)
{
	struct nvme_sqe sqe;

	take(fuzz, &sqe, sizeof(sqe));
	near_memory(&sqe.prp1);
	if (!(sqe.flags >> 6))
		near_memory(&sqe.prp2);
	/* As for addresses: mostly the commands and blocks that there are. */
	if (sqe.opcode & 0x20)
		sqe.opcode &= 0x0f;
	if (le32toh(sqe.nsid) & 8)
		sqe.nsid = htole32(1);
	submit(fuzz, id, &sqe);
}

static void step(struct fuzz *fuzz)
{
	uint8_t what, chunk[64];
	uint32_t at, value;

	take(fuzz, &what, 1);
	switch (what % 8) {
	case 0:
	case 1:
	case 2:
		command(fuzz, what % 8 ? 1 : 0);
		break;
	case 3: /* lists */
		take(fuzz, &at, 4);
		take(fuzz, chunk, sizeof(chunk));
		memcpy(fuzz->memory + 0x8000 + at % (MEMORY - 0x8000 - sizeof(chunk)), chunk,
		       sizeof(chunk));
		break;
	case 4:
		take(fuzz, &at, 4);
		take(fuzz, &value, 4);
		write32(fuzz, at % 0x1800, value);
		run(fuzz);
		read32(fuzz, at % 0x1800);
		break;
	case 5:
		take(fuzz, &at, 4);
		uvf_region_read(fuzz->dev, VFIO_PCI_BAR0_REGION_INDEX, at % 0x3ff0, chunk,
				1 + at % 16);
		break;
	case 6:
		uvf_unmap(fuzz->space, IOVA, MEMORY, NULL);
		uvf_map_fd(fuzz->space, IOVA, MEMORY, UVF_PROT_RW, fuzz->fd, 0);
		break;
	default:
		enable(fuzz);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz fuzz;
	uint16_t command_register = htole16(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);

	if (!fuzz.dev) {
		struct uvf_error error;

		fuzz.fd = memfd_create("fuzz", MFD_CLOEXEC);
		if (fuzz.fd < 0 || ftruncate(fuzz.fd, MEMORY) ||
		    nvme_new_by_hand("nvme,mem=1M,null=1M,pollers=2", &fuzz.dev, &error) ||
		    uvf_address_space_new(NULL, &fuzz.space))
			abort();
		fuzz.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fuzz.fd, 0);
		if (fuzz.memory == MAP_FAILED ||
		    uvf_map_fd(fuzz.space, IOVA, MEMORY, UVF_PROT_RW, fuzz.fd, 0))
			abort();
	}
	fuzz.data = data;
	fuzz.size = size;
	memset(fuzz.memory, 0, 0x8000);
	if (uvf_device_open(fuzz.dev) || uvf_device_attach(fuzz.dev, UVF_PASID_NONE, fuzz.space))
		abort();
	uvf_region_write(fuzz.dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command_register, 2);
	enable(&fuzz);
	for (int i = 0; i < 64 && fuzz.size; i++)
		step(&fuzz);
	uvf_device_close(fuzz.dev);
	return 0;
}
