/* SPDX-License-Identifier: BSD-3-Clause */
/* A run's configuration: checked, copied, with defaults filled in. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontends/uapi/configure.h"
#include "frontends/uapi/uapi.h"

#define DEFAULT_PAGE_SIZES   ((1ULL << 12) | (1ULL << 21) | (1ULL << 30))
#define DEFAULT_APERTURE_END ((1ULL << 48) - 1)
#define DEFAULT_MAX_MAPPINGS 65535

static const struct uvf_iova_range msi_window = {0xfee00000, 0xfeefffff};

/* ---- Addresses ---- */

/* A hexadecimal number of at most @digits digits; what comes after it, or NULL. */
static const char *parse_hex(const char *text, unsigned digits, uint32_t *number)
{
	static const char known[] = "0123456789abcdef";
	unsigned count = 0;

	*number = 0;
	for (; *text; text++, count++) {
		const char *digit = strchr(known, *text | 0x20);

		if (!digit || *text < '0')
			break;
		if (count == digits)
			return NULL;
		*number = *number << 4 | (uint32_t)(digit - known);
	}
	return count ? text : NULL;
}

/* "0000:65:00.0" or "65:00.0". */
static bool parse_address(const char *text, struct uapi_device *device)
{
	uint32_t bus = 0, slot = 0, function = 0;
	const char *colon = strchr(text, ':');

	device->domain = 0;
	if (colon && strchr(colon + 1, ':')) {
		text = parse_hex(text, 8, &device->domain);
		if (!text || *text++ != ':')
			return false;
	}
	text = parse_hex(text, 2, &bus);
	if (!text || *text++ != ':')
		return false;
	text = parse_hex(text, 2, &slot);
	if (!text || *text++ != '.' || slot > 31)
		return false;
	text = parse_hex(text, 1, &function);
	if (!text || *text || function > 7)
		return false;
	device->bus = (uint8_t)bus;
	device->devfn = (uint8_t)(slot << 3 | function);
	return true;
}

/* Another device that has its address. */
static const struct uapi_device *same_address(const struct uvf_run *run,
					      const struct uapi_device *device)
{
	for (size_t i = 0; i < run->device_count; i++) {
		const struct uapi_device *other = &run->devices[i];

		if (other != device && other->address[0] && other->domain == device->domain &&
		    other->bus == device->bus && other->devfn == device->devfn)
			return other;
	}
	return NULL;
}

static void name_address(struct uapi_device *device)
{
	snprintf(device->address, sizeof(device->address), "%04x:%02x:%02x.%x", device->domain,
		 device->bus, device->devfn >> 3U, device->devfn & 7U);
}

/* A bus of its own, as behind a root port. */
static int choose_address(const struct uvf_run *run, struct uapi_device *device,
			  struct uvf_error *error)
{
	device->domain = 0;
	device->devfn = 0;
	for (unsigned bus = 1; bus < 256; bus++) {
		device->bus = (uint8_t)bus;
		if (!same_address(run, device)) {
			name_address(device);
			return 0;
		}
	}
	return uvf_fail(error, -EINVAL, "%s: all addresses up to 0000:ff:00.0 are taken",
			uvf_device_name(device->dev));
}

static int set_addresses(struct uvf_run *run, const struct uvf_run_config *config,
			 struct uvf_error *error)
{
	int result = 0;

	for (size_t i = 0; i < run->device_count; i++) {
		struct uapi_device *device = &run->devices[i];
		const char *address = config->devices[i].address;
		const struct uapi_device *other;

		if (!address)
			continue;
		if (!parse_address(address, device))
			return uvf_fail(error, -EINVAL, "%s: address %s isn't like 0000:65:00.0",
					uvf_device_name(device->dev), address);
		other = same_address(run, device);
		if (other)
			return uvf_fail(error, -EINVAL, "%s and %s have the same address %s",
					uvf_device_name(other->dev), uvf_device_name(device->dev),
					address);
		name_address(device);
	}
	for (size_t i = 0; i < run->device_count && !result; i++)
		if (!run->devices[i].address[0])
			result = choose_address(run, &run->devices[i], error);
	return result;
}

/* ---- Groups ---- */

static struct uapi_group *find_group(struct uvf_run *run, unsigned number)
{
	for (size_t i = 0; i < run->group_count; i++)
		if (run->groups[i].number == number)
			return &run->groups[i];
	return NULL;
}

static int join_group(struct uvf_run *run, struct uapi_device *device, unsigned number)
{
	struct uapi_group *group = find_group(run, number);

	if (!group) {
		group = &run->groups[run->group_count++];
		group->run = run;
		group->number = number;
		group->devices = calloc(run->device_count, sizeof(group->devices[0]));
		if (!group->devices)
			return -ENOMEM;
	}
	group->devices[group->device_count++] = device;
	device->group = group;
	return 0;
}

/* The devices are told, where there are several. */
static int tell_group(struct uapi_group *group)
{
	int result;

	if (group->device_count < 2)
		return 0;
	result = uvf_group_new(&group->together);
	for (size_t i = 0; i < group->device_count && !result; i++)
		uvf_device_set_group(group->devices[i]->dev, group->together);
	return result;
}

static int set_groups(struct uvf_run *run, const struct uvf_run_config *config,
		      struct uvf_error *error)
{
	unsigned next = 1;
	int result = 0;

	for (size_t i = 0; i < run->device_count && !result; i++) {
		int number = config->devices[i].group;

		if (number < -1)
			return uvf_fail(error, -EINVAL, "%s: group %d: numbers begin with 0",
					uvf_device_name(run->devices[i].dev), number);
		if (number >= 0)
			result = join_group(run, &run->devices[i], (unsigned)number);
	}
	for (size_t i = 0; i < run->device_count && !result; i++) {
		if (config->devices[i].group != -1)
			continue;
		while (find_group(run, next))
			next++;
		result = join_group(run, &run->devices[i], next);
	}
	for (size_t i = 0; i < run->group_count && !result; i++)
		result = tell_group(&run->groups[i]);
	return result;
}

/* ---- Devices ---- */

static int set_device(struct uvf_run *run, size_t number, const struct uvf_run_device *from,
		      struct uvf_error *error)
{
	struct uapi_device *device = &run->devices[number];
	struct uvf_device_info info;

	uvf_device_get_info(from->dev, &info);
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return uvf_fail(error, -EINVAL, "%s is not a PCI device",
				uvf_device_name(from->dev));
	for (size_t i = 0; i < number; i++)
		if (run->devices[i].dev == from->dev)
			return uvf_fail(error, -EINVAL, "%s is there twice",
					uvf_device_name(from->dev));
	device->run = run;
	device->dev = from->dev;
	device->number = number;
	device->numa_node = from->numa_node;
	memcpy(device->trap, from->trap, sizeof(device->trap));
	return 0;
}

static int set_devices(struct uvf_run *run, const struct uvf_run_config *config,
		       struct uvf_error *error)
{
	size_t count = config->device_count;
	int result = 0;

	run->devices = calloc(count ? count : 1, sizeof(run->devices[0]));
	run->groups = calloc(count ? count : 1, sizeof(run->groups[0]));
	if (!run->devices || !run->groups)
		return -ENOMEM;
	run->device_count = count;
	for (size_t i = 0; i < count; i++) {
		pthread_mutex_init(&run->devices[i].migrating, NULL);
		pthread_mutex_init(&run->devices[i].known.lock, NULL);
	}
	for (size_t i = 0; i < count && !result; i++)
		result = set_device(run, i, &config->devices[i], error);
	if (!result)
		result = set_addresses(run, config, error);
	if (!result)
		result = set_groups(run, config, error);
	return result;
}

/* ---- The IOMMU and the rest ---- */

static int set_iommu(struct uvf_run_config *config, struct uvf_error *error)
{
	const struct uvf_iova_range *from = config->reserved ? config->reserved : &msi_window;
	size_t count = config->reserved ? config->reserved_count : 1;
	struct uvf_iova_range *reserved = calloc(count ? count : 1, sizeof(*reserved));

	config->reserved = reserved;
	config->reserved_count = count;
	if (!reserved)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		reserved[i] = from[i];
		if (from[i].first > from[i].last)
			return uvf_fail(error, -EINVAL, "a reserved range ends before it begins");
	}
	if (!config->page_sizes)
		config->page_sizes = DEFAULT_PAGE_SIZES;
	if (config->page_sizes & 4095)
		return uvf_fail(error, -EINVAL, "IOMMU pages have 4 KiB at least");
	if (!config->aperture.first && !config->aperture.last)
		config->aperture.last = DEFAULT_APERTURE_END;
	if (config->aperture.first > config->aperture.last)
		return uvf_fail(error, -EINVAL, "the aperture ends before it begins");
	if (!config->max_mappings)
		config->max_mappings = DEFAULT_MAX_MAPPINGS;
	return 0;
}

static int copy_arguments(struct uvf_run_config *config, char *const *from)
{
	size_t count = 0;
	char **to;

	while (from[count])
		count++;
	to = calloc(count + 1, sizeof(*to));
	config->argv = to;
	for (size_t i = 0; to && i < count; i++) {
		to[i] = strdup(from[i]);
		if (!to[i])
			return -ENOMEM;
	}
	return to ? 0 : -ENOMEM;
}

int uapi_configure(const struct uvf_run_config *config, struct uvf_run **runp,
		   struct uvf_error *error)
{
	struct uvf_run *run = calloc(1, sizeof(*run));
	int result;

	if (!run)
		return uvf_fail(error, -ENOMEM, "no memory");
	run->config = *config;
	run->config.argv = NULL;
	run->config.devices = NULL;
	run->pidfd = -1;
	pthread_mutex_init(&run->topology, NULL);
	pthread_cond_init(&run->changed, NULL);
	result = set_iommu(&run->config, error);
	if (!result && (!config->argv || !config->argv[0]))
		result = uvf_fail(error, -EINVAL, "no program to run");
	if (!result)
		result = copy_arguments(&run->config, config->argv);
	if (!result)
		result = set_devices(run, config, error);
	if (result) {
		if (result == -ENOMEM)
			uvf_fail(error, result, "no memory");
		uapi_configure_free(run);
		return result;
	}
	*runp = run;
	return 0;
}

void uapi_configure_free(struct uvf_run *run)
{
	for (size_t i = 0; i < run->group_count; i++) {
		uvf_group_free(run->groups[i].together);
		free(run->groups[i].devices);
	}
	for (size_t i = 0; i < run->device_count; i++) {
		pthread_mutex_destroy(&run->devices[i].migrating);
		pthread_mutex_destroy(&run->devices[i].known.lock);
	}
	for (char *const *argument = run->config.argv; argument && *argument; argument++)
		free(*argument);
	free((void *)(uintptr_t)run->config.argv);
	free((void *)(uintptr_t)run->config.reserved);
	free(run->groups);
	free(run->devices);
	pthread_cond_destroy(&run->changed);
	pthread_mutex_destroy(&run->topology);
	free(run);
}
