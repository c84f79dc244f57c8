/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions whose mappable areas change while a driver uses them.
 *
 * A device may have to see for a while what its driver writes straight into mapped memory, as when
 * its state is being saved. It then takes areas away: what the driver has mapped of them must go,
 * and every access comes as a call (uvf_region.read, .write). Later it gives them back. Only areas
 * change, never a region's size. A driver that knows nothing of this page sees no difference, but
 * that a device which must take areas away refuses VFIO_DEVICE_STATE_PRE_COPY.
 *
 * There are two ways to follow, for two kinds of driver.
 *
 * 1. Told beforehand
 *
 *   The region's info carries, beside VFIO_REGION_INFO_CAP_SPARSE_MMAP,
 *   UVF_REGION_INFO_CAP_SAVING_AREAS: the areas that stay mappable while the device's state is
 *   being saved, from PRE_COPY until the device is RUNNING again. Before the driver asks for
 *   PRE_COPY it unmaps all else. While a mapping is left that is in conflict, one by which a peer
 *   does DMA included, the transition is refused with -EBUSY and nothing has changed. There is no
 *   interrupt and no wait. When the device is RUNNING again the driver may map as before. (A device
 *   that is stopped without PRE_COPY keeps its areas: nobody writes.)
 *
 * 2. Told at run time
 *
 *   One of the device's IRQ indexes has the type UVF_IRQ_TYPE_REMAP and the subtype
 *   UVF_IRQ_SUBTYPE_REMAP_REGION (UVF_IRQ_INFO_CAP_TYPE in its info). UVF_IRQ_INFO_CAP_REGIONS
 *   lists the regions that it may be about. A driver that can't follow one of them leaves the IRQ
 *   alone. Setting its eventfd (VFIO_IRQ_SET_ACTION_TRIGGER) says that the driver follows:
 *
 *     a. The IRQ fires and masks itself (VFIO_IRQ_INFO_AUTOMASKED). The eventfd's counter says
 *        nothing more.
 *     b. The driver asks for the info of each region in the list. UVF_REGION_INFO_CAP_CHANGES has
 *        UVF_REGION_CHANGED_AREAS if its areas have changed since the flag was last read; reading
 *        clears it. (Only an answer that has room for the capability counts as read. The areas in
 *        it are never older than the flag: who answers takes the flag first.)
 *     c. It unmaps what is in no area any more, and may map what now is.
 *     d. It unmasks the IRQ (VFIO_IRQ_SET_ACTION_UNMASK, or the eventfd that it set for that).
 *        This acknowledges all that it has read by then, and nothing else: where a region has
 *        changed since its flag was read, the IRQ fires again at once.
 *
 *   After the acknowledgement every access to what was taken away is seen by the device, and what
 *   was written before is in the memory behind the area. The device waits for it as a state, not as
 *   a thread: meanwhile the driver can ask for infos, map, unmap and use the device. A driver that
 *   doesn't acknowledge within the limit (uvf_device_set_remap_timeout()) ends a transition to
 *   PRE_COPY with -ETIMEDOUT, and one that acknowledges but still has it mapped (where that is
 *   known) with -EBUSY; the device is RUNNING then, with its areas given back.
 *
 * What a transition to PRE_COPY that must take areas away does, in this order:
 *
 *   the frontend itself can take mappings away (uvf_revoker)      it does; wait
 *   no mapping is in conflict, and none can be                    nothing to wait for
 *   the IRQ of (2) has an eventfd                                 fire; wait
 *   a mapping in conflict is known                                -EBUSY
 *   areas were given out, and it is not known what became of them -ENODEV
 *
 * The IRQ fires whenever a region has changed, waited for or not. While something waits, the end of
 * the last mapping in conflict settles it as an acknowledgement does.
 *
 * Over vfio-user both ways need an extension that both ends name in VERSION's capabilities:
 * "uvfio": {"areas": 1}. With it: the capabilities above are in the replies to
 * VFIO_USER_DEVICE_GET_REGION_INFO and _GET_IRQ_INFO; the client announces each mapping that it
 * makes (UVF_USER_REGION_MAPPED) and ends (UVF_USER_REGION_UNMAPPED), before and after; a reply to
 * VFIO_USER_DEVICE_FEATURE that waits for the driver may come after replies to later requests.
 * An announcement is of the memory that is the area when it arrives, which the client asks for once
 * more before it maps: with UVF_REGION_CHANGED_AREAS it may have been another, and is taken back.
 * Without the extension a client to which an area's fd was given has it mapped, for all that is
 * known, until it is gone; it isn't told of the IRQ. A server names the extension only where areas
 * can change.
 */
#ifndef UVFIO_REMAP_H
#define UVFIO_REMAP_H

#include <uvfio/client.h>
#include <uvfio/device.h>

UVF_BEGIN_DECLS

/* ---- In infos, little-endian as all of the UAPI; ids of ours are from 0xf000 up ---- */

/* struct vfio_region_info_cap_sparse_mmap's layout with another id. No areas: all must go. */
#define UVF_REGION_INFO_CAP_SAVING_AREAS 0xf001

/* What has changed of a region since this was last read. Only regions in the IRQ's list have it. */
#define UVF_REGION_INFO_CAP_CHANGES 0xf002
struct uvf_region_info_cap_changes {
	struct vfio_info_cap_header header;
	uint32_t flags;
#define UVF_REGION_CHANGED_AREAS (1U << 0)
	uint32_t reserved; /* 0 */
};

/* struct vfio_irq_info with a chain of capabilities, as struct vfio_region_info has one. */
#define UVF_IRQ_INFO_FLAG_CAPS (1U << 4)
struct uvf_irq_info_chain {
	struct vfio_irq_info info; /* argsz: of the whole, capabilities included */
	uint32_t cap_offset; /* from the beginning; 0: they had no room (argsz says how much) */
	uint32_t reserved;   /* 0 */
};

/* What a device-specific IRQ index is for: as struct vfio_region_info_cap_type. */
#define UVF_IRQ_INFO_CAP_TYPE	     0xf003
#define UVF_IRQ_TYPE_REMAP	     1
#define UVF_IRQ_SUBTYPE_REMAP_REGION 0

/* The regions that the remap IRQ may be about. */
#define UVF_IRQ_INFO_CAP_REGIONS 0xf004
struct uvf_irq_info_cap_regions {
	struct vfio_info_cap_header header;
	uint32_t count;
	__extension__ uint32_t
		regions[]; /* indexes, rising; the capability's size is a multiple of 8 */
};

/* ---- vfio-user messages of the extension; the reply is the header alone ---- */

#define UVF_USER_REGION_MAPPED	 0xf001
#define UVF_USER_REGION_UNMAPPED 0xf002
struct uvf_user_region_mapping {
	uint32_t argsz;
	uint32_t flags; /* 0 */
	uint32_t index;
	uint32_t reserved; /* 0 */
	uint64_t offset;   /* in the region; page aligned, as size */
	uint64_t size;
};

/* ---- For models ---- */

/*
 * Sets which areas of a region can be mapped from now on. The region must have been added with
 * areas_change. The list is copied; fds are borrowed, and must stay. Areas may come back, but a
 * region has at most UVF_AREA_LISTS different lists in its life; one with areas that are
 * UVF_AREA_NOT_WHILE_SAVING counts twice, for what is left while saving. With the device's lock
 * held. Returns 0: there is nothing to wait for, also for what an earlier call began; -EINPROGRESS:
 * mappings of what was taken away may be left: ops->areas_settled is called later, once for the
 * last call. The areas that are set already are asked for again of those who have not followed to
 * them. Errors, with nothing changed: -EBUSY and -ENODEV as in the table above, -EINVAL (areas
 * that are not valid, or the region's may not change), -ENOSPC (too many lists), -ENOMEM and those
 * of mmap(2).
 *
 * The IRQ is made with the first region that is added with areas_change: the first free index from
 * VFIO_PCI_NUM_IRQS up, so a model adds its own device-specific ones before. A model that delivers
 * interrupts itself (ops->set_irqs) adds it itself, with its type and subtype; this one the core
 * delivers all the same.
 */
#define UVF_AREA_LISTS 64
UVF_API int uvf_region_set_areas(struct uvf_device *dev, uint32_t index,
				 const struct uvf_area *areas, size_t count);

/* How long a driver has to follow. 0: the default, 5000 ms. Before the device is offered. */
UVF_API void uvf_device_set_remap_timeout(struct uvf_device *dev, uint32_t timeout_ms);

/* ---- For drivers in this process ---- */

/* The remap IRQ's index, or -ENOENT. Its info lists the regions. */
UVF_API int uvf_remap_irq(struct uvf_device *dev);
/*
 * UVF_REGION_CHANGED_*, and clears them: step (b). Before uvf_region_get_info(), so that what
 * changes in between is seen again. 0 for a region that isn't in the list.
 */
UVF_API uint32_t uvf_region_take_changes(struct uvf_device *dev, uint32_t index);

/*
 * A part of an area as memory that can be mapped in an address space, so that a peer reaches it by
 * DMA: @offset of the region is offset 0 of it. As long as it is there it counts as a mapping,
 * whoever has the device open; it may be there longer than the device. Errors: as
 * uvf_region_map().
 */
UVF_API int uvf_region_memory_new(struct uvf_device *dev, uint32_t index, uint64_t offset,
				  uint64_t size, struct uvf_memory **memoryp);

/* ---- For frontends ---- */

/*
 * Somebody has [offset, offset + size) of areas mapped, or can have it: UVF_MAPPED_KNOWN ends by
 * uvf_region_unmapped() with the same range, and counts as often as it is told; UVF_MAPPED_UNKNOWN
 * is a part that was given out for good, and counts once. Told before the mapping is made, and
 * ended after it has gone. All end when the device is closed. uvf_region_map() and
 * uvf_region_memory_new() do this by themselves, and theirs end by themselves. For regions without
 * areas_change nothing is kept. Without the device's lock. Errors: -EINVAL (not page aligned, not
 * in areas; unmapped: no such range), -ENODEV, -ENOMEM, -ENOSPC (more than UVF_MAPPINGS_MAX at
 * once).
 */
enum uvf_mapped { UVF_MAPPED_KNOWN, UVF_MAPPED_UNKNOWN };
#define UVF_MAPPINGS_MAX 65536
UVF_API int uvf_region_mapped(struct uvf_device *dev, uint32_t index, uint64_t offset,
			      uint64_t size, enum uvf_mapped kind);
UVF_API int uvf_region_unmapped(struct uvf_device *dev, uint32_t index, uint64_t offset,
				uint64_t size);

/*
 * A frontend that takes mappings away by itself. areas_changed is called with the device's lock
 * held and must not wait: it starts what brings the driver's mappings of region @index in line with
 * its areas (uvf_region_get_info()), and calls uvf_region_revoked() with the same @generation when
 * that is done, from any thread, also from within; @result 0 or a negative errno, which ends what
 * waits for it. Only the newest generation of a region is waited for. It need not tell of the
 * mappings that it takes away itself (uvf_region_mapped()); one that it told of and that is left
 * then, or a peer's, is -EBUSY. Set after opening, before the driver can map anything; NULL takes
 * it away, as closing does.
 */
struct uvf_revoker {
	void (*areas_changed)(void *opaque, uint32_t index, uint64_t generation);
	void *opaque;
};
UVF_API void uvf_device_set_revoker(struct uvf_device *dev, const struct uvf_revoker *revoker);
UVF_API void uvf_region_revoked(struct uvf_device *dev, uint32_t index, uint64_t generation,
				int result);

UVF_END_DECLS

#endif
