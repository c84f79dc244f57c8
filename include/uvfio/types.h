/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Types and conventions that every other public header uses.
 *
 * Results: a function returns 0 or a count, or a negative errno. What the waist returns becomes an
 * ioctl's result or a wire error unchanged.
 *
 * Sizes and offsets are uint64_t and in bytes unless the name says otherwise.
 */
#ifndef UVFIO_TYPES_H
#define UVFIO_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
#define UVF_BEGIN_DECLS extern "C" {
#define UVF_END_DECLS	}
#else
#define UVF_BEGIN_DECLS
#define UVF_END_DECLS
#endif

#if defined(__GNUC__)
#define UVF_API		      __attribute__((visibility("default")))
#define UVF_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define UVF_API
#define UVF_PRINTF(fmt, args)
#endif

UVF_BEGIN_DECLS

/* An I/O virtual address: what a device puts on the bus. Never a pointer. */
typedef uint64_t uvf_iova_t;

struct uvf_device;
struct uvf_address_space;

/* "No PASID": an ordinary request. PASIDs themselves have 20 bits (PCIe 6.20). */
#define UVF_PASID_NONE UINT32_MAX

/* What memory may be used for. Values are those of VFIO_DMA_MAP_FLAG_READ and _WRITE. */
enum uvf_prot {
	UVF_PROT_READ = 1 << 0,	 /* the device may read it */
	UVF_PROT_WRITE = 1 << 1, /* the device may write it */
	UVF_PROT_RW = UVF_PROT_READ | UVF_PROT_WRITE,
};

/*
 * What went wrong, for a person. Functions that can fail because of how they were configured take
 * one (NULL is allowed) beside their negative errno. The text has no newline.
 */
struct uvf_error {
	char text[256];
};

/* Sets the text (when @error isn't NULL) and returns @code, so that `return uvf_fail(...)` works.
 */
UVF_API int uvf_fail(struct uvf_error *error, int code, const char *format, ...) UVF_PRINTF(3, 4);

enum uvf_log_level { UVF_LOG_ERROR, UVF_LOG_WARNING, UVF_LOG_INFO, UVF_LOG_DEBUG };

/*
 * Where messages go; nowhere, with @fn NULL. The library itself never prints. @fn may be called
 * from any thread, with locks held: it must not call back into the library. @who is the device's or
 * server's name.
 */
struct uvf_log {
	void (*fn)(void *opaque, enum uvf_log_level level, const char *who, const char *text);
	void *opaque;
	enum uvf_log_level level; /* messages above it are not even formatted */
};

UVF_END_DECLS

#endif
