/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors of the DMA engine: what each does, chains of them, and what is wrong with some. */
#include "ioat_rig.h"

static int setup(void **state)
{
	struct rig *rig = malloc(sizeof(*rig));

	rig_open(rig, "ioat", true);
	*state = rig;
	return 0;
}

static int teardown(void **state)
{
	rig_close(*state);
	free(*state);
	return 0;
}

/* ---- What each does ---- */

static void test_copy(void **state)
{
	static const uint32_t sizes[] = {
		1, 7, 8, 4096, IOAT_PIECE - 1, IOAT_PIECE, IOAT_PIECE + 1, 1u << 20,
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(sizes); i++) {
		uint32_t size = sizes[i];

		memset(rig->memory + RIG_TARGET, 0, size + 1);
		rig_copy(rig, 0, size, 0);
		rig_start(rig, 0, 1);
		assert_int_equal(rig_status(rig), IOAT_ACTIVE);
		rig_run(rig);
		assert_int_equal(rig_status(rig), IOAT_DONE);
		assert_int_equal(rig_completed(rig), rig_descriptor(0));
		assert_memory_equal(rig->memory + RIG_TARGET, rig->memory + RIG_SOURCE, size);
		assert_int_equal(rig->memory[RIG_TARGET + size], 0);
		/* It wasn't asked for. */
		assert_int_equal(rig_record(rig), 0);
	}
}

/* The pattern begins at the destination, wherever that is, and ends anywhere. */
static void test_fill(void **state)
{
	static const uint32_t sizes[] = {1, 3, 8, 13, 4096, IOAT_PIECE + 5};
	const uint64_t pattern = 0x8877665544332211;
	struct rig *rig = *state;
	uint8_t bytes[8];

	uvf_put_le64(bytes, pattern);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(sizes); i++) {
		uint8_t *target = rig->memory + RIG_TARGET + 3;

		memset(target - 1, 0xee, sizes[i] + 2);
		rig_describe(rig, 0,
			     (struct ioat_descriptor){
				     .size = sizes[i],
				     .control = IOAT_OP_FILL << IOAT_DESC_OP_SHIFT,
				     .source = pattern,
				     .destination = rig_iova(RIG_TARGET + 3),
			     });
		rig_start(rig, 0, 1);
		rig_run(rig);
		assert_int_equal(rig_status(rig), IOAT_DONE);
		for (uint32_t at = 0; at < sizes[i]; at++)
			assert_int_equal(target[at], bytes[at % 8]);
		assert_int_equal(target[-1], 0xee);
		assert_int_equal(target[sizes[i]], 0xee);
	}
}

/* Addresses of one that moves nothing are not looked at. */
static void test_null(void **state)
{
	struct rig *rig = *state;

	rig_describe(rig, 0,
		     (struct ioat_descriptor){.size = 64,
					      .control = IOAT_DESC_NULL | IOAT_DESC_COMPLETION,
					      .source = UINT64_MAX,
					      .destination = RIG_NOWHERE});
	rig_start(rig, 0, 1);
	rig_run(rig);
	assert_int_equal(rig_record(rig), rig_descriptor(0) | IOAT_DONE);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), 0);
}

static void test_hints_change_nothing(void **state)
{
	struct rig *rig = *state;

	rig_copy(rig, 0, 100,
		 IOAT_DESC_SOURCE_NO_SNOOP | IOAT_DESC_DESTINATION_NO_SNOOP | IOAT_DESC_FENCE |
			 IOAT_DESC_BUNDLE | IOAT_DESC_DCA | IOAT_DESC_HINT);
	rig_start(rig, 0, 1);
	rig_run(rig);
	assert_int_equal(rig_status(rig), IOAT_DONE);
	assert_memory_equal(rig->memory + RIG_TARGET, rig->memory + RIG_SOURCE, 100);
}

/* ---- Chains ---- */

static void test_chain(void **state)
{
	struct rig *rig = *state;

	for (unsigned i = 0; i < 16; i++)
		rig_describe(rig, i,
			     (struct ioat_descriptor){
				     .size = 1000,
				     .control = IOAT_DESC_COMPLETION,
				     .source = rig_iova(RIG_SOURCE + i * 1000),
				     .destination = rig_iova(RIG_TARGET + i * 1000),
				     .next = rig_descriptor((i + 1) % 16),
			     });
	rig_start(rig, 0, 10);
	assert_int_equal(ioat_run(rig->ioat, 4), 4);
	assert_int_equal(rig_record(rig), rig_descriptor(3) | IOAT_ACTIVE);
	assert_int_equal(rig_chan_get(rig, IOAT_CDAR, 8), rig_descriptor(4));
	rig_run(rig);
	assert_int_equal(rig_record(rig), rig_descriptor(9) | IOAT_DONE);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), rig_descriptor(9) | IOAT_DONE);
	/* The count is absolute: three more. */
	rig_chan_put(rig, IOAT_DMACOUNT, 13, 2);
	rig_run(rig);
	assert_int_equal(rig_completed(rig), rig_descriptor(12));
	/* The same again is nothing new. */
	rig_chan_put(rig, IOAT_DMACOUNT, 13, 2);
	assert_int_equal(ioat_run(rig->ioat, 1), 0);
	assert_int_equal(rig_status(rig), IOAT_DONE);
	assert_memory_equal(rig->memory + RIG_TARGET, rig->memory + RIG_SOURCE, 13000);
	assert_int_equal(rig->memory[RIG_TARGET + 13000], 0);
}

/* A descriptor that leads to itself: as often as was asked for, past the counter's end too. */
static void test_loop(void **state)
{
	struct rig *rig = *state;

	rig_describe(rig, 0,
		     (struct ioat_descriptor){
			     .size = 1, .control = IOAT_DESC_NULL, .next = rig_descriptor(0)});
	rig_start(rig, 0, 0xffff);
	assert_int_equal(ioat_run(rig->ioat, UINT32_MAX), 0xffff);
	assert_int_equal(rig_status(rig), IOAT_DONE);
	rig_chan_put(rig, IOAT_DMACOUNT, 2, 2);
	assert_int_equal(ioat_run(rig->ioat, UINT32_MAX), 3);
	assert_int_equal(rig_status(rig), IOAT_DONE);
	/* A new chain counts from 0. */
	rig_start(rig, 0, 1);
	assert_int_equal(ioat_run(rig->ioat, UINT32_MAX), 1);
}

/* A step of each in turn: one channel's chain without an end doesn't hold another. */
static void test_channels_take_turns(void **state)
{
	const uint64_t second = IOAT_CHANNEL_0 + IOAT_CHANNEL_SIZE;
	struct rig rig;

	rig_open(&rig, "ioat,channels=2", true);
	rig_describe(&rig, 0,
		     (struct ioat_descriptor){
			     .size = 1, .control = IOAT_DESC_NULL, .next = rig_descriptor(0)});
	rig_copy(&rig, 1, 500, IOAT_DESC_COMPLETION);
	rig_start(&rig, 0, 60000);
	rig_put(&rig, second + IOAT_CHAINADDR, rig_descriptor(1), 8);
	rig_put(&rig, second + IOAT_CHANCMP, rig_iova(RIG_RECORD), 8);
	rig_put(&rig, second + IOAT_DMACOUNT, 1, 2);
	assert_int_equal(ioat_run(rig.ioat, 2), 2);
	assert_int_equal(rig_record(&rig), rig_descriptor(1) | IOAT_DONE);
	assert_int_equal(rig_get(&rig, second + IOAT_CHANSTS, 8), rig_descriptor(1) | IOAT_DONE);
	assert_int_equal(rig_status(&rig), IOAT_ACTIVE);
	assert_memory_equal(rig.memory + RIG_TARGET, rig.memory + RIG_SOURCE, 500);
	rig_close(&rig);
}

/* ---- What is wrong ---- */

#define FILL (IOAT_OP_FILL << IOAT_DESC_OP_SHIFT)

static const struct {
	struct ioat_descriptor descriptor;
	uint32_t errors;
} wrong[] = {
	{{.size = 0}, IOAT_ERR_LENGTH},
	{{.size = (1u << 20) + 1}, IOAT_ERR_LENGTH},
	{{.size = UINT32_MAX}, IOAT_ERR_LENGTH},
	{{.size = 0, .control = IOAT_DESC_NULL}, IOAT_ERR_LENGTH},
	{{.size = 0, .control = FILL}, IOAT_ERR_LENGTH},
	{{.size = 8, .control = 1u << 6}, IOAT_ERR_CONTROL},
	{{.size = 8, .control = 1u << 7}, IOAT_ERR_CONTROL},
	{{.size = 8, .control = 1u << 11}, IOAT_ERR_CONTROL},
	{{.size = 8, .control = 1u << 23}, IOAT_ERR_CONTROL},
	{{.size = 8, .control = 2u << IOAT_DESC_OP_SHIFT}, IOAT_ERR_CONTROL},
	{{.size = 8, .control = 0x87u << IOAT_DESC_OP_SHIFT}, IOAT_ERR_CONTROL},
	{{.size = 8, .control = 0xffu << IOAT_DESC_OP_SHIFT}, IOAT_ERR_CONTROL},
	{{.size = 8, .control = FILL | IOAT_DESC_NULL}, IOAT_ERR_CONTROL},
	{{.size = 8, .control = FILL | IOAT_DESC_SOURCE_NO_SNOOP}, IOAT_ERR_CONTROL},
	{{.size = 8, .source = RIG_NOWHERE}, IOAT_ERR_READ_DATA},
	{{.size = 8, .source = RIG_IOVA + RIG_MEMORY - 4}, IOAT_ERR_READ_DATA},
	{{.size = 8, .destination = RIG_NOWHERE}, IOAT_ERR_WRITE_DATA},
	{{.size = 8, .destination = RIG_IOVA - 4}, IOAT_ERR_WRITE_DATA},
	{{.size = 8, .control = FILL, .destination = RIG_NOWHERE}, IOAT_ERR_WRITE_DATA},
	{{.size = 8, .source = UINT64_MAX - 6}, IOAT_ERR_SOURCE_ADDRESS},
	{{.size = 8, .destination = UINT64_MAX - 6}, IOAT_ERR_DESTINATION_ADDRESS},
	{{.size = 8, .source = UINT64_MAX, .destination = UINT64_MAX},
	 IOAT_ERR_SOURCE_ADDRESS | IOAT_ERR_DESTINATION_ADDRESS},
	{{.size = 8, .control = FILL, .source = UINT64_MAX, .destination = UINT64_MAX},
	 IOAT_ERR_DESTINATION_ADDRESS},
};

/* One that is right, one that is wrong, one that is not reached; then the driver recovers. */
static void test_wrong(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(wrong); i++) {
		struct ioat_descriptor descriptor = wrong[i].descriptor;

		if (!descriptor.source)
			descriptor.source = rig_iova(RIG_SOURCE);
		if (!descriptor.destination)
			descriptor.destination = rig_iova(RIG_TARGET + 4096);
		descriptor.control |= IOAT_DESC_COMPLETION;
		memset(rig->memory + RIG_TARGET, 0, 4096);
		rig_null(rig, 0, 0);
		rig_describe(rig, 1, descriptor);
		rig_copy(rig, 2, 8, 0);
		rig_chan_put(rig, IOAT_CHANCTRL, IOAT_CHANCTRL_ERR_COMPLETION_EN, 2);
		rig_start(rig, 0, 3);
		rig_run(rig);
		if (rig_chan_get(rig, IOAT_CHANERR, 4) != wrong[i].errors)
			fail_msg("wrong[%zu]: CHANERR 0x%x", i,
				 (unsigned)rig_chan_get(rig, IOAT_CHANERR, 4));
		assert_int_equal(rig_config_get(rig, IOAT_PCI_CHANERR_INT), wrong[i].errors);
		assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8),
				 rig_descriptor(0) | IOAT_HALTED);
		assert_int_equal(rig_record(rig), rig_descriptor(0) | IOAT_HALTED);
		assert_int_equal(rig_chan_get(rig, IOAT_CDAR, 8), rig_descriptor(1));
		assert_int_equal(uvf_get_le64(rig->memory + RIG_TARGET), 0);
		/* Nothing goes on while the error is there. */
		rig_chan_put(rig, IOAT_DMACOUNT, 4, 2);
		rig_chan_put(rig, IOAT_CHANCMD, IOAT_CHANCMD_RESUME, 1);
		rig_start(rig, 2, 1);
		assert_int_equal(ioat_run(rig->ioat, 1), 0);
		assert_int_equal(rig_status(rig), IOAT_HALTED);
		rig_recover(rig);
		assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_HALTED);
		rig_config_put(rig, IOAT_PCI_CHANERR_INT, UINT32_MAX, 4);
		rig_start(rig, 2, 1);
		rig_run(rig);
		assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), rig_descriptor(2) | IOAT_DONE);
		assert_int_equal(uvf_get_le64(rig->memory + RIG_TARGET),
				 uvf_get_le64(rig->memory + RIG_SOURCE));
	}
}

static void test_wrong_chain(void **state)
{
	static const struct {
		uint64_t chain, next;
		uint32_t errors;
	} chains[] = {
		{RIG_NOWHERE, 0, IOAT_ERR_CHAIN_ADDRESS},
		{RIG_IOVA + 8, 0, IOAT_ERR_CHAIN_ADDRESS},
		{UINT64_MAX & ~63ull, 0, IOAT_ERR_CHAIN_ADDRESS},
		{RIG_IOVA, RIG_NOWHERE, IOAT_ERR_NEXT_ADDRESS},
		{RIG_IOVA, RIG_IOVA + RIG_MEMORY, IOAT_ERR_NEXT_ADDRESS},
		{RIG_IOVA, RIG_IOVA + 32, IOAT_ERR_NEXT_ALIGNMENT},
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(chains); i++) {
		rig_describe(rig, 0,
			     (struct ioat_descriptor){
				     .size = 1, .control = IOAT_DESC_NULL, .next = chains[i].next});
		rig_chan_put(rig, IOAT_CHAINADDR, chains[i].chain, 8);
		assert_int_equal(rig_status(rig), IOAT_ARMED);
		/* Where it leads matters only to who goes there. */
		if (chains[i].next) {
			rig_chan_put(rig, IOAT_DMACOUNT, 1, 2);
			rig_run(rig);
			assert_int_equal(rig_status(rig), IOAT_DONE);
		}
		rig_chan_put(rig, IOAT_DMACOUNT, 2, 2);
		rig_run(rig);
		assert_int_equal(rig_status(rig), IOAT_HALTED);
		assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), chains[i].errors);
		rig_recover(rig);
	}
}

static void test_wrong_completion(void **state)
{
	static const uint64_t addresses[] = {0, RIG_NOWHERE, RIG_IOVA + RIG_RECORD + 4, UINT64_MAX};
	struct rig *rig = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(addresses); i++) {
		rig_null(rig, 0, IOAT_DESC_COMPLETION);
		rig_chan_put(rig, IOAT_CHAINADDR, rig_descriptor(0), 8);
		rig_chan_put(rig, IOAT_CHANCMP, addresses[i], 8);
		rig_chan_put(rig, IOAT_DMACOUNT, 1, 2);
		rig_run(rig);
		assert_int_equal(rig_chan_get(rig, IOAT_CHANSTS, 8), IOAT_HALTED);
		assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), IOAT_ERR_COMPLETION_ADDRESS);
		rig_recover(rig);
	}
	/* Both at once. */
	rig_copy(rig, 0, 0, 0);
	rig_chan_put(rig, IOAT_CHANCTRL, IOAT_CHANCTRL_ERR_COMPLETION_EN, 2);
	rig_chan_put(rig, IOAT_CHAINADDR, rig_descriptor(0), 8);
	rig_chan_put(rig, IOAT_CHANCMP, RIG_NOWHERE, 8);
	rig_chan_put(rig, IOAT_DMACOUNT, 1, 2);
	rig_run(rig);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4),
			 IOAT_ERR_LENGTH | IOAT_ERR_COMPLETION_ADDRESS);
}

/* Memory that the device may only read, or only write. */
static void test_permissions(void **state)
{
	struct rig *rig = *state;

	rig_copy(rig, 0, 8, 0);
	assert_int_equal(uvf_map_fd(rig->space, RIG_NOWHERE, 0x1000, UVF_PROT_READ, rig->fd, 0), 0);
	rig_describe(rig, 1,
		     (struct ioat_descriptor){.size = 8,
					      .source = rig_iova(RIG_SOURCE),
					      .destination = RIG_NOWHERE});
	rig_start(rig, 0, 2);
	rig_run(rig);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), IOAT_ERR_WRITE_DATA);
	assert_int_equal(rig_completed(rig), rig_descriptor(0));
	rig_recover(rig);
	assert_int_equal(uvf_unmap(rig->space, RIG_NOWHERE, 0x1000, NULL), 0);
	assert_int_equal(uvf_map_fd(rig->space, RIG_NOWHERE, 0x1000, UVF_PROT_WRITE, rig->fd, 0),
			 0);
	rig_describe(rig, 1,
		     (struct ioat_descriptor){.size = 8,
					      .source = RIG_NOWHERE,
					      .destination = rig_iova(RIG_TARGET)});
	rig_start(rig, 1, 1);
	rig_run(rig);
	assert_int_equal(rig_chan_get(rig, IOAT_CHANERR, 4), IOAT_ERR_READ_DATA);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_copy),
		WITH_RIG(test_fill),
		WITH_RIG(test_null),
		WITH_RIG(test_hints_change_nothing),
		WITH_RIG(test_chain),
		WITH_RIG(test_loop),
		cmocka_unit_test(test_channels_take_turns),
		WITH_RIG(test_wrong),
		WITH_RIG(test_wrong_chain),
		WITH_RIG(test_wrong_completion),
		WITH_RIG(test_permissions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
