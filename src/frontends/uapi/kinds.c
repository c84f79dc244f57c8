/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Kinds of calls: their names, and what their arguments are.
 *
 * An ioctl's argument: "" for none, "=" and a letter for a value, else the members of a structure:
 * a letter, a size and a name, and for flags the bits' names. A call's arguments: a letter each.
 * trace.c has the letters.
 */
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
	const char *layout;
} ioctl_names[] = {
#define ROW(command, files, layout)              \
	{                                        \
#command, command, files, layout \
	}
	ROW(VFIO_GET_API_VERSION, TYPE1, ""),
	ROW(VFIO_CHECK_EXTENSION, TYPE1, "=u"),
	ROW(VFIO_SET_IOMMU, TYPE1, "=u"),
	ROW(VFIO_IOMMU_GET_INFO, TYPE1,
	    "u4argsz f4flags(PGSIZES,CAPS) x8iova_pgsizes u4cap_offset"),
	ROW(VFIO_IOMMU_MAP_DMA, TYPE1, "u4argsz f4flags(READ,WRITE,VADDR) x8vaddr x8iova x8size"),
	ROW(VFIO_IOMMU_UNMAP_DMA, TYPE1,
	    "u4argsz f4flags(GET_DIRTY_BITMAP,ALL,VADDR) x8iova x8size"),
	ROW(VFIO_IOMMU_DIRTY_PAGES, TYPE1, "u4argsz f4flags(START,STOP,GET_BITMAP)"),
	ROW(VFIO_GROUP_GET_STATUS, GROUP, "u4argsz f4flags(VIABLE,CONTAINER_SET)"),
	ROW(VFIO_GROUP_SET_CONTAINER, GROUP, "d4fd"),
	ROW(VFIO_GROUP_UNSET_CONTAINER, GROUP, ""),
	ROW(VFIO_GROUP_GET_DEVICE_FD, GROUP, "=p"),
	ROW(VFIO_DEVICE_GET_INFO, DEVICE,
	    "u4argsz f4flags(RESET,PCI,PLATFORM,AMBA,CCW,AP,FSL_MC,CAPS) u4num_regions u4num_irqs "
	    "u4cap_offset"),
	ROW(VFIO_DEVICE_GET_REGION_INFO, DEVICE,
	    "u4argsz f4flags(READ,WRITE,MMAP,CAPS) u4index u4cap_offset x8size x8offset"),
	ROW(VFIO_DEVICE_GET_IRQ_INFO, DEVICE,
	    "u4argsz f4flags(EVENTFD,MASKABLE,AUTOMASKED,NORESIZE) u4index u4count"),
	ROW(VFIO_DEVICE_SET_IRQS, DEVICE,
	    "u4argsz "
	    "f4flags(DATA_NONE,DATA_BOOL,DATA_EVENTFD,ACTION_MASK,ACTION_UNMASK,ACTION_TRIGGER) "
	    "u4index u4start u4count"),
	ROW(VFIO_DEVICE_RESET, DEVICE, ""),
	ROW(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, DEVICE,
	    "u4argsz f4flags(DEV_ID,DEV_ID_OWNED) u4count"),
	ROW(VFIO_DEVICE_PCI_HOT_RESET, DEVICE, "u4argsz x4flags u4count"),
	ROW(VFIO_DEVICE_QUERY_GFX_PLANE, DEVICE, "u4argsz x4flags"),
	ROW(VFIO_DEVICE_GET_GFX_DMABUF, DEVICE, "=x"),
	ROW(VFIO_DEVICE_IOEVENTFD, DEVICE, "u4argsz x4flags x8offset x8data d4fd"),
	ROW(VFIO_DEVICE_FEATURE, DEVICE, "u4argsz x4flags"),
	ROW(VFIO_DEVICE_BIND_IOMMUFD, DEVICE, "u4argsz x4flags d4iommufd u4out_devid"),
	ROW(VFIO_DEVICE_ATTACH_IOMMUFD_PT, DEVICE, "u4argsz x4flags u4pt_id"),
	ROW(VFIO_DEVICE_DETACH_IOMMUFD_PT, DEVICE, "u4argsz x4flags"),
	ROW(IOMMU_DESTROY, IOMMUFD, "u4size u4id"),
	ROW(IOMMU_IOAS_ALLOC, IOMMUFD, "u4size x4flags u4out_ioas_id"),
	ROW(IOMMU_IOAS_ALLOW_IOVAS, IOMMUFD, "u4size u4ioas_id u4num_iovas -4 x8allowed_iovas"),
	ROW(IOMMU_IOAS_COPY, IOMMUFD,
	    "u4size f4flags(FIXED_IOVA,WRITEABLE,READABLE) u4dst_ioas_id u4src_ioas_id x8length "
	    "x8dst_iova x8src_iova"),
	ROW(IOMMU_IOAS_IOVA_RANGES, IOMMUFD,
	    "u4size u4ioas_id u4num_iovas -4 x8allowed_iovas x8out_iova_alignment"),
	ROW(IOMMU_IOAS_MAP, IOMMUFD,
	    "u4size f4flags(FIXED_IOVA,WRITEABLE,READABLE) u4ioas_id -4 x8user_va x8length x8iova"),
	ROW(IOMMU_IOAS_MAP_FILE, IOMMUFD,
	    "u4size f4flags(FIXED_IOVA,WRITEABLE,READABLE) u4ioas_id d4fd x8start x8length x8iova"),
	ROW(IOMMU_IOAS_UNMAP, IOMMUFD, "u4size u4ioas_id x8iova x8length"),
	ROW(IOMMU_OPTION, IOMMUFD, "u4size u4option_id u2op -2 u4object_id x8val64"),
	ROW(IOMMU_VFIO_IOAS, IOMMUFD, "u4size u4ioas_id u2op"),
	ROW(IOMMU_HWPT_ALLOC, IOMMUFD, "u4size x4flags u4dev_id u4pt_id u4out_hwpt_id"),
	ROW(IOMMU_GET_HW_INFO, IOMMUFD,
	    "u4size x4flags u4dev_id u4data_len x8data_uptr u4out_data_type -4 x8out_capabilities"),
	ROW(IOMMU_HWPT_SET_DIRTY_TRACKING, IOMMUFD, "u4size f4flags(ENABLE) u4hwpt_id"),
	ROW(IOMMU_HWPT_GET_DIRTY_BITMAP, IOMMUFD,
	    "u4size f4flags(NO_CLEAR) u4hwpt_id -4 x8iova x8length x8page_size x8data"),
	ROW(IOMMU_HWPT_INVALIDATE, IOMMUFD, "u4size u4hwpt_id x8data_uptr"),
	ROW(IOMMU_IOAS_CHANGE_PROCESS, IOMMUFD, "u4size"),
	{"ioctl", 0, 0, "=x"}, /* what has no name */
#undef ROW
};

static const struct call_name {
	const char *name;
	int number;
	const char *layout;
} call_names[] = {
#define ROW(call, layout)                  \
	{                                  \
#call, __NR_##call, layout \
	}
	ROW(open, "po"),
	ROW(openat, "apo"),
	ROW(openat2, "apx"),
	ROW(creat, "p"),
	ROW(mmap, "xxmMdr"),
	ROW(pread64, "dbur"),
	ROW(pwrite64, "dbur"),
	ROW(preadv, "dxur"),
	ROW(pwritev, "dxur"),
	ROW(preadv2, "dxur-x"),
	ROW(pwritev2, "dxur-x"),
	ROW(read, "dbu"),
	ROW(write, "dbu"),
	ROW(readv, "dxu"),
	ROW(writev, "dxu"),
	ROW(sendfile, "ddxu"),
	ROW(splice, "dxdxux"),
	ROW(fstat, "dx"),
	ROW(newfstatat, "dpxx"),
	ROW(statx, "dpxxx"),
	ROW(dup, "d"),
	ROW(dup2, "du"),
	ROW(dup3, "duo"),
	ROW(fcntl, "dux"),
	{"another call", -1, "xxxxxx"},
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

const char *uapi_kind_layout(unsigned kind, bool *is_ioctl)
{
	*is_ioctl = kind < COUNT(ioctl_names);
	if (*is_ioctl)
		return ioctl_names[kind].layout;
	kind -= (unsigned)COUNT(ioctl_names);
	return kind < COUNT(call_names) ? call_names[kind].layout : "";
}
