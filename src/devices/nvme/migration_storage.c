/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migration of storage that is memory: it goes in pieces, a section each, and before the end a list
 * of the pieces that are not all zeroes (`storage.map`).
 *
 * In PRE_COPY pieces are given while the driver works. Pollers note which they write to, once they
 * have; a piece is given again where it was noted since. What is read while it is written to is
 * torn, but is noted then, and so comes again. Where the state goes to, pieces go straight to their
 * place: so neither end has more to do, once the source has stopped, than what changed last.
 *
 * All but the noting is under the device's lock.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/guard.h"
#include "devices/nvme/migration.h"

/* The least that a piece is, and as many as can be named in a section's instance. */
#define PIECE_SHIFT 16
#define PIECES_MAX  (1u << 24)

/* What one call of save_early() gives at most, and looks at. */
#define EARLY_BYTES (256u << 10)
#define EARLY_LOOKS (64u << 20)
/* How long to wait for what began before it. */
#define BEGIN_LIMIT_MS 1000

static unsigned piece_shift(uint64_t size)
{
	unsigned shift = PIECE_SHIFT;

	while ((size - 1) >> shift >= PIECES_MAX)
		shift++;
	return shift;
}

static uint32_t piece_count(uint64_t size)
{
	return (uint32_t)((size - 1) >> piece_shift(size)) + 1;
}

static size_t piece_size(uint64_t size, uint32_t piece)
{
	uint64_t at = (uint64_t)piece << piece_shift(size), left = size - at;
	size_t whole = (size_t)1 << piece_shift(size);

	return left < whole ? (size_t)left : whole;
}

static void *piece_at(const struct nvme_backend *backend, uint32_t piece)
{
	return (char *)backend->bytes + ((uint64_t)piece << piece_shift(backend->size));
}

static bool has(const uint64_t *bits, uint32_t piece)
{
	return bits[piece / 64] >> piece % 64 & 1;
}

static void set(uint64_t *bits, uint32_t piece, bool value)
{
	uint64_t bit = 1ULL << piece % 64;

	bits[piece / 64] = value ? bits[piece / 64] | bit : bits[piece / 64] & ~bit;
}

static uint64_t *new_bits(uint64_t size)
{
	return calloc(piece_count(size) / 64 + 1, sizeof(uint64_t));
}

/* ---- Noting ---- */

void nvme_storage_note(struct nvme_namespace *ns, uint64_t offset, uint64_t size)
{
	unsigned shift = piece_shift(ns->backend->size);

	/* Each by an atomic operation, though it be noted already: what was written is seen then.
	 */
	for (uint64_t piece = offset >> shift; piece <= (offset + size - 1) >> shift; piece++)
		uvf_page_set_add_slowly(&ns->copy.changed, piece);
}

/* ---- Giving ---- */

static void want(void *opaque, uint64_t piece, const uint64_t *bits, size_t count)
{
	struct nvme_storage_copy *copy = opaque;

	for (size_t i = 0; i < count; i++) {
		uint64_t *at = &copy->wanted[piece / 64 + i];

		copy->wanted_count += (unsigned)__builtin_popcountll(bits[i] & ~*at);
		*at |= bits[i];
	}
}

/* What was written since is to be given again. */
static void collect(struct nvme_namespace *ns)
{
	uvf_page_set_take(&ns->copy.changed, 0, piece_count(ns->backend->size) - 1, UVF_PAGE_CLEAR,
			  want, &ns->copy);
}

static void copy_end(struct nvme_namespace *ns)
{
	struct nvme_storage_copy *copy = &ns->copy;

	free(copy->wanted);
	free(copy->given);
	free(copy->buffer);
	copy->wanted = copy->given = NULL;
	copy->buffer = NULL;
}

static int copy_begin(struct nvme_namespace *ns)
{
	struct nvme_storage_copy *copy = &ns->copy;
	uint32_t pieces = piece_count(ns->backend->size);

	copy->wanted = new_bits(ns->backend->size);
	copy->given = new_bits(ns->backend->size);
	copy->buffer = malloc(piece_size(ns->backend->size, 0));
	if (!copy->wanted || !copy->given || !copy->buffer ||
	    uvf_page_set_prepare(&copy->changed, 0, pieces - 1)) {
		copy_end(ns);
		return -ENOMEM;
	}
	for (uint32_t piece = 0; piece < pieces; piece++)
		set(copy->wanted, piece, true);
	copy->wanted_count = pieces;
	copy->next = 0;
	copy->round = 0;
	return 0;
}

static bool is_zero(const char *bytes, size_t size)
{
	return !*bytes && !memcmp(bytes, bytes + 1, size - 1);
}

/* Returns how many bytes were given, or an error. */
static ssize_t give_piece(struct nvme_namespace *ns, uint32_t index, uint32_t piece,
			  struct uvf_state_writer *writer)
{
	const struct uvf_state_section section = {.name = "storage",
						  .instance = index << 24 | piece};
	size_t size = piece_size(ns->backend->size, piece);
	char *bytes = ns->copy.buffer;
	bool zero;
	int ret;

	/* A copy, that doesn't change while it is looked at. */
	ret = uvf_guard_copy(bytes, piece_at(ns->backend, piece), size);
	zero = !ret && is_zero(bytes, size);
	if (!ret && !zero)
		ret = uvf_state_write_bytes(writer, section, bytes, size);
	if (ret)
		return ret;
	/* One that has become zeroes isn't in the list any more. */
	set(ns->copy.given, piece, !zero);
	set(ns->copy.wanted, piece, false);
	ns->copy.wanted_count--;
	return zero ? 0 : (ssize_t)size;
}

/* Gives pieces that are wanted, in turn, until so many bytes are given or looked at. */
static int give(struct nvme_namespace *ns, uint32_t index, struct uvf_state_writer *writer,
		uint64_t *bytes, uint64_t *looks)
{
	uint32_t pieces = piece_count(ns->backend->size);
	struct nvme_storage_copy *copy = &ns->copy;

	while (copy->wanted_count && *bytes && *looks) {
		uint32_t piece = copy->next++;
		uint64_t size = piece_size(ns->backend->size, piece);
		ssize_t ret = 0;

		if (copy->next == pieces) {
			copy->next = 0;
			copy->round = 1;
		}
		if (!has(copy->wanted, piece))
			continue;
		ret = give_piece(ns, index, piece, writer);
		if (ret < 0)
			return (int)ret;
		*bytes -= (uint64_t)ret < *bytes ? (uint64_t)ret : *bytes;
		*looks -= size < *looks ? size : *looks;
	}
	return 0;
}

static int write_map(struct nvme_namespace *ns, uint32_t index, struct uvf_state_writer *writer)
{
	const struct uvf_state_section section = {.name = "storage.map", .instance = index};
	uint32_t pieces = piece_count(ns->backend->size), count = 0;
	uint32_t *map = calloc(pieces, sizeof(*map));
	int ret;

	if (!map)
		return -ENOMEM;
	for (uint32_t piece = 0; piece < pieces; piece++)
		if (has(ns->copy.given, piece))
			map[count++] = htole32(piece);
	ret = uvf_state_write_bytes(writer, section, map, count * sizeof(*map));
	free(map);
	return ret;
}

/* The next namespace after @ns (NULL: the first) whose storage is memory; NULL: there is none. */
static struct nvme_namespace *next_memory(const struct nvme *ctrl, const struct nvme_namespace *ns)
{
	for (unsigned i = ns ? ns->id : 0; i < ctrl->namespace_count; i++)
		if (ctrl->namespaces[i].backend->bytes)
			return &ctrl->namespaces[i];
	return NULL;
}

/*
 * What they began before this has ended, where it is true. One that storage or the driver's memory
 * holds up isn't waited for: registers answer meanwhile.
 */
static bool pass_all_pollers(struct nvme *ctrl)
{
	uint64_t until = nvme_now_ms() + BEGIN_LIMIT_MS;

	for (unsigned i = 0; i < ctrl->poller_count; i++) {
		if (!nvme_poller_pause_until(&ctrl->pollers[i], until))
			return false;
		nvme_poller_resume(&ctrl->pollers[i]);
	}
	return true;
}

static int begin_early(struct nvme *ctrl)
{
	struct nvme_namespace *ns;
	int ret = 0;

	for (ns = next_memory(ctrl, NULL); ns; ns = next_memory(ctrl, ns)) {
		ret = ret ? ret : copy_begin(ns);
		atomic_store(&ns->copy.on, !ret);
	}
	ctrl->gives_early = true;
	/* What is written without being noted would be missed. */
	if (!ret && next_memory(ctrl, NULL) && !pass_all_pollers(ctrl))
		ret = -EBUSY;
	return ret;
}

void nvme_end_early(struct uvf_device *dev)
{
	struct nvme_namespace *ns;
	struct nvme *ctrl = uvf_device_opaque(dev);

	/* Pollers may still be noting: what they note in stays. */
	for (ns = next_memory(ctrl, NULL); ns; ns = next_memory(ctrl, ns)) {
		atomic_store(&ns->copy.on, false);
		copy_end(ns);
	}
	ctrl->gives_early = false;
}

int nvme_save_early(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	struct nvme_namespace *ns;
	struct nvme *ctrl = uvf_device_opaque(dev);
	uint64_t bytes = EARLY_BYTES, looks = EARLY_LOOKS;
	int ret = ctrl->gives_early ? 0 : begin_early(ctrl);

	for (ns = next_memory(ctrl, NULL); ns; ns = next_memory(ctrl, ns)) {
		if (!ns->copy.wanted_count && !ret)
			collect(ns);
		ret = ret ? ret : give(ns, ns->id - 1, writer, &bytes, &looks);
	}
	return ret;
}

void nvme_early_size(struct uvf_device *dev, uint64_t *initial, uint64_t *dirty)
{
	struct nvme_namespace *ns;
	struct nvme *ctrl = uvf_device_opaque(dev);

	if (!ctrl->gives_early)
		return;
	for (ns = next_memory(ctrl, NULL); ns; ns = next_memory(ctrl, ns)) {
		uint32_t pieces = piece_count(ns->backend->size);
		uint32_t first = ns->copy.round ? 0 : pieces - ns->copy.next;
		unsigned shift = piece_shift(ns->backend->size);

		collect(ns);
		*initial += (uint64_t)first << shift;
		*dirty += (uint64_t)(ns->copy.wanted_count - first) << shift;
	}
}

int nvme_storage_write(struct nvme *ctrl, struct nvme_namespace *ns,
		       struct uvf_state_writer *writer)
{
	uint64_t bytes = UINT64_MAX, looks = UINT64_MAX;
	int ret = 0;

	if (ctrl->gives_early)
		collect(ns);
	else
		ret = copy_begin(ns);
	if (!ret)
		ret = give(ns, ns->id - 1, writer, &bytes, &looks);
	if (!ret)
		ret = write_map(ns, ns->id - 1, writer);
	if (!ctrl->gives_early)
		copy_end(ns);
	return ret;
}

uint64_t nvme_storage_size(struct nvme *ctrl)
{
	struct nvme_namespace *ns;
	uint64_t initial = 0, dirty = 0, all = 0;

	nvme_early_size(ctrl->dev, &initial, &dirty);
	for (ns = next_memory(ctrl, NULL); ns; ns = next_memory(ctrl, ns))
		all += ns->backend->size;
	return ctrl->gives_early ? initial + dirty : all;
}

/* ---- Taking ---- */

/* With poller 0's lock. */
static int clear(struct nvme *ctrl, struct nvme_namespace *ns)
{
	struct nvme_io all = {
		.op = NVME_IO_WRITE_ZEROES, .flags = NVME_IO_UNMAP, .size = ns->backend->size};

	if (ns->backend->read_only)
		return 0;
	/* Memory completes at once. */
	return nvme_channel_submit(ctrl->pollers[0].channels[ns->id - 1], &all);
}

static int clear_alone(struct nvme *ctrl, struct nvme_namespace *ns)
{
	int ret;

	nvme_poller_pause(&ctrl->pollers[0]);
	ret = clear(ctrl, ns);
	nvme_poller_resume(&ctrl->pollers[0]);
	return ret;
}

void *nvme_place(struct uvf_device *dev, const char *section, uint32_t instance, uint64_t size)
{
	struct nvme *ctrl = uvf_device_opaque(dev);
	uint32_t piece = instance & (PIECES_MAX - 1);
	struct nvme_namespace *ns;

	if (strcmp(section, "storage") || instance >> 24 >= ctrl->namespace_count)
		return NULL;
	ns = &ctrl->namespaces[instance >> 24];
	if (!ns->backend->bytes || ns->backend->read_only ||
	    piece >= piece_count(ns->backend->size) || size != piece_size(ns->backend->size, piece))
		return NULL;
	if (!ns->copy.placed) {
		ns->copy.placed = new_bits(ns->backend->size);
		if (!ns->copy.placed || clear_alone(ctrl, ns))
			return NULL;
	}
	set(ns->copy.placed, piece, true);
	return piece_at(ns->backend, piece);
}

int nvme_storage_check(const struct nvme_namespace *ns, struct uvf_state_reader *reader)
{
	const void *bytes;
	ssize_t size = uvf_state_read_bytes(reader, "storage.map", ns->id - 1, &bytes);

	if (size < 0 || size % 4)
		return -EINVAL;
	for (ssize_t i = 0; i < size / 4; i++) {
		uint32_t piece = uvf_get_le32((const uint8_t *)bytes + 4 * i);

		if (piece >= piece_count(ns->backend->size) || !ns->copy.placed ||
		    !has(ns->copy.placed, piece))
			return -EINVAL;
	}
	return 0;
}

/* With all pollers' locks. */
int nvme_storage_load(struct nvme *ctrl, struct nvme_namespace *ns, struct uvf_state_reader *reader)
{
	uint32_t pieces = piece_count(ns->backend->size);
	const void *bytes = NULL;
	ssize_t size = uvf_state_read_bytes(reader, "storage.map", ns->id - 1, &bytes);
	uint64_t *listed;

	if (!ns->copy.placed)
		return clear(ctrl, ns);
	listed = new_bits(ns->backend->size);
	if (!listed)
		return -ENOMEM;
	for (ssize_t i = 0; i < size / 4; i++)
		set(listed, uvf_get_le32((const uint8_t *)bytes + 4 * i), true);
	/* What became zeroes after it was given. */
	for (uint32_t piece = 0; piece < pieces; piece++)
		if (has(ns->copy.placed, piece) && !has(listed, piece))
			memset(piece_at(ns->backend, piece), 0,
			       piece_size(ns->backend->size, piece));
	free(listed);
	return 0;
}

void nvme_storage_keep(struct nvme *ctrl)
{
	for (unsigned i = 0; i < ctrl->namespace_count; i++) {
		free(ctrl->namespaces[i].copy.placed);
		ctrl->namespaces[i].copy.placed = NULL;
	}
}

void nvme_storage_give_up(struct nvme *ctrl)
{
	struct nvme_namespace *ns;
	for (ns = next_memory(ctrl, NULL); ns; ns = next_memory(ctrl, ns))
		if (ns->copy.placed)
			clear_alone(ctrl, ns);
	nvme_storage_keep(ctrl);
}
