/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device's migration: what its model says of its state, and how a driver moves it.
 *
 * The states are those of Linux (enum vfio_device_mig_state). The core walks from one to another by
 * the arcs of Linux's table, so that a model only ever sees single steps:
 *
 *   state          the device
 *   RUNNING        does everything.
 *   RUNNING_P2P    starts no DMA of its own and raises no interrupt for work of its own; it answers
 *                  register accesses, also from other devices, and may take note of work to do.
 *   STOP           changes nothing: no DMA, no interrupt, no register changes by itself. A driver
 *                  should not access it. All that it has written is in the dirty logs.
 *   STOP_COPY      as STOP; what is read from the migration data is its whole state, or what
 *                  PRE_COPY has not given yet.
 *   PRE_COPY       as RUNNING, beside which its state can be read; what changes is given again.
 *   PRE_COPY_P2P   as RUNNING_P2P, likewise.
 *   RESUMING       as STOP; a state is written to it. Leaving it takes the state over.
 *   ERROR          an arc failed in a way that can't be undone: only a reset leaves it.
 *
 * The stream is described in docs/migration-stream.md: a header, and sections with a name, a
 * version, a length and a checksum. The core adds sections of its own: interrupts, configuration
 * space, and the memory behind areas. What it can't accept (a section that it doesn't know and that
 * is required, one that is cut or changed, a version that is newer in what matters) is refused
 * while it is written, when the source can still go on.
 *
 * Threads: a device's operations below are called with its lock held; calls for drivers from any
 * thread.
 */
#ifndef UVFIO_MIGRATION_H
#define UVFIO_MIGRATION_H

#include <uvfio/types.h>
#include <uvfio/uapi.h>

UVF_BEGIN_DECLS

struct uvf_state_writer;
struct uvf_state_reader;

/* ---- What a model fills in ---- */

enum uvf_field_kind {
	UVF_FIELD_BOOL, /* a bool */
	UVF_FIELD_U8,	/* ... */
	UVF_FIELD_U16,
	UVF_FIELD_U32,
	UVF_FIELD_U64,
	UVF_FIELD_BYTES, /* `size` of them */
};

/*
 * A member of a struct as it is in the stream. Each has a number that stays its own for ever. A
 * reader skips numbers that it doesn't know, and leaves a member as it was where its number isn't
 * there: so a field can be added, with a default, in a minor version. Ends with number 0.
 */
struct uvf_state_field {
	uint16_t number;
	enum uvf_field_kind kind;
	size_t offset; /* of the member */
	size_t size;   /* UVF_FIELD_BYTES */
};

#define UVF_STATE_FIELD(field_number, field_kind, type, member)                                   \
	{                                                                                         \
		.number = (field_number), .kind = (field_kind), .offset = offsetof(type, member), \
		.size = sizeof(((type *)0)->member)                                               \
	}

/*
 * A section's name, at most 15 characters, and which of several of that name it is. Who reads the
 * stream must know the name, but where it is optional.
 */
struct uvf_state_section {
	const char *name;
	uint32_t instance;
	bool optional;
};

/* Writes a section from a struct. Errors: -ENOSPC (the stream's bound), -ENOMEM. */
UVF_API int uvf_state_write(struct uvf_state_writer *writer, struct uvf_state_section section,
			    const struct uvf_state_field *fields, const void *from);
/* Writes a section of plain bytes. */
UVF_API int uvf_state_write_bytes(struct uvf_state_writer *writer, struct uvf_state_section section,
				  const void *bytes, size_t size);

/*
 * Reads what uvf_state_write() wrote of @section and @instance into a struct. -ENOENT where the
 * stream has no such section; -EINVAL where a field's size differs.
 */
UVF_API int uvf_state_read(struct uvf_state_reader *reader, const char *section, uint32_t instance,
			   const struct uvf_state_field *fields, void *to);
/* The bytes of a section, valid until the load ends; -ENOENT. Marks it as known. */
UVF_API ssize_t uvf_state_read_bytes(struct uvf_state_reader *reader, const char *section,
				     uint32_t instance, const void **bytes);

/*
 * How a model takes part. Set once, before the device is offered. A model without one can't be
 * migrated.
 */
struct uvf_migration_ops {
	/* The model's name in the stream: at most 15 characters. Only it can take the stream over.
	 */
	const char *name;
	/*
	 * The version of its sections. A higher minor version adds what an older one can do
	 * without; a stream of another major version is refused.
	 */
	uint16_t major, minor;
	/* The names of its sections; ends with NULL. */
	const char *const *sections;
	/*
	 * RUNNING -> RUNNING_P2P: starts no DMA any more, and ends what it has started: it can wait
	 * for that as long as its storage takes. Errors: the state stays RUNNING.
	 */
	int (*quiesce)(struct uvf_device *dev);
	/* RUNNING_P2P -> STOP: NULL where quiesced is still enough. */
	int (*stop)(struct uvf_device *dev);
	/* STOP -> RUNNING_P2P. */
	int (*start)(struct uvf_device *dev);
	/* RUNNING_P2P -> RUNNING: looks at once for work that came meanwhile. */
	int (*unquiesce)(struct uvf_device *dev);
	/* STOP_COPY: writes its sections. */
	int (*save)(struct uvf_device *dev, struct uvf_state_writer *writer);
	/*
	 * Whether the stream can be taken over: called when all of it was written, before anything
	 * of the device has changed. NULL: yes. Errors: -EINVAL with the reason in @error.
	 */
	int (*check)(struct uvf_device *dev, struct uvf_state_reader *reader,
		     struct uvf_error *error);
	/* RESUMING -> STOP, of a device that was reset. After an error only a reset helps. */
	int (*load)(struct uvf_device *dev, struct uvf_state_reader *reader);
	/*
	 * What can be written before STOP_COPY (PRE_COPY): the sections that have changed since the
	 * last call; a section that is written again replaces what was there. NULL: nothing.
	 */
	int (*save_early)(struct uvf_device *dev, struct uvf_state_writer *writer);
	/*
	 * What save_early() would still write, about: of what it has not written yet in this
	 * session, and of what has changed since it did. Of a large state it writes a part at each
	 * call, so that a call is short; and if PRE_COPY was left out, also in STOP_COPY, before
	 * save(). NULL: nothing.
	 */
	void (*early_size)(struct uvf_device *dev, uint64_t *initial, uint64_t *dirty);
	/*
	 * The session in which save_early() was called is over: after save(), or without it. NULL:
	 * nothing to do.
	 */
	void (*end_early)(struct uvf_device *dev);
	/*
	 * RESUMING: where the @size bytes of a section can go as they come, or NULL: they are kept
	 * until check() and load(), which can't read what has gone to its place. Nothing is checked
	 * before it is there, and a stream that is then refused leaves it there until a reset,
	 * which is to make it as new.
	 */
	void *(*place)(struct uvf_device *dev, const char *section, uint32_t instance,
		       uint64_t size);
	/* Bytes that save() would write now, about. NULL: those of the last save. */
	uint64_t (*size)(struct uvf_device *dev);
};
UVF_API void uvf_device_set_migration(struct uvf_device *dev, const struct uvf_migration_ops *ops);

/* ---- For drivers (frontends) ---- */

/* VFIO_MIGRATION_* of the device; 0: it can't be migrated. */
UVF_API uint64_t uvf_migration_flags(struct uvf_device *dev);
/* Where it is. A device that was reset is RUNNING. */
UVF_API enum vfio_device_mig_state uvf_migration_state(struct uvf_device *dev);

/*
 * Goes to @state, by as many arcs as it takes. If one fails the device is in the state before it,
 * or in ERROR: ask. Arriving in PRE_COPY or STOP_COPY (from where no data was read) or RESUMING
 * begins a session of data, leaving them ends it. Errors: -EINVAL (no such way), -ENOTTY (it can't
 * be migrated), -EBUSY, those of the model; on the way to PRE_COPY also what became of areas that
 * must go (remap.h): it waits for that as long as the driver has time.
 */
UVF_API int uvf_migration_set_state(struct uvf_device *dev, enum vfio_device_mig_state state);
/*
 * The same without waiting for the driver to follow changed areas (remap.h): -EINPROGRESS, and
 * @done is called once with the result, from any thread, without a lock; maybe before this returns,
 * at the latest before uvf_device_free() does. It must not wait for another call on this device.
 * Until then the state is the one before, and a call to another than that one is -EBUSY; going
 * back to it ends the wait (@done gets -ECANCELED), as do a reset and closing. Any other return:
 * @done isn't called.
 */
UVF_API int uvf_migration_start_state(struct uvf_device *dev, enum vfio_device_mig_state state,
				      void (*done)(void *opaque, int result), void *opaque);

/*
 * Reads the next of the state, at most @size bytes. 0: there is no more now. In PRE_COPY there can
 * be more later: -ENOMSG says that there is nothing at the moment. Errors: -EINVAL (no session).
 */
UVF_API ssize_t uvf_migration_read(struct uvf_device *dev, void *buf, size_t size);
/* Writes the next of a state, cut anywhere. Errors: -EINVAL (no session, or the stream is refused:
 * the reason is in the device's log), -ENOSPC. */
UVF_API ssize_t uvf_migration_write(struct uvf_device *dev, const void *buf, size_t size);

/* VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: what STOP_COPY would give now, about. */
UVF_API int uvf_migration_data_size(struct uvf_device *dev, uint64_t *size);
/* VFIO_MIG_GET_PRECOPY_INFO: -EINVAL outside PRE_COPY and PRE_COPY_P2P. */
UVF_API int uvf_migration_precopy_info(struct uvf_device *dev, uint64_t *initial_bytes,
				       uint64_t *dirty_bytes);

UVF_END_DECLS

#endif
