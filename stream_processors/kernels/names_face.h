/* Written by tools/kernel_headers.py from the Python face of names.c. */
#include <stdint.h>

#define STAMP 4263812637u
#define MARK 10
#define PROBES 32
#define GROUP 64
#define TAKEN 0
#define BYTES 1

struct arguments {
    uint64_t *places;
    int64_t *spans;
    uint8_t *pool;
    int64_t *used;
    int64_t mask;
};
