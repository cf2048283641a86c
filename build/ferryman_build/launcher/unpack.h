/* From a payload to files. */
#ifndef FERRYMAN_UNPACK_H
#define FERRYMAN_UNPACK_H

#include "payload.h"

/* Write the entries whose `wanted` is true (all, when it is NULL) below `folder`, which exists. `shared`: other users
   read them. Stops early with a problem when a stop was requested (os_stop_requested). */
bool unpack(const struct payload *payload, const struct index *index, const bool *wanted, const char *folder,
            bool shared, struct problem *problem);

/* Sets `wrong` for every entry that `folder` does not hold as it should; answers how many. With `contents` each file
   is hashed, otherwise only its kind and size are looked at. */
uint32_t unpack_compare(const struct index *index, const char *folder, bool contents, bool *wrong);

#endif
