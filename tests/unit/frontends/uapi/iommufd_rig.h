/* SPDX-License-Identifier: BSD-3-Clause */
/* iommufd's commands as a program makes them, in the world of helpers.h. */
#ifndef UVF_TEST_UAPI_IOMMUFD_RIG_H
#define UVF_TEST_UAPI_IOMMUFD_RIG_H

#include "helpers.h"

#include <fcntl.h>
#include <uvfio/dma.h>
#include <uvfio/uapi_iommufd.h>

/* An address that isn't mapped. */
#define NOWHERE 1ULL

static inline uint32_t ioas_alloc(struct world *world, int fd)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};

	assert_int_equal(world_ioctl_of(world, fd, IOMMU_IOAS_ALLOC, &alloc), 0);
	assert_true(alloc.out_ioas_id > 0);
	return alloc.out_ioas_id;
}

static inline long destroy(struct world *world, int fd, uint32_t id)
{
	struct iommu_destroy destroy = {sizeof(destroy), id};

	return world_ioctl_of(world, fd, IOMMU_DESTROY, &destroy);
}

static inline long ioas_map(struct world *world, int fd, uint32_t id, uint32_t flags,
			    const void *memory, uint64_t size, uint64_t *iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = flags,
		.ioas_id = id,
		.user_va = (uintptr_t)memory,
		.length = size,
		.iova = *iova,
	};
	long ret = world_ioctl_of(world, fd, IOMMU_IOAS_MAP, &map);

	*iova = map.iova;
	return ret;
}

#define MAP_RW	     (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)
#define MAP_RW_FIXED (MAP_RW | IOMMU_IOAS_MAP_FIXED_IOVA)

static inline long ioas_map_fixed(struct world *world, int fd, uint32_t id, const void *memory,
				  uint64_t size, uint64_t iova)
{
	return ioas_map(world, fd, id, MAP_RW_FIXED, memory, size, &iova);
}

static inline long ioas_unmap(struct world *world, int fd, uint32_t id, uint64_t iova,
			      uint64_t *size)
{
	struct iommu_ioas_unmap unmap = {sizeof(unmap), id, iova, *size};
	long ret = world_ioctl_of(world, fd, IOMMU_IOAS_UNMAP, &unmap);

	*size = unmap.length;
	return ret;
}

static inline int open_cdev(struct world *world, size_t index)
{
	struct uapi_call call = world_call(world);
	struct uapi_file *file;

	assert_int_equal(uapi_cdev_open(&world->devices[index], &file), 0);
	return uapi_call_place(&call, file, O_CLOEXEC);
}

static inline long bind_cdev(struct world *world, int cdev, int iommufd, uint32_t *id)
{
	struct {
		struct vfio_device_bind_iommufd bind;
		uint64_t more;
	} argument = {.bind = {.argsz = 16, .iommufd = iommufd}};
	long ret = world_ioctl_of(world, cdev, VFIO_DEVICE_BIND_IOMMUFD, &argument);

	*id = argument.bind.out_devid;
	return ret;
}

static inline long attach_cdev(struct world *world, int cdev, uint32_t *id)
{
	struct {
		uint32_t argsz, flags, pt_id;
	} attach = {sizeof(attach), 0, *id};
	long ret = world_ioctl_of(world, cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);

	*id = attach.pt_id;
	return ret;
}

static inline long detach_cdev(struct world *world, int cdev)
{
	struct {
		uint32_t argsz, flags;
	} detach = {sizeof(detach), 0};

	return world_ioctl_of(world, cdev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

static inline long hwpt_alloc(struct world *world, int fd, uint32_t flags, uint32_t device,
			      uint32_t table, uint32_t *id)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = flags,
		.dev_id = device,
		.pt_id = table,
	};
	long ret = world_ioctl_of(world, fd, IOMMU_HWPT_ALLOC, &alloc);

	*id = alloc.out_hwpt_id;
	return ret;
}

/* DMA by device @index, as its model would. */
static inline int dma_write(struct world *world, size_t index, uint64_t iova, const void *from,
			    size_t size)
{
	uvf_device_set_bus_master(world->devices[index].dev, true);
	return uvf_dma_write(world->devices[index].dev, UVF_PASID_NONE, iova, from, size);
}

static inline int dma_read(struct world *world, size_t index, uint64_t iova, void *to, size_t size)
{
	uvf_device_set_bus_master(world->devices[index].dev, true);
	return uvf_dma_read(world->devices[index].dev, UVF_PASID_NONE, iova, to, size);
}

#endif
