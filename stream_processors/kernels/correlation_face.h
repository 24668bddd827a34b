/* Written by tools/kernel_headers.py from the Python face of correlation.c. */
#include <stdint.h>

#define STAMP 2348770071u
#define LANES 8
#define ROOM 512
#define COURSE 24.0
#define MEMORY 2016.0
#define SMOOTH 6.0
#define DAY 288
#define MATURE 864
#define LEARNED 200.0
#define LONGEST_STEP 12
#define CLIP 3.0
#define TAKEN 4.0
#define ORDINARY 9.0
#define EXPLAINED 0.5
#define ALONE 0.25
#define OPEN 1
#define LEFT 2
#define INVOLVED 0.3
#define FLOOR 0.36
#define USUAL 1.6
#define DAY_WEIGHT 0.2
#define CALM 0.6
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
