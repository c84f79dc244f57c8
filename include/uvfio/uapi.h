/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Linux's VFIO UAPI, plus what the oldest headers we build with (Linux 6.1) lack. Numbers are the
 * kernel ABI's; names are the kernel's.
 */
#ifndef UVFIO_UAPI_H
#define UVFIO_UAPI_H

#include <linux/pci_regs.h>
#include <linux/types.h>
#include <linux/vfio.h>

#ifndef PCI_EXT_CAP_ID_PASID
#define PCI_EXT_CAP_ID_PASID 0x1b
#endif

#endif
