/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors injected into AER: what is recorded where, what is reported, what a driver clears. */
#include "pci_test.h"

static const uint32_t header[4] = {0x11111111, 0x22222222, 0x33333333, 0x44444444};
static const uint32_t other_header[4] = {5, 6, 7, 8};

struct setting {
	struct uvf_device *dev;
	struct model model;
	uint32_t aer, express;
	int fd;
};

static int setup(void **state)
{
	static struct setting setting;

	setting.dev = device_from(&everything, &setting.model);
	setting.aer = find(setting.dev, PCI_EXT_CAP_ID_ERR, true);
	setting.express = find(setting.dev, PCI_CAP_ID_EXP, false);
	bind_irqs(setting.dev, VFIO_PCI_ERR_IRQ_INDEX, 1, &setting.fd);
	*state = &setting;
	return 0;
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	uvf_device_free(setting->dev);
	close(setting->fd);
	return 0;
}

static int inject(struct setting *setting, bool correctable, unsigned bit, const uint32_t log[4])
{
	int ret;

	uvf_device_lock(setting->dev);
	ret = uvf_pci_inject_error(setting->dev, correctable, bit, log);
	uvf_device_unlock(setting->dev);
	return ret;
}

static uint32_t aer_read(struct setting *setting, unsigned offset)
{
	return config_read(setting->dev, setting->aer + offset, 4);
}

static void aer_write(struct setting *setting, unsigned offset, uint32_t value)
{
	config_write(setting->dev, setting->aer + offset, value, 4);
}

static void assert_log(struct setting *setting, const uint32_t log[4])
{
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(aer_read(setting, PCI_ERR_HEADER_LOG + 4 * i), log[i]);
}

/* Each error there is: recorded, reported unless masked, cleared by writing 1. */
static void test_each(void **state)
{
	static const struct {
		bool correctable;
		uint32_t errors, masked;
		unsigned status;
	} kinds[] = {
		{false, 0x03fff010, 0x00400000, PCI_ERR_UNCOR_STATUS},
		{true, 0x0000f1c1, 0x0000e000, PCI_ERR_COR_STATUS},
	};
	struct setting *setting = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(kinds); i++) {
		for (unsigned bit = 0; bit < 32; bit++) {
			bool there = kinds[i].errors >> bit & 1;
			bool masked = kinds[i].masked >> bit & 1;

			assert_int_equal(inject(setting, kinds[i].correctable, bit, header),
					 there ? 0 : -EINVAL);
			assert_int_equal(aer_read(setting, kinds[i].status), there ? 1U << bit : 0);
			assert_int_equal(signals(setting->fd), there && !masked);
			aer_write(setting, kinds[i].status, ~(1U << bit));
			assert_int_equal(aer_read(setting, kinds[i].status), there ? 1U << bit : 0);
			aer_write(setting, kinds[i].status, 1U << bit);
			assert_int_equal(aer_read(setting, kinds[i].status), 0);
		}
		assert_int_equal(inject(setting, kinds[i].correctable, 32, header), -EINVAL);
		assert_int_equal(inject(setting, kinds[i].correctable, UINT32_MAX, header),
				 -EINVAL);
	}
}

static void test_first_error(void **state)
{
	struct setting *setting = *state;

	assert_int_equal(inject(setting, false, 14, header), 0);
	assert_int_equal(inject(setting, false, 20, other_header), 0);
	/* The first keeps pointer and log until it is cleared. */
	assert_int_equal(aer_read(setting, PCI_ERR_UNCOR_STATUS), 1U << 14 | 1U << 20);
	assert_int_equal(aer_read(setting, PCI_ERR_CAP), 14);
	assert_log(setting, header);
	aer_write(setting, PCI_ERR_CAP, 0);
	aer_write(setting, PCI_ERR_HEADER_LOG, 0);
	assert_int_equal(aer_read(setting, PCI_ERR_CAP), 14);
	assert_log(setting, header);
	aer_write(setting, PCI_ERR_UNCOR_STATUS, 1U << 14);
	assert_int_equal(inject(setting, false, 12, other_header), 0);
	assert_int_equal(aer_read(setting, PCI_ERR_CAP), 12);
	assert_log(setting, other_header);
	/* No header: zeros. */
	aer_write(setting, PCI_ERR_UNCOR_STATUS, UINT32_MAX);
	assert_int_equal(inject(setting, false, 15, NULL), 0);
	assert_log(setting, (const uint32_t[4]){0});
}

static void test_masked(void **state)
{
	struct setting *setting = *state;

	aer_write(setting, PCI_ERR_UNCOR_MASK, 1U << 14);
	assert_int_equal(inject(setting, false, 14, header), 0);
	/* The status says it; nothing is logged and nobody told. */
	assert_int_equal(aer_read(setting, PCI_ERR_UNCOR_STATUS), 1U << 14);
	assert_int_equal(aer_read(setting, PCI_ERR_CAP), 0);
	assert_log(setting, (const uint32_t[4]){0});
	assert_int_equal(signals(setting->fd), 0);
	/* A masked one doesn't stand before one that isn't. */
	assert_int_equal(inject(setting, false, 20, other_header), 0);
	assert_int_equal(aer_read(setting, PCI_ERR_CAP), 20);
	assert_log(setting, other_header);
	assert_int_equal(signals(setting->fd), 1);
}

static void test_device_status(void **state)
{
	static const struct {
		bool correctable;
		unsigned bit;
		uint16_t status;
	} rows[] = {
		{true, 0, PCI_EXP_DEVSTA_CED},
		{false, 14, PCI_EXP_DEVSTA_NFED},
		{false, 18, PCI_EXP_DEVSTA_FED},
		{false, 20, PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_URD},
	};
	struct setting *setting = *state;
	uint32_t status = setting->express + PCI_EXP_DEVSTA;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(rows); i++) {
		assert_int_equal(inject(setting, rows[i].correctable, rows[i].bit, header), 0);
		assert_int_equal(config_read(setting->dev, status, 2), rows[i].status);
		config_write(setting->dev, status, 0, 2);
		assert_int_equal(config_read(setting->dev, status, 2), rows[i].status);
		config_write(setting->dev, status, rows[i].status, 2);
		assert_int_equal(config_read(setting->dev, status, 2), 0);
	}
	/* The severity is the driver's to choose. */
	aer_write(setting, PCI_ERR_UNCOR_SEVER, 1U << 14);
	assert_int_equal(inject(setting, false, 14, header), 0);
	assert_int_equal(config_read(setting->dev, status, 2), PCI_EXP_DEVSTA_FED);
}

static void test_system_error(void **state)
{
	struct setting *setting = *state;

	assert_int_equal(inject(setting, false, 14, header), 0);
	assert_int_equal(config_read(setting->dev, PCI_STATUS, 2), 0x0010);
	config_write(setting->dev, PCI_COMMAND, PCI_COMMAND_SERR, 2);
	assert_int_equal(inject(setting, false, 14, header), 0);
	assert_int_equal(config_read(setting->dev, PCI_STATUS, 2), 0x4010);
	config_write(setting->dev, PCI_STATUS, 0xbfff, 2);
	assert_int_equal(config_read(setting->dev, PCI_STATUS, 2), 0x4010);
	config_write(setting->dev, PCI_STATUS + 1, 0x40, 1);
	assert_int_equal(config_read(setting->dev, PCI_STATUS, 2), 0x0010);
}

static void test_sticky(void **state)
{
	static const struct {
		enum uvf_reset kind;
		bool stays;
	} rows[] = {
		{UVF_RESET_FLR, true},
		{UVF_RESET_PM, true},
		{UVF_RESET_HOT, true},
		{UVF_RESET_DEVICE, false},
	};
	struct setting *setting = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(rows); i++) {
		assert_int_equal(inject(setting, false, 14, header), 0);
		assert_int_equal(inject(setting, true, 6, NULL), 0);
		assert_int_equal(uvf_device_reset(setting->dev, rows[i].kind), 0);
		assert_int_equal(aer_read(setting, PCI_ERR_UNCOR_STATUS),
				 rows[i].stays ? 1U << 14 : 0);
		assert_int_equal(aer_read(setting, PCI_ERR_COR_STATUS),
				 rows[i].stays ? 1U << 6 : 0);
		assert_int_equal(aer_read(setting, PCI_ERR_CAP), rows[i].stays ? 14 : 0);
		assert_log(setting, rows[i].stays ? header : (const uint32_t[4]){0});
		/* Device Status is not sticky. */
		assert_int_equal(config_read(setting->dev, setting->express + PCI_EXP_DEVSTA, 2),
				 0);
	}
}

#define WITH_DEVICE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DEVICE(test_each),		WITH_DEVICE(test_first_error),
		WITH_DEVICE(test_masked),	WITH_DEVICE(test_device_status),
		WITH_DEVICE(test_system_error), WITH_DEVICE(test_sticky),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
