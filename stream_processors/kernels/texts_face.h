/* Written by tools/kernel_headers.py from the Python face of texts.c. */
#include <stdint.h>

#define STAMP 1850105350u
#define LONGEST 1024
#define PLACES 524288
#define PROBES 32
#define TIME_DIGITS 15
#define EXACT_DIGITS 15
#define EXACT_FRACTION 22
#define POWERS {0x1.0000000000000p+0, 0x1.4000000000000p+3, 0x1.9000000000000p+6, 0x1.f400000000000p+9, 0x1.3880000000000p+13, 0x1.86a0000000000p+16, 0x1.e848000000000p+19, 0x1.312d000000000p+23, 0x1.7d78400000000p+26, 0x1.dcd6500000000p+29, 0x1.2a05f20000000p+33, 0x1.74876e8000000p+36, 0x1.d1a94a2000000p+39, 0x1.2309ce5400000p+43, 0x1.6bcc41e900000p+46, 0x1.c6bf526340000p+49, 0x1.1c37937e08000p+53, 0x1.6345785d8a000p+56, 0x1.bc16d674ec800p+59, 0x1.158e460913d00p+63, 0x1.5af1d78b58c40p+66, 0x1.b1ae4d6e2ef50p+69, 0x1.0f0cf064dd592p+73}
#define FROM 0
#define MIDDLE 1
#define TAIL 2
#define END 3
#define TIME_FIRST 4
#define AFTER 5
#define FIELDS 6
#define NONE 0
#define TIME 1
#define BEGIN 0
#define STOP 1
#define FIRST 2
#define FIRST_END 3
#define SECOND 4
#define SECOND_END 5
#define ORDER 6
#define SPANS 7
#define UNTIL 0
#define EARLIEST 1
#define LATEST 2
#define MOST 3
#define COUNT 4
#define MESSAGES 5

struct arguments {
    int64_t *places;
    int64_t *table;
    uint8_t *pool;
    uint64_t *weights;
    int64_t *messages;
    int64_t *numbers;
    int64_t *moments;
    double *values;
    int64_t *unread;
    int64_t room;
    int64_t *told;
};
