/* SPDX-License-Identifier: BSD-3-Clause */
/* The processors near a device, as sysfs writes them. */
#ifndef UVF_UAPI_SYSFS_CPUS_H
#define UVF_UAPI_SYSFS_CPUS_H

#define UAPI_CPUS_MAX 8192 /* the most that Linux is built for on x86 */

struct uapi_cpus {
	char list[1024];		       /* "0-3,8" */
	char mask[UAPI_CPUS_MAX / 32 * 9 + 1]; /* "0000010f": words of 32, comma between */
};

/* Those of NUMA node @node of this machine; all that are online where there is no such node. */
void uapi_cpus_of_node(int node, struct uapi_cpus *cpus);

#endif
