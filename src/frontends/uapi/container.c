/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * /dev/vfio/vfio: a container. Groups join it, and by the first of them it may be given an IOMMU,
 * which the last that leaves takes away, with all that is mapped. Groups have references: a
 * container outlives its descriptors until they have left.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "frontends/uapi/call.h"
#include "frontends/uapi/ioas.h"
#include "frontends/uapi/sysfs.h"
#include "frontends/uapi/uapi.h"

struct uapi_container {
	struct uapi_file file;

	/* Under the topology lock. */
	unsigned groups;
	struct uapi_ioas *ioas; /* NULL: no IOMMU is set */
	unsigned version;
};

static struct uapi_container *container_of_file(struct uapi_file *file)
{
	return (struct uapi_container *)file;
}

static long get_api_version(struct uapi_container *container, struct uapi_call *call,
			    uint64_t argument)
{
	return VFIO_API_VERSION;
}

/* Before an IOMMU is set, -EINVAL is the answer to all that is its. */
static long ask_type1(struct uapi_container *container, struct uapi_call *call, unsigned command,
		      uint64_t argument)
{
	struct uvf_run *run = container->file.run;
	struct uapi_type1 type1 = {.compat = false};
	long ret = -EINVAL;

	pthread_mutex_lock(&run->topology);
	type1.ioas = container->ioas ? uapi_ioas_get(container->ioas) : NULL;
	type1.version = container->version;
	pthread_mutex_unlock(&run->topology);
	if (type1.ioas || command == VFIO_CHECK_EXTENSION)
		ret = uapi_type1_ioctl(&type1, call, command, argument);
	if (type1.ioas)
		uapi_ioas_put(type1.ioas);
	return ret;
}

static long check_extension(struct uapi_container *container, struct uapi_call *call,
			    uint64_t argument)
{
	return ask_type1(container, call, VFIO_CHECK_EXTENSION, argument);
}

static long set_iommu(struct uapi_container *container, struct uapi_call *call, uint64_t argument)
{
	struct uvf_run *run = container->file.run;
	const struct uapi_type1 none = {.ioas = NULL};
	long ret;

	pthread_mutex_lock(&run->topology);
	if (container->groups == 0 || container->ioas) {
		ret = -EINVAL;
		goto unlock;
	}
	/* The kernel looks for a driver that knows this number, and then asks that one. */
	if (uapi_type1_ioctl(&none, call, VFIO_CHECK_EXTENSION, argument) <= 0) {
		ret = -ENODEV;
		goto unlock;
	}
	if (argument != VFIO_TYPE1_IOMMU && argument != VFIO_TYPE1v2_IOMMU) {
		ret = -EINVAL;
		goto unlock;
	}
	ret = uapi_ioas_new(run, &container->ioas);
	container->version = (unsigned)argument;
unlock:
	pthread_mutex_unlock(&run->topology);
	return ret;
}

static const struct {
	unsigned command;
	long (*handle)(struct uapi_container *container, struct uapi_call *call, uint64_t argument);
} commands[] = {
	{VFIO_GET_API_VERSION, get_api_version},
	{VFIO_CHECK_EXTENSION, check_extension},
	{VFIO_SET_IOMMU, set_iommu},
};

static long container_ioctl(struct uapi_file *file, struct uapi_call *call, unsigned command,
			    uint64_t argument)
{
	struct uapi_container *container = container_of_file(file);

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (commands[i].command == command)
			return commands[i].handle(container, call, argument);
	return ask_type1(container, call, command, argument);
}

static const struct uapi_file_ops container_ops = {
	.name = "container",
	.ioctl = container_ioctl,
};

int uapi_container_open(struct uvf_run *run, struct uapi_file **filep)
{
	struct uapi_container *container = calloc(1, sizeof(*container));
	int ret;

	if (!container)
		return -ENOMEM;
	ret = uapi_file_init(&container->file, run, &container_ops, uapi_container_rdev());
	if (ret) {
		free(container);
		return ret;
	}
	*filep = &container->file;
	return 0;
}

bool uapi_file_is_container(const struct uapi_file *file)
{
	return file->ops == &container_ops;
}

struct uapi_ioas *uapi_container_ioas(struct uapi_file *file)
{
	struct uapi_container *container = container_of_file(file);

	return container->ioas ? uapi_ioas_get(container->ioas) : NULL;
}

int uapi_container_join(struct uapi_file *file)
{
	struct uapi_container *container = container_of_file(file);

	if (container->ioas && uapi_ioas_has_invalid_vaddr(container->ioas))
		return -EBUSY;
	container->groups++;
	return 0;
}

struct uapi_ioas *uapi_container_leave(struct uapi_file *file)
{
	struct uapi_container *container = container_of_file(file);
	struct uapi_ioas *ioas = container->ioas;

	assert(container->groups > 0);
	if (--container->groups > 0)
		return NULL;
	container->ioas = NULL;
	return ioas;
}
