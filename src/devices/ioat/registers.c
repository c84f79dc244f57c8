/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * BAR 0, and what is in configuration space. Of the BAR an access of any size and alignment is one
 * to each register that it touches, in rising order: reading takes the bytes wanted, writing leaves
 * the others as they are.
 */
#include "devices/ioat/ioat.h"

#include "base/bytes.h"

/* A register. Without @read it is the field, without @write the masks say what a write does. */
struct ioat_register {
	uint16_t offset;
	uint8_t size;
	uint16_t field; /* in struct ioat_state or struct ioat_channel_state; NO_FIELD: none */
	uint64_t writable;
	uint64_t clear; /* a written 1 clears the bit */
	uint64_t (*read)(struct ioat *ioat, unsigned channel);
	/* @value has the bytes of @mask from the driver, and the others as they are. */
	void (*write)(struct ioat *ioat, unsigned channel, uint64_t value, uint64_t mask);
};

#define NO_FIELD	   UINT16_MAX
#define OF_DEVICE(member)  .field = offsetof(struct ioat_state, member)
#define OF_CHANNEL(member) .field = offsetof(struct ioat_channel_state, member)

/* ---- The device's ---- */

static uint64_t read_chancnt(struct ioat *ioat, unsigned channel)
{
	return ioat->channels;
}

static uint64_t read_xfercap(struct ioat *ioat, unsigned channel)
{
	return ioat->xfercap;
}

/* The handler of the pin's interrupt reads it first, and re-enables by writing it last. */
static uint64_t read_intrctrl(struct ioat *ioat, unsigned channel)
{
	struct ioat_state *state = &ioat->state;
	uint64_t value = state->intrctrl;

	if (state->attnstatus)
		value |= IOAT_INTRCTRL_INT_STATUS;
	if (state->attnstatus && value & IOAT_INTRCTRL_MASTER_INT_EN)
		value |= IOAT_INTRCTRL_INT;
	state->intrctrl &= (uint8_t)~IOAT_INTRCTRL_MASTER_INT_EN;
	ioat_legacy_update(ioat);
	return value;
}

static void write_intrctrl(struct ioat *ioat, unsigned channel, uint64_t value, uint64_t mask)
{
	ioat->state.intrctrl =
		value & (IOAT_INTRCTRL_MASTER_INT_EN | IOAT_INTRCTRL_MSIX_VECTOR_CONTROL);
	ioat_legacy_update(ioat);
}

static uint64_t read_attnstatus(struct ioat *ioat, unsigned channel)
{
	uint64_t value = ioat->state.attnstatus;

	ioat->state.attnstatus = 0;
	ioat_legacy_update(ioat);
	return value;
}

static uint64_t read_cbver(struct ioat *ioat, unsigned channel)
{
	return IOAT_CBVER_3_3;
}

static uint64_t read_dmacapability(struct ioat *ioat, unsigned channel)
{
	return IOAT_CAP_FILL_BLOCK;
}

/* No second port, no Direct Cache Access, one priority: those read as 0, like what is reserved. */
static const struct ioat_register device_registers[] = {
	{IOAT_CHANCNT, 1, NO_FIELD, .read = read_chancnt},
	{IOAT_XFERCAP, 1, NO_FIELD, .read = read_xfercap},
	{IOAT_GENCTRL, 1, OF_DEVICE(genctrl), .writable = IOAT_GENCTRL_DEBUG_EN},
	{IOAT_INTRCTRL, 1, NO_FIELD, .read = read_intrctrl, .write = write_intrctrl},
	{IOAT_ATTNSTATUS, 4, NO_FIELD, .read = read_attnstatus},
	{IOAT_CBVER, 1, NO_FIELD, .read = read_cbver},
	/* Kept, and without effect: interrupts are not delayed. */
	{IOAT_INTRDELAY, 2, OF_DEVICE(intrdelay), .writable = IOAT_INTRDELAY_MASK},
	{IOAT_DMACAPABILITY, 4, NO_FIELD, .read = read_dmacapability},
	{0},
};

/* ---- A channel's ---- */

static void write_chanctrl(struct ioat *ioat, unsigned channel, uint64_t value, uint64_t mask)
{
	struct ioat_channel_state *state = &ioat->state.channels[channel];

	/* INT_REARM is the channel's own. */
	state->chanctrl &= IOAT_CHANCTRL_INT_REARM;
	state->chanctrl |= (uint16_t)(value & IOAT_CHANCTRL_WRITABLE);
	if (value & mask & IOAT_CHANCTRL_INT_REARM)
		ioat_channel_rearm(ioat, channel);
}

static uint64_t read_dma_comp(struct ioat *ioat, unsigned channel)
{
	return IOAT_COMP_V2 | IOAT_COMP_V3;
}

static uint64_t read_chancmd(struct ioat *ioat, unsigned channel)
{
	return ioat_channel_resetting(ioat, channel) ? IOAT_CHANCMD_RESET : 0;
}

static void write_chancmd(struct ioat *ioat, unsigned channel, uint64_t value, uint64_t mask)
{
	ioat_channel_command(ioat, channel, (uint8_t)value);
}

static void write_dmacount(struct ioat *ioat, unsigned channel, uint64_t value, uint64_t mask)
{
	ioat_channel_count(ioat, channel, (uint16_t)value);
}

static uint64_t read_chansts(struct ioat *ioat, unsigned channel)
{
	const struct ioat_channel_state *state = &ioat->state.channels[channel];

	return state->completed | state->status;
}

static void write_chainaddr(struct ioat *ioat, unsigned channel, uint64_t value, uint64_t mask)
{
	ioat_channel_chain(ioat, channel, value);
}

static const struct ioat_register channel_registers[] = {
	{IOAT_CHANCTRL, 2, OF_CHANNEL(chanctrl), .write = write_chanctrl},
	{IOAT_DMA_COMP, 2, NO_FIELD, .read = read_dma_comp},
	{IOAT_CHANCMD, 1, NO_FIELD, .read = read_chancmd, .write = write_chancmd},
	{IOAT_DMACOUNT, 2, OF_CHANNEL(dmacount), .write = write_dmacount},
	{IOAT_CHANSTS, 8, NO_FIELD, .read = read_chansts},
	{IOAT_CHAINADDR, 8, OF_CHANNEL(chainaddr), .write = write_chainaddr},
	{IOAT_CHANCMP, 8, OF_CHANNEL(chancmp), .writable = UINT64_MAX},
	{IOAT_CDAR, 8, OF_CHANNEL(current)},
	{IOAT_CHANERR, 4, OF_CHANNEL(chanerr), .clear = IOAT_ERR_ALL},
	{IOAT_CHANERR_MASK, 4, OF_CHANNEL(chanerr_mask), .writable = IOAT_ERR_ALL},
	{0},
};

/* ---- In configuration space ---- */

uint32_t ioat_config_read(struct uvf_device *dev, uint16_t offset)
{
	struct ioat *ioat = uvf_device_opaque(dev);
	uint32_t value;

	pthread_mutex_lock(&ioat->lock);
	value = offset == IOAT_PCI_CHANERR_INT ? ioat->state.chanerr_int
					       : ioat->state.chanerrmsk_int;
	pthread_mutex_unlock(&ioat->lock);
	return value;
}

void ioat_config_write(struct uvf_device *dev, uint16_t offset, uint32_t value, uint32_t mask)
{
	struct ioat *ioat = uvf_device_opaque(dev);
	struct ioat_state *state = &ioat->state;

	pthread_mutex_lock(&ioat->lock);
	if (offset == IOAT_PCI_CHANERR_INT)
		state->chanerr_int &= ~value;
	else
		state->chanerrmsk_int = ((state->chanerrmsk_int & ~mask) | value) & IOAT_ERR_ALL;
	pthread_mutex_unlock(&ioat->lock);
}

/* ---- Access ---- */

/* A run of registers: what they are fields of, and where in the BAR they are. */
struct bank {
	const struct ioat_register *registers;
	uint8_t *fields;
	uint64_t offset;
	unsigned channel;
};

static uint64_t load(const struct bank *bank, const struct ioat_register *row)
{
	const uint8_t *field = bank->fields + row->field;

	if (row->field == NO_FIELD)
		return 0;
	switch (row->size) {
	case 1:
		return *field;
	case 2:
		return *(const uint16_t *)(const void *)field;
	case 4:
		return *(const uint32_t *)(const void *)field;
	default:
		return *(const uint64_t *)(const void *)field;
	}
}

static void store(const struct bank *bank, const struct ioat_register *row, uint64_t value)
{
	uint8_t *field = bank->fields + row->field;

	switch (row->size) {
	case 1:
		*field = (uint8_t)value;
		break;
	case 2:
		*(uint16_t *)(void *)field = (uint16_t)value;
		break;
	case 4:
		*(uint32_t *)(void *)field = (uint32_t)value;
		break;
	default:
		*(uint64_t *)(void *)field = value;
		break;
	}
}

static bool touches(const struct bank *bank, const struct ioat_register *row, uint64_t offset,
		    size_t count)
{
	return uvf_ranges_overlap(bank->offset + row->offset, row->size, offset, count);
}

/*
 * Which byte of the access is the register's byte @i. @count bytes at @offset touch the register;
 * false for a byte outside the access.
 */
static bool byte_at(const struct bank *bank, const struct ioat_register *row, uint64_t offset,
		    size_t count, unsigned i, size_t *at)
{
	uint64_t byte = bank->offset + row->offset + i;

	*at = (size_t)(byte - offset);
	return byte >= offset && *at < count;
}

static void read_bank(struct ioat *ioat, const struct bank *bank, uint64_t offset, uint8_t *bytes,
		      size_t count)
{
	for (const struct ioat_register *row = bank->registers; row->size; row++) {
		uint64_t value;
		size_t at;

		if (!touches(bank, row, offset, count))
			continue;
		value = row->read ? row->read(ioat, bank->channel) : load(bank, row);
		for (unsigned i = 0; i < row->size; i++)
			if (byte_at(bank, row, offset, count, i, &at))
				bytes[at] = (uint8_t)(value >> 8 * i);
	}
}

static void write_register(struct ioat *ioat, const struct bank *bank,
			   const struct ioat_register *row, uint64_t value, uint64_t mask)
{
	uint64_t before = load(bank, row);

	if (row->write)
		row->write(ioat, bank->channel, (before & ~mask) | value, mask);
	else if (row->field != NO_FIELD)
		store(bank, row,
		      ((before & ~(row->writable & mask)) | (value & row->writable)) &
			      ~(value & row->clear));
}

static void write_bank(struct ioat *ioat, const struct bank *bank, uint64_t offset,
		       const uint8_t *bytes, size_t count)
{
	for (const struct ioat_register *row = bank->registers; row->size; row++) {
		uint64_t value = 0, mask = 0;
		size_t at;

		if (!touches(bank, row, offset, count))
			continue;
		for (unsigned i = 0; i < row->size; i++) {
			if (!byte_at(bank, row, offset, count, i, &at))
				continue;
			value |= (uint64_t)bytes[at] << 8 * i;
			mask |= 0xffULL << 8 * i;
		}
		write_register(ioat, bank, row, value, mask);
	}
}

/* Bank 0 is the device's, bank 1 + n the nth channel's. */
static struct bank bank_at(struct ioat *ioat, unsigned nth)
{
	if (!nth)
		return (struct bank){device_registers, (uint8_t *)&ioat->state, 0, 0};
	return (struct bank){channel_registers, (uint8_t *)&ioat->state.channels[nth - 1],
			     IOAT_CHANNEL_0 + (uint64_t)(nth - 1) * IOAT_CHANNEL_SIZE, nth - 1};
}

int ioat_bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf, size_t count)
{
	struct ioat *ioat = uvf_device_opaque(dev);

	memset(buf, 0, count);
	pthread_mutex_lock(&ioat->lock);
	for (unsigned nth = 0; nth <= ioat->channels; nth++) {
		struct bank bank = bank_at(ioat, nth);

		if (uvf_ranges_overlap(bank.offset, IOAT_CHANNEL_SIZE, offset, count))
			read_bank(ioat, &bank, offset, buf, count);
	}
	pthread_mutex_unlock(&ioat->lock);
	return 0;
}

int ioat_bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		   size_t count)
{
	struct ioat *ioat = uvf_device_opaque(dev);

	pthread_mutex_lock(&ioat->lock);
	for (unsigned nth = 0; nth <= ioat->channels; nth++) {
		struct bank bank = bank_at(ioat, nth);

		if (uvf_ranges_overlap(bank.offset, IOAT_CHANNEL_SIZE, offset, count))
			write_bank(ioat, &bank, offset, buf, count);
	}
	pthread_mutex_unlock(&ioat->lock);
	return 0;
}
