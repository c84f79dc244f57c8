/* SPDX-License-Identifier: BSD-3-Clause */
/* See helpers.h. */
#include "helpers.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>

static int model_open(struct uvf_device *dev)
{
	struct model *model = uvf_device_opaque(dev);

	model->waiting_open++;
	while (model->hold_open)
		sched_yield();
	model->waiting_open--;
	if (model->fail_open)
		return model->fail_open;
	model->opened++;
	return 0;
}

static void model_close(struct uvf_device *dev)
{
	struct model *model = uvf_device_opaque(dev);

	model->closed++;
}

static int model_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct model *model = uvf_device_opaque(dev);

	model->resets++;
	return 0;
}

static int model_attach(struct uvf_device *dev, uint32_t pasid, struct uvf_address_space *space)
{
	struct model *model = uvf_device_opaque(dev);
	int error = space ? model->fail_attach : 0;

	if (error)
		model->fail_attach = 0;
	return error;
}

static const struct uvf_device_ops model_ops = {
	.open = model_open,
	.close = model_close,
	.reset = model_reset,
	.attach = model_attach,
};

static void add_group(struct world *world, size_t index, unsigned number, size_t first,
		      size_t count)
{
	struct uapi_group *group = &world->groups[index];

	group->run = &world->run;
	group->number = number;
	group->devices = &world->members[first];
	group->device_count = count;
	for (size_t i = first; i < first + count; i++) {
		world->members[i] = &world->devices[i];
		world->devices[i].group = group;
	}
}

int world_setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	world->reserved = (struct uvf_iova_range){0xfee00000, 0xfeefffff};
	world->run.config = (struct uvf_run_config){
		.page_sizes = PAGE | 2 * MIB | 1024 * MIB,
		.aperture = {0, (1ULL << 48) - 1},
		.reserved = &world->reserved,
		.reserved_count = 1,
		.max_mappings = 65535,
	};
	world->run.devices = world->devices;
	world->run.device_count = DEVICES;
	world->run.groups = world->groups;
	world->run.group_count = GROUPS;
	world->run.pid = getpid();
	pthread_mutex_init(&world->run.topology, NULL);
	pthread_cond_init(&world->run.changed, NULL);
	for (size_t i = 0; i < DEVICES; i++) {
		struct uapi_device *device = &world->devices[i];

		device->run = &world->run;
		device->number = i;
		device->bus = (uint8_t)(0x65 + i);
		device->numa_node = -1;
		snprintf(device->address, sizeof(device->address), "0000:%02x:00.0", device->bus);
		assert_int_equal(uvf_device_new(device->address, &model_ops, VFIO_DEVICE_FLAGS_PCI,
						&world->models[i], &device->dev),
				 0);
	}
	add_group(world, 0, 7, 0, 2);
	add_group(world, 1, 9, 2, 1);
	assert_int_equal(uapi_files_new(&world->run), 0);
	*state = world;
	return 0;
}

int world_teardown(void **state)
{
	struct world *world = *state;

	uapi_files_free(&world->run);
	for (size_t i = 0; i < DEVICES; i++) {
		assert_int_equal(world->devices[i].ownership, UAPI_FREE);
		assert_null(world->devices[i].ioas);
		assert_null(world->devices[i].iommufd);
		assert_int_equal(world->models[i].opened, world->models[i].closed);
		uvf_device_free(world->devices[i].dev);
	}
	for (size_t i = 0; i < GROUPS; i++) {
		assert_null(world->groups[i].file);
		assert_null(world->groups[i].container);
		assert_null(world->groups[i].owner);
		assert_int_equal(world->groups[i].users, 0);
		assert_int_equal(world->groups[i].bound, 0);
		assert_int_equal(world->groups[i].claims, 0);
	}
	pthread_mutex_destroy(&world->run.topology);
	pthread_cond_destroy(&world->run.changed);
	free(world);
	return 0;
}

struct uapi_call world_call(struct world *world)
{
	return (struct uapi_call){.run = &world->run, .thread = (pid_t)syscall(SYS_gettid)};
}

static int place(struct world *world, int error, struct uapi_file *file)
{
	struct uapi_call call = world_call(world);

	return error ? error : uapi_call_place(&call, file, O_CLOEXEC);
}

int world_open_container(struct world *world)
{
	struct uapi_file *file = NULL;
	int error = uapi_container_open(&world->run, &file);

	return place(world, error, file);
}

int world_open_group(struct world *world, unsigned group)
{
	struct uapi_file *file = NULL;
	int error = uapi_group_open(&world->groups[group], &file);

	if (error == -EBUSY && uapi_files_drain_slow(&world->run))
		error = uapi_group_open(&world->groups[group], &file);
	return place(world, error, file);
}

int world_open_iommufd(struct world *world)
{
	struct uapi_file *file = NULL;
	int error = uapi_iommufd_open(&world->run, &file);

	return place(world, error, file);
}

long world_ioctl(struct world *world, int fd, unsigned command, uint64_t argument)
{
	struct uapi_call call = world_call(world);
	struct uapi_file *file = uapi_file_find(&call, fd);
	long ret = -EBADF;

	if (!file)
		return ret;
	if (uapi_file_enter(file)) {
		ret = uapi_ioctl(file, &call, command, argument);
		uapi_file_leave(file);
	}
	uapi_file_put(file);
	return ret;
}

void world_close(struct world *world, int fd)
{
	close(fd);
	uapi_files_drain_slow(&world->run);
}

long world_set_container(struct world *world, int group, int container)
{
	return world_ioctl_of(world, group, VFIO_GROUP_SET_CONTAINER, &container);
}

long world_get_device(struct world *world, int group, const char *name)
{
	return world_ioctl_of(world, group, VFIO_GROUP_GET_DEVICE_FD, name);
}

struct opened world_open_all(struct world *world, unsigned version)
{
	struct opened opened = {
		.container = world_open_container(world),
		.group = world_open_group(world, 0),
	};

	assert_true(opened.container >= 0);
	assert_true(opened.group >= 0);
	assert_int_equal(world_set_container(world, opened.group, opened.container), 0);
	assert_int_equal(world_ioctl(world, opened.container, VFIO_SET_IOMMU, version), 0);
	opened.device = (int)world_get_device(world, opened.group, world->devices[0].address);
	assert_true(opened.device >= 0);
	return opened;
}

void world_close_all(struct world *world, const struct opened *opened)
{
	world_close(world, opened->device);
	world_close(world, opened->group);
	world_close(world, opened->container);
}

long world_map(struct world *world, int fd, uint32_t flags, uint64_t iova, uint64_t size,
	       const void *memory)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (uintptr_t)memory,
		.iova = iova,
		.size = size,
	};

	return world_ioctl_of(world, fd, VFIO_IOMMU_MAP_DMA, &map);
}

long world_unmap(struct world *world, int fd, uint32_t flags, uint64_t iova, uint64_t *size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = flags,
		.iova = iova,
		.size = *size,
	};
	long ret = world_ioctl_of(world, fd, VFIO_IOMMU_UNMAP_DMA, &unmap);

	*size = unmap.size;
	return ret;
}

uint32_t world_available(struct world *world, int fd)
{
	union {
		struct vfio_iommu_type1_info info;
		uint8_t bytes[4096];
	} reply = {.info.argsz = sizeof(reply)};
	uint32_t offset;

	assert_int_equal(world_ioctl_of(world, fd, VFIO_IOMMU_GET_INFO, &reply), 0);
	for (offset = reply.info.cap_offset; offset;) {
		struct vfio_iommu_type1_info_dma_avail *avail = (void *)(reply.bytes + offset);

		if (avail->header.id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
			return avail->avail;
		offset = avail->header.next;
	}
	fail_msg("no DMA_AVAIL");
	return 0;
}
