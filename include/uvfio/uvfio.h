/* SPDX-License-Identifier: BSD-3-Clause */
/* All of the public API. Each header can also be included alone. */
#ifndef UVFIO_UVFIO_H
#define UVFIO_UVFIO_H

#include <uvfio/client.h>
#include <uvfio/device.h>
#include <uvfio/dirty.h>
#include <uvfio/dma.h>
#include <uvfio/handover.h>
#include <uvfio/inject.h>
#include <uvfio/iommu.h>
#include <uvfio/migration.h>
#include <uvfio/model.h>
#include <uvfio/pci.h>
#include <uvfio/remap.h>
#include <uvfio/run.h>
#include <uvfio/server.h>
#include <uvfio/types.h>
#include <uvfio/uapi.h>

#endif
