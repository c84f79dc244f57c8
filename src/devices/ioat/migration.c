/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migration: the registers and the channels' state machines. The worker ends the descriptor that it
 * is at and begins no other, so a channel is always between two descriptors when it is saved.
 */
#include "devices/ioat/ioat.h"

#include <errno.h>

static const char *const sections[] = {"ioat", "channel", NULL};

/* What the two sides must have alike. */
struct make {
	uint8_t channels, xfercap;
};

static const struct uvf_state_field make_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U8, struct make, channels),
	UVF_STATE_FIELD(2, UVF_FIELD_U8, struct make, xfercap),
	{0},
};

static const struct uvf_state_field device_fields[] = {
	UVF_STATE_FIELD(3, UVF_FIELD_U8, struct ioat_state, genctrl),
	UVF_STATE_FIELD(4, UVF_FIELD_U8, struct ioat_state, intrctrl),
	UVF_STATE_FIELD(5, UVF_FIELD_U16, struct ioat_state, intrdelay),
	UVF_STATE_FIELD(6, UVF_FIELD_U32, struct ioat_state, attnstatus),
	UVF_STATE_FIELD(7, UVF_FIELD_U32, struct ioat_state, chanerr_int),
	UVF_STATE_FIELD(8, UVF_FIELD_U32, struct ioat_state, chanerrmsk_int),
	{0},
};

static const struct uvf_state_field channel_fields[] = {
	UVF_STATE_FIELD(1, UVF_FIELD_U8, struct ioat_channel_state, status),
	UVF_STATE_FIELD(2, UVF_FIELD_BOOL, struct ioat_channel_state, suspend_wanted),
	UVF_STATE_FIELD(3, UVF_FIELD_BOOL, struct ioat_channel_state, at_start),
	UVF_STATE_FIELD(4, UVF_FIELD_BOOL, struct ioat_channel_state, interrupt_held),
	UVF_STATE_FIELD(5, UVF_FIELD_U16, struct ioat_channel_state, chanctrl),
	UVF_STATE_FIELD(6, UVF_FIELD_U16, struct ioat_channel_state, dmacount),
	UVF_STATE_FIELD(7, UVF_FIELD_U16, struct ioat_channel_state, executed),
	UVF_STATE_FIELD(8, UVF_FIELD_U32, struct ioat_channel_state, chanerr),
	UVF_STATE_FIELD(9, UVF_FIELD_U32, struct ioat_channel_state, chanerr_mask),
	UVF_STATE_FIELD(10, UVF_FIELD_U64, struct ioat_channel_state, chainaddr),
	UVF_STATE_FIELD(11, UVF_FIELD_U64, struct ioat_channel_state, chancmp),
	UVF_STATE_FIELD(12, UVF_FIELD_U64, struct ioat_channel_state, current),
	UVF_STATE_FIELD(13, UVF_FIELD_U64, struct ioat_channel_state, completed),
	{0},
};

static int quiesce(struct uvf_device *dev)
{
	struct ioat *ioat = uvf_device_opaque(dev);

	pthread_mutex_lock(&ioat->lock);
	ioat->quiesced = true;
	ioat_worker_wait(ioat);
	pthread_mutex_unlock(&ioat->lock);
	return 0;
}

static int unquiesce(struct uvf_device *dev)
{
	struct ioat *ioat = uvf_device_opaque(dev);

	pthread_mutex_lock(&ioat->lock);
	ioat->quiesced = false;
	ioat_worker_wake(ioat);
	pthread_mutex_unlock(&ioat->lock);
	return 0;
}

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct ioat *ioat = uvf_device_opaque(dev);
	struct make make = {(uint8_t)ioat->channels, ioat->xfercap};
	int ret;

	pthread_mutex_lock(&ioat->lock);
	ret = uvf_state_write(writer, (struct uvf_state_section){.name = "ioat"}, make_fields,
			      &make);
	if (!ret)
		ret = uvf_state_write(writer,
				      (struct uvf_state_section){.name = "ioat", .instance = 1},
				      device_fields, &ioat->state);
	for (unsigned i = 0; i < ioat->channels && !ret; i++)
		ret = uvf_state_write(writer,
				      (struct uvf_state_section){.name = "channel", .instance = i},
				      channel_fields, &ioat->state.channels[i]);
	pthread_mutex_unlock(&ioat->lock);
	return ret;
}

static int read_state(struct uvf_state_reader *reader, unsigned channels, struct ioat_state *state)
{
	int ret = uvf_state_read(reader, "ioat", 1, device_fields, state);

	for (unsigned i = 0; i < channels && !ret; i++) {
		ret = uvf_state_read(reader, "channel", i, channel_fields, &state->channels[i]);
		if (!ret && state->channels[i].status > IOAT_ARMED)
			ret = -EINVAL;
	}
	return ret;
}

static int check(struct uvf_device *dev, struct uvf_state_reader *reader, struct uvf_error *error)
{
	const struct ioat *ioat = uvf_device_opaque(dev);
	struct ioat_state state = {0};
	struct make make = {0};
	int ret = uvf_state_read(reader, "ioat", 0, make_fields, &make);

	if (ret)
		return uvf_fail(error, ret, "it doesn't say what device it is of");
	if (make.channels != ioat->channels || make.xfercap != ioat->xfercap)
		return uvf_fail(error, -EINVAL,
				"it is of a device with channels=%u,xfercap=%llu, not %u and %llu",
				make.channels, 1ULL << (make.xfercap & 63), ioat->channels,
				1ULL << ioat->xfercap);
	ret = read_state(reader, ioat->channels, &state);
	return ret ? uvf_fail(error, -EINVAL, "a channel's state makes no sense") : 0;
}

static int load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	struct ioat *ioat = uvf_device_opaque(dev);
	struct ioat_state state;
	int ret;

	pthread_mutex_lock(&ioat->lock);
	state = ioat->state;
	ret = read_state(reader, ioat->channels, &state);
	if (!ret) {
		ioat->state = state;
		/* The pin's own level comes with the PCI function's state. */
		ioat_legacy_update(ioat);
	}
	pthread_mutex_unlock(&ioat->lock);
	return ret;
}

const struct uvf_migration_ops ioat_migration = {
	.name = "ioat",
	.major = 1,
	.sections = sections,
	.quiesce = quiesce,
	.unquiesce = unquiesce,
	.save = save,
	.check = check,
	.load = load,
};
