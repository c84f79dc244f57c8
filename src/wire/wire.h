/* SPDX-License-Identifier: BSD-3-Clause */
/* vfio-user messages, for both ends: what other folders may see of this one. */
#ifndef UVF_WIRE_H
#define UVF_WIRE_H

#include "wire/channel.h"
#include "wire/protocol.h"
#include "wire/request.h"
#include "wire/version.h"

#endif
