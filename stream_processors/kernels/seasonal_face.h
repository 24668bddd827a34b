/* Written by tools/kernel_headers.py from the Python face of seasonal.c. */
#include <stdint.h>

#define STAMP 3021268186u
#define CALM_LEVEL 0.19999999999999998
#define SMALL_ROUND 256
#define MINUTE 60000.0
#define HOUR 3600000.0
#define DAY 86400000.0
#define WEEK 604800000.0
#define DAY_BINS 48
#define DAY_BIN 1800000.0
#define HALF_HOUR 1800000
#define WEEK_BINS 168
#define WEEK_BIN 3600000.0
#define BINS 216
#define EPOCH_HOUR 72
#define VISITS_DAY 28.0
#define VISITS_WEEK 8.0
#define MEMORY 8640000000.0
#define SEASON_MEMORY 691200000.0
#define SMOOTH 1440000.0
#define FEWEST 48.0
#define LONGEST_STEP 8.0
#define QUIET 4.0
#define CLIP 400.0
#define LOUDEST 4.605170185988092
#define DAY_GAIN 0.2
#define WEEK_GAIN 0.3
#define LEVELS 255.0
#define YOUNG 6.0
#define BAR_RISE 2.0
#define BAR_TOP 2.0
#define BAR_START 7200000.0
#define BAR_SHARE 0.05
#define BAR_LONGEST 604800000.0
#define HELD 0.4375
#define HABIT 0.375
#define GRADES 8.0
#define LATELY 900000.0
#define LATELY_FEWEST 5.0
#define LATELY_SHARE 0.5
#define TAIL_PRIOR 10.0
#define TAIL_PRIOR_EVENTS 1000.0
#define TAIL_MEMORY 2592000000.0
#define QUANTUM_MOVES 3.0
#define QUANTUM_RATE 0.016666666666666666
#define QUANTUM_SHARE 0.5
#define TAIL_CUT 4.0
#define SHAPE_BIAS 0.065
#define SHAPE_LEAST 0.001
#define SHAPE_MOST 0.15
#define KNOWN 4.0
#define RARE 31536000000.0
#define PAIR_MOST 0.7
#define FACTOR 1.3
#define FACTOR_STEP 1.75
#define FACTOR_USUAL 1.15
#define FACTOR_GROWTH 0.5
#define RUN_CUT 8.0
#define RUN_MOVES 0.5
#define RUN_POWER 2.0
#define WARM_EVENTS 60.0
#define LARGEST 1e+100
#define GRAIN 1e-13
#define STANDSTILL 6
#define N 13
#define BASE 3.5
#define LOUDNESS 4
#define UP 29
#define DOWN 42
#define RANGES 5
#define MEANS 13
#define TAILS 73
#define SHARE 58
#define GAIN 101
#define LANES 16
#define BLOCK 6144
#define CHUNK 256
#define APART 8
#define GAINS {0.4096, 0.512, 0.64, 0.8, 1.0, 1.25, 1.5625, 1.953125, 2.44140625}
#define TAIL_MEAN {0.4, 1.0}
#define TAIL_RATE {0.0015, 0.025}
#define TAIL_START {3.0, 2.5}
#define COLUMNS 109
#define DECADE -2.302585092994046
#define FAMILY_OF {0, 1, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5}
#define KINDS 7
#define SCALES {1800000.0, 7200000.0, 28800000.0, 115200000.0, 460800000.0}
#define WEIGHTS {0.5, 0.75, 0.25, 1.5, 0.25, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5}
#define AT_COUNT 0
#define AT_ORIGIN 1
#define AT_FIRST 2
#define AT_LAST 3
#define AT_INTERVAL 4
#define AT_LOW 5
#define AT_HIGH 6
#define AT_LOW_REST 7
#define AT_HIGH_REST 8
#define AT_LOW_2H 9
#define AT_HIGH_2H 10
#define AT_LOW_8H 11
#define AT_HIGH_8H 12
#define AT_MEAN0 13
#define AT_MEAN1 14
#define AT_MEAN2 15
#define AT_MEAN3 16
#define AT_MEAN4 17
#define AT_MEAN_FAST 18
#define AT_MEAN_WEEK 19
#define AT_ERROR_SEASON 20
#define AT_ERROR_MEAN 21
#define AT_SEASONS 22
#define AT_WEEKS 23
#define AT_DAY_REST 24
#define AT_DAY_REST_SLOW 25
#define AT_PREVIOUS 26
#define AT_STEP_SHORT 27
#define AT_STEP_LONG 28
#define AT_UP0 29
#define AT_UP1 30
#define AT_UP2 31
#define AT_UP3 32
#define AT_UP4 33
#define AT_UP5 34
#define AT_UP6 35
#define AT_UP7 36
#define AT_UP8 37
#define AT_UP9 38
#define AT_UP10 39
#define AT_UP11 40
#define AT_UP12 41
#define AT_DOWN0 42
#define AT_DOWN1 43
#define AT_DOWN2 44
#define AT_DOWN3 45
#define AT_DOWN4 46
#define AT_DOWN5 47
#define AT_DOWN6 48
#define AT_DOWN7 49
#define AT_DOWN8 50
#define AT_DOWN9 51
#define AT_DOWN10 52
#define AT_DOWN11 53
#define AT_DOWN12 54
#define AT_SMOOTH0 55
#define AT_SMOOTH1 56
#define AT_SMOOTH2 57
#define AT_SHARE0 58
#define AT_SHARE1 59
#define AT_SHARE2 60
#define AT_SHARE3 61
#define AT_SHARE4 62
#define AT_SHARE5 63
#define AT_SHARE6 64
#define AT_USUAL 65
#define AT_DAY_PEAK 66
#define AT_DAY_START 67
#define AT_DAYS 68
#define AT_BAR 69
#define AT_WAITED 70
#define AT_HALF_HOUR_PEAK 71
#define AT_HOUR_PEAK 72
#define AT_ONE_NOISE 73
#define AT_ONE_EVENTS 74
#define AT_ONE_BEYOND 75
#define AT_ONE_BEYOND1 76
#define AT_ONE_BEYOND2 77
#define AT_TWO_NOISE 78
#define AT_TWO_EVENTS 79
#define AT_TWO_BEYOND 80
#define AT_TWO_BEYOND1 81
#define AT_TWO_BEYOND2 82
#define AT_UNEXPLAINED 83
#define AT_LATELY 84
#define AT_RARE_DAY 85
#define AT_RARE_PAIR 86
#define AT_TAIL_FACTOR 87
#define AT_PAIR_FACTOR 88
#define AT_RARE_DAYS 89
#define AT_TENTH 90
#define AT_HUNDREDTH 91
#define AT_WIDTH 92
#define AT_WIDTH_UP 93
#define AT_WIDTH_DOWN 94
#define AT_RUN 95
#define AT_RUN_TOLD 96
#define AT_MOVES 97
#define AT_RUNS 98
#define AT_RUN_ON 99
#define AT_QUANTUM 100
#define AT_GAIN0 101
#define AT_GAIN1 102
#define AT_GAIN2 103
#define AT_GAIN3 104
#define AT_GAIN4 105
#define AT_GAIN5 106
#define AT_GAIN6 107
#define AT_KIND 108
#define LOG_SHARE 13
#define LOG_WANTED 15
#define LOG_ORDINARY 16
#define LOG_BEGINS 17
#define LOG_GOES_ON 18
#define EXP_SHARES 0
#define EXP_KEPT 1
#define HAVE_N 0
#define HAVE_V 1
#define HAVE_BOUNDED 2
#define HAVE_EXPECTED 3
#define HAVE_LAPSE 4
#define HAVE_ELAPSED 5
#define HAVE_AGE 6
#define HAVE_SHAPE 7
#define HAVE_BEYOND 9
#define HAVE_INTERVAL 11
#define HAVE_RUN 12
#define MARK_TENTH 0
#define MARK_HUNDREDTH 1
#define MARK_UP 2
#define MARK_DOWN 3
#define OUT_SCORE 0
#define OUT_LEVEL 1
#define OUT_LOW 2
#define OUT_EXPECTED 3
#define OUT_HIGH 4
#define OUT_INTERVAL 5
#define OUT_WARMING 6
#define OUT_PLAIN 7

struct arguments {
    double *state;
    double *bins;
    double *values;
    double *logs;
    double *growths;
    double *exps;
    double *have;
    double *decades;
    double *exponentials;
    double *marks;
    double *out;
    double *shares;
    int64_t *rows;
    int64_t *timestamps;
    int64_t *places;
    uint16_t *visits;
    uint8_t *reached;
    int64_t count;
    int64_t padded;
    int64_t marks_width;
    int64_t out_at;
    int64_t out_width;
};
