/* SPDX-License-Identifier: BSD-3-Clause */
/* Kinds of calls and their names. */
#include <asm/unistd.h>
#include <string.h>
#include <uvfio/uapi.h>
#include <uvfio/uapi_iommufd.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/file.h"
#include "frontends/uapi/stats.h"

/* Kinds of files, as bits: VFIO's numbers mean different things to each. */
enum {
	CONTAINER = 1 << 0,
	GROUP = 1 << 1,
	DEVICE = 1 << 2,
	IOMMUFD = 1 << 3,
	TYPE1 = CONTAINER | IOMMUFD,
};

static const struct {
	const char *name; /* as in uapi_file_ops */
	unsigned kind;
} file_names[] = {
	{"container", CONTAINER}, {"group", GROUP},	{"device", DEVICE},
	{"cdev", DEVICE},	  {"iommufd", IOMMUFD},
};

static const struct ioctl_name {
	const char *name;
	unsigned command;
	unsigned files;
} ioctl_names[] = {
#define ROW(command, files)              \
	{                                \
#command, command, files \
	}
	ROW(VFIO_GET_API_VERSION, TYPE1),
	ROW(VFIO_CHECK_EXTENSION, TYPE1),
	ROW(VFIO_SET_IOMMU, TYPE1),
	ROW(VFIO_IOMMU_GET_INFO, TYPE1),
	ROW(VFIO_IOMMU_MAP_DMA, TYPE1),
	ROW(VFIO_IOMMU_UNMAP_DMA, TYPE1),
	ROW(VFIO_IOMMU_DIRTY_PAGES, TYPE1),
	ROW(VFIO_GROUP_GET_STATUS, GROUP),
	ROW(VFIO_GROUP_SET_CONTAINER, GROUP),
	ROW(VFIO_GROUP_UNSET_CONTAINER, GROUP),
	ROW(VFIO_GROUP_GET_DEVICE_FD, GROUP),
	ROW(VFIO_DEVICE_GET_INFO, DEVICE),
	ROW(VFIO_DEVICE_GET_REGION_INFO, DEVICE),
	ROW(VFIO_DEVICE_GET_IRQ_INFO, DEVICE),
	ROW(VFIO_DEVICE_SET_IRQS, DEVICE),
	ROW(VFIO_DEVICE_RESET, DEVICE),
	ROW(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, DEVICE),
	ROW(VFIO_DEVICE_PCI_HOT_RESET, DEVICE),
	ROW(VFIO_DEVICE_QUERY_GFX_PLANE, DEVICE),
	ROW(VFIO_DEVICE_GET_GFX_DMABUF, DEVICE),
	ROW(VFIO_DEVICE_IOEVENTFD, DEVICE),
	ROW(VFIO_DEVICE_FEATURE, DEVICE),
	ROW(VFIO_DEVICE_BIND_IOMMUFD, DEVICE),
	ROW(VFIO_DEVICE_ATTACH_IOMMUFD_PT, DEVICE),
	ROW(VFIO_DEVICE_DETACH_IOMMUFD_PT, DEVICE),
	ROW(IOMMU_DESTROY, IOMMUFD),
	ROW(IOMMU_IOAS_ALLOC, IOMMUFD),
	ROW(IOMMU_IOAS_ALLOW_IOVAS, IOMMUFD),
	ROW(IOMMU_IOAS_COPY, IOMMUFD),
	ROW(IOMMU_IOAS_IOVA_RANGES, IOMMUFD),
	ROW(IOMMU_IOAS_MAP, IOMMUFD),
	ROW(IOMMU_IOAS_MAP_FILE, IOMMUFD),
	ROW(IOMMU_IOAS_UNMAP, IOMMUFD),
	ROW(IOMMU_OPTION, IOMMUFD),
	ROW(IOMMU_VFIO_IOAS, IOMMUFD),
	ROW(IOMMU_HWPT_ALLOC, IOMMUFD),
	ROW(IOMMU_GET_HW_INFO, IOMMUFD),
	ROW(IOMMU_HWPT_SET_DIRTY_TRACKING, IOMMUFD),
	ROW(IOMMU_HWPT_GET_DIRTY_BITMAP, IOMMUFD),
	ROW(IOMMU_HWPT_INVALIDATE, IOMMUFD),
	ROW(IOMMU_IOAS_CHANGE_PROCESS, IOMMUFD),
	{"ioctl", 0, 0}, /* what has no name */
#undef ROW
};

static const struct call_name {
	const char *name;
	int number;
} call_names[] = {
#define ROW(call)                  \
	{                          \
#call, __NR_##call \
	}
	ROW(open),     ROW(openat),   ROW(openat2), ROW(creat),	     ROW(mmap),
	ROW(pread64),  ROW(pwrite64), ROW(preadv),  ROW(pwritev),    ROW(preadv2),
	ROW(pwritev2), ROW(read),     ROW(write),   ROW(readv),	     ROW(writev),
	ROW(sendfile), ROW(splice),   ROW(fstat),   ROW(newfstatat), ROW(statx),
	ROW(dup),      ROW(dup2),     ROW(dup3),    ROW(fcntl),	     {"another call", -1},
#undef ROW
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Kinds in this order: ioctls, calls, what is passed on. */
static unsigned kind_of_ioctl(const char *file, unsigned command)
{
	unsigned kind = 0;
	unsigned i;

	for (i = 0; i < COUNT(file_names); i++)
		if (strcmp(file, file_names[i].name) == 0)
			kind = file_names[i].kind;
	for (i = 0; i < COUNT(ioctl_names) - 1; i++)
		if (ioctl_names[i].command == command && (ioctl_names[i].files & kind))
			break;
	return i;
}

unsigned uapi_kind_of_call(const struct uapi_call *call, bool passed_on)
{
	unsigned i;

	if (passed_on)
		return COUNT(ioctl_names) + COUNT(call_names);
	if (call->number == __NR_ioctl)
		return kind_of_ioctl(call->file_name ? call->file_name : "",
				     (unsigned)call->arguments[1]);
	for (i = 0; i < COUNT(call_names) - 1; i++)
		if (call_names[i].number == call->number)
			break;
	return (unsigned)COUNT(ioctl_names) + i;
}

const char *uapi_kind_name(unsigned kind)
{
	if (kind < COUNT(ioctl_names))
		return ioctl_names[kind].name;
	kind -= (unsigned)COUNT(ioctl_names);
	return kind < COUNT(call_names) ? call_names[kind].name : "(passed on)";
}

unsigned uapi_kind_count(void)
{
	return COUNT(ioctl_names) + COUNT(call_names) + 1;
}
