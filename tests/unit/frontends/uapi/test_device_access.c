/* SPDX-License-Identifier: BSD-3-Clause */
/* pread() and pwrite() on a device: pieces, ends, what is hidden, and memory that isn't there. */
#include "device_rig.h"

#include <stdlib.h>

#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX
#define ROM    VFIO_PCI_ROM_REGION_INDEX

static struct rig rig;

static int setup(void **state)
{
	rig_new(&rig);
	return 0;
}

static int teardown(void **state)
{
	rig_free(&rig);
	return 0;
}

static void arrives_in_natural_pieces(void **state)
{
	uint8_t buf[64];

	assert_int_equal(rig_read(&rig, 0, 0x11, buf, 16), 16);
	assert_string_equal(rig.model->calls, "r0 0x11+1;r0 0x12+2;r0 0x14+4;r0 0x18+8;r0 0x20+1;");
	rig.model->calls[0] = '\0';
	assert_int_equal(rig_write(&rig, 0, 8, buf, 12), 12);
	assert_string_equal(rig.model->calls, "w0 0x8+8;w0 0x10+4;");
}

static void pieces_do_not_depend_on_the_programs_pages(void **state)
{
	uint8_t *pages = aligned_alloc(4096, 8192);

	memset(pages, 0, 8192);
	assert_int_equal(rig_read(&rig, 0, 0, pages + 4096 - 12, 24), 24);
	assert_string_equal(rig.model->calls, "r0 0x0+8;r0 0x8+8;r0 0x10+8;");
	free(pages);
}

static void ends_with_the_region(void **state)
{
	uint8_t buf[64];

	assert_int_equal(rig_read(&rig, 0, RIG_BAR_SIZE - 8, buf, 64), 8);
	assert_int_equal(rig_write(&rig, 0, RIG_BAR_SIZE - 4, buf, 64), 4);
	assert_int_equal(rig_read(&rig, 0, RIG_BAR_SIZE, buf, 1), -EINVAL);
	assert_int_equal(rig_read(&rig, 4, 0, buf, 0), 0);
	assert_int_equal(rig_read(&rig, 1, 0, buf, 4), -EINVAL); /* no such BAR */
	assert_int_equal(rig_read(&rig, VFIO_PCI_VGA_REGION_INDEX, 0xa0000, buf, 4), -EINVAL);
	assert_int_equal(rig_read(&rig, 9, 0, buf, 4), -EINVAL);
	assert_int_equal(rig_read(&rig, 0x7fffff, 0, buf, 4), -EINVAL);
	assert_int_equal(rig_read(&rig, 0x800000, 0, buf, 4), -EINVAL); /* negative */
	assert_int_equal(rig_read(&rig, 0, 0, buf, SIZE_MAX), -EINVAL);
}

static void configuration_space_has_no_half_accesses(void **state)
{
	uint8_t buf[4096 + 8];

	assert_int_equal(rig_read(&rig, CONFIG, 0, buf, 4096), 4096);
	assert_int_equal(uvf_get_le16(buf), 0x1b36);
	assert_int_equal(rig_read(&rig, CONFIG, 4094, buf, 4), -EFAULT);
	assert_int_equal(rig_read(&rig, CONFIG, 4096, buf, 1), -EFAULT);
	assert_int_equal(rig_write(&rig, CONFIG, 0x3c, buf, 4096), -EFAULT);
	assert_int_equal(rig_config(&rig, 0x3c, 1), 0);
	/* One that isn't PCI Express has less of it. */
	rig.device = &rig.devices[2];
	assert_int_equal(rig_read(&rig, CONFIG, 255, buf, 1), 1);
	assert_int_equal(rig_read(&rig, CONFIG, 256, buf, 1), -EFAULT);
}

static void rom_is_read_only(void **state)
{
	uint8_t buf[8192];

	assert_int_equal(rig_read(&rig, ROM, 0, buf, sizeof(buf)), 4096);
	assert_int_equal(uvf_get_le16(buf), 0xaa55);
	assert_int_equal(buf[RIG_ROM_SIZE - 1], 0x77);
	assert_int_equal(buf[RIG_ROM_SIZE], 0xff);
	assert_int_equal(rig_read(&rig, ROM, 4096, buf, 1), -EINVAL);
	assert_int_equal(rig_write(&rig, ROM, 0, buf, 4), -EINVAL);
}

static void msix_table_is_hidden(void **state)
{
	uint8_t buf[RIG_TABLE_SIZE + 32];

	memset(buf, 0, sizeof(buf));
	assert_int_equal(rig_write(&rig, 0, RIG_TABLE - 8, buf, sizeof(buf)), sizeof(buf));
	assert_string_equal(rig.model->calls, "w0 0xff8+8;w0 0x1460+8;w0 0x1468+8;w0 0x1470+8;");
	rig.model->calls[0] = '\0';
	assert_int_equal(rig_read(&rig, 0, RIG_TABLE - 8, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(buf[7], 0);
	for (size_t i = 0; i < RIG_TABLE_SIZE; i++)
		assert_int_equal(buf[8 + i], 0xff);
	assert_int_equal(buf[8 + RIG_TABLE_SIZE], 0);
	/* It is untouched behind that: masked, as after a reset. */
	assert_int_equal(uvf_region_read(rig.device->dev, 0, RIG_TABLE, buf, 16), 16);
	assert_int_equal(uvf_get_le32(buf + 12), 1);
}

static void areas_go_at_once(void **state)
{
	uint8_t *memory = uvf_pci_bar_memory(rig.device->dev, 2);
	uint8_t buf[RIG_BAR_SIZE];

	memory[0x1000] = 0xa1;
	memory[0x1fff] = 0xa2;
	assert_int_equal(rig_read(&rig, 2, 0xff8, buf, 0x1010), 0x1010);
	assert_string_equal(rig.model->calls, "r2 0xff8+8;r2 0x2000+8;");
	assert_int_equal(buf[8], 0xa1);
	assert_int_equal(buf[0x1007], 0xa2);
	buf[1] = 0xb1;
	assert_int_equal(rig_write(&rig, 2, 0x1003, buf, 7), 7);
	assert_int_equal(memory[0x1004], 0xb1);
	assert_int_equal(rig_read(&rig, 2, 0, buf, sizeof(buf)), sizeof(buf));
}

static void bar_that_is_off_is_an_io_error(void **state)
{
	uint16_t pm = uvf_pci_find_capability(rig.device->dev, PCI_CAP_ID_PM, false);
	uint8_t buf[4] = {0};

	/* On from the beginning. */
	assert_int_equal(rig_config(&rig, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	rig_set_config(&rig, PCI_COMMAND, PCI_COMMAND_IO, 2);
	assert_int_equal(rig_read(&rig, 0, 0, buf, 4), -EIO);
	assert_int_equal(rig_write(&rig, 2, 0x1000, buf, 4), -EIO);
	assert_int_equal(rig_read(&rig, 3, 0, buf, 4), 4);
	assert_int_equal(rig_read(&rig, ROM, 0, buf, 4), 4);
	rig_set_config(&rig, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_int_equal(rig_read(&rig, 0, 0, buf, 4), 4);
	rig_set_config(&rig, pm + PCI_PM_CTRL, 3, 2);
	assert_int_equal(rig_read(&rig, 0, 0, buf, 4), -EIO);
	rig_set_config(&rig, pm + PCI_PM_CTRL, 0, 2);
}

static void memory_that_is_not_there(void **state)
{
	uint8_t *cliff = rig_cliff();

	/* What comes before it is done. */
	assert_int_equal(rig_write(&rig, 0, 0, cliff + 4096 - 16, 24), -EFAULT);
	assert_string_equal(rig.model->calls, "w0 0x0+8;w0 0x8+8;");
	rig.model->calls[0] = '\0';
	rig.model->bar[3] = 0x33;
	assert_int_equal(rig_read(&rig, 0, 0, cliff + 4096 - 8, 16), -EFAULT);
	assert_int_equal(cliff[4096 - 5], 0x33);
	/* A piece that is half there is nothing. */
	rig.model->calls[0] = '\0';
	assert_int_equal(rig_write(&rig, 0, 0, cliff + 4096 - 4, 8), -EFAULT);
	assert_string_equal(rig.model->calls, "");
	assert_int_equal(rig_read(&rig, 0, 0, NULL, 8), -EFAULT);
	assert_int_equal(rig_read(&rig, CONFIG, 0, cliff + 4096, 8), -EFAULT);
	munmap(cliff, 8192);
}

static void errors_of_the_model_are_told(void **state)
{
	uint8_t buf[16] = {0};

	rig.model->fail = -EILSEQ;
	assert_int_equal(rig_read(&rig, 0, 0, buf, 16), -EILSEQ);
	assert_string_equal(rig.model->calls, "r0 0x0+8;");
	assert_int_equal(rig_write(&rig, 0, 0, buf, 16), -EILSEQ);
	rig.model->fail = -ENODEV; /* as from a device in a process that has ended */
	assert_int_equal(rig_read(&rig, 0, 0, buf, 16), 16);
	assert_int_equal(uvf_get_le64(buf + 8), UINT64_MAX);
	assert_int_equal(rig_write(&rig, 0, 0, buf, 16), 16);
}

static void removed_device_is_all_ones(void **state)
{
	uint8_t buf[16] = {0};

	uvf_device_remove(rig.device->dev);
	assert_int_equal(rig_config(&rig, PCI_VENDOR_ID, 4), UINT32_MAX);
	assert_int_equal(rig_read(&rig, 0, 0, buf, 16), 16);
	assert_int_equal(uvf_get_le64(buf), UINT64_MAX);
	assert_int_equal(rig_write(&rig, 0, 0, buf, 16), 16);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_RESET, NULL), -ENODEV);
}

/* The models as a program sees them: what the configuration space says, and all of their BARs. */
static void models_can_be_read(void **state)
{
	static const struct {
		const char *spec;
		uint32_t id;
	} models[] = {
		{"ioat", 0x20218086},
		{"nvme,mem=1M", 0x00017576},
		{"serial", 0x00021b36},
	};
	uint8_t buf[8192];

	for (size_t i = 0; i < UVF_ARRAY_SIZE(models); i++) {
		struct uvf_error error = {""};
		struct uvf_device *dev;

		if (uvf_model_create(models[i].spec, &dev, &error))
			fail_msg("%s: %s", models[i].spec, error.text);
		rig_replace(&rig, dev);
		assert_int_equal(rig_config(&rig, 0, 4), models[i].id);
		for (uint32_t bar = 0; bar < UAPI_BARS; bar++) {
			struct uvf_region_info info = {0};
			ssize_t expected;

			uvf_region_get_info(dev, bar, &info);
			expected = info.size < sizeof(buf) ? (ssize_t)info.size : 8192;
			assert_int_equal(rig_read(&rig, bar, 0, buf, sizeof(buf)),
					 expected ? expected : -EINVAL);
		}
	}
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(arrives_in_natural_pieces),  TEST(pieces_do_not_depend_on_the_programs_pages),
		TEST(ends_with_the_region),	  TEST(configuration_space_has_no_half_accesses),
		TEST(rom_is_read_only),		  TEST(msix_table_is_hidden),
		TEST(areas_go_at_once),		  TEST(bar_that_is_off_is_an_io_error),
		TEST(memory_that_is_not_there),	  TEST(errors_of_the_model_are_told),
		TEST(removed_device_is_all_ones), TEST(models_can_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
