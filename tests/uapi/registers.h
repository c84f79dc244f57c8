/* SPDX-License-Identifier: BSD-3-Clause */
/* BAR 0 of the devices of test_run.c, as program.c knows them. */
#ifndef UVF_TESTS_UAPI_REGISTERS_H
#define UVF_TESTS_UAPI_REGISTERS_H

#define REGISTERS_VENDOR 0x7576U
#define REGISTERS_DEVICE 0x00feU

#define REGISTER_SCRATCH 0 /* keeps what is written, until a reset */
#define REGISTER_SECOND	 4 /* read: REGISTER_SECOND_VALUE */
/* Read: lasts until it is ended. Written: the next close does. */
#define REGISTER_BLOCK	      8
#define REGISTER_BLOCKED      12 /* read: whether something lasts, in whichever device */
#define REGISTER_UNBLOCK      16 /* written: what lasts is ended */
#define REGISTER_UNBLOCK_SOON 20 /* written: after a while */
#define REGISTERS_SIZE	      4096

#define REGISTER_SECOND_VALUE 0xfeedf00dU

#endif
