/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is behind a mapping of the program: a file without a byte, whose every page raises SIGBUS,
 * one for each region, so that the mapping itself says what it is of; or an area's file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "frontends/uapi/tracer_private.h"

/* With the lock. */
static struct uapi_trap_file *find_file(struct uapi_tracer *tracer,
					const struct uapi_device *device, uint32_t index)
{
	for (struct uapi_trap_file *file = tracer->files; file; file = file->next)
		if (file->device == device && file->index == index)
			return file;
	return NULL;
}

static struct uapi_trap_file *new_file(struct uapi_device *device, uint32_t index)
{
	struct uapi_trap_file *file = calloc(1, sizeof(*file));
	struct uvf_region_info info;
	struct stat stat;
	char name[64];

	if (!file)
		return NULL;
	snprintf(name, sizeof(name), "vfio %s region %u", device->address, index);
	file->device = device;
	file->index = index;
	file->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* The program has it for a moment, and shall not make pages of it. */
	if (file->fd < 0 ||
	    fcntl(file->fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0 ||
	    fstat(file->fd, &stat) < 0) {
		if (file->fd >= 0)
			close(file->fd);
		free(file);
		return NULL;
	}
	file->filesystem = stat.st_dev;
	file->inode = stat.st_ino;
	file->changes = !uvf_region_get_info(device->dev, index, &info) && info.areas_change;
	return file;
}

int uapi_trap_file_get(struct uapi_tracer *tracer, struct uapi_device *device, uint32_t index)
{
	struct uapi_trap_file *file;
	int fd = -ENOMEM;

	pthread_mutex_lock(&tracer->lock);
	file = find_file(tracer, device, index);
	if (!file) {
		file = new_file(device, index);
		if (file) {
			file->next = tracer->files;
			tracer->files = file;
		}
	}
	if (file) {
		fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			fd = -errno;
	}
	pthread_mutex_unlock(&tracer->lock);
	return fd;
}

const struct uapi_trap_file *uapi_trap_file_find(struct uapi_tracer *tracer,
						 const struct uapi_vma *vma)
{
	const struct uapi_trap_file *file;

	pthread_mutex_lock(&tracer->lock);
	for (file = tracer->files; file; file = file->next)
		if (file->inode == vma->inode && file->filesystem == vma->device)
			break;
	pthread_mutex_unlock(&tracer->lock);
	return file;
}

/* ---- Areas that come and go ---- */

/* With the lock. */
static bool has_area_file(const struct uapi_tracer *tracer, const struct uapi_area_file *wanted)
{
	const struct uapi_area_file *at;

	for (at = tracer->area_files; at; at = at->next)
		if (at->device == wanted->device && at->index == wanted->index &&
		    at->inode == wanted->inode && at->filesystem == wanted->filesystem &&
		    at->begin == wanted->begin && at->size == wanted->size &&
		    at->offset == wanted->offset)
			return true;
	return false;
}

int uapi_area_file_add(struct uapi_tracer *tracer, struct uapi_device *device, uint32_t index,
		       const struct uvf_area *area)
{
	struct uapi_area_file *file = calloc(1, sizeof(*file));
	struct stat stat;

	if (!file)
		return -ENOMEM;
	if (fstat(area->fd, &stat) < 0) {
		free(file);
		return -EBADF;
	}
	*file = (struct uapi_area_file){
		.device = device,
		.index = index,
		.filesystem = stat.st_dev,
		.inode = stat.st_ino,
		.begin = area->fd_offset,
		.size = area->size,
		.offset = area->offset,
	};
	pthread_mutex_lock(&tracer->lock);
	if (has_area_file(tracer, file)) {
		free(file);
	} else {
		file->next = tracer->area_files;
		tracer->area_files = file;
	}
	pthread_mutex_unlock(&tracer->lock);
	return 0;
}

const struct uapi_area_file *uapi_area_file_find(struct uapi_tracer *tracer,
						 const struct uapi_vma *vma, uint64_t at)
{
	const struct uapi_area_file *file;

	pthread_mutex_lock(&tracer->lock);
	for (file = tracer->area_files; file; file = file->next)
		if (file->inode == vma->inode && file->filesystem == vma->device &&
		    at >= file->begin && at - file->begin < file->size)
			break;
	pthread_mutex_unlock(&tracer->lock);
	return file;
}

/* ---- All of them ---- */

void uapi_trap_files_free(struct uapi_tracer *tracer)
{
	while (tracer->area_files) {
		struct uapi_area_file *file = tracer->area_files;

		tracer->area_files = file->next;
		free(file);
	}
	while (tracer->files) {
		struct uapi_trap_file *file = tracer->files;

		tracer->files = file->next;
		close(file->fd);
		free(file);
	}
}

/* Whether byte @at of the mapped file is a byte of an area of the region. */
static bool in_areas(struct uapi_device *device, uint32_t index, const struct uapi_vma *vma,
		     uint64_t at, uint64_t *offset, uint64_t *size)
{
	struct uvf_region_info info;

	if (uvf_region_get_info(device->dev, index, &info))
		return false;
	for (size_t i = 0; i < info.area_count; i++) {
		const struct uvf_area *area = &info.areas[i];
		struct stat stat;

		if (at < area->fd_offset || at - area->fd_offset >= area->size ||
		    fstat(area->fd, &stat) < 0 || stat.st_ino != vma->inode ||
		    stat.st_dev != vma->device)
			continue;
		*offset = area->offset + (at - area->fd_offset);
		*size = area->size - (at - area->fd_offset);
		return true;
	}
	return false;
}

static int find_area(struct uvf_run *run, const struct uapi_vma *vma, uint64_t at,
		     struct uapi_device **devicep, uint32_t *index, uint64_t *offset,
		     uint64_t *size)
{
	for (size_t i = 0; i < run->device_count; i++)
		for (*index = 0; *index < UAPI_BARS; ++*index)
			if (in_areas(&run->devices[i], *index, vma, at, offset, size)) {
				*devicep = &run->devices[i];
				return 0;
			}
	return -ENOENT;
}

int uapi_tracer_find(struct uvf_run *run, const struct uapi_vma *vma, uint64_t address,
		     struct uapi_device **devicep, uint32_t *index, uint64_t *offset,
		     uint64_t *size)
{
	const struct uapi_area_file *area_file = NULL;
	const struct uapi_trap_file *file = NULL;
	uint64_t at = vma->offset + (address - vma->begin);

	if (!vma->inode)
		return -ENOENT;
	if (run->tracer)
		file = uapi_trap_file_find(run->tracer, vma);
	if (run->tracer && !file)
		area_file = uapi_area_file_find(run->tracer, vma, at);
	if (area_file) {
		*devicep = area_file->device;
		*index = area_file->index;
		*offset = area_file->offset + (at - area_file->begin);
		*size = area_file->size - (at - area_file->begin);
	} else if (file) {
		*devicep = file->device;
		*index = file->index;
		*offset = at;
		*size = UINT64_MAX - at;
	} else if (find_area(run, vma, at, devicep, index, offset, size) < 0) {
		return -ENOENT;
	}
	if (*size > vma->end - address)
		*size = vma->end - address;
	return 0;
}
