/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptions that can't be: each is refused with a reason, and the model stays its maker's. */
#include "pci_test.h"

#include <sys/resource.h>

#define ONE(...)                                                                       \
	.capabilities = (const struct uvf_pci_capability[]){__VA_ARGS__},              \
	.capability_count = sizeof((const struct uvf_pci_capability[]){__VA_ARGS__}) / \
			    sizeof(struct uvf_pci_capability)
#define PM                          \
	{                           \
		.id = PCI_CAP_ID_PM \
	}
#define EXPRESS                      \
	{                            \
		.id = PCI_CAP_ID_EXP \
	}
#define DSN(at)                                                            \
	{                                                                  \
		.id = PCI_EXT_CAP_ID_DSN, .extended = true, .offset = (at) \
	}
#define MSI(count)                                                 \
	{                                                          \
		.id = PCI_CAP_ID_MSI, .msi = {.vectors = (count) } \
	}
#define MSIX(...)                                              \
	{                                                      \
		.id = PCI_CAP_ID_MSIX, .msix = { __VA_ARGS__ } \
	}
#define BAR0(...) .bars = {[0] = {__VA_ARGS__}}
#define MEMORY	  BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000)
#define AREAS(...)                                                             \
	.areas = (const struct uvf_pci_bar_area[]){__VA_ARGS__},               \
	.area_count = sizeof((const struct uvf_pci_bar_area[]){__VA_ARGS__}) / \
		      sizeof(struct uvf_pci_bar_area)
#define IO_FD(at, bytes) \
	.io_fds = (const struct uvf_io_fd[]){{.offset = (at), .size = (bytes)}}, .io_fd_count = 1
#define VENDOR(bytes)                                               \
	{                                                           \
		.id = PCI_CAP_ID_VNDR, .vendor = {.size = (bytes) } \
	}
#define VSEC(...)                                                                      \
	{                                                                              \
		.id = PCI_EXT_CAP_ID_VNDR, .extended = true, .vendor = { __VA_ARGS__ } \
	}

#define REGISTER(at) \
	.registers = (const struct uvf_pci_register[]){{(at), own_read}}, .register_count = 1

/* A register of the model's own, with what was last written to it. */
struct own {
	struct model model; /* first: what destroys it knows that */
	uint32_t value, mask;
};

static uint32_t own_read(struct uvf_device *dev, uint16_t offset)
{
	const struct own *own = uvf_device_opaque(dev);

	return own->value + offset;
}

static void own_write(struct uvf_device *dev, uint16_t offset, uint32_t value, uint32_t mask)
{
	struct own *own = uvf_device_opaque(dev);

	own->value = value;
	own->mask = mask;
}

/* A part of the reason stands beside each. */
static const struct {
	const char *reason;
	struct uvf_pci_description description;
} wrong[] = {
	{"class code 0x1000000", {.class_code = 0x1000000}},
	{"interrupt pin 5", {.interrupt_pin = 5}},
	{"ROM of 0x10", {.rom_size = 16}},
	{"ROM of 0x0", {.rom = rom_bytes}},
	{"ROM of 0x1000001", {.rom = rom_bytes, .rom_size = 0x1000001}},

	{"BAR 0: kind 9", {BAR0(.kind = (enum uvf_pci_bar_kind)9, .size = 16)}},
	{"BAR 0 has no kind", {BAR0(.size = 16)}},
	{"BAR 0 has no kind", {BAR0(.prefetchable = true)}},
	{"BAR 0: size 0x0", {BAR0(.kind = UVF_PCI_BAR_MEM32)}},
	{"BAR 0: size 0x8", {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 8)}},
	{"BAR 0: size 0x18", {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 24)}},
	{"BAR 0: size 0x100000000", {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 1ULL << 32)}},
	{"BAR 0: size 0x20000000000", {BAR0(.kind = UVF_PCI_BAR_MEM64, .size = 1ULL << 41)}},
	{"BAR 0: size 0x2", {BAR0(.kind = UVF_PCI_BAR_IO, .size = 2)}},
	{"never prefetchable", {BAR0(.kind = UVF_PCI_BAR_IO, .size = 4, .prefetchable = true)}},
	{"BAR 5: 64-bit", {.bars = {[5] = {.kind = UVF_PCI_BAR_MEM64, .size = 16}}}},
	{"BAR 2: 64-bit",
	 {.bars = {[2] = {.kind = UVF_PCI_BAR_MEM64, .size = 16},
		   [3] = {.kind = UVF_PCI_BAR_MEM32, .size = 16}}}},
	{"can't have areas", {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, .area_count = 1)}},
	{"can't have areas", {BAR0(.kind = UVF_PCI_BAR_IO, .size = 0x4000, AREAS({0, 0x1000}))}},
	{"area 0 is not page",
	 {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, AREAS({1, 0x1000}))}},
	{"area 0 is not page", {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, AREAS({0, 0}))}},
	{"area 0 leaves", {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, AREAS({0, 0x5000}))}},
	{"area 0 leaves",
	 {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, AREAS({~0xfffULL, 0x2000}))}},
	{"area 1 overlaps",
	 {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, AREAS({0, 0x2000}, {0x1000, 0x1000}))}},
	{"ioeventfds are missing",
	 {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, .io_fd_count = 1)}},
	{"ioeventfd 0 leaves", {BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 16, IO_FD(14, 4))}},

	{"capabilities are missing", {.capability_count = 1}},
	{"254 capabilities",
	 {.capabilities = (const struct uvf_pci_capability[]){PM}, .capability_count = 254}},
	{"conventional id 0xf0 is not known", {ONE({.id = 0xf0})}},
	{"conventional id 0x1d is not known", {ONE({.id = 0x1d})}},
	{"extended id 0x10 is not known", {ONE({.id = PCI_CAP_ID_EXP, .extended = true})}},
	{"a second Power Management", {ONE(PM, PM)}},
	{"a second Device Serial", {ONE(EXPRESS, DSN(0), DSN(0))}},
	{"need PCI Express", {ONE(DSN(0))}},
	{"not 4-byte aligned", {ONE({.id = PCI_CAP_ID_PM, .offset = 0x42})}},
	{"not 4-byte aligned", {ONE(EXPRESS, DSN(0x102))}},
	{"inside 0x40 to 0xff", {ONE({.id = PCI_CAP_ID_PM, .offset = 0x3c})}},
	{"inside 0x40 to 0xff", {ONE({.id = PCI_CAP_ID_PM, .offset = 0xfc})}},
	{"inside 0x40 to 0xff", {ONE({.id = PCI_CAP_ID_PM, .offset = 0x100})}},
	{"inside 0x100 to 0xfff", {ONE(EXPRESS, DSN(0xf8))}},
	{"inside 0x100 to 0xfff", {ONE(EXPRESS, DSN(0xff8))}},
	{"inside 0x100 to 0xfff", {ONE(EXPRESS, DSN(0xfffc))}},
	{"overlaps another",
	 {ONE({.id = PCI_CAP_ID_PM, .offset = 0x50},
	      {.id = PCI_CAP_ID_MSI, .offset = 0x48, .msi = {.vectors = 1}})}},
	{"no room is left", {ONE(EXPRESS, VENDOR(100), VENDOR(100))}},
	{"no room is left", {ONE({.id = PCI_CAP_ID_PM, .offset = 0xa0}, VENDOR(120))}},
	{"is at 0x104; expected 0x100", {ONE(EXPRESS, DSN(0x104))}},

	{"registers are missing", {.register_count = 1}},
	{"register at 0x42", {REGISTER(0x42)}},
	{"register at 0x100; expected", {REGISTER(0x100)}},
	{"register at 0xffc; expected", {REGISTER(0xffc)}},
	{"register at 0x1000; expected", {ONE(EXPRESS), REGISTER(0x1000)}},
	{"register at 0x3c overlaps", {REGISTER(0x3c)}},
	{"register at 0x44 overlaps", {ONE({.id = PCI_CAP_ID_PM, .offset = 0x40}), REGISTER(0x44)}},
	{"register at 0x50 overlaps",
	 {.registers = (const struct uvf_pci_register[]){{0x50, own_read}, {0x50, own_read}},
	  .register_count = 2}},
	{"register at 0x50 can't be read",
	 {.registers = (const struct uvf_pci_register[]){{0x50}}, .register_count = 1}},

	{"MSI: 0 vectors", {ONE(MSI(0))}},
	{"MSI: 3 vectors", {ONE(MSI(3))}},
	{"MSI: 64 vectors", {ONE(MSI(64))}},
	{"MSI-X: 0 vectors", {ONE(MSIX(.vectors = 0)), MEMORY}},
	{"MSI-X: 2049 vectors", {ONE(MSIX(.vectors = 2049)), MEMORY}},
	{"table in BAR 6", {ONE(MSIX(.vectors = 1, .table_bar = 6)), MEMORY}},
	{"PBA in BAR 255", {ONE(MSIX(.vectors = 1, .pba_bar = 255)), MEMORY}},
	{"table in BAR 0, which is not memory", {ONE(MSIX(.vectors = 1))}},
	{"table in BAR 0, which is not memory",
	 {ONE(MSIX(.vectors = 1)), BAR0(.kind = UVF_PCI_BAR_IO, .size = 0x4000)}},
	{"PBA in BAR 1, which is not memory", {ONE(MSIX(.vectors = 1, .pba_bar = 1)), MEMORY}},
	{"table at 0x4, which is not 8-byte", {ONE(MSIX(.vectors = 1, .table_offset = 4)), MEMORY}},
	{"PBA at 0x101, which is not 8-byte",
	 {ONE(MSIX(.vectors = 1, .pba_offset = 0x101)), MEMORY}},
	{"table at 0x3ff8 leaves BAR 0", {ONE(MSIX(.vectors = 1, .table_offset = 0x3ff8)), MEMORY}},
	{"table at 0xfffffff8 leaves",
	 {ONE(MSIX(.vectors = 1, .table_offset = 0xfffffff8)), MEMORY}},
	{"PBA at 0x3ff8 leaves BAR 0", {ONE(MSIX(.vectors = 65, .pba_offset = 0x3ff8)), MEMORY}},
	{"table and PBA overlap", {ONE(MSIX(.vectors = 2, .pba_offset = 0x18)), MEMORY}},
	{"table lies in a mappable",
	 {ONE(MSIX(.vectors = 1, .table_offset = 0x1ff0, .pba_offset = 0x3000)),
	  BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, AREAS({0x1000, 0x1000}))}},
	{"PBA lies in a mappable",
	 {ONE(MSIX(.vectors = 1, .pba_offset = 0x1000)),
	  BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, AREAS({0x1000, 0x1000}))}},
	{"table lies under an ioeventfd",
	 {ONE(MSIX(.vectors = 1, .pba_offset = 0x1000)),
	  BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, IO_FD(12, 4))}},
	{"max_payload 6", {ONE({.id = PCI_CAP_ID_EXP, .express = {.max_payload = 6}})}},
	{"253 bytes; expected at most 252", {ONE(VENDOR(253))}},
	{"4088 bytes; expected at most 4087", {ONE(EXPRESS, VSEC(.size = 4088))}},
	{"revision 16", {ONE(EXPRESS, VSEC(.vsec_rev = 16))}},
};

static void test_wrong(void **state)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(wrong); i++) {
		struct uvf_device *dev = NULL;
		struct model model = {0};
		struct uvf_error error = {""};
		int ret = uvf_pci_new("test", &wrong[i].description, &model_ops, &model, &dev,
				      &error);

		if (ret != -EINVAL || !strstr(error.text, wrong[i].reason))
			fail_msg("expected \"%s\", got %d \"%s\"", wrong[i].reason, ret,
				 error.text);
		assert_null(dev);
		assert_int_equal(model.destroyed, 0);
		/* Nobody has to want the reason. */
		assert_int_equal(
			uvf_pci_new("test", &wrong[i].description, &model_ops, &model, &dev, NULL),
			-EINVAL);
	}
}

/* What is just inside the limits. */
static const struct uvf_pci_description right[] = {
	{.class_code = 0xffffff, .interrupt_pin = 4},
	{.rom = rom_bytes, .rom_size = 1},
	{BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 1ULL << 31)},
	{BAR0(.kind = UVF_PCI_BAR_MEM64, .size = 1ULL << 40)},
	{BAR0(.kind = UVF_PCI_BAR_IO, .size = 4)},
	{.bars = {[4] = {.kind = UVF_PCI_BAR_MEM64, .size = 16}}},
	{ONE({.id = PCI_CAP_ID_PM, .offset = 0xf8})},
	{ONE(EXPRESS, DSN(0x100))},
	{ONE(EXPRESS, VSEC(.size = 1000), VSEC(.size = 2000), DSN(0))},
	{ONE(VENDOR(0), VENDOR(1), VENDOR(2), VENDOR(100))},
	{ONE(MSI(1))},
	{ONE(MSI(32))},
	{ONE(MSIX(.vectors = 1, .pba_offset = 0x10)), MEMORY},
	{ONE(MSIX(.vectors = 960, .table_offset = 0, .pba_offset = 0x3c00)), MEMORY},
};

static void test_right(void **state)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(right); i++) {
		struct model model;
		struct uvf_device *dev = device_from(&right[i], &model);

		uvf_device_free(dev);
		assert_int_equal(model.destroyed, 1);
	}
}

/* What fails when the device exists already: the model's state is not destroyed either. */
static void test_no_fds_left(void **state)
{
	const struct uvf_pci_description description = {
		BAR0(.kind = UVF_PCI_BAR_MEM32, .size = 0x4000, AREAS({0, 0x1000})),
	};
	struct uvf_error error = {""};
	struct uvf_device *dev = NULL;
	struct model model = {0};
	struct rlimit before;
	int ret;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, before.rlim_max}), 0);
	ret = uvf_pci_new("test", &description, &model_ops, &model, &dev, &error);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(ret, -EMFILE);
	assert_string_equal(error.text, "BAR 0 can't be made");
	assert_int_equal(model.destroyed, 0);
	assert_null(dev);
}

/* Those with an offset have it, the rest go around them, in the first place that is free. */
static void test_places(void **state)
{
	const struct uvf_pci_description description = {
		ONE(EXPRESS, PM, {.id = PCI_CAP_ID_MSI, .offset = 0x40, .msi = {.vectors = 1}},
		    {.id = PCI_CAP_ID_VNDR, .offset = 0x50, .vendor = {.size = 1}},
		    {.id = PCI_EXT_CAP_ID_ERR, .extended = true}, DSN(0x100), VSEC(.size = 1)),
	};
	struct model model;
	struct uvf_device *dev = device_from(&description, &model);

	assert_int_equal(find(dev, PCI_CAP_ID_MSI, false), 0x40);
	assert_int_equal(find(dev, PCI_CAP_ID_VNDR, false), 0x50);
	assert_int_equal(find(dev, PCI_CAP_ID_EXP, false), 0x54);
	assert_int_equal(find(dev, PCI_CAP_ID_PM, false), 0x90);
	assert_int_equal(find(dev, PCI_EXT_CAP_ID_DSN, true), 0x100);
	assert_int_equal(find(dev, PCI_EXT_CAP_ID_ERR, true), 0x10c);
	assert_int_equal(find(dev, PCI_EXT_CAP_ID_VNDR, true), 0x154);
	/* In the list by place, not by order of description. */
	assert_int_equal(config_read(dev, PCI_CAPABILITY_LIST, 1), 0x40);
	assert_int_equal(config_read(dev, 0x41, 1), 0x50);
	assert_int_equal(config_read(dev, 0x51, 1), 0x54);
	assert_int_equal(config_read(dev, 0x55, 1), 0x90);
	assert_int_equal(config_read(dev, 0x91, 1), 0);
	uvf_device_free(dev);
}

/* The model's own registers keep their places, and get no bytes but those of the access. */
static void test_registers(void **state)
{
	static const struct uvf_pci_register registers[] = {
		{0x40, own_read, own_write},
		{0x148, own_read},
	};
	const struct uvf_pci_description description = {
		ONE(EXPRESS, PM, DSN(0), {.id = PCI_EXT_CAP_ID_ERR, .extended = true}),
		.registers = registers,
		.register_count = UVF_ARRAY_SIZE(registers),
	};
	struct own own = {{0}};
	struct uvf_error error;
	struct uvf_device *dev;

	assert_int_equal(uvf_pci_new("test", &description, &model_ops, &own, &dev, &error), 0);
	assert_int_equal(uvf_device_open(dev), 0);
	/* Capabilities go around them. */
	assert_int_equal(find(dev, PCI_CAP_ID_EXP, false), 0x44);
	assert_int_equal(find(dev, PCI_EXT_CAP_ID_ERR, true), 0x14c);
	assert_int_equal(config_read(dev, PCI_CAPABILITY_LIST, 1), 0x44);
	assert_int_equal(config_read(dev, 0x40, 4), 0x40);
	assert_int_equal(config_read(dev, 0x148, 4), 0x148);
	config_write(dev, 0x40, 0x11223344, 4);
	assert_int_equal(own.value, 0x11223344);
	assert_int_equal(own.mask, UINT32_MAX);
	assert_int_equal(config_read(dev, 0x41, 2), 0x2233);
	config_write(dev, 0x42, 0xabcd, 2);
	assert_int_equal(own.value, 0xabcd0000);
	assert_int_equal(own.mask, 0xffff0000);
	config_write(dev, 0x43, 0xef, 1);
	assert_int_equal(own.value, 0xef000000);
	assert_int_equal(own.mask, 0xff000000);
	/* Read-only. */
	config_write(dev, 0x148, 0, 4);
	assert_int_equal(own.value, 0xef000000);
	uvf_device_free(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong),	    cmocka_unit_test(test_right),
		cmocka_unit_test(test_no_fds_left), cmocka_unit_test(test_places),
		cmocka_unit_test(test_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
