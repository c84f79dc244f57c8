/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a program is offered: devices with their places, an IOMMU, faults. Put together from options
 * (setup_option.c) and files (topology.c), both with the same meaning.
 */
#ifndef UVF_CLI_SETUP_H
#define UVF_CLI_SETUP_H

#include <uvfio/run.h>

struct setup_device {
	char *spec; /* the model's */
	char *name; /* NULL: none */
	char address[24];
	int group;     /* -1: one of its own */
	int numa_node; /* -1: none */
	enum uvf_run_trap trap[6];
	struct uvf_device *dev; /* NULL until it is made */
};

struct setup {
	struct setup_device *devices;
	size_t device_count;
	char **faults;
	size_t fault_count;

	bool iommu_given;
	uint64_t page_sizes;
	struct uvf_iova_range aperture;
	struct uvf_iova_range *reserved;
	size_t reserved_count;
	uint64_t max_mappings, max_locked;
};

/* Zeros are an empty one. */
void setup_free(struct setup *setup);

/*
 * Adds one, for the caller to fill in; @spec (of the model) and @fault are copied.
 * Errors: NULL or -ENOMEM.
 */
struct setup_device *setup_add_device(struct setup *setup, const char *spec);
int setup_add_fault(struct setup *setup, const char *fault);
int setup_add_reserved(struct setup *setup, struct uvf_iova_range range);

/* Values in both of the forms that there are. Each says what it expected. Errors: -EINVAL. */
int setup_set_address(struct setup_device *device, const char *address, struct uvf_error *error);
int setup_add_page_size(struct setup *setup, uint64_t size, struct uvf_error *error);

/* --device MODEL[,key=value...], --iommu key=value[,...]. Errors: -EINVAL, -ENOMEM. */
int setup_device_option(struct setup *setup, const char *text, struct uvf_error *error);
int setup_iommu_option(struct setup *setup, const char *text, struct uvf_error *error);

/* --topology. Errors: -EINVAL (with the place), those of open(2), -ENOMEM. */
int setup_topology(struct setup *setup, const char *path, struct uvf_error *error);

/*
 * Gives each device that has no address the first bus from 0000:01:00.0 on that is free.
 * Errors: -EINVAL (an address or a name twice, no bus is left).
 */
int setup_finish(struct setup *setup, struct uvf_error *error);

#endif
