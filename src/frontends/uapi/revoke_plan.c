/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What of a process's mappings is not in line with areas that have changed: what is an area has to
 * be mapped from the area's file, all else from the region's trap file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontends/uapi/device.h"
#include "frontends/uapi/tracer_private.h"

struct search {
	struct uapi_tracer *tracer;
	struct uapi_fixes *fixes;
};

/* A part of a mapping that is of one region's part. */
struct run {
	const struct uapi_vma *vma;
	uint64_t address, size;
	struct uapi_device *device;
	uint32_t index;
	uint64_t offset; /* in the region */
	bool traps;
};

void uapi_fixes_free(struct uapi_fixes *fixes)
{
	for (size_t i = 0; i < fixes->file_count; i++)
		close(fixes->files[i].fd);
	free(fixes->files);
	free(fixes->fixes);
	*fixes = (struct uapi_fixes){0};
}

/* Which of the files it is, with a duplicate of it. @area_fd: -1: the region's trap file. */
static int get_file(struct search *search, const struct run *run, int area_fd, size_t *number)
{
	struct uapi_fixes *fixes = search->fixes;
	struct uapi_fix_file *files;
	int fd;

	for (size_t i = 0; i < fixes->file_count; i++) {
		const struct uapi_fix_file *file = &fixes->files[i];

		if (file->device == run->device && file->index == run->index &&
		    file->area_fd == area_fd) {
			*number = i;
			return 0;
		}
	}
	files = reallocarray(fixes->files, fixes->file_count + 1, sizeof(*files));
	if (!files)
		return -ENOMEM;
	fixes->files = files;
	if (area_fd < 0)
		fd = uapi_trap_file_get(search->tracer, run->device, run->index);
	else
		fd = fcntl(area_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return area_fd < 0 ? fd : -errno;
	*number = fixes->file_count++;
	files[*number] = (struct uapi_fix_file){fd, run->device, run->index, area_fd};
	return 0;
}

static int protection(const struct uapi_vma *vma)
{
	return (vma->prot & UVF_PROT_READ ? PROT_READ : 0) |
	       (vma->prot & UVF_PROT_WRITE ? PROT_WRITE : 0) | (vma->execute ? PROT_EXEC : 0);
}

static int add_fix(struct search *search, const struct run *run, const struct uvf_area *area,
		   uint64_t size)
{
	struct uapi_fixes *fixes = search->fixes;
	struct uapi_fix *all;
	size_t file = 0;
	int ret = get_file(search, run, area ? area->fd : -1, &file);

	if (ret)
		return ret;
	all = reallocarray(fixes->fixes, fixes->count + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	fixes->fixes = all;
	all[fixes->count++] = (struct uapi_fix){
		.address = run->address,
		.size = size,
		.prot = protection(run->vma),
		.file = file,
		.offset = area ? area->fd_offset + (run->offset - area->offset) : run->offset,
	};
	return 0;
}

static bool is_right(const struct run *run, const struct uvf_area *area)
{
	struct stat stat;

	if (!area || run->traps)
		return !area == run->traps;
	return fstat(area->fd, &stat) == 0 && stat.st_ino == run->vma->inode &&
	       stat.st_dev == run->vma->device &&
	       run->vma->offset + (run->address - run->vma->begin) ==
		       area->fd_offset + (run->offset - area->offset);
}

static int look_at_run(struct search *search, struct run *run)
{
	struct uvf_region_info info;
	int ret = uvf_region_get_info(run->device->dev, run->index, &info);

	while (!ret && run->size) {
		uint64_t size = run->size;
		const struct uvf_area *area = uapi_area_at(&info, run->offset, &size);

		if (!is_right(run, area))
			ret = add_fix(search, run, area, size);
		run->address += size;
		run->offset += size;
		run->size -= size;
	}
	return ret;
}

/* What was an area, once: it may be the parts of several in a row. */
static int look_at_areas(struct search *search, const struct uapi_vma *vma)
{
	int ret = 0;

	for (uint64_t at = vma->begin; at < vma->end && !ret;) {
		uint64_t in_file = vma->offset + (at - vma->begin);
		const struct uapi_area_file *file =
			uapi_area_file_find(search->tracer, vma, in_file);
		struct run run = {.vma = vma, .address = at};

		if (!file)
			return 0;
		search->fixes->areas = true;
		run.device = file->device;
		run.index = file->index;
		run.offset = file->offset + (in_file - file->begin);
		run.size = file->size - (in_file - file->begin);
		if (run.size > vma->end - at)
			run.size = vma->end - at;
		at += run.size;
		if (uapi_device_revokes(run.device))
			ret = look_at_run(search, &run);
	}
	return ret;
}

static int look_at_vma(void *opaque, const struct uapi_vma *vma)
{
	struct search *search = opaque;
	const struct uapi_trap_file *file;
	struct run run = {.vma = vma, .address = vma->begin, .traps = true};

	if (!vma->inode || !vma->shared)
		return 0;
	file = uapi_trap_file_find(search->tracer, vma);
	if (!file)
		return look_at_areas(search, vma);
	search->fixes->traps = true;
	if (!file->changes || !uapi_device_revokes(file->device))
		return 0;
	run.device = file->device;
	run.index = file->index;
	run.offset = vma->offset;
	run.size = vma->end - vma->begin;
	return look_at_run(search, &run);
}

int uapi_fixes_find(struct uapi_tracer *tracer, pid_t thread, struct uapi_fixes *fixes)
{
	struct search search = {tracer, fixes};
	int ret;

	*fixes = (struct uapi_fixes){0};
	ret = uapi_vmas_each(thread, look_at_vma, &search);
	if (ret < 0)
		uapi_fixes_free(fixes);
	return ret;
}
