/* SPDX-License-Identifier: BSD-3-Clause */
/* iommufd's address spaces: commands that make them, map, copy and unmap, and options. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontends/uapi/iommufd.h"

#define MAP_FLAGS (IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE)

#define CAPABILITY_SYS_RESOURCE 24

int uapi_object_ioas_new(struct uvf_run *run, struct uapi_object_ioas **objectp)
{
	struct uapi_object_ioas *object = calloc(1, sizeof(*object));
	int ret;

	if (!object)
		return -ENOMEM;
	ret = uapi_ioas_new(run, &object->ioas);
	if (ret) {
		free(object);
		return ret;
	}
	*objectp = object;
	return 0;
}

void uapi_object_ioas_free(struct uapi_object_ioas *object)
{
	uapi_ioas_put(object->ioas);
	uapi_allowed_put(object->allowed);
	free(object);
}

int uapi_iommufd_get_ioas(struct uapi_iommufd *iommufd, uint32_t id, struct uapi_ioas **ioasp)
{
	struct uapi_object_ioas *object;

	pthread_mutex_lock(&iommufd->lock);
	object = uapi_object_find(iommufd, id, UAPI_OBJECT_IOAS);
	if (object)
		*ioasp = uapi_ioas_get(object->ioas);
	pthread_mutex_unlock(&iommufd->lock);
	return object ? 0 : -ENOENT;
}

/* Devices opened through groups, in compat mode, are attached without a page table of ours. */
bool uapi_object_ioas_is_used(struct uapi_iommufd *iommufd, const struct uapi_object_ioas *object)
{
	const struct uvf_run *run = iommufd->file.run;

	for (size_t i = 0; i < run->device_count; i++)
		if (run->devices[i].ioas == object->ioas)
			return true;
	return object->object.users > 0;
}

int uapi_iommufd_ioas_alloc(struct uapi_iommufd_command *command)
{
	struct uapi_iommufd *iommufd = command->iommufd;
	struct uapi_object_ioas *object;
	int ret;

	if (command->alloc.flags)
		return -EOPNOTSUPP;
	ret = uapi_object_ioas_new(iommufd->file.run, &object);
	if (ret)
		return ret;
	pthread_mutex_lock(&iommufd->lock);
	ret = uapi_object_reserve(iommufd, &object->object);
	pthread_mutex_unlock(&iommufd->lock);
	if (ret)
		goto out;
	command->alloc.out_ioas_id = object->object.id;
	ret = uapi_iommufd_respond(command, &command->alloc, sizeof(command->alloc));
	pthread_mutex_lock(&iommufd->lock);
	if (ret)
		uapi_object_remove(iommufd, &object->object);
	else
		uapi_object_publish(&object->object, UAPI_OBJECT_IOAS);
	pthread_mutex_unlock(&iommufd->lock);
out:
	if (ret)
		uapi_object_ioas_free(object);
	return ret;
}

int uapi_iommufd_ioas_iova_ranges(struct uapi_iommufd_command *command)
{
	struct iommu_ioas_iova_ranges *arguments = &command->iova_ranges;
	size_t room = arguments->num_iovas, count = 0, given;
	struct uvf_iova_range *ranges;
	struct uapi_ioas *ioas;
	uint64_t page_sizes;
	int ret;

	if (arguments->__reserved)
		return -EOPNOTSUPP;
	ret = uapi_iommufd_get_ioas(command->iommufd, arguments->ioas_id, &ioas);
	if (ret)
		return ret;
	count = uapi_ioas_ranges(ioas, NULL, 0);
	ranges = calloc(count ? count : 1, sizeof(*ranges));
	if (ranges)
		uapi_ioas_ranges(ioas, ranges, count);
	page_sizes = uapi_ioas_page_sizes(ioas);
	uapi_ioas_put(ioas);
	if (!ranges)
		return -ENOMEM;
	given = count < room ? count : room;
	/* Laid out alike: asserted in iommufd_iova.c. */
	if (given)
		ret = uapi_call_write(command->call, arguments->allowed_iovas, ranges,
				      given * sizeof(*ranges));
	free(ranges);
	if (ret)
		return ret;
	arguments->num_iovas = (uint32_t)count;
	arguments->out_iova_alignment = page_sizes & -page_sizes;
	ret = uapi_iommufd_respond(command, arguments, sizeof(*arguments));
	return ret ? ret : (count > room ? -EMSGSIZE : 0);
}

/* ---- Mapping ---- */

/* What the three commands that map have in common. */
struct mapping {
	uint32_t flags;
	uint32_t ioas_id;
	uint64_t iova;
	uint64_t size;
	uint64_t source; /* where in the program, in a file, or as what IOVA */
	int fd;		 /* of a file */
	struct uapi_ioas *copied;
};

typedef int map_function(struct uapi_iommufd_command *command, const struct mapping *mapping,
			 struct uapi_ioas *ioas, unsigned prot);

static int map_memory(struct uapi_iommufd_command *command, const struct mapping *mapping,
		      struct uapi_ioas *ioas, unsigned prot)
{
	return uapi_ioas_map(ioas, command->call, UAPI_RULES_IOMMUFD, mapping->iova, mapping->size,
			     prot, mapping->source);
}

static int map_file(struct uapi_iommufd_command *command, const struct mapping *mapping,
		    struct uapi_ioas *ioas, unsigned prot)
{
	return uapi_ioas_map_file(ioas, mapping->iova, mapping->size, prot, mapping->fd,
				  mapping->source);
}

static int map_copy(struct uapi_iommufd_command *command, const struct mapping *mapping,
		    struct uapi_ioas *ioas, unsigned prot)
{
	return uapi_ioas_copy(ioas, mapping->iova, mapping->size, prot, mapping->copied,
			      mapping->source);
}

/* What can be said of a mapping without looking at objects. */
static int check_mapping(const struct mapping *mapping)
{
	if (mapping->flags & ~(uint32_t)MAP_FLAGS)
		return -EOPNOTSUPP;
	if (mapping->iova == UINT64_MAX || mapping->size == UINT64_MAX)
		return -EOVERFLOW;
	if (!(mapping->flags & (IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE)))
		return -EINVAL;
	return 0;
}

static int check_source(const struct mapping *mapping)
{
	uint64_t last;

	if (!mapping->size)
		return -EINVAL;
	return __builtin_add_overflow(mapping->source, mapping->size - 1, &last) ? -EOVERFLOW : 0;
}

/* Linux looks for the object before it looks at the range. */
static int check_target(const struct uapi_iommufd_command *command, const struct mapping *mapping)
{
	struct uapi_ioas *ioas;
	int ret = uapi_iommufd_get_ioas(command->iommufd, mapping->ioas_id, &ioas);

	if (ret)
		return ret;
	uapi_ioas_put(ioas);
	return check_source(mapping);
}

/* Maps where it is said, or where there is room, which another thread can take meanwhile. */
static int map(struct uapi_iommufd_command *command, struct mapping *mapping,
	       map_function *function)
{
	unsigned prot = 0;
	struct uapi_ioas *ioas;
	bool chosen = !(mapping->flags & IOMMU_IOAS_MAP_FIXED_IOVA);
	int ret = uapi_iommufd_get_ioas(command->iommufd, mapping->ioas_id, &ioas);

	if (ret)
		return ret;
	if (mapping->flags & IOMMU_IOAS_MAP_READABLE)
		prot |= UVF_PROT_READ;
	if (mapping->flags & IOMMU_IOAS_MAP_WRITEABLE)
		prot |= UVF_PROT_WRITE;
	do {
		ret = 0;
		if (chosen)
			ret = uapi_iommufd_choose(command->iommufd, mapping->ioas_id,
						  mapping->source, mapping->size, &mapping->iova);
		if (!ret)
			ret = function(command, mapping, ioas, prot);
	} while (chosen && ret == -EEXIST);
	uapi_ioas_put(ioas);
	return ret;
}

int uapi_iommufd_ioas_map(struct uapi_iommufd_command *command)
{
	struct iommu_ioas_map *arguments = &command->map;
	struct mapping mapping = {
		.flags = arguments->flags,
		.ioas_id = arguments->ioas_id,
		.iova = arguments->iova,
		.size = arguments->length,
		.source = arguments->user_va,
	};
	int ret = arguments->__reserved ? -EOPNOTSUPP : check_mapping(&mapping);

	if (!ret)
		ret = check_target(command, &mapping);
	if (!ret)
		ret = map(command, &mapping, map_memory);
	if (ret)
		return ret;
	arguments->iova = mapping.iova;
	return uapi_iommufd_respond(command, arguments, sizeof(*arguments));
}

int uapi_iommufd_ioas_map_file(struct uapi_iommufd_command *command)
{
	struct iommu_ioas_map_file *arguments = &command->map_file;
	struct mapping mapping = {
		.flags = arguments->flags,
		.ioas_id = arguments->ioas_id,
		.iova = arguments->iova,
		.size = arguments->length,
		.source = arguments->start,
	};
	int ret = check_mapping(&mapping);

	if (!ret)
		ret = check_target(command, &mapping);
	if (ret)
		return ret;
	mapping.fd = uapi_call_get_fd(command->call, arguments->fd);
	if (mapping.fd < 0)
		return mapping.fd;
	ret = map(command, &mapping, map_file);
	close(mapping.fd);
	if (ret)
		return ret;
	arguments->iova = mapping.iova;
	return uapi_iommufd_respond(command, arguments, sizeof(*arguments));
}

int uapi_iommufd_ioas_copy(struct uapi_iommufd_command *command)
{
	struct iommu_ioas_copy *arguments = &command->copy;
	struct mapping mapping = {
		.flags = arguments->flags,
		.ioas_id = arguments->dst_ioas_id,
		.iova = arguments->dst_iova,
		.size = arguments->length,
		.source = arguments->src_iova,
	};
	int ret = arguments->flags & ~(uint32_t)MAP_FLAGS ? -EOPNOTSUPP : 0;

	if (ret)
		return ret;
	if (arguments->src_iova == UINT64_MAX)
		return -EOVERFLOW;
	ret = check_mapping(&mapping);
	if (ret)
		return ret;
	ret = uapi_iommufd_get_ioas(command->iommufd, arguments->src_ioas_id, &mapping.copied);
	if (ret)
		return ret;
	ret = check_source(&mapping);
	if (!ret)
		ret = map(command, &mapping, map_copy);
	uapi_ioas_put(mapping.copied);
	if (ret)
		return ret;
	arguments->dst_iova = mapping.iova;
	return uapi_iommufd_respond(command, arguments, sizeof(*arguments));
}

/* Address 0 and all ones: everything, and nothing is there is no error. */
static int unmap(struct uapi_ioas *ioas, uint64_t iova, uint64_t size, uint64_t *unmapped)
{
	uint64_t last = UINT64_MAX;
	int ret;

	if (iova == 0 && size == UINT64_MAX)
		return uapi_ioas_unmap(ioas, 0, UINT64_MAX, unmapped);
	if (iova == UINT64_MAX || size == UINT64_MAX)
		return -EOVERFLOW;
	if (!size)
		return -EINVAL;
	if (__builtin_add_overflow(iova, size - 1, &last))
		return -EOVERFLOW;
	ret = uapi_ioas_unmap(ioas, iova, last, unmapped);
	return ret ? ret : (*unmapped ? 0 : -ENOENT);
}

int uapi_iommufd_ioas_unmap(struct uapi_iommufd_command *command)
{
	struct iommu_ioas_unmap *arguments = &command->unmap;
	struct uapi_ioas *ioas;
	uint64_t unmapped = 0;
	int ret = uapi_iommufd_get_ioas(command->iommufd, arguments->ioas_id, &ioas);

	if (ret)
		return ret;
	ret = unmap(ioas, arguments->iova, arguments->length, &unmapped);
	uapi_ioas_put(ioas);
	if (ret)
		return ret;
	arguments->length = unmapped;
	return uapi_iommufd_respond(command, arguments, sizeof(*arguments));
}

/* ---- Whose memory is counted, and options ---- */

static int is_process_memory(void *opaque, const struct uvf_mapping *mapping)
{
	return uvf_memory_fd(mapping->memory) < 0;
}

/* Nothing is counted for a process here: it succeeds where Linux does. */
int uapi_iommufd_ioas_change_process(struct uapi_iommufd_command *command)
{
	struct uapi_iommufd *iommufd = command->iommufd;
	int ret = 0;

	if (command->change_process.__reserved)
		return -EOPNOTSUPP;
	for (uint32_t id = 1; id <= UAPI_OBJECTS_MAX && !ret; id++) {
		struct uapi_ioas *ioas;

		if (uapi_iommufd_get_ioas(iommufd, id, &ioas))
			continue;
		if (uvf_for_each_mapping(uapi_ioas_space(ioas), is_process_memory, NULL))
			ret = -EINVAL;
		uapi_ioas_put(ioas);
	}
	return ret;
}

/* CAP_SYS_RESOURCE, as the thread that calls has it. */
static bool may_change_resources(const struct uapi_call *call)
{
	char path[64], line[128];
	unsigned long long effective = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)call->thread);
	status = fopen(path, "re");
	if (!status)
		return false;
	while (fgets(line, sizeof(line), status))
		if (!strncmp(line, "CapEff:", 7))
			effective = strtoull(line + 7, NULL, 16);
	fclose(status);
	return effective >> CAPABILITY_SYS_RESOURCE & 1;
}

static int option_rlimit_mode(struct uapi_iommufd_command *command)
{
	struct uapi_iommufd *iommufd = command->iommufd;
	struct iommu_option *option = &command->option;
	int ret = 0;

	if (option->object_id)
		return -EOPNOTSUPP;
	if (option->op == IOMMU_OPTION_OP_SET && !may_change_resources(command->call))
		return -EPERM;
	pthread_mutex_lock(&iommufd->lock);
	if (option->op == IOMMU_OPTION_OP_GET)
		option->val64 = iommufd->accounts_process;
	else if (option->op != IOMMU_OPTION_OP_SET)
		ret = -EOPNOTSUPP;
	else if (iommufd->count)
		ret = -EBUSY;
	else if (option->val64 > 1)
		ret = -EINVAL;
	else
		iommufd->accounts_process = option->val64;
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

static int is_there(void *opaque, const struct uvf_mapping *mapping)
{
	return 1;
}

bool uapi_ioas_is_mapped(struct uapi_ioas *ioas)
{
	return uvf_for_each_mapping(uapi_ioas_space(ioas), is_there, NULL);
}

/* Mappings aren't made of pages here: it is remembered, and type1 asks for it. */
static int option_huge_pages(struct uapi_iommufd_command *command)
{
	struct uapi_iommufd *iommufd = command->iommufd;
	struct iommu_option *option = &command->option;
	struct uapi_object_ioas *object;
	bool is_mapped = false;
	struct uapi_ioas *ioas;
	int ret = uapi_iommufd_get_ioas(iommufd, option->object_id, &ioas);

	if (ret)
		return ret;
	if (option->op == IOMMU_OPTION_OP_SET && !option->val64)
		is_mapped = uapi_ioas_is_mapped(ioas);
	uapi_ioas_put(ioas);
	pthread_mutex_lock(&iommufd->file.run->topology);
	pthread_mutex_lock(&iommufd->lock);
	object = uapi_object_find(iommufd, option->object_id, UAPI_OBJECT_IOAS);
	if (!object)
		ret = -ENOENT;
	else if (option->op == IOMMU_OPTION_OP_GET)
		option->val64 = !object->small_pages;
	else if (option->op != IOMMU_OPTION_OP_SET)
		ret = -EOPNOTSUPP;
	else if (option->val64 > 1 || (!option->val64 && !object->small_pages && is_mapped &&
				       uapi_object_ioas_is_used(iommufd, object)))
		ret = -EINVAL;
	else
		object->small_pages = !option->val64;
	pthread_mutex_unlock(&iommufd->lock);
	pthread_mutex_unlock(&iommufd->file.run->topology);
	return ret;
}

int uapi_iommufd_option(struct uapi_iommufd_command *command)
{
	int ret = -EOPNOTSUPP;

	if (command->option.__reserved)
		return ret;
	if (command->option.option_id == IOMMU_OPTION_RLIMIT_MODE)
		ret = option_rlimit_mode(command);
	else if (command->option.option_id == IOMMU_OPTION_HUGE_PAGES)
		ret = option_huge_pages(command);
	return ret ? ret : uapi_iommufd_respond(command, &command->option, sizeof(command->option));
}
