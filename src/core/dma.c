/* SPDX-License-Identifier: BSD-3-Clause */
/* DMA by a device: finds the attachment that a request goes through. */
#include "core/inject.h"

#include <errno.h>

static struct uvf_attachment *attachment_of(struct uvf_device *dev, uint32_t pasid)
{
	return __builtin_expect(pasid == UVF_PASID_NONE, 1)
		       ? atomic_load_explicit(&dev->open_attachment, memory_order_relaxed)
		       : NULL;
}

/*
 * The way of requests with a PASID, and of all while faults are injected. Each function has its
 * slow way apart, so that the quick one is a jump and keeps nothing on the stack.
 */
static int look_again(struct uvf_device *dev, uint32_t pasid, unsigned prot, uvf_iova_t iova,
		      size_t size)
{
	return pasid == UVF_PASID_NONE ? uvf_inject_dma(dev, prot, iova, size) : -EPERM;
}

#define SLOW __attribute__((noinline, cold))

SLOW static int read_slowly(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, void *buf,
			    size_t size)
{
	int ret = look_again(dev, pasid, UVF_PROT_READ, iova, size);

	return ret ? ret : uvf_attachment_read(dev->attachment, iova, buf, size);
}

int uvf_dma_read(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, void *buf, size_t size)
{
	struct uvf_attachment *attachment = attachment_of(dev, pasid);

	return attachment ? uvf_attachment_read(attachment, iova, buf, size)
			  : read_slowly(dev, pasid, iova, buf, size);
}

SLOW static int write_slowly(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova,
			     const void *buf, size_t size)
{
	int ret = look_again(dev, pasid, UVF_PROT_WRITE, iova, size);

	return ret ? ret : uvf_attachment_write(dev->attachment, iova, buf, size);
}

int uvf_dma_write(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, const void *buf,
		  size_t size)
{
	struct uvf_attachment *attachment = attachment_of(dev, pasid);

	return attachment ? uvf_attachment_write(attachment, iova, buf, size)
			  : write_slowly(dev, pasid, iova, buf, size);
}

SLOW static int swap_slowly(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, size_t size,
			    uint64_t *expected, uint64_t desired)
{
	int ret = look_again(dev, pasid, UVF_PROT_RW, iova, size);

	return ret ? ret
		   : uvf_attachment_compare_and_swap(dev->attachment, iova, size, expected,
						     desired);
}

int uvf_dma_compare_and_swap(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, size_t size,
			     uint64_t *expected, uint64_t desired)
{
	struct uvf_attachment *attachment = attachment_of(dev, pasid);

	return attachment
		       ? uvf_attachment_compare_and_swap(attachment, iova, size, expected, desired)
		       : swap_slowly(dev, pasid, iova, size, expected, desired);
}

SLOW static int pin_slowly(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, size_t size,
			   unsigned prot, struct uvf_pin *pin, struct iovec *iov, int max)
{
	int ret = look_again(dev, pasid, prot, iova, size);

	return ret ? ret : uvf_attachment_pin(dev->attachment, iova, size, prot, pin, iov, max);
}

int uvf_dma_pin(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, size_t size, unsigned prot,
		struct uvf_pin *pin, struct iovec *iov, int max)
{
	struct uvf_attachment *attachment = attachment_of(dev, pasid);

	return attachment ? uvf_attachment_pin(attachment, iova, size, prot, pin, iov, max)
			  : pin_slowly(dev, pasid, iova, size, prot, pin, iov, max);
}

void uvf_dma_unpin(struct uvf_device *dev, struct uvf_pin *pin)
{
	(void)dev;
	uvf_attachment_unpin(pin);
}
