/* SPDX-License-Identifier: BSD-3-Clause */
/* Owned devices without a program: calls are this process's own. */
#include "device_rig.h"

#include <stdio.h>

#define PAGE 4096

static void note(struct rig_model *model, const char *what, uint32_t index, uint64_t offset,
		 size_t count)
{
	size_t used = strlen(model->calls);

	snprintf(model->calls + used, sizeof(model->calls) - used, "%s%u 0x%jx+%zu;", what, index,
		 (uintmax_t)offset, count);
}

static int bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	struct rig_model *model = uvf_device_opaque(dev);

	note(model, "r", index, offset, count);
	memcpy(buf, model->bar + offset, count);
	return model->fail;
}

static int bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count)
{
	struct rig_model *model = uvf_device_opaque(dev);

	note(model, "w", index, offset, count);
	memcpy(model->bar + offset, buf, count);
	return model->fail;
}

static int model_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct rig_model *model = uvf_device_opaque(dev);

	model->resets++;
	model->last_reset = kind;
	return 0;
}

static const struct uvf_device_ops model_ops = {.reset = model_reset};
static const struct uvf_pci_bar_area areas[] = {{0x1000, 0x1000}};
static const uint8_t rom[RIG_ROM_SIZE] = {0x55, 0xaa, [RIG_ROM_SIZE - 1] = 0x77};

static const struct uvf_pci_capability capabilities[] = {
	{.id = PCI_CAP_ID_PM},
	{.id = PCI_CAP_ID_MSI, .msi = {.vectors = 8, .maskable = true, .address64 = true}},
	{.id = PCI_CAP_ID_MSIX,
	 .msix = {.vectors = RIG_VECTORS, .table_offset = RIG_TABLE, .pba_offset = 0x3000}},
	{.id = PCI_CAP_ID_EXP, .express = {.flr = true}}, /* the last: not each device has it */
};

static const struct uvf_pci_description description = {
	.vendor = 0x1b36,
	.device = 0x0010,
	.class_code = 0x088000,
	.interrupt_pin = 1,
	.bars =
		{
			[0] = {.kind = UVF_PCI_BAR_MEM64,
			       .size = RIG_BAR_SIZE,
			       .read = bar_read,
			       .write = bar_write},
			[2] = {.kind = UVF_PCI_BAR_MEM32,
			       .size = RIG_BAR_SIZE,
			       .read = bar_read,
			       .write = bar_write,
			       .areas = areas,
			       .area_count = 1},
			[3] = {.kind = UVF_PCI_BAR_IO,
			       .size = 16,
			       .read = bar_read,
			       .write = bar_write},
			[4] = {.kind = UVF_PCI_BAR_MEM32,
			       .size = 256,
			       .read = bar_read,
			       .write = bar_write},
		},
	.rom = rom,
	.rom_size = sizeof(rom),
	.capabilities = capabilities,
	.capability_count = UVF_ARRAY_SIZE(capabilities),
};

static void open_device(struct uapi_device *device)
{
	assert_int_equal(uvf_device_open(device->dev), 0);
	assert_int_equal(uapi_session_new(device), 0);
	device->ownership = UAPI_GROUP;
	device->openings = 1;
}

static void close_device(struct uapi_device *device)
{
	uapi_session_free(device);
	uvf_device_free(device->dev);
}

static void place(struct rig *rig, size_t i, uint8_t bus, uint8_t devfn)
{
	struct uapi_device *device = &rig->devices[i];
	struct uapi_group *group = &rig->groups[i];

	*group = (struct uapi_group){.run = &rig->run, .number = 5 + (unsigned)i};
	*device = (struct uapi_device){
		.run = &rig->run,
		.number = i,
		.group = group,
		.bus = bus,
		.devfn = devfn,
	};
	pthread_mutex_init(&device->migrating, NULL);
}

void rig_new(struct rig *rig)
{
	struct uvf_error error = {""};

	memset(rig, 0, sizeof(*rig));
	pthread_mutex_init(&rig->run.topology, NULL);
	pthread_cond_init(&rig->run.changed, NULL);
	rig->run.devices = rig->devices;
	rig->run.device_count = RIG_DEVICES;
	rig->run.groups = rig->groups;
	rig->run.group_count = RIG_DEVICES;
	place(rig, 0, 0x65, 0);
	place(rig, 1, 0x65, 1);
	place(rig, 2, 0, 2 << 3);
	for (size_t i = 0; i < RIG_DEVICES; i++) {
		struct uvf_pci_description described = description;

		described.capability_count -= i == 2;
		if (uvf_pci_new("rig", &described, &model_ops, &rig->models[i],
				&rig->devices[i].dev, &error))
			fail_msg("%s", error.text);
		open_device(&rig->devices[i]);
	}
	rig->device = &rig->devices[0];
	rig->model = &rig->models[0];
	rig->call = (struct uapi_call){.run = &rig->run};
}

void rig_replace(struct rig *rig, struct uvf_device *dev)
{
	close_device(rig->device);
	rig->device->dev = dev;
	open_device(rig->device);
}

void rig_free(struct rig *rig)
{
	for (size_t i = 0; i < RIG_DEVICES; i++) {
		close_device(&rig->devices[i]);
		pthread_mutex_destroy(&rig->devices[i].migrating);
	}
	pthread_cond_destroy(&rig->run.changed);
	pthread_mutex_destroy(&rig->run.topology);
}

long rig_ioctl(struct rig *rig, unsigned command, void *argument)
{
	return uapi_device_ioctl(rig->device, NULL, &rig->call, command, (uintptr_t)argument);
}

static ssize_t rig_access(struct rig *rig, bool write, uint32_t index, uint64_t offset,
			  const void *buf, size_t count)
{
	const struct uapi_access access = {
		.write = write,
		.offset = (uint64_t)index << UAPI_REGION_SHIFT | offset,
		.address = (uintptr_t)buf,
		.count = count,
	};

	return uapi_device_access(rig->device, &rig->call, &access);
}

ssize_t rig_read(struct rig *rig, uint32_t index, uint64_t offset, void *buf, size_t count)
{
	return rig_access(rig, false, index, offset, buf, count);
}

ssize_t rig_write(struct rig *rig, uint32_t index, uint64_t offset, const void *buf, size_t count)
{
	return rig_access(rig, true, index, offset, buf, count);
}

uint32_t rig_config(struct rig *rig, uint64_t offset, size_t count)
{
	uint8_t bytes[4] = {0};

	assert_int_equal(rig_read(rig, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, count), count);
	return uvf_get_le32(bytes);
}

void rig_set_config(struct rig *rig, uint64_t offset, uint32_t value, size_t count)
{
	uint8_t bytes[4];

	uvf_put_le32(bytes, value);
	assert_int_equal(rig_write(rig, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, count), count);
}

long rig_set_irqs(struct rig *rig, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
		  const void *data, size_t data_size)
{
	union {
		struct vfio_irq_set set;
		uint8_t bytes[16384];
	} argument = {.set = {.argsz = (uint32_t)(offsetof(struct vfio_irq_set, data) + data_size),
			      .flags = flags,
			      .index = index,
			      .start = start,
			      .count = count}};

	assert_true(data_size <= sizeof(argument) - offsetof(struct vfio_irq_set, data));
	if (data_size)
		memcpy(argument.set.data, data, data_size);
	return rig_ioctl(rig, VFIO_DEVICE_SET_IRQS, &argument);
}

bool rig_is_signalled(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	eventfd_t value;

	return poll(&readable, 1, 0) == 1 && !eventfd_read(fd, &value);
}

uint8_t *rig_cliff(void)
{
	uint8_t *pages =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(pages, MAP_FAILED);
	assert_int_equal(mprotect(pages + PAGE, PAGE, PROT_NONE), 0);
	return pages;
}
