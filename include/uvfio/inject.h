/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Faults on demand, so that a driver's error paths can be tested: transfers and mappings that fail,
 * interrupts that are lost or late, a device that is pulled out, errors by AER, slow registers,
 * reports that hide what is dirty.
 *
 * A fault is asked for by a line of text: a kind, then key=value pairs, such as
 * "dma-fail,nth=3,errno=EIO". Kinds and keys are in uvfio-inject(7). The faults are injected
 * between device and driver, whatever is on either side. What isn't asked for costs nothing.
 *
 * Threads: any.
 */
#ifndef UVFIO_INJECT_H
#define UVFIO_INJECT_H

#include <uvfio/types.h>

UVF_BEGIN_DECLS

struct uvf_injector;

#define UVF_INJECT_MAX_SPEC 256 /* bytes of a line, with its end */
#define UVF_INJECT_MAX	    64	/* lines that one injector remembers */

/* The device's injector: made when first asked for, freed with the device. NULL: no memory. */
UVF_API struct uvf_injector *uvf_device_injector(struct uvf_device *dev);

/*
 * An injector that belongs to no device. It takes "map-fail" alone; uvf_run_config.injector asks
 * it about every mapping of a program. NULL: no memory.
 */
UVF_API struct uvf_injector *uvf_injector_new(void);
/* NULL is allowed. Not a device's. */
UVF_API void uvf_injector_free(struct uvf_injector *injector);

/*
 * Asks for a fault. The key "device" is not looked at: see uvf_inject_device().
 * Errors, with the reason: -EINVAL (the line), -ENOENT (no such kind), -EOPNOTSUPP (what the fault
 * would hit doesn't pass through here, as with interrupts of a device behind a socket), -ENOTTY
 * (the device has no AER), -ENODEV (at once, but nobody has the device open), -ENOSPC
 * (UVF_INJECT_MAX that still wait), -ENOMEM.
 */
UVF_API int uvf_inject(struct uvf_injector *injector, const char *spec, struct uvf_error *error);

/*
 * Whom @spec is for: the value of its key "device" is put into @device of @size bytes, "" where it
 * has none. The whole line is checked. Errors: -EINVAL, -ENOENT as uvf_inject(); -ENOMEM.
 */
UVF_API int uvf_inject_device(const char *spec, char *device, size_t size, struct uvf_error *error);

/*
 * Forgets all faults. Interrupts that are late already still come. A device that was removed is
 * there again: at once, or if someone has it open, when he has closed it.
 */
UVF_API void uvf_injector_clear(struct uvf_injector *injector);

/* A fault that was asked for. It is remembered when it is over, until room is needed. */
struct uvf_injected {
	char spec[UVF_INJECT_MAX_SPEC];
	uint64_t seen; /* what it could have hit, since it was asked for */
	uint64_t hits;
	bool over; /* it will hit nothing more */
};
/* Fills in at most @max, in the order in which they were asked for; returns how many there are. */
UVF_API size_t uvf_injector_list(struct uvf_injector *injector, struct uvf_injected *list,
				 size_t max);

UVF_END_DECLS

#endif
