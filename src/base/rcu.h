/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The one flavour of RCU that the library uses: "bp" needs no registration of threads, so that a
 * DMA can come from any thread of the program that we are part of.
 */
#ifndef UVF_BASE_RCU_H
#define UVF_BASE_RCU_H

/* Read-side functions inline. */
#define _LGPL_SOURCE
/* liburcu's own macros do not pass these. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <urcu-bp.h>
#pragma GCC diagnostic pop

#endif
