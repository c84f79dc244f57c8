/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the kernel, or who confines this process, has to allow for a program to be supervised. Asked
 * before the program starts, so that what is missing is said by its name.
 */
#ifndef UVF_UAPI_RIGHTS_H
#define UVF_UAPI_RIGHTS_H

#include <uvfio/types.h>

/* Errors, each with the system call that is refused: -EPERM, -ENOSYS, or what it is refused with.
 */
int uapi_check_rights(struct uvf_error *error);

#endif
