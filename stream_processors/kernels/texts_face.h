/* Written by tools/kernel_headers.py from the Python face of texts.c. */
#include <stdint.h>

#define STAMP 1210228769u
#define LONGEST 1024
#define PLACES 524288
#define PROBES 32
#define TIME_DIGITS 15
#define EXACT_DIGITS 15
#define EXACT_FRACTION 22
#define POWERS {1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0, 10000000.0, 100000000.0, 1000000000.0, 10000000000.0, 100000000000.0, 1000000000000.0, 10000000000000.0, 100000000000000.0, 1000000000000000.0, 1e+16, 1e+17, 1e+18, 1e+19, 1e+20, 1e+21, 1e+22}
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
#define IS_OPEN 0
#define HEAD_SIZE 1
#define LONGEST_NAME 256
#define RESERVED {111, 112, 115, 114, 105, 118, 101, 114, 58}

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
    int64_t *names;
    int64_t *open;
    uint8_t *head;
    int64_t *told;
};
