/* SPDX-License-Identifier: BSD-3-Clause */
/* A server whose device's areas change: clients that know of it, and those that don't. */
#include "changing.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "migrating.h"

#define PLAIN_VERSION "{\"capabilities\":{\"max_msg_fds\":16}}"
#define INFO_SIZE     sizeof(struct uvf_wire_region_info)
#define LIST_SIZE     sizeof(struct vfio_region_info_cap_sparse_mmap)
#define AREA_INFO     sizeof(struct vfio_region_sparse_mmap_area)
/* Of a region with both areas: both lists and the changes. */
#define FULL_SIZE (INFO_SIZE + 2 * LIST_SIZE + 3 * AREA_INFO + 16)

struct rig {
	struct changing *changing;
	struct harness *h;
	int event;
	size_t fds_before;
};

static struct rig rig_new(unsigned regions, bool threaded, const char *version)
{
	struct rig rig = {.fds_before = count_fds()};

	rig.event = eventfd(0, EFD_CLOEXEC);
	rig.changing = changing_new(regions);
	rig.h = changing_serve(rig.changing, threaded, version);
	return rig;
}

static void rig_free(struct rig *rig)
{
	struct harness *h = rig->h;

	/* It counts what was there when it was made: of the device too. */
	harness_free(h);
	changing_free(rig->changing);
	close(rig->event);
	assert_int_equal(count_fds(), rig->fds_before);
}

/* ---- Without the extension ---- */

static void test_not_named_is_not_answered(void **state)
{
	static const char *const versions[] = {
		NULL,
		PLAIN_VERSION,
		"{\"capabilities\":{\"uvfio\":{}}}",
		"{\"capabilities\":{\"uvfio\":{\"areas\":0}}}",
	};

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		struct changing *changing = changing_new(1);
		struct harness *h = changing_serve(changing, false, NULL);
		struct reply reply;

		h->client = harness_connect(h);
		assert_int_equal(negotiate_on(h, h->client, versions[i], &reply), 0);
		assert_null(strstr((char *)reply.payload + 4, "uvfio"));
		harness_free(h);
		changing_free(changing);
	}
}

static void test_named_where_areas_change(void **state)
{
	struct changing *changing = changing_new(1);
	struct harness *h = changing_serve(changing, false, NULL);
	struct reply reply;

	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, AREAS_VERSION, &reply), 0);
	assert_non_null(strstr((char *)reply.payload + 4, "\"uvfio\":{\"areas\":1}"));
	harness_free(h);
	changing_free(changing);

	/* And not where they don't. */
	h = harness_new(NULL);
	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, AREAS_VERSION, &reply), 0);
	assert_null(strstr((char *)reply.payload + 4, "uvfio"));
	assert_int_equal(tell_mapping(h, UVF_USER_REGION_MAPPED, 0, PAGE, PAGE), -EOPNOTSUPP);
	harness_free(h);
}

static void test_invalid_versions(void **state)
{
	static const char *const versions[] = {
		"{\"capabilities\":{\"uvfio\":1}}",
		"{\"capabilities\":{\"uvfio\":[]}}",
		"{\"capabilities\":{\"uvfio\":{\"areas\":true}}}",
		"{\"capabilities\":{\"uvfio\":{\"areas\":-1}}}",
		"{\"capabilities\":{\"uvfio\":{\"areas\":\"1\"}}}",
		"{\"capabilities\":{\"uvfio\":{\"areas\":4294967296}}}",
	};

	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		struct changing *changing = changing_new(1);
		struct harness *h = changing_serve(changing, false, NULL);
		struct reply reply;

		h->client = harness_connect(h);
		assert_int_equal(negotiate_on(h, h->client, versions[i], &reply), -EINVAL);
		harness_free(h);
		changing_free(changing);
	}
}

/* Who doesn't know of it is told what a region that doesn't change would be told. */
static void test_plain_client_sees_plain_infos(void **state)
{
	struct rig rig = rig_new(1, false, PLAIN_VERSION);
	struct uvf_wire_device_info device = {.argsz = sizeof(device)};
	struct uvf_wire_region_info region = {.argsz = 4096};
	struct uvf_wire_irq_info irq = {.argsz = 4096, .index = REMAP_IRQ};
	struct {
		struct uvf_wire_region_info info;
		struct vfio_region_info_cap_sparse_mmap list;
		struct vfio_region_sparse_mmap_area areas[2];
	} expected = {
		{sizeof(expected),
		 VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
			 VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS,
		 0, INFO_SIZE, CHANGING_SIZE, 0},
		{{VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0}, 2, 0},
		{{STAYS, PAGE}, {GOES, PAGE}},
	};
	struct reply reply;

	assert_int_equal(
		request(rig.h, VFIO_USER_DEVICE_GET_INFO, &device, sizeof(device), NULL, 0, &reply),
		0);
	memcpy(&device, reply.payload, sizeof(device));
	assert_int_equal(device.irqs, REMAP_IRQ);
	assert_int_equal(request(rig.h, VFIO_USER_DEVICE_GET_REGION_INFO, &region, sizeof(region),
				 NULL, 0, &reply),
			 0);
	assert_int_equal(reply.size, sizeof(expected));
	assert_memory_equal(reply.payload, &expected, sizeof(expected));
	close_reply_fds(&reply);
	assert_int_equal(simple(rig.h, VFIO_USER_DEVICE_GET_IRQ_INFO, &irq, sizeof(irq)), -EINVAL);
	assert_int_equal(set_remap_irq(rig.h, rig.event), -EINVAL);
	assert_int_equal(unmask_remap_irq(rig.h), -EINVAL);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), -EOPNOTSUPP);
	assert_int_equal(simple(rig.h, UVF_USER_REGION_UNMAPPED, "x", 1), -EOPNOTSUPP);
	assert_int_equal(simple(rig.h, UVF_USER_REGION_UNMAPPED + 1, "x", 1), -EOPNOTSUPP);
	rig_free(&rig);
}

static void test_plain_client_that_was_given_nothing(void **state)
{
	struct rig rig = rig_new(1, false, PLAIN_VERSION);

	assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_PRE_COPY), 0);
	assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_RUNNING), 0);
	rig_free(&rig);
}

static void test_plain_client_that_was_given_areas(void **state)
{
	struct rig rig = rig_new(2, false, PLAIN_VERSION);
	struct told_region told;

	/* What it is given once it has for good; how much it asked for says nothing. */
	assert_int_equal(ask_region(rig.h, 1, INFO_SIZE, &told), 0);
	assert_true(told.fd >= 0);
	close(told.fd);
	assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_PRE_COPY), -ENODEV);
	assert_int_equal(where(rig.h), VFIO_DEVICE_STATE_RUNNING);
	/* What stays can be had; and the next client is another. */
	close(rig.h->client);
	harness_step(rig.h);
	rig.h->client = harness_connect(rig.h);
	assert_int_equal(negotiate_on(rig.h, rig.h->client, PLAIN_VERSION, &(struct reply){{0}}),
			 0);
	assert_int_equal(changing_set_areas(rig.changing, 0, 1), 0);
	assert_int_equal(ask_region(rig.h, 0, 4096, &told), 0);
	close(told.fd);
	assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_PRE_COPY), 0);
	rig_free(&rig);
}

/* ---- Infos ---- */

static void test_region_info(void **state)
{
	struct rig rig = rig_new(1, false, AREAS_VERSION);
	struct told_region told;

	assert_int_equal(ask_region(rig.h, 0, FULL_SIZE, &told), 0);
	assert_int_equal(told.info.argsz, FULL_SIZE);
	assert_int_equal(told.areas, 3);
	assert_true(told.has_saving);
	assert_int_equal(told.saving, 1);
	assert_true(told.has_changes);
	assert_int_equal(told.changes, 0);
	assert_true(told.fd >= 0);
	close(told.fd);
	/* Nothing to map: no list, no descriptor; both lists are empty. */
	assert_int_equal(changing_set_areas(rig.changing, 0, 0), 0);
	assert_int_equal(ask_region(rig.h, 0, 4096, &told), 0);
	assert_int_equal(told.info.flags & VFIO_REGION_INFO_FLAG_MMAP, 0);
	assert_false(told.has_areas);
	assert_true(told.has_saving);
	assert_int_equal(told.saving, 0);
	assert_int_equal(told.changes, UVF_REGION_CHANGED_AREAS);
	assert_int_equal(told.fd, -1);
	rig_free(&rig);
}

/* Only who is told of it has read it. */
static void test_changes_are_cleared_where_they_are_told(void **state)
{
	struct rig rig = rig_new(1, false, AREAS_VERSION);
	struct uvf_wire_region_info wire = {.argsz = 4096};
	struct told_region told;

	assert_int_equal(changing_set_areas(rig.changing, 0, 1), 0);
	assert_int_equal(ask_region(rig.h, 0, INFO_SIZE, &told), 0);
	assert_int_equal(told.info.cap_offset, 0);
	assert_int_equal(told.info.argsz, FULL_SIZE - AREA_INFO);
	close(told.fd);
	assert_int_equal(ask_region(rig.h, 0, FULL_SIZE - AREA_INFO - 1, &told), 0);
	assert_int_equal(told.info.cap_offset, 0);
	close(told.fd);
	send_request_on(rig.h->client, 5, VFIO_USER_DEVICE_GET_REGION_INFO, UVF_WIRE_NO_REPLY,
			&wire, sizeof(wire), NULL, 0);
	harness_step(rig.h);
	assert_int_equal(ask_changes(rig.h, 0), UVF_REGION_CHANGED_AREAS);
	assert_int_equal(ask_changes(rig.h, 0), 0);
	rig_free(&rig);
}

static void test_irq_info(void **state)
{
	struct rig rig = rig_new(3, false, AREAS_VERSION);
	struct uvf_wire_irq_info wire = {.argsz = 16, .index = REMAP_IRQ};
	struct {
		struct uvf_irq_info_chain chain;
		struct vfio_region_info_cap_type type;
		struct vfio_info_cap_header header;
		uint32_t count, regions[3];
	} answer;
	const uint32_t flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
			       VFIO_IRQ_INFO_AUTOMASKED | UVF_IRQ_INFO_FLAG_CAPS;
	static const uint32_t rooms[] = {16, 23, 24, sizeof(answer) - 1};
	struct reply reply;

	for (size_t i = 0; i < 4; i++) {
		wire.argsz = rooms[i];
		assert_int_equal(request(rig.h, VFIO_USER_DEVICE_GET_IRQ_INFO, &wire, sizeof(wire),
					 NULL, 0, &reply),
				 0);
		assert_int_equal(reply.size, rooms[i] < 24 ? 16 : 24);
		memcpy(&answer, reply.payload, reply.size);
		assert_int_equal(answer.chain.info.argsz, sizeof(answer));
		assert_int_equal(answer.chain.info.flags, flags);
		assert_true(rooms[i] < 24 || !answer.chain.cap_offset);
	}
	wire.argsz = sizeof(answer);
	assert_int_equal(
		request(rig.h, VFIO_USER_DEVICE_GET_IRQ_INFO, &wire, sizeof(wire), NULL, 0, &reply),
		0);
	assert_int_equal(reply.size, sizeof(answer));
	memcpy(&answer, reply.payload, sizeof(answer));
	assert_int_equal(answer.chain.info.count, 1);
	assert_int_equal(answer.chain.cap_offset, sizeof(answer.chain));
	assert_int_equal(answer.type.header.id, UVF_IRQ_INFO_CAP_TYPE);
	assert_int_equal(answer.type.header.next, offsetof(typeof(answer), header));
	assert_int_equal(answer.type.type, UVF_IRQ_TYPE_REMAP);
	assert_int_equal(answer.type.subtype, UVF_IRQ_SUBTYPE_REMAP_REGION);
	assert_int_equal(answer.header.id, UVF_IRQ_INFO_CAP_REGIONS);
	assert_int_equal(answer.header.next, 0);
	assert_int_equal(answer.count, 3);
	assert_int_equal(answer.regions[2], 2);
	rig_free(&rig);
}

/* ---- Mappings ---- */

static void test_invalid_mappings(void **state)
{
	struct rig rig = rig_new(1, false, AREAS_VERSION);
	static const struct {
		uint32_t index;
		uint64_t offset, size;
	} rows[] = {
		{1, GOES, PAGE},
		{UINT32_MAX, GOES, PAGE},
		{0, 0, PAGE},
		{0, GOES, 0},
		{0, GOES, 2 * PAGE},
		{0, GOES + 1, PAGE},
		{0, GOES, PAGE - 1},
		{0, GOES, -(uint64_t)PAGE},
		{0, -(uint64_t)PAGE, 2 * PAGE},
		{0, CHANGING_SIZE, PAGE},
	};
	struct uvf_user_region_mapping mapping = {
		.argsz = sizeof(mapping), .offset = GOES, .size = PAGE};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, rows[i].index,
					      rows[i].offset, rows[i].size),
				 -EINVAL);
		assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_UNMAPPED, rows[i].index,
					      rows[i].offset, rows[i].size),
				 -EINVAL);
	}
	for (uint16_t command = UVF_USER_REGION_MAPPED; command <= UVF_USER_REGION_UNMAPPED;
	     command++) {
		assert_int_equal(simple(rig.h, command, &mapping, sizeof(mapping) - 1), -EINVAL);
		assert_int_equal(simple(rig.h, command, &mapping, 0), -EINVAL);
		assert_int_equal(simple(rig.h, command, &(uint8_t[40]){32}, 40), -EINVAL);
		mapping.argsz--;
		assert_int_equal(simple(rig.h, command, &mapping, sizeof(mapping)), -EINVAL);
		mapping.argsz++;
		mapping.flags = 1;
		assert_int_equal(simple(rig.h, command, &mapping, sizeof(mapping)), -EINVAL);
		mapping.flags = 0;
		mapping.reserved = 1;
		assert_int_equal(simple(rig.h, command, &mapping, sizeof(mapping)), -EINVAL);
		mapping.reserved = 0;
	}
	/* With a descriptor; more often ended than begun. */
	assert_int_equal(request(rig.h, UVF_USER_REGION_MAPPED, &mapping, sizeof(mapping),
				 &rig.event, 1, &(struct reply){{0}}),
			 -EINVAL);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_UNMAPPED, 0, GOES, PAGE), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_UNMAPPED, 0, GOES, PAGE), -EINVAL);
	rig_free(&rig);
}

static void test_mappings_are_bounded(void **state)
{
	struct rig rig = rig_new(1, false, AREAS_VERSION);
	const struct uvf_user_region_mapping mapping = {
		.argsz = sizeof(mapping), .offset = STAYS, .size = PAGE};

	for (unsigned i = 0; i < UVF_MAPPINGS_MAX - 1; i++) {
		send_request_on(rig.h->client, 1, UVF_USER_REGION_MAPPED, UVF_WIRE_NO_REPLY,
				&mapping, sizeof(mapping), NULL, 0);
		if (i % 64 == 0)
			harness_step(rig.h);
	}
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, STAYS, PAGE), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, STAYS, PAGE), -ENOSPC);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_UNMAPPED, 0, STAYS, PAGE), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	rig_free(&rig);
}

/* ---- Told beforehand ---- */

static void test_told_beforehand(void **state)
{
	struct rig rig = rig_new(1, false, AREAS_VERSION);
	struct told_region told;

	/* A descriptor alone is no mapping. */
	assert_int_equal(ask_region(rig.h, 0, 4096, &told), 0);
	close(told.fd);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, STAYS, PAGE), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_PRE_COPY), -EBUSY);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_UNMAPPED, 0, GOES, PAGE), 0);
	assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_PRE_COPY), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), -EINVAL);
	assert_int_equal(ask_region(rig.h, 0, 4096, &told), 0);
	assert_int_equal(told.areas, 1);
	close(told.fd);
	assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	rig_free(&rig);
}

/* ---- Told at run time ---- */

static void test_follows(void **state)
{
	struct rig rig = rig_new(1, true, AREAS_VERSION);
	struct told_region told;
	uint16_t id;

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	id = begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
	expect_event(rig.event);
	/* Others are answered meanwhile; the state is what it was. */
	assert_int_equal(where(rig.h), VFIO_DEVICE_STATE_RUNNING);
	assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_STOP), -EBUSY);
	assert_int_equal(ask_region(rig.h, 0, 4096, &told), 0);
	assert_int_equal(told.changes, UVF_REGION_CHANGED_AREAS);
	assert_int_equal(told.areas, 1);
	close(told.fd);
	/* The end of the mapping settles it. */
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_UNMAPPED, 0, GOES, PAGE), 0);
	assert_int_equal(end_state(rig.h, id), 0);
	assert_int_equal(unmask_remap_irq(rig.h), 0);
	assert_int_equal(where(rig.h), VFIO_DEVICE_STATE_PRE_COPY);
	assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_RUNNING), 0);
	expect_event(rig.event);
	assert_int_equal(ask_region(rig.h, 0, 4096, &told), 0);
	assert_int_equal(told.areas, 3);
	close(told.fd);
	rig_free(&rig);
}

static void test_acknowledges_but_has_it_mapped(void **state)
{
	struct rig rig = rig_new(1, true, AREAS_VERSION);
	const struct uvf_wire_irq_set unmask = {
		.argsz = sizeof(unmask),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = REMAP_IRQ,
		.count = 1,
	};
	uint16_t id;

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	id = begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
	expect_event(rig.event);
	assert_int_equal(ask_changes(rig.h, 0), UVF_REGION_CHANGED_AREAS);
	send_request_on(rig.h->client, 999, VFIO_USER_DEVICE_SET_IRQS, UVF_WIRE_NO_REPLY, &unmask,
			sizeof(unmask), NULL, 0);
	assert_int_equal(end_state(rig.h, id), -EBUSY);
	assert_int_equal(where(rig.h), VFIO_DEVICE_STATE_RUNNING);
	rig_free(&rig);
}

static void test_never_acknowledges(void **state)
{
	struct rig rig = {.fds_before = count_fds()};
	uint16_t id;

	rig.event = eventfd(0, EFD_CLOEXEC);
	rig.changing = changing_new(1);
	uvf_device_set_remap_timeout(rig.changing->dev, 200);
	rig.h = changing_serve(rig.changing, true, AREAS_VERSION);
	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	id = begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
	assert_int_equal(end_state(rig.h, id), -ETIMEDOUT);
	assert_int_equal(where(rig.h), VFIO_DEVICE_STATE_RUNNING);
	/* And again, as it has its areas back. */
	id = begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
	assert_int_equal(end_state(rig.h, id), -ETIMEDOUT);
	rig_free(&rig);
}

/* Back to where it is: both have their answers. */
static void test_is_cancelled(void **state)
{
	struct rig rig = rig_new(1, true, AREAS_VERSION);
	uint16_t id, back;
	struct reply replies[2];

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	for (unsigned i = 0; i < 50; i++) {
		id = begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
		back = begin_state(rig.h, VFIO_DEVICE_STATE_RUNNING, 0);
		for (unsigned r = 0; r < 2; r++)
			assert_true(receive_message(rig.h->client, &replies[r]));
		if (replies[0].header.id != id) {
			struct reply other = replies[0];

			replies[0] = replies[1];
			replies[1] = other;
		}
		assert_int_equal(replies[0].header.id, id);
		assert_int_equal(replies[0].header.error, ECANCELED);
		assert_int_equal(replies[1].header.id, back);
		assert_int_equal(replies[1].header.flags & UVF_WIRE_ERROR, 0);
	}
	assert_int_equal(where(rig.h), VFIO_DEVICE_STATE_RUNNING);
	rig_free(&rig);
}

/* However late the device's thread tells of those that were given up: none is in the way. */
static void test_is_cancelled_at_once(void **state)
{
	struct rig rig = rig_new(1, true, AREAS_VERSION);
	struct reply reply;
	unsigned cancelled = 0;

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	for (unsigned i = 0; i < 100; i++) {
		begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
		begin_state(rig.h, VFIO_DEVICE_STATE_RUNNING, 0);
	}
	for (unsigned i = 0; i < 200; i++) {
		assert_true(receive_message(rig.h->client, &reply));
		if (!(reply.header.flags & UVF_WIRE_ERROR))
			continue;
		assert_int_equal(reply.header.error, ECANCELED);
		cancelled++;
	}
	assert_int_equal(cancelled, 100);
	rig_free(&rig);
}

static void test_reset_ends_the_wait(void **state)
{
	struct rig rig = rig_new(1, true, AREAS_VERSION);
	struct reply replies[2];
	bool cancelled;

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
	expect_event(rig.event);
	send_request_on(rig.h->client, 7777, VFIO_USER_DEVICE_RESET, 0, NULL, 0, NULL, 0);
	for (unsigned r = 0; r < 2; r++)
		assert_true(receive_message(rig.h->client, &replies[r]));
	cancelled = replies[0].header.error == ECANCELED || replies[1].header.error == ECANCELED;
	assert_true(cancelled);
	rig_free(&rig);
}

/* Who wants no reply gets none, however long it takes. */
static void test_no_reply(void **state)
{
	struct rig rig = rig_new(1, true, AREAS_VERSION);

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, UVF_WIRE_NO_REPLY);
	expect_event(rig.event);
	assert_int_equal(where(rig.h), VFIO_DEVICE_STATE_RUNNING);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_UNMAPPED, 0, GOES, PAGE), 0);
	while (where(rig.h) != VFIO_DEVICE_STATE_PRE_COPY)
		;
	rig_free(&rig);
}

static void test_leaves_during_the_wait(void **state)
{
	struct rig rig = rig_new(1, true, AREAS_VERSION);

	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
		assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
		begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, i & 1 ? UVF_WIRE_NO_REPLY : 0);
		expect_event(rig.event);
		close(rig.h->client);
		rig.h->client = harness_connect(rig.h);
		assert_int_equal(
			negotiate_on(rig.h, rig.h->client, AREAS_VERSION, &(struct reply){{0}}), 0);
		assert_int_equal(where(rig.h), VFIO_DEVICE_STATE_RUNNING);
	}
	begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
	rig_free(&rig);
}

/* The same on the caller's thread: who is woken by the server's descriptor. */
static void test_embedded(void **state)
{
	struct rig rig = rig_new(1, false, AREAS_VERSION);
	struct pollfd ready = {uvf_server_fd(rig.h->server), POLLIN, 0};
	uint16_t id;

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
	id = begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
	expect_event(rig.event);
	assert_int_equal(ask_changes(rig.h, 0), UVF_REGION_CHANGED_AREAS);
	send_request_on(rig.h->client, 1, UVF_USER_REGION_UNMAPPED, UVF_WIRE_NO_REPLY,
			&(struct uvf_user_region_mapping){32, 0, 0, 0, GOES, PAGE}, 32, NULL, 0);
	harness_step(rig.h);
	while (poll(&(struct pollfd){rig.h->client, POLLIN, 0}, 1, 0) == 0) {
		assert_int_equal(poll(&ready, 1, LONG_TIME_MS), 1);
		harness_step(rig.h);
	}
	assert_int_equal(end_state(rig.h, id), 0);
	rig_free(&rig);
}

static void test_many_regions(void **state)
{
	struct rig rig = rig_new(200, true, AREAS_VERSION);
	uint16_t id;

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, i, GOES, PAGE), 0);
	id = begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
	expect_event(rig.event);
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(ask_changes(rig.h, i), UVF_REGION_CHANGED_AREAS);
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_UNMAPPED, i, GOES, PAGE), 0);
	assert_int_equal(end_state(rig.h, id), 0);
	rig_free(&rig);
}

/* What changes after it was read isn't acknowledged. */
static void test_change_after_reading_fires_again(void **state)
{
	struct rig rig = rig_new(2, true, AREAS_VERSION);

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	assert_int_equal(changing_set_areas(rig.changing, 0, 1), 0);
	expect_event(rig.event);
	assert_int_equal(ask_changes(rig.h, 0), UVF_REGION_CHANGED_AREAS);
	assert_int_equal(ask_changes(rig.h, 1), 0);
	assert_int_equal(changing_set_areas(rig.changing, 1, 1), 0);
	assert_int_equal(unmask_remap_irq(rig.h), 0);
	expect_event(rig.event);
	assert_int_equal(ask_changes(rig.h, 0), 0);
	assert_int_equal(ask_changes(rig.h, 1), UVF_REGION_CHANGED_AREAS);
	rig_free(&rig);
}

static void test_follows_again_and_again(void **state)
{
	struct rig rig = rig_new(1, true, AREAS_VERSION);

	assert_int_equal(set_remap_irq(rig.h, rig.event), 0);
	for (unsigned i = 0; i < 20; i++) {
		uint16_t id;

		assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_MAPPED, 0, GOES, PAGE), 0);
		id = begin_state(rig.h, VFIO_DEVICE_STATE_PRE_COPY, 0);
		expect_event(rig.event);
		assert_int_equal(ask_changes(rig.h, 0), UVF_REGION_CHANGED_AREAS);
		assert_int_equal(tell_mapping(rig.h, UVF_USER_REGION_UNMAPPED, 0, GOES, PAGE), 0);
		assert_int_equal(end_state(rig.h, id), 0);
		assert_int_equal(unmask_remap_irq(rig.h), 0);
		assert_int_equal(go(rig.h, VFIO_DEVICE_STATE_RUNNING), 0);
		expect_event(rig.event);
		assert_int_equal(ask_changes(rig.h, 0), UVF_REGION_CHANGED_AREAS);
		assert_int_equal(unmask_remap_irq(rig.h), 0);
	}
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_named_is_not_answered),
		cmocka_unit_test(test_named_where_areas_change),
		cmocka_unit_test(test_invalid_versions),
		cmocka_unit_test(test_plain_client_sees_plain_infos),
		cmocka_unit_test(test_plain_client_that_was_given_nothing),
		cmocka_unit_test(test_plain_client_that_was_given_areas),
		cmocka_unit_test(test_region_info),
		cmocka_unit_test(test_changes_are_cleared_where_they_are_told),
		cmocka_unit_test(test_irq_info),
		cmocka_unit_test(test_invalid_mappings),
		cmocka_unit_test(test_mappings_are_bounded),
		cmocka_unit_test(test_told_beforehand),
		cmocka_unit_test(test_follows),
		cmocka_unit_test(test_acknowledges_but_has_it_mapped),
		cmocka_unit_test(test_never_acknowledges),
		cmocka_unit_test(test_is_cancelled),
		cmocka_unit_test(test_is_cancelled_at_once),
		cmocka_unit_test(test_reset_ends_the_wait),
		cmocka_unit_test(test_no_reply),
		cmocka_unit_test(test_leaves_during_the_wait),
		cmocka_unit_test(test_embedded),
		cmocka_unit_test(test_many_regions),
		cmocka_unit_test(test_change_after_reading_fires_again),
		cmocka_unit_test(test_follows_again_and_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
