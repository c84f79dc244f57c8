/* SPDX-License-Identifier: BSD-3-Clause */
/* A DMA engine's state in the middle of a chain, as releases wrote it: see golden.h. */
#include "ioat_rig.h"

#include "golden.h"

static const char *const releases[] = {"0.1.0"};

/* A chain of eight copies of which three are done. */
static void prepare(struct rig *rig)
{
	for (unsigned i = 0; i < 8; i++)
		rig_describe(
			rig, i,
			(struct ioat_descriptor){.size = 4096,
						 .control = i == 7 ? IOAT_DESC_COMPLETION : 0,
						 .source = rig_iova(RIG_SOURCE + i * 4096),
						 .destination = rig_iova(RIG_TARGET + i * 4096)});
	rig_start(rig, 0, 8);
	assert_int_equal(ioat_run(rig->ioat, 3), 3);
}

static void make_stream(struct stream *stream)
{
	static struct rig rig;

	rig_open(&rig, "ioat,channels=2", true);
	prepare(&rig);
	stream_save(rig.dev, stream);
	rig_close(&rig);
}

static void as_it_was(void **state)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(releases); i++) {
		struct stream stream = golden_read("ioat", releases[i]);
		static struct rig from, to;

		/* The driver's memory as it was then. */
		rig_open(&from, "ioat,channels=2", true);
		rig_open(&to, "ioat,channels=2", true);
		prepare(&from);
		memcpy(to.memory, from.memory, RIG_MEMORY);
		assert_int_equal(stream_load(to.dev, &stream), 0);
		assert_int_equal(rig_status(&to), IOAT_ACTIVE);
		for (uint64_t at = 0; at < IOAT_CHANNEL_0 + 0x100; at += 4)
			assert_int_equal(rig_get(&to, at, 4), rig_get(&from, at, 4));
		assert_int_equal(rig_chan_get(&to, IOAT_CHAINADDR, 8), rig_descriptor(0));
		assert_int_equal(rig_chan_get(&to, IOAT_CHANCMP, 8), rig_iova(RIG_RECORD));
		assert_int_equal(rig_chan_get(&to, IOAT_DMACOUNT, 2), 8);
		assert_int_equal(ioat_run(to.ioat, 100), 5);
		assert_int_equal(rig_status(&to), IOAT_DONE);
		assert_int_equal(rig_record(&to), rig_descriptor(7) | IOAT_DONE);
		assert_memory_equal(to.memory + RIG_TARGET, to.memory + RIG_SOURCE, 8 * 4096);
		rig_close(&from);
		rig_close(&to);
		stream_free(&stream);
	}
}

static void works(void *opaque)
{
	struct rig *rig = opaque;

	rig_config_put(rig, PCI_COMMAND, RIG_COMMAND, 2);
	assert_int_equal(rig_chan_get(rig, IOAT_CHAINADDR, 8), 0);
	rig_copy(rig, 0, 64, IOAT_DESC_COMPLETION);
	rig_start(rig, 0, 1);
	assert_int_equal(ioat_run(rig->ioat, 100), 1);
	assert_int_equal(rig_status(rig), IOAT_DONE);
	assert_int_equal(uvf_device_reset(rig->dev, UVF_RESET_DEVICE), 0);
}

static void damaged(void **state)
{
	struct stream stream = golden_read("ioat", releases[UVF_ARRAY_SIZE(releases) - 1]);
	static struct rig rig;

	rig_open(&rig, "ioat,channels=2", true);
	golden_damage(&(struct golden_victim){rig.dev, works, &rig}, &stream);
	golden_extend(&(struct golden_victim){rig.dev, works, &rig}, &stream);
	rig_close(&rig);
	stream_free(&stream);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_it_was),
		cmocka_unit_test(damaged),
	};

	if (argc == 4 && !strcmp(argv[1], "--make"))
		return golden_make(argv, "ioat", make_stream);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
