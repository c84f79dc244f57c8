/* SPDX-License-Identifier: BSD-3-Clause */
/* A device's life: owning, attaching, DMA gates, reset, features, its log. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uvfio/client.h>
#include <uvfio/dma.h>

#include <cmocka.h>

struct model {
	char calls[256];
	int fail;
	unsigned refused; /* this many attachments are */
};

static struct model model;
static struct uvf_device *dev;

static void note(const char *what)
{
	strncat(model.calls, what, sizeof(model.calls) - strlen(model.calls) - 1);
}

static int model_open(struct uvf_device *device)
{
	note("open;");
	return model.fail;
}

static void model_close(struct uvf_device *device)
{
	note("close;");
}

static int model_reset(struct uvf_device *device, enum uvf_reset kind)
{
	note(kind == UVF_RESET_CLOSE ? "reset-close;" : "reset;");
	return model.fail;
}

static int model_attach(struct uvf_device *device, uint32_t pasid, struct uvf_address_space *space)
{
	note(space ? "attach;" : "detach;");
	if (space && model.refused) {
		model.refused--;
		return -EIO;
	}
	return space ? model.fail : 0;
}

static void model_bus_master(struct uvf_device *device, bool enabled)
{
	note(enabled ? "on;" : "off;");
}

static ssize_t model_feature(struct uvf_device *device, uint32_t flags, void *data, size_t size)
{
	if ((flags & VFIO_DEVICE_FEATURE_MASK) != 77)
		return -ENOTTY;
	if (flags & VFIO_DEVICE_FEATURE_PROBE)
		return 0;
	if (size < 4)
		return -EINVAL;
	memcpy(data, "data", 4);
	return 4;
}

static void model_destroy(struct uvf_device *device)
{
	note("destroy;");
}

static const struct uvf_device_ops ops = {
	.open = model_open,
	.close = model_close,
	.reset = model_reset,
	.attach = model_attach,
	.bus_master_changed = model_bus_master,
	.feature = model_feature,
	.destroy = model_destroy,
};

static int setup(void **state)
{
	(void)state;
	memset(&model, 0, sizeof(model));
	return uvf_device_new("test", &ops, 0, &model, &dev);
}

static int teardown(void **state)
{
	(void)state;
	uvf_device_free(dev);
	return 0;
}

static void expect(const char *calls)
{
	assert_string_equal(model.calls, calls);
	model.calls[0] = '\0';
}

static void one_owner(void **state)
{
	(void)state;
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_device_open(dev), -EBUSY);
	expect("open;");
	uvf_device_close(dev);
	expect("off;reset-close;close;");
	uvf_device_close(dev);
	expect("");
	model.fail = -EPERM;
	assert_int_equal(uvf_device_open(dev), -EPERM);
	model.fail = 0;
	assert_int_equal(uvf_device_open(dev), 0);
}

static void free_closes(void **state)
{
	(void)state;
	assert_int_equal(uvf_device_open(dev), 0);
	expect("open;");
	uvf_device_free(dev);
	expect("off;reset-close;close;destroy;");
	assert_int_equal(uvf_device_new("test", &ops, 0, &model, &dev), 0);
}

static void dma_is_gated(void **state)
{
	struct uvf_address_space *space;
	struct uvf_memory *memory;
	static uint8_t bytes[4096] __attribute__((aligned(4096)));
	uint32_t value = 5;

	(void)state;
	assert_int_equal(uvf_address_space_new(NULL, &space), 0);
	assert_int_equal(uvf_memory_new_local(bytes, sizeof(bytes), &memory), 0);
	assert_int_equal(uvf_map(space, 0x1000, 0x1000, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, space), -ENODEV);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_dma_write(dev, UVF_PASID_NONE, 0x1000, &value, 4), -EPERM);
	uvf_device_set_bus_master(dev, true);
	assert_true(uvf_dma_write(dev, UVF_PASID_NONE, 0x1000, &value, 4) < 0);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, space), 0);
	assert_int_equal(uvf_device_attach(dev, 3, space), -EOPNOTSUPP);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, NULL), -EINVAL);
	assert_int_equal(uvf_dma_write(dev, UVF_PASID_NONE, 0x1010, &value, 4), 0);
	assert_int_equal(bytes[0x10], 5);
	assert_int_equal(uvf_dma_write(dev, 3, 0x1010, &value, 4), -EPERM);
	assert_int_equal(uvf_dma_write(dev, UVF_PASID_NONE, 0x2000, &value, 4), -EFAULT);
	uvf_device_set_bus_master(dev, false);
	assert_int_equal(uvf_dma_write(dev, UVF_PASID_NONE, 0x1010, &value, 4), -EPERM);
	uvf_device_set_bus_master(dev, true);
	assert_int_equal(uvf_device_detach(dev, UVF_PASID_NONE), 0);
	assert_true(uvf_dma_write(dev, UVF_PASID_NONE, 0x1010, &value, 4) < 0);
	expect("open;on;attach;off;on;detach;");
	model.fail = -ENOSPC;
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, space), -ENOSPC);
	assert_true(uvf_dma_write(dev, UVF_PASID_NONE, 0x1010, &value, 4) < 0);
	uvf_memory_put(memory);
	uvf_address_space_put(space);
}

/* A replacement that is refused leaves what was; unless that is refused too. */
static void refused_replacement(void **state)
{
	static uint8_t bytes[4096] __attribute__((aligned(4096)));
	struct uvf_address_space *space, *other;
	struct uvf_memory *memory;
	uint32_t value = 5;

	(void)state;
	assert_int_equal(uvf_address_space_new(NULL, &space), 0);
	assert_int_equal(uvf_address_space_new(NULL, &other), 0);
	assert_int_equal(uvf_memory_new_local(bytes, sizeof(bytes), &memory), 0);
	assert_int_equal(uvf_map(space, 0x1000, 0x1000, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_device_open(dev), 0);
	uvf_device_set_bus_master(dev, true);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, space), 0);
	model.refused = 1;
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, other), -EIO);
	assert_int_equal(uvf_dma_write(dev, UVF_PASID_NONE, 0x1000, &value, 4), 0);
	expect("open;on;attach;detach;attach;attach;");
	model.refused = 2;
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, other), -EIO);
	assert_int_equal(uvf_dma_write(dev, UVF_PASID_NONE, 0x1000, &value, 4), -EPERM);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, space), 0);
	assert_int_equal(uvf_dma_write(dev, UVF_PASID_NONE, 0x1000, &value, 4), 0);
	uvf_memory_put(memory);
	uvf_address_space_put(other);
	uvf_address_space_put(space);
}

static void reset(void **state)
{
	(void)state;
	assert_int_equal(uvf_device_reset(dev, UVF_RESET_DEVICE), -ENODEV);
	assert_int_equal(uvf_device_open(dev), 0);
	expect("open;");
	assert_int_equal(uvf_device_reset(dev, UVF_RESET_DEVICE), 0);
	expect("off;reset;");
	model.fail = -EIO;
	assert_int_equal(uvf_device_reset(dev, UVF_RESET_HOT), -EIO);
}

static void features(void **state)
{
	char data[8];

	(void)state;
	assert_int_equal(uvf_device_feature(dev, 77 | VFIO_DEVICE_FEATURE_GET, data, 8), -ENODEV);
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(uvf_device_feature(dev, 77 | VFIO_DEVICE_FEATURE_GET, data, 8), 4);
	assert_int_equal(uvf_device_feature(dev, 77 | VFIO_DEVICE_FEATURE_GET, data, 3), -EINVAL);
	assert_int_equal(uvf_device_feature(dev, 78 | VFIO_DEVICE_FEATURE_GET, data, 8), -ENOTTY);
	assert_int_equal(uvf_device_feature(dev, 77, data, 8), -EINVAL);
	assert_int_equal(uvf_device_feature(dev,
					    77 | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET,
					    data, 8),
			 -EINVAL);
	assert_int_equal(uvf_device_feature(dev,
					    77 | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET |
						    VFIO_DEVICE_FEATURE_PROBE,
					    data, 8),
			 0);
	assert_int_equal(uvf_device_feature(dev, 77 | 1U << 30 | VFIO_DEVICE_FEATURE_GET, data, 8),
			 -EINVAL);
}

static void keep_text(void *opaque, enum uvf_log_level level, const char *who, const char *text)
{
	snprintf(opaque, 64, "%d %s: %s", level, who, text);
}

static void log_goes_where_it_is_told(void **state)
{
	char text[64] = "";

	(void)state;
	uvf_device_log(dev, UVF_LOG_ERROR, "nobody listens");
	uvf_device_set_log(dev, &(struct uvf_log){keep_text, text, UVF_LOG_WARNING});
	uvf_device_log(dev, UVF_LOG_INFO, "too quiet");
	assert_string_equal(text, "");
	uvf_device_log(dev, UVF_LOG_WARNING, "n is %d", 3);
	assert_string_equal(text, "1 test: n is 3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(free_closes, setup, teardown),
		cmocka_unit_test_setup_teardown(dma_is_gated, setup, teardown),
		cmocka_unit_test_setup_teardown(refused_replacement, setup, teardown),
		cmocka_unit_test_setup_teardown(reset, setup, teardown),
		cmocka_unit_test_setup_teardown(features, setup, teardown),
		cmocka_unit_test_setup_teardown(log_goes_where_it_is_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
