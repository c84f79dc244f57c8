/* SPDX-License-Identifier: BSD-3-Clause */
/* DMA by a device: finds the attachment that a request goes through. */
#include "core/device.h"

#include <errno.h>

static struct uvf_attachment *attachment_of(const struct uvf_device *dev, uint32_t pasid)
{
	return __builtin_expect(pasid == UVF_PASID_NONE, 1) ? dev->attachment : NULL;
}

int uvf_dma_read(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, void *buf, size_t size)
{
	struct uvf_attachment *attachment = attachment_of(dev, pasid);

	return attachment ? uvf_attachment_read(attachment, iova, buf, size) : -EPERM;
}

int uvf_dma_write(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, const void *buf,
		  size_t size)
{
	struct uvf_attachment *attachment = attachment_of(dev, pasid);

	return attachment ? uvf_attachment_write(attachment, iova, buf, size) : -EPERM;
}

int uvf_dma_compare_and_swap(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, size_t size,
			     uint64_t *expected, uint64_t desired)
{
	struct uvf_attachment *attachment = attachment_of(dev, pasid);

	if (!attachment)
		return -EPERM;
	return uvf_attachment_compare_and_swap(attachment, iova, size, expected, desired);
}

int uvf_dma_pin(struct uvf_device *dev, uint32_t pasid, uvf_iova_t iova, size_t size, unsigned prot,
		struct uvf_pin *pin, struct iovec *iov, int max)
{
	struct uvf_attachment *attachment = attachment_of(dev, pasid);

	if (!attachment)
		return -EPERM;
	return uvf_attachment_pin(attachment, iova, size, prot, pin, iov, max);
}

void uvf_dma_unpin(struct uvf_device *dev, struct uvf_pin *pin)
{
	(void)dev;
	uvf_attachment_unpin(pin);
}
