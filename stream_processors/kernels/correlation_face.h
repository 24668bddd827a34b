/* Written by tools/kernel_headers.py from the Python face of correlation.c. */
#include <stdint.h>

#define STAMP 123161607u
#define LANES 8
#define ROOM 512
#define COURSE 0x1.8000000000000p+4
#define MEMORY 0x1.f800000000000p+10
#define SMOOTH 0x1.8000000000000p+2
#define DAY 288
#define MATURE 864
#define LEARNED 0x1.9000000000000p+7
#define LONGEST_STEP 12
#define CLIP 0x1.8000000000000p+1
#define TAKEN 0x1.0000000000000p+2
#define ORDINARY 0x1.2000000000000p+3
#define EXPLAINED 0x1.0000000000000p-1
#define ALONE 0x1.0000000000000p-2
#define OPEN 1
#define LEFT 2
#define INVOLVED 0x1.3333333333333p-2
#define FLOOR 0x1.70a3d70a3d70ap-2
#define USUAL 0x1.999999999999ap+0
#define DAY_WEIGHT 0x1.999999999999ap-3
#define CALM 0x1.3333333333333p-1
#define CALM_BLOCKS 12
#define RAISED 1
#define OVER 2

struct arguments {
    int64_t *host;
    int64_t *block;
    int64_t *lane;
    double *values;
    int64_t hosts;
    int64_t *current;
    int64_t *first;
    double *learned;
    double *usual;
    double *peak;
    int64_t *day;
    int64_t *open;
    int64_t *opened;
    int64_t *calm;
    double *sum;
    double *count;
    int64_t *seen;
    double *mean;
    double *evidence;
    double *alone;
    double *covariance;
    int64_t *touched;
    int64_t *closing;
    double *scalars;
    double *before;
    double *deviation;
    uint8_t *usable;
    double *clipped;
    double *sizes;
    double *explained;
    double *surprise;
    double *levels;
    int64_t *told;
    int64_t *counts;
};
