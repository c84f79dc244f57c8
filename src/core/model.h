/* SPDX-License-Identifier: BSD-3-Clause */
/* How a model inside the library makes itself known: one line in its file, no list anywhere. */
#ifndef UVF_CORE_MODEL_H
#define UVF_CORE_MODEL_H

#include <uvfio/model.h>

/* Called before main() only, so that the list never changes while a program runs. */
void uvf_model_register(const struct uvf_model *model);

#define UVF_REGISTER_MODEL(model)                                       \
	__attribute__((constructor)) static void register_##model(void) \
	{                                                               \
		uvf_model_register(&(model));                           \
	}

#endif
