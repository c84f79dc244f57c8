/* SPDX-License-Identifier: BSD-3-Clause */
/* VFIO_DEVICE_SET_IRQS in all of its forms, and what is refused. */
#include "device_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#define NONE	VFIO_IRQ_SET_DATA_NONE
#define BOOL	VFIO_IRQ_SET_DATA_BOOL
#define EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define MASK	VFIO_IRQ_SET_ACTION_MASK
#define UNMASK	VFIO_IRQ_SET_ACTION_UNMASK
#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER
#define INTX	VFIO_PCI_INTX_IRQ_INDEX
#define MSI	VFIO_PCI_MSI_IRQ_INDEX
#define MSIX	VFIO_PCI_MSIX_IRQ_INDEX
#define ERR	VFIO_PCI_ERR_IRQ_INDEX
#define REQ	VFIO_PCI_REQ_IRQ_INDEX

static struct rig rig;
static int events[RIG_VECTORS];

static int setup(void **state)
{
	rig_new(&rig);
	for (size_t i = 0; i < RIG_VECTORS; i++)
		events[i] = eventfd(0, EFD_NONBLOCK);
	return 0;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < RIG_VECTORS; i++)
		close(events[i]);
	rig_free(&rig);
	return 0;
}

static long set(uint32_t flags, uint32_t index, uint32_t start, uint32_t count)
{
	return rig_set_irqs(&rig, flags, index, start, count, NULL, 0);
}

static long set_events(uint32_t index, uint32_t start, uint32_t count, const int *fds)
{
	return rig_set_irqs(&rig, EVENTFD | TRIGGER, index, start, count, fds,
			    count * sizeof(*fds));
}

static int open_fds(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static void refused_before_anything_happens(void **state)
{
	uint8_t *cliff = rig_cliff();
	struct vfio_irq_set *header = (void *)(cliff + 4096 - sizeof(*header));
	uint8_t bools[8] = {0};

	assert_int_equal(set(NONE | TRIGGER, VFIO_PCI_NUM_IRQS, 0, 0), -EINVAL);
	assert_int_equal(set(NONE | TRIGGER, UINT32_MAX, 0, 0), -EINVAL);
	assert_int_equal(set(NONE | TRIGGER | 0x40, MSIX, 0, 0), -EINVAL);
	assert_int_equal(set(TRIGGER, MSIX, 0, 0), -EINVAL);
	assert_int_equal(set(NONE | BOOL | TRIGGER, MSIX, 0, 0), -EINVAL);
	assert_int_equal(set(NONE | TRIGGER, MSIX, RIG_VECTORS, 0), -EINVAL);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 1, RIG_VECTORS), -EINVAL);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 1, UINT32_MAX), -EINVAL);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 1, UINT32_MAX - 1), -EINVAL);
	/* Too little data for what is counted. */
	assert_int_equal(rig_set_irqs(&rig, BOOL | TRIGGER, MSIX, 0, 8, bools, 7), -EINVAL);
	assert_int_equal(rig_set_irqs(&rig, EVENTFD | TRIGGER, MSIX, 0, 2, events, 7), -EINVAL);
	/* Actions: one, and one that the index has. */
	assert_int_equal(set(NONE, MSIX, 0, 1), -ENOTTY);
	assert_int_equal(set(NONE | MASK | UNMASK, INTX, 0, 1), -ENOTTY);
	assert_int_equal(set(NONE | MASK, MSI, 0, 1), -ENOTTY);
	assert_int_equal(set(NONE | UNMASK, MSIX, 0, 1), -ENOTTY);
	assert_int_equal(set(NONE | MASK, ERR, 0, 1), -ENOTTY);
	assert_int_equal(set(NONE | UNMASK, REQ, 0, 1), -ENOTTY);
	/* Memory. */
	*header = (struct vfio_irq_set){.argsz = sizeof(*header) + 8,
					.flags = EVENTFD | TRIGGER,
					.index = MSIX,
					.count = 2};
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_SET_IRQS, header), -EFAULT);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_SET_IRQS, NULL), -EFAULT);
	header->argsz = sizeof(*header) - 1;
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_SET_IRQS, header), -EINVAL);
	munmap(cliff, 8192);
	/* Nothing is enabled. */
	for (uint32_t i = 0; i < VFIO_PCI_NUM_IRQS; i++)
		assert_int_equal(set(NONE | TRIGGER, i, 0, 0), -EINVAL);
}

static void messages(void **state)
{
	uint8_t bools[3] = {0, 1, 1};
	int before = open_fds(), none[2] = {-1, -2};

	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 1), -EINVAL);
	assert_int_equal(set_events(MSIX, 0, 2, events), 0);
	assert_int_equal(set_events(MSI, 0, 2, events), -EINVAL);
	assert_int_equal(set_events(INTX, 0, 1, events), -EINVAL);
	/* More come while it is enabled. */
	assert_int_equal(set_events(MSIX, 60, 3, events + 60), 0);
	assert_int_equal(open_fds(), before + 5);
	uvf_pci_msi(rig.device->dev, 61);
	assert_true(rig_is_signalled(events[61]));
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 3), 0);
	assert_true(rig_is_signalled(events[0]));
	assert_true(rig_is_signalled(events[1]));
	assert_int_equal(rig_set_irqs(&rig, BOOL | TRIGGER, MSIX, 60, 3, bools, 3), 0);
	assert_false(rig_is_signalled(events[60]));
	assert_true(rig_is_signalled(events[61]));
	assert_true(rig_is_signalled(events[62]));
	assert_int_equal(set_events(MSIX, 60, 2, none), 0);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 63), 0);
	assert_false(rig_is_signalled(events[61]));
	assert_true(rig_is_signalled(events[62]));
	assert_int_equal(set_events(MSIX, 3, 0, NULL), 0);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 0), 0);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 0), -EINVAL);
	assert_int_equal(open_fds(), before);
	assert_int_equal(set_events(MSI, 0, 2, events), 0);
}

static void all_vectors_at_once(void **state)
{
	assert_int_equal(set_events(MSIX, 0, RIG_VECTORS, events), 0);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, RIG_VECTORS), 0);
	for (size_t i = 0; i < RIG_VECTORS; i++)
		assert_true(rig_is_signalled(events[i]));
}

/* The largest table that there can be, with fewer descriptors than that at hand. */
static void two_thousand_vectors(void **state)
{
	static const struct uvf_pci_capability capability = {
		.id = PCI_CAP_ID_MSIX, .msix = {.vectors = 2048, .pba_offset = 0x8000}};
	static const struct uvf_device_ops ops;
	const struct uvf_pci_description description = {
		.bars[0] = {.kind = UVF_PCI_BAR_MEM32, .size = 0x10000},
		.capabilities = &capability,
		.capability_count = 1,
	};
	struct rlimit limit;
	struct uvf_error error;
	struct uvf_device *dev;
	static int fds[2048];

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < 2300)
		skip();
	limit.rlim_cur = 2300;
	setrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(uvf_pci_new("many", &description, &ops, NULL, &dev, &error), 0);
	rig_replace(&rig, dev);
	for (size_t i = 0; i < 2048; i++)
		fds[i] = events[i % RIG_VECTORS];
	assert_int_equal(set_events(MSIX, 0, 2048, fds), 0);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 2047, 1), 0);
	assert_true(rig_is_signalled(fds[2047]));
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 0), 0);
}

/* MSI keeps the number of vectors that it was enabled with. */
static void msi_does_not_grow(void **state)
{
	int none = -1;

	assert_int_equal(set_events(MSI, 0, 0, NULL), -ERANGE);
	assert_int_equal(set_events(MSI, 0, 2, events), 0);
	assert_int_equal(set_events(MSI, 2, 1, events), -EINVAL);
	assert_int_equal(set_events(MSI, 2, 1, &none), 0);
	assert_int_equal(set(NONE | TRIGGER, MSI, 0, 8), 0);
	assert_true(rig_is_signalled(events[1]));
	/* One call that goes past the end takes back what it began with. */
	assert_int_equal(set_events(MSI, 1, 2, events + 1), -EINVAL);
	assert_int_equal(set(NONE | TRIGGER, MSI, 0, 2), 0);
	assert_true(rig_is_signalled(events[0]));
	assert_false(rig_is_signalled(events[1]));
	assert_int_equal(set(NONE | TRIGGER, MSI, 0, 0), 0);
	assert_int_equal(set_events(MSI, 3, 1, events), 0); /* 4 of them */
	assert_int_equal(set_events(MSI, 0, 4, events), 0);
}

static void one_that_fails(void **state)
{
	int fds[3] = {events[0], 9999, events[2]};
	int before = open_fds(), null = open("/dev/null", O_WRONLY);

	/* Enabling: none of them. */
	assert_int_equal(set_events(MSIX, 0, 3, fds), -EBADF);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 0), -EINVAL);
	/* Changing: those up to the one that failed have lost theirs, later ones keep it. */
	assert_int_equal(set_events(MSIX, 0, 5, events), 0);
	assert_int_equal(set_events(MSIX, 1, 3, fds), -EBADF);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 5), 0);
	assert_true(rig_is_signalled(events[0]));
	assert_false(rig_is_signalled(events[1]));
	assert_false(rig_is_signalled(events[2]));
	assert_true(rig_is_signalled(events[3]));
	assert_true(rig_is_signalled(events[4]));
	/* Something else than an eventfd. */
	fds[1] = null;
	assert_int_equal(set_events(MSIX, 1, 3, fds), -EINVAL);
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 5), 0);
	assert_true(rig_is_signalled(events[3]));
	assert_int_equal(set(NONE | TRIGGER, MSIX, 0, 0), 0);
	close(null);
	assert_int_equal(open_fds(), before);
}

static void line(void **state)
{
	struct uvf_device *dev = rig.device->dev;
	uint8_t no = 0, yes = 1;
	int none = -1;

	assert_int_equal(set(NONE | MASK, INTX, 0, 1), -EINVAL);
	assert_int_equal(set_events(INTX, 0, 0, NULL), -EINVAL);
	assert_int_equal(set_events(INTX, 0, 1, events), 0);
	uvf_pci_intx(dev, true);
	assert_true(rig_is_signalled(events[0]));
	/* It has masked itself, and comes again when unmasked, as it is still high. */
	assert_int_equal(rig_set_irqs(&rig, BOOL | UNMASK, INTX, 0, 1, &no, 1), 0);
	assert_false(rig_is_signalled(events[0]));
	assert_int_equal(rig_set_irqs(&rig, BOOL | UNMASK, INTX, 0, 1, &yes, 1), 0);
	assert_true(rig_is_signalled(events[0]));
	/* An eventfd that unmasks: one. */
	assert_int_equal(rig_set_irqs(&rig, EVENTFD | UNMASK, INTX, 0, 1, &events[1], 4), 0);
	assert_int_equal(rig_set_irqs(&rig, EVENTFD | UNMASK, INTX, 0, 1, &events[1], 4), -EBUSY);
	eventfd_write(events[1], 1);
	for (int i = 0; i < 2000 && !rig_is_signalled(events[0]); i++) {
		assert_int_not_equal(i, 1999);
		usleep(1000);
	}
	assert_int_equal(rig_set_irqs(&rig, EVENTFD | UNMASK, INTX, 0, 1, &none, 4), 0);
	assert_int_equal(rig_set_irqs(&rig, EVENTFD | UNMASK, INTX, 0, 1, &events[1], 4), 0);
	assert_int_equal(rig_set_irqs(&rig, EVENTFD | MASK, INTX, 0, 1, &events[1], 4), -ENOTTY);
	uvf_pci_intx(dev, false);
	assert_int_equal(set(NONE | UNMASK, INTX, 0, 1), 0);
	assert_int_equal(set(NONE | MASK, INTX, 0, 1), 0);
	assert_int_equal(set(NONE | UNMASK, INTX, 0, 1), 0);
	assert_int_equal(set(NONE | TRIGGER, INTX, 0, 1), 0);
	assert_true(rig_is_signalled(events[0]));
	/* Without an eventfd it is enabled still. */
	assert_int_equal(set_events(INTX, 0, 1, &none), 0);
	assert_int_equal(set_events(MSI, 0, 1, events), -EINVAL);
	assert_int_equal(set(NONE | TRIGGER, INTX, 0, 0), 0);
	assert_int_equal(set(NONE | TRIGGER, INTX, 0, 0), -EINVAL);
	/* Disabling took the other eventfd, too. */
	assert_int_equal(set_events(INTX, 0, 1, events), 0);
	assert_int_equal(rig_set_irqs(&rig, EVENTFD | UNMASK, INTX, 0, 1, &events[1], 4), 0);
}

static void singles(void **state)
{
	static const uint32_t indexes[] = {ERR, REQ};
	uint8_t yes = 1;
	int wrong = -2, none = -1, null = open("/dev/null", O_WRONLY);
	int other = epoll_create1(0);

	for (size_t i = 0; i < UVF_ARRAY_SIZE(indexes); i++) {
		uint32_t index = indexes[i];

		assert_int_equal(set(NONE | TRIGGER, index, 0, 1), -EINVAL);
		assert_int_equal(set(BOOL | TRIGGER, index, 0, 0), -EINVAL);
		assert_int_equal(set_events(index, 0, 0, NULL), -EINVAL);
		assert_int_equal(set_events(index, 0, 1, &wrong), -EINVAL);
		assert_int_equal(set_events(index, 0, 1, &null), -EINVAL);
		assert_int_equal(set_events(index, 0, 1, &other), -EINVAL);
		assert_int_equal(set_events(index, 0, 1, &none), 0);
		assert_int_equal(rig_set_irqs(&rig, BOOL | TRIGGER, index, 0, 1, &yes, 1), 0);
		assert_int_equal(set_events(index, 0, 1, &events[i]), 0);
		assert_int_equal(set(NONE | TRIGGER, index, 0, 1), 0);
		assert_true(rig_is_signalled(events[i]));
		assert_int_equal(rig_set_irqs(&rig, BOOL | TRIGGER, index, 0, 1, &yes, 1), 0);
		assert_true(rig_is_signalled(events[i]));
	}
	/* They don't keep others away, and nothing keeps them. */
	assert_int_equal(set_events(MSIX, 0, 1, events + 2), 0);
	uvf_irq_trigger(rig.device->dev, ERR, 0);
	assert_true(rig_is_signalled(events[0]));
	uvf_irq_trigger(rig.device->dev, REQ, 0); /* the device's own */
	assert_true(rig_is_signalled(events[1]));
	for (size_t i = 0; i < UVF_ARRAY_SIZE(indexes); i++) {
		assert_int_equal(set_events(indexes[i], 0, 1, &none), 0);
		assert_int_equal(set(NONE | TRIGGER, indexes[i], 0, 1), -EINVAL);
		assert_int_equal(set_events(indexes[i], 0, 1, &events[i]), 0);
		assert_int_equal(set(NONE | TRIGGER, indexes[i], 0, 0), 0);
		assert_int_equal(set(NONE | TRIGGER, indexes[i], 0, 0), -EINVAL);
	}
	rig.device = &rig.devices[2];
	assert_int_equal(set_events(ERR, 0, 1, events), -EINVAL); /* not PCI Express */
	close(null);
	close(other);
}

static void device_is_asked_for_again_and_again(void **state)
{
	assert_int_equal(uvf_run_request(&rig.run, RIG_DEVICES), -EINVAL);
	assert_int_equal(uvf_run_request(&rig.run, 0), -ENOTTY);
	assert_int_equal(set_events(REQ, 0, 1, events), 0);
	assert_int_equal(uvf_run_request(&rig.run, 0), 0);
	for (int times = 0; times < 2; times++) {
		struct pollfd readable = {.fd = events[0], .events = POLLIN};

		assert_int_equal(poll(&readable, 1, 10000), 1);
		assert_true(rig_is_signalled(events[0]));
	}
	uapi_session_free(rig.device);
	assert_int_equal(uvf_run_request(&rig.run, 0), -ENOTCONN);
	assert_int_equal(uapi_session_new(rig.device), 0);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(refused_before_anything_happens),
		TEST(messages),
		TEST(all_vectors_at_once),
		TEST(two_thousand_vectors),
		TEST(msi_does_not_grow),
		TEST(one_that_fails),
		TEST(line),
		TEST(singles),
		TEST(device_is_asked_for_again_and_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
