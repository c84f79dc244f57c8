/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioctls, accesses and mappings of whatever content on a device's file. The input is a list of
 * steps: a byte that says what, then its operands. Addresses are in a page, at its end, or wrong:
 * the program is this process. Meanwhile the devices write to memory.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "base/bytes.h"
#include "frontends/uapi/call.h"
#include "frontends/uapi/device.h"
#include "program.h"

#define DEVICES 2
#define STEPS	64
#define EVENTS	4

/* From 0 to the end of all that can be an address, nearly. */
#define DMA_PAGES	 4
#define DMA_STRIDE_SHIFT 60

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct uvf_run run;
	struct uapi_group group;
	struct uapi_device devices[DEVICES];
	struct uapi_call call;
	uint8_t *page; /* with nothing after it */
	int events[EVENTS];
	struct uvf_address_space *space;
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

static uint64_t take_number(struct fuzz *fuzz, size_t count)
{
	uint8_t bytes[8] = {0};

	take(fuzz, bytes, count);
	return uvf_get_le64(bytes);
}

/* ---- The devices ---- */

static int bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	memset(buf, 0x5a, count);
	return offset == 0x100 ? -EIO : 0;
}

static int bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count)
{
	if (offset == 0x200)
		uvf_pci_msi(dev, *(const uint8_t *)buf);
	if (offset == 0x208)
		uvf_pci_intx(dev, *(const uint8_t *)buf & 1);
	return offset == 0x100 ? -EIO : 0;
}

static ssize_t feature(struct uvf_device *dev, uint32_t flags, void *data, size_t size)
{
	if ((flags & VFIO_DEVICE_FEATURE_MASK) > VFIO_DEVICE_FEATURE_MIG_DATA_SIZE)
		return -ENOTTY;
	if (size && data)
		memset(data, 0x33, size / 2);
	return (ssize_t)(size / 2);
}

static int reset(struct uvf_device *dev, enum uvf_reset kind)
{
	return 0;
}

static const struct uvf_device_ops ops = {.feature = feature, .reset = reset};
static const struct uvf_pci_bar_area areas[] = {{0x1000, 0x1000}, {0x3000, 0x1000}};
static const uint8_t rom[3000];

static const struct uvf_pci_capability capabilities[] = {
	{.id = PCI_CAP_ID_PM},
	{.id = PCI_CAP_ID_MSI, .msi = {.vectors = 4, .maskable = true}},
	{.id = PCI_CAP_ID_MSIX,
	 .msix = {.vectors = 5, .table_offset = 0x2000, .pba_offset = 0x2800}},
	{.id = PCI_CAP_ID_EXP, .express = {.flr = true}},
};

static const struct uvf_pci_description description = {
	.interrupt_pin = 1,
	.bars =
		{
			[0] = {.kind = UVF_PCI_BAR_MEM64,
			       .size = 0x4000,
			       .read = bar_read,
			       .write = bar_write,
			       .areas = areas,
			       .area_count = 2},
			[2] = {.kind = UVF_PCI_BAR_IO,
			       .size = 32,
			       .read = bar_read,
			       .write = bar_write},
		},
	.rom = rom,
	.rom_size = sizeof(rom),
	.capabilities = capabilities,
	.capability_count = UVF_ARRAY_SIZE(capabilities),
};

/* A page of memory, everywhere in a part of the addresses: for what the devices write. */
static void attach(struct fuzz *fuzz)
{
	static uint8_t memory_bytes[PAGE];
	struct uvf_memory *memory;
	int ret = uvf_address_space_new(NULL, &fuzz->space);

	ret = ret ? ret : uvf_memory_new_local(memory_bytes, PAGE, &memory);
	assert(!ret);
	for (uint64_t i = 0; i < DMA_PAGES; i++)
		ret = ret ? ret
			  : uvf_map(fuzz->space, i << DMA_STRIDE_SHIFT, PAGE, UVF_PROT_RW, memory,
				    0);
	for (size_t i = 0; i < DEVICES; i++) {
		uvf_device_attach(fuzz->devices[i].dev, UVF_PASID_NONE, fuzz->space);
		uvf_region_write(fuzz->devices[i].dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND,
				 &(uint8_t){PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY}, 1);
	}
	assert(!ret);
	uvf_memory_put(memory);
}

static void begin(struct fuzz *fuzz)
{
	struct uvf_error error;
	int ret;

	pthread_mutex_init(&fuzz->run.topology, NULL);
	fuzz->run.devices = fuzz->devices;
	fuzz->run.device_count = DEVICES;
	fuzz->group = (struct uapi_group){.run = &fuzz->run, .number = 1};
	fuzz->call.run = &fuzz->run;
	ret = uapi_files_new(&fuzz->run);
	assert(!ret);
	for (uint8_t i = 0; i < DEVICES; i++) {
		struct uapi_device *device = &fuzz->devices[i];

		*device = (struct uapi_device){.run = &fuzz->run,
					       .number = i,
					       .group = &fuzz->group,
					       .bus = 1,
					       .devfn = i,
					       .ownership = UAPI_GROUP};
		pthread_mutex_init(&device->migrating, NULL);
		ret = uvf_pci_new("fuzz", &description, &ops, NULL, &device->dev, &error);
		ret = ret ? ret : uvf_device_open(device->dev);
		ret = ret ? ret : uapi_session_new(device);
		assert(!ret);
	}
	attach(fuzz);
	for (size_t i = 0; i < EVENTS; i++)
		fuzz->events[i] = eventfd(0, EFD_NONBLOCK);
}

static void end(struct fuzz *fuzz)
{
	for (size_t i = 0; i < DEVICES; i++) {
		uapi_session_free(&fuzz->devices[i]);
		uvf_device_free(fuzz->devices[i].dev);
		pthread_mutex_destroy(&fuzz->devices[i].migrating);
	}
	for (size_t i = 0; i < EVENTS; i++)
		close(fuzz->events[i]);
	uvf_address_space_put(fuzz->space);
	uapi_files_free(&fuzz->run);
	pthread_mutex_destroy(&fuzz->run.topology);
}

/* ---- Steps ---- */

/* Where @size bytes are to be: they fit as a rule. */
static uint8_t *take_place(struct fuzz *fuzz, size_t size)
{
	uint8_t how = (uint8_t)take_number(fuzz, 1);

	if (how == 0xff)
		return NULL;
	if (how == 0xfe)
		return fuzz->page + PAGE;
	if (how & 0x80)
		return fuzz->page + PAGE - (size + (how & 0x1f)) % PAGE;
	return fuzz->page + (how & 7);
}

/* Descriptors are those of eventfds, or none; not whatever this process has. */
static void place_fds(struct fuzz *fuzz, uint8_t *at, size_t count)
{
	for (size_t i = 0; i < count && at + 4 * (i + 1) <= fuzz->page + PAGE; i++) {
		int32_t fd = (int8_t)at[4 * i];

		if (fd >= 0)
			fd = fuzz->events[fd % EVENTS];
		memcpy(at + 4 * i, &fd, sizeof(fd));
	}
}

static void make_call(struct fuzz *fuzz, struct uapi_device *device)
{
	unsigned command = _IO(VFIO_TYPE, VFIO_BASE + 5 + (unsigned)take_number(fuzz, 1) % 16);
	uint8_t bytes[128], *place = take_place(fuzz, sizeof(bytes));

	take(fuzz, bytes, sizeof(bytes));
	/* As a rule the size is the size. */
	if (bytes[3] & 1)
		uvf_put_le32(bytes, sizeof(bytes));
	if (place && place < fuzz->page + PAGE) {
		size_t room = (size_t)(fuzz->page + PAGE - place);

		memcpy(place, bytes, room < sizeof(bytes) ? room : sizeof(bytes));
		if (command == VFIO_DEVICE_SET_IRQS && bytes[4] & VFIO_IRQ_SET_DATA_EVENTFD)
			place_fds(fuzz, place + 20, 27);
		if (command == VFIO_DEVICE_IOEVENTFD)
			place_fds(fuzz, place + 24, 1);
		if (command == VFIO_DEVICE_PCI_HOT_RESET)
			place_fds(fuzz, place + 12, 29);
	}
	uapi_device_ioctl(device, NULL, &fuzz->call, command, (uintptr_t)place);
}

static uint64_t take_offset(struct fuzz *fuzz)
{
	uint64_t index = take_number(fuzz, 1) % 16;
	uint64_t offset = take_number(fuzz, 2);

	/* Seldom a region that can't be, or a negative offset. */
	if (index == 15)
		index = 0x7ffffe + (offset & 3);
	return index << UAPI_REGION_SHIFT | offset;
}

static void access_region(struct fuzz *fuzz, struct uapi_device *device, bool write)
{
	uint64_t count = take_number(fuzz, 2), offset = take_offset(fuzz);
	struct uapi_access access = {
		.write = write,
		.offset = offset,
		.count = count == UINT16_MAX ? UINT64_MAX : count,
		.address = (uintptr_t)take_place(fuzz, count),
	};
	ssize_t ret = uapi_device_access(device, &fuzz->call, &access);

	assert(ret <= (ssize_t)count);
}

static void map(struct fuzz *fuzz, struct uapi_device *device)
{
	struct uapi_mmap map = {
		.size = take_number(fuzz, 2),
		.prot = (int)take_number(fuzz, 1),
		.flags = (int)take_number(fuzz, 3),
		.offset = take_offset(fuzz) & ~0xfffULL,
	};

	/* What can be mapped needs a program. */
	device->trap[0] = UVF_RUN_TRAP_OFF;
	if (map.offset >> UAPI_REGION_SHIFT)
		uapi_device_mmap(device, NULL, &fuzz->call, &map);
	device->trap[0] = UVF_RUN_TRAP_ON;
}

static void step(struct fuzz *fuzz)
{
	uint8_t what = (uint8_t)take_number(fuzz, 1);
	struct uapi_device *device = &fuzz->devices[what >> 7];

	switch (what % 6) {
	case 0:
	case 1:
		make_call(fuzz, device);
		break;
	case 2:
		access_region(fuzz, device, false);
		break;
	case 3:
		access_region(fuzz, device, true);
		break;
	case 4:
		map(fuzz, device);
		break;
	default:
		if (what & 0x40)
			uvf_run_request(&fuzz->run, what >> 7);
		else if (what & 0x20)
			uvf_dma_write(device->dev, UVF_PASID_NONE,
				      (take_number(fuzz, 1) % DMA_PAGES) << DMA_STRIDE_SHIFT, "x",
				      1);
		else
			eventfd_write(fuzz->events[what % EVENTS], 1);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool is_made;
	struct fuzz fuzz = {.data = data, .size = size};

	fuzz.page = PROGRAM + (size_t)(PROGRAM_PAGES - 2) * PAGE;
	if (!is_made) {
		make_program();
		mprotect(fuzz.page + PAGE, PAGE, PROT_NONE);
		mprotect(PROGRAM, PAGE, PROT_READ);
		is_made = true;
	}
	memset(fuzz.page, 0, PAGE);
	begin(&fuzz);
	for (int i = 0; i < STEPS && fuzz.size; i++)
		step(&fuzz);
	end(&fuzz);
	return 0;
}
