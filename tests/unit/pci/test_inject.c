/* SPDX-License-Identifier: BSD-3-Clause */
/* Injected faults: what each kind does to its device and to no other, and lines that are refused.
 */
#include "pci_test.h"

#include <poll.h>
#include <time.h>
#include <uvfio/dirty.h>
#include <uvfio/dma.h>
#include <uvfio/inject.h>

struct setting {
	struct uvf_device *dev;
	struct model model;
	struct uvf_injector *injector;
	struct uvf_address_space *space;
	struct uvf_memory *memory;
	uint8_t bytes[0x4000] __attribute__((aligned(4096)));
};

static int setup(void **state)
{
	static struct setting setting;

	setting.dev = device_from(&everything, &setting.model);
	setting.injector = uvf_device_injector(setting.dev);
	assert_non_null(setting.injector);
	assert_ptr_equal(setting.injector, uvf_device_injector(setting.dev));
	assert_int_equal(uvf_address_space_new(NULL, &setting.space), 0);
	assert_int_equal(
		uvf_memory_new_local(setting.bytes, sizeof(setting.bytes), &setting.memory), 0);
	assert_int_equal(uvf_map(setting.space, 0x10000, 0x4000, UVF_PROT_RW, setting.memory, 0),
			 0);
	assert_int_equal(uvf_device_attach(setting.dev, UVF_PASID_NONE, setting.space), 0);
	enable_memory(setting.dev);
	*state = &setting;
	return 0;
}

static int teardown(void **state)
{
	struct setting *setting = *state;

	uvf_device_free(setting->dev);
	uvf_memory_put(setting->memory);
	uvf_address_space_put(setting->space);
	return 0;
}

static void inject(struct setting *setting, const char *spec)
{
	struct uvf_error error = {""};

	if (uvf_inject(setting->injector, spec, &error))
		fail_msg("%s", error.text);
}

static struct uvf_injected nth_injected(struct setting *setting, size_t nth)
{
	struct uvf_injected list[UVF_INJECT_MAX];

	assert_true(uvf_injector_list(setting->injector, list, UVF_INJECT_MAX) > nth);
	return list[nth];
}

static int dma_read(struct setting *setting, uvf_iova_t iova)
{
	uint32_t value;

	return uvf_dma_read(setting->dev, UVF_PASID_NONE, iova, &value, sizeof(value));
}

static int dma_write(struct setting *setting, uvf_iova_t iova)
{
	uint32_t value = 1;

	return uvf_dma_write(setting->dev, UVF_PASID_NONE, iova, &value, sizeof(value));
}

/* ---- Lines ---- */

static void test_refused(void **state)
{
	static const struct {
		const char *spec, *message;
		int code;
	} rows[] = {
		{"dma-fial", "fault 'dma-fial' is not known; did you mean 'dma-fail'?", -ENOENT},
		{"", "fault '' is not known", -ENOENT},
		{"dma-fail,nth=0", "dma-fail: nth=: expected a number of at least 1, got '0'",
		 -EINVAL},
		{"dma-fail,nth", "dma-fail: nth needs a value: expected nth=N", -EINVAL},
		{"dma-fail,count=-1", "dma-fail: count=: expected a number, got '-1'", -EINVAL},
		{"dma-fail,nht=1", "dma-fail: key 'nht' is not known; did you mean 'nth'?",
		 -EINVAL},
		{"dma-fail,nth=1,nth=2", "dma-fail: nth= is given twice", -EINVAL},
		{"dma-fail,iova=2-1", "dma-fail: iova=: expected FIRST-LAST, got '2-1'", -EINVAL},
		{"dma-fail,iova=x", "dma-fail: iova=: expected FIRST-LAST, got 'x'", -EINVAL},
		{"dma-fail,direction=both",
		 "dma-fail: direction=: expected any|read|write, got 'both'", -EINVAL},
		{"irq-drop,index=5",
		 "irq-drop: index=: expected any|intx|msi|msix|err|req, got '5'", -EINVAL},
		{"irq-delay,ms=0", "irq-delay: ms=: expected a number from 1 to 60000, got '0'",
		 -EINVAL},
		{"remove,count=2", "remove: key 'count' is not known", -EINVAL},
		{"aer", "aer: bit=: expected a number from 0 to 31, got ''", -EINVAL},
		{"aer,bit=32", "aer: bit=: expected a number from 0 to 31, got '32'", -EINVAL},
		{"aer,bit=4,header=1:2:3", "aer: header=: expected DW:DW:DW:DW, got '1:2:3'",
		 -EINVAL},
		{"aer,bit=4,header=1:2:3:4:5",
		 "aer: header=: expected DW:DW:DW:DW, got '1:2:3:4:5'", -EINVAL},
		{"aer,bit=5", "aer,bit=5: bit=: 5 is no error that test can have", -EINVAL},
		{"read-slow,us=60000001",
		 "read-slow: us=: expected a number from 1 to 60000000, got '60000001'", -EINVAL},
		{"dirty-lose,errno=EIO", "dirty-lose: key 'errno' is not known", -EINVAL},
		{"read-slow,region=bar6",
		 "read-slow: region=: expected any|bar0|bar1|bar2|bar3|bar4|bar5|rom|config, got "
		 "'bar6'",
		 -EINVAL},
	};
	struct setting *setting = *state;

	for (size_t i = 0; i < UVF_ARRAY_SIZE(rows); i++) {
		struct uvf_error error = {""};

		assert_int_equal(uvf_inject(setting->injector, rows[i].spec, &error), rows[i].code);
		assert_string_equal(error.text, rows[i].message);
	}
	assert_int_equal(uvf_injector_list(setting->injector, NULL, 0), 0);
}

static void test_long_line(void **state)
{
	struct setting *setting = *state;
	char spec[UVF_INJECT_MAX_SPEC + 1];
	struct uvf_error error = {""};

	memset(spec, '1', sizeof(spec));
	memcpy(spec, "dma-fail,device=", 16);
	spec[UVF_INJECT_MAX_SPEC] = '\0';
	assert_int_equal(uvf_inject(setting->injector, spec, &error), -EINVAL);
	spec[UVF_INJECT_MAX_SPEC - 1] = '\0';
	assert_int_equal(uvf_inject(setting->injector, spec, &error), 0);
}

static void test_whose(void **state)
{
	char device[16] = "x";
	struct uvf_error error;

	assert_int_equal(uvf_inject_device("remove", device, sizeof(device), &error), 0);
	assert_string_equal(device, "");
	assert_int_equal(
		uvf_inject_device("remove,device=0000:65:00.0", device, sizeof(device), &error), 0);
	assert_string_equal(device, "0000:65:00.0");
	assert_int_equal(
		uvf_inject_device("remove,device=0123456789012345", device, sizeof(device), &error),
		-EINVAL);
}

static void test_full(void **state)
{
	struct setting *setting = *state;
	struct uvf_error error;

	for (unsigned i = 0; i < UVF_INJECT_MAX; i++)
		inject(setting, "dma-fail,nth=1,iova=0x10000");
	assert_int_equal(uvf_inject(setting->injector, "remove,nth=9", &error), -ENOSPC);
	assert_int_equal(dma_read(setting, 0x10000), -EFAULT); /* all of them at once */
	inject(setting, "remove,nth=9");
	assert_string_equal(nth_injected(setting, UVF_INJECT_MAX - 1).spec, "remove,nth=9");
	assert_false(nth_injected(setting, UVF_INJECT_MAX - 1).over);
}

/* ---- DMA and mappings ---- */

static void test_dma(void **state)
{
	struct setting *setting = *state;
	struct uvf_injected told;

	inject(setting, "dma-fail,nth=2,count=2,errno=EIO");
	assert_int_equal(dma_read(setting, 0x10000), 0);
	assert_int_equal(dma_read(setting, 0x10000), -EIO);
	assert_int_equal(dma_write(setting, 0x10000), -EIO);
	assert_int_equal(dma_write(setting, 0x10000), 0);
	told = nth_injected(setting, 0);
	assert_int_equal(told.seen, 3);
	assert_int_equal(told.hits, 2);
	assert_true(told.over);
}

static void test_dma_direction_and_range(void **state)
{
	struct setting *setting = *state;
	struct uvf_pin pin;
	struct iovec iov;

	inject(setting, "dma-fail,direction=write,iova=0x11000-0x11fff,count=0");
	assert_int_equal(dma_read(setting, 0x11000), 0);
	assert_int_equal(dma_write(setting, 0x10ff8), 0);
	assert_int_equal(dma_write(setting, 0x10ffd), -EFAULT);
	assert_int_equal(dma_write(setting, 0x11fff), -EFAULT);
	assert_int_equal(dma_write(setting, 0x12000), 0);
	assert_int_equal(uvf_dma_pin(setting->dev, UVF_PASID_NONE, 0x11000, 8, UVF_PROT_WRITE, &pin,
				     &iov, 1),
			 -EFAULT);
	assert_int_equal(
		uvf_dma_pin(setting->dev, UVF_PASID_NONE, 0x11000, 8, UVF_PROT_READ, &pin, &iov, 1),
		1);
	uvf_dma_unpin(setting->dev, &pin);
	assert_int_equal(uvf_dma_compare_and_swap(setting->dev, UVF_PASID_NONE, 0x11000, 8,
						  &(uint64_t){0}, 0),
			 -EFAULT);
	assert_int_equal(dma_read(setting, 0x20000), -EFAULT); /* truly not there */
	uvf_injector_clear(setting->injector);
	assert_int_equal(dma_write(setting, 0x11000), 0);
	assert_int_equal(uvf_dma_read(setting->dev, 1, 0x10000, &pin, 4), -EPERM);
}

static int map(struct setting *setting, uvf_iova_t iova)
{
	return uvf_map(setting->space, iova, 0x1000, UVF_PROT_RW, setting->memory, 0);
}

static void test_map(void **state)
{
	struct setting *setting = *state;
	struct uvf_address_space *other;

	inject(setting, "map-fail,nth=2,errno=ENOSPC");
	assert_int_equal(map(setting, 0x20000), 0);
	assert_int_equal(map(setting, 0x21000), -ENOSPC);
	assert_int_equal(map(setting, 0x21000), 0);
	/* Where it goes, the fault goes. */
	inject(setting, "map-fail");
	assert_int_equal(uvf_address_space_new(NULL, &other), 0);
	assert_int_equal(uvf_device_attach(setting->dev, UVF_PASID_NONE, other), 0);
	assert_int_equal(map(setting, 0x22000), 0);
	assert_int_equal(uvf_map(other, 0, 0x1000, UVF_PROT_READ, setting->memory, 0), -ENOMEM);
	assert_int_equal(uvf_map(other, 0, 0x1000, UVF_PROT_READ, setting->memory, 0), 0);
	inject(setting, "map-fail,iova=0x5000");
	assert_int_equal(uvf_device_detach(setting->dev, UVF_PASID_NONE), 0);
	assert_int_equal(uvf_map(other, 0x5000, 0x1000, UVF_PROT_READ, setting->memory, 0), 0);
	uvf_address_space_put(other);
}

/* The pages from 0x10000 on that a report of the device's log, or of its address space's, has. */
static uint64_t own_report(struct setting *setting)
{
	uint64_t pages = 0;

	assert_int_equal(uvf_device_logging_report(setting->dev, 0x10000, 0x4000, 0x1000, &pages,
						   sizeof(pages)),
			 0);
	return pages;
}

static uint64_t space_report(struct setting *setting)
{
	uint64_t pages = 0;

	assert_int_equal(
		uvf_dirty_report(setting->space, 0x10000, 0x4000, 0x1000, 0, &pages, sizeof(pages)),
		0);
	return pages;
}

static void test_dirty_of_a_device(void **state)
{
	struct setting *setting = *state;
	uint64_t pages = 1ULL << 63;

	assert_int_equal(uvf_device_logging_start(setting->dev), 0);
	inject(setting, "dirty-lose,nth=2");
	assert_int_equal(dma_write(setting, 0x10000), 0);
	assert_int_equal(own_report(setting), 1 << 0);
	assert_int_equal(dma_write(setting, 0x11000), 0);
	assert_int_equal(own_report(setting), 0);
	/* It is lost for good, and the next write isn't. */
	assert_int_equal(own_report(setting), 0);
	assert_int_equal(dma_write(setting, 0x12000), 0);
	assert_int_equal(own_report(setting), 1 << 2);
	assert_int_equal(nth_injected(setting, 0).seen, 2);
	assert_int_equal(nth_injected(setting, 0).hits, 1);

	/* What the caller had in his bitmap stays. */
	inject(setting, "dirty-lose,iova=0x13000,count=0");
	assert_int_equal(dma_write(setting, 0x13000), 0);
	assert_int_equal(uvf_device_logging_report(setting->dev, 0x10000, 0x4000, 0x1000, &pages,
						   sizeof(pages)),
			 0);
	assert_int_equal(pages, 1ULL << 63);
	assert_int_equal(dma_write(setting, 0x10000), 0);
	assert_int_equal(uvf_device_logging_report(setting->dev, 0x10000, 0x3000, 0x1000, &pages,
						   sizeof(pages)),
			 0);
	assert_int_equal(pages, 1ULL << 63 | 1);
	assert_int_equal(uvf_device_logging_stop(setting->dev), 0);
}

static void test_dirty_of_an_address_space(void **state)
{
	struct setting *setting = *state;
	uint64_t pages = 0;
	struct uvf_pin pin;
	struct iovec iov;

	assert_int_equal(uvf_dirty_start(setting->space), 0);
	inject(setting, "dirty-lose,count=2");
	assert_int_equal(dma_write(setting, 0x11000), 0);
	assert_int_equal(uvf_dma_pin(setting->dev, UVF_PASID_NONE, 0x12000, 8, UVF_PROT_WRITE, &pin,
				     &iov, 1),
			 1);
	assert_int_equal(space_report(setting), 0);
	assert_int_equal(uvf_unmap_dirty(setting->space, 0x10000, 0x4000, NULL, 0x2000, &pages,
					 sizeof(pages) - 1),
			 -EINVAL);
	assert_int_equal(space_report(setting), 0);
	assert_int_equal(space_report(setting), 1 << 2);
	uvf_dma_unpin(setting->dev, &pin);

	inject(setting, "dirty-lose");
	assert_int_equal(uvf_unmap_dirty(setting->space, 0x10000, 0x4000, NULL, 0x1000, &pages,
					 sizeof(pages)),
			 0);
	assert_int_equal(pages, 0);
	uvf_dirty_stop(setting->space);
	assert_int_equal(nth_injected(setting, 0).hits, 2);
	assert_int_equal(nth_injected(setting, 1).hits, 1);
}

static void test_no_device(void **state)
{
	struct uvf_injector *injector = uvf_injector_new();
	struct uvf_error error;

	assert_int_equal(uvf_inject(injector, "remove", &error), -EINVAL);
	assert_string_equal(error.text, "remove: expected device=DEVICE");
	assert_int_equal(uvf_inject(injector, "map-fail,nth=2", &error), 0);
	uvf_injector_clear(injector);
	uvf_injector_free(injector);
	uvf_injector_free(NULL);
}

/* ---- Interrupts ---- */

static void await_signal(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&readable, 1, 20000), 1);
}

static void test_irq_drop(void **state)
{
	struct setting *setting = *state;
	int fds[3];

	bind_irqs(setting->dev, VFIO_PCI_MSIX_IRQ_INDEX, 3, fds);
	inject(setting, "irq-drop,index=msix,vector=1,nth=2");
	for (unsigned i = 0; i < 3; i++) {
		uvf_pci_msi(setting->dev, 0);
		uvf_pci_msi(setting->dev, 1);
	}
	assert_int_equal(signals(fds[0]), 3);
	assert_int_equal(signals(fds[1]), 2);
	inject(setting, "irq-drop,index=msi");
	uvf_pci_msi(setting->dev, 0);
	assert_int_equal(signals(fds[0]), 1);
	close_all(fds, 3);
}

static void test_irq_delay(void **state)
{
	struct setting *setting = *state;
	int fds[2];

	bind_irqs(setting->dev, VFIO_PCI_MSIX_IRQ_INDEX, 2, fds);
	inject(setting, "irq-delay,vector=0,ms=60000");
	inject(setting, "irq-delay,vector=1,ms=1,count=2");
	uvf_pci_msi(setting->dev, 0);
	uvf_pci_msi(setting->dev, 1);
	await_signal(fds[1]);
	assert_int_equal(signals(fds[1]), 1);
	assert_int_equal(signals(fds[0]), 0);
	uvf_pci_msi(setting->dev, 0); /* the second isn't late */
	assert_int_equal(signals(fds[0]), 1);
	/* Nobody waits for the late one. */
	uvf_device_close(setting->dev);
	close_all(fds, 2);
}

static void test_irq_level(void **state)
{
	struct setting *setting = *state;
	int fd;

	bind_irqs(setting->dev, VFIO_PCI_INTX_IRQ_INDEX, 1, &fd);
	inject(setting, "irq-drop,index=intx");
	uvf_pci_intx(setting->dev, true);
	uvf_pci_intx(setting->dev, false);
	assert_int_equal(signals(fd), 0);
	inject(setting, "irq-delay,index=intx,ms=1");
	uvf_pci_intx(setting->dev, true);
	await_signal(fd);
	close(fd);
}

/* ---- Removal ---- */

static void test_remove(void **state)
{
	struct setting *setting = *state;
	uint32_t value = 7;
	int request, error, vector;

	bind_irqs(setting->dev, VFIO_PCI_REQ_IRQ_INDEX, 1, &request);
	bind_irqs(setting->dev, VFIO_PCI_ERR_IRQ_INDEX, 1, &error);
	bind_irqs(setting->dev, VFIO_PCI_MSIX_IRQ_INDEX, 1, &vector);
	inject(setting, "remove,nth=3,notify=both");
	bar_write32(setting->dev, 2, 0, value);
	assert_int_equal(bar_read32(setting->dev, 2, 0), value);
	assert_int_equal(bar_read32(setting->dev, 2, 0), UINT32_MAX);
	assert_int_equal(signals(request), 1);
	assert_int_equal(signals(error), 1);
	assert_int_equal(setting->model.last_reset, UVF_RESET_HOT);
	assert_int_equal(config_read(setting->dev, PCI_VENDOR_ID, 4), UINT32_MAX);
	enable_memory(setting->dev);
	assert_int_equal(dma_read(setting, 0x10000), -EPERM);
	uvf_pci_msi(setting->dev, 0);
	assert_int_equal(signals(vector), 0);
	assert_int_equal(uvf_device_reset(setting->dev, UVF_RESET_DEVICE), -ENODEV);
	await_signal(request); /* he is asked again */
	uvf_device_close(setting->dev);
	assert_int_equal(uvf_device_open(setting->dev), -ENODEV);
	uvf_injector_clear(setting->injector);
	assert_int_equal(uvf_device_open(setting->dev), 0);
	assert_int_equal(config_read(setting->dev, PCI_VENDOR_ID, 2), 0x1b36);
	close(request);
	close(error);
	close(vector);
}

static void test_return_of_an_open_device(void **state)
{
	struct setting *setting = *state;

	inject(setting, "remove");
	uvf_injector_clear(setting->injector);
	assert_int_equal(config_read(setting->dev, PCI_VENDOR_ID, 4), UINT32_MAX);
	uvf_device_close(setting->dev);
	assert_int_equal(uvf_device_open(setting->dev), 0);
	assert_int_equal(config_read(setting->dev, PCI_VENDOR_ID, 2), 0x1b36);
	/* Forgiven, and then pulled out again: the last word counts. */
	inject(setting, "remove");
	uvf_injector_clear(setting->injector);
	inject(setting, "remove");
	uvf_device_close(setting->dev);
	assert_int_equal(uvf_device_open(setting->dev), -ENODEV);
}

/* ---- AER ---- */

static void test_aer(void **state)
{
	struct setting *setting = *state;
	uint32_t aer = find(setting->dev, PCI_EXT_CAP_ID_ERR, true);
	struct uvf_error text;
	int error;

	bind_irqs(setting->dev, VFIO_PCI_ERR_IRQ_INDEX, 1, &error);
	inject(setting, "aer,bit=14,header=1:2:abcdef01:ffffffff");
	assert_int_equal(signals(error), 1);
	assert_int_equal(config_read(setting->dev, aer + PCI_ERR_UNCOR_STATUS, 4), 1 << 14);
	assert_int_equal(config_read(setting->dev, aer + PCI_ERR_HEADER_LOG + 8, 4), 0xabcdef01);
	inject(setting, "aer,correctable,bit=6,nth=2");
	assert_int_equal(config_read(setting->dev, aer + PCI_ERR_COR_STATUS, 4), 0);
	assert_int_equal(config_read(setting->dev, aer + PCI_ERR_COR_STATUS, 4), 1 << 6);
	assert_int_equal(signals(error), 1);
	uvf_device_close(setting->dev);
	assert_int_equal(uvf_inject(setting->injector, "aer,bit=14", &text), -ENODEV);
	assert_string_equal(text.text,
			    "aer,bit=14: nobody has test open; nth=N waits for an access");
	close(error);
}

/* ---- Slow registers ---- */

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void test_slow(void **state)
{
	struct setting *setting = *state;
	uint64_t begin;

	inject(setting, "read-slow,region=bar2,us=20000,nth=2");
	inject(setting, "write-slow,region=bar0,us=20000");
	bar_read32(setting->dev, 0, 0);
	bar_read32(setting->dev, 2, 0);
	assert_int_equal(nth_injected(setting, 0).hits, 0);
	begin = now_us();
	bar_read32(setting->dev, 2, 0);
	assert_true(now_us() - begin >= 20000);
	begin = now_us();
	bar_write32(setting->dev, 0, 0, 0);
	assert_true(now_us() - begin >= 20000);
	assert_true(nth_injected(setting, 0).over && nth_injected(setting, 1).over);
}

/* What nobody owns yet is looked at by many: that isn't the driver's. */
static void test_accesses_without_owner(void **state)
{
	struct setting *setting = *state;

	uvf_device_close(setting->dev);
	inject(setting, "remove,nth=1");
	assert_int_equal(config_read(setting->dev, PCI_VENDOR_ID, 2), 0x1b36);
	assert_int_equal(nth_injected(setting, 0).seen, 0);
	assert_int_equal(uvf_device_open(setting->dev), 0);
	assert_int_equal(config_read(setting->dev, PCI_VENDOR_ID, 2), 0xffff);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_refused),
		CASE(test_long_line),
		CASE(test_whose),
		CASE(test_full),
		CASE(test_dma),
		CASE(test_dma_direction_and_range),
		CASE(test_map),
		CASE(test_dirty_of_a_device),
		CASE(test_dirty_of_an_address_space),
		CASE(test_no_device),
		CASE(test_irq_drop),
		CASE(test_irq_delay),
		CASE(test_irq_level),
		CASE(test_remove),
		CASE(test_return_of_an_open_device),
		CASE(test_aer),
		CASE(test_slow),
		CASE(test_accesses_without_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
