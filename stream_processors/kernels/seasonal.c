/* The seasonal bank's recurrence as loops over events: each row is read once, changed in place and left.

   The bits are NumPy's because the operations are, in the same order. Logarithms and exponentials are NumPy's own, whose last
   bit the C library's need not share: that is why the work is cut in two, with NumPy's functions between. What a number means
   is told in detectors/seasonal/bank.py. */
#include "kernels.h"
#include "seasonal_face.h"

#define AHEAD 8 /* events whose state is asked for ahead: a row that no cache holds is there by the time its turn comes */
#define LINE 8  /* doubles of a cache line */
#define MS_DAY INT64_C(86400000)
#define MS_HOUR INT64_C(3600000)
#define SCALE_COUNT ((int)(sizeof scales / sizeof *scales))

static const double starts[] = TAIL_START, rates[] = TAIL_RATE, assumed[] = TAIL_MEAN, scales[] = SCALES, gains[] = GAINS;
static const double weights[] = WEIGHTS;
static const int family_of[] = FAMILY_OF;

EXPORT uint32_t seasonal_stamp(void) { return STAMP; }

static inline double blend(double interval, double memory) { return interval / (interval + memory); }

/* Of a value and a band: how far beyond it, in its widths. */
static inline double beyond_band(double value, double low, double high, double grain) {
    double over = value > high + grain ? value - high : value < low - grain ? value - low : 0.0;
    double width = high - low;
    return width > grain ? least(most(over / width, -LARGEST), LARGEST) : 0.0;
}

static inline void widen(double *low, double value, double grain) {
    double width = low[1] - low[0];
    double limit = width > 0.0 ? width : INFINITY;
    double over = value > low[1] + grain ? least(value - low[1], limit) : 0.0;
    double under = value < low[0] - grain ? least(low[0] - value, limit) : 0.0;
    low[1] += over;
    low[0] -= under;
}

/* Of an interval: its value nearest to zero. */
static inline double nearest(double low, double high) { return low > 0.0 ? low : high < 0.0 ? high : 0.0; }

static inline double farther(double factor) { return most(factor, 1.0) + FACTOR_GROWTH * most(factor - FACTOR_USUAL, 0.0); }

/* The mean of an hour from its two half-hours. */
static inline double of_two(const double *bins, const uint16_t *visits, int64_t first) {
    return (bins[first] + bins[first + 1]) * (visits[first] > 0 && visits[first + 1] > 0 ? 0.5 : 1.0);
}

struct rarity {
    double growth, share, shape;
    int beyond;
};

/* bank._rarity but for its logarithms; `s` are the tail's columns. */
static inline struct rarity tail(double *s, int number, double residual, double scale, double smallest, double lapse, double n) {
    double mean = assumed[number], noise = s[0];
    int ready = noise > 0.0 && n > WARM_EVENTS;
    double size = fabs(residual) / sqrt(most(noise > 0.0 ? noise * scale : 1.0, smallest * smallest));
    double excess = ready ? size - starts[number] : 0.0;
    int beyond = excess > 0.0;
    double events = s[2], sum1 = s[3], sum2 = s[4];
    double first = (TAIL_PRIOR * mean + sum1) / (TAIL_PRIOR + events);
    double second = (TAIL_PRIOR * 2.0 * mean * mean + sum2) / (TAIL_PRIOR + events);
    double spread = most(second - first * first, 1e-6 * first * first);
    double shape = 0.5 * (1.0 - first * first / spread) + SHAPE_BIAS;
    shape = least(most(shape, SHAPE_LEAST), SHAPE_MOST);
    double share = (rates[number] * TAIL_PRIOR_EVENTS + events) / (TAIL_PRIOR_EVENTS + 2.0 * s[1]);
    double growth = least(shape * most(excess, 0.0) / (first * (1.0 - shape)), 1e30);

    double keep = ready ? 1.0 - blend(lapse, TAIL_MEMORY) : 1.0;
    double taken = least(most(excess, 0.0), TAIL_CUT * first);
    s[2] *= keep;
    s[3] *= keep;
    s[4] *= keep;
    s[2] += beyond ? 1.0 : 0.0;
    s[3] += beyond ? taken : 0.0;
    s[4] += beyond ? taken * taken : 0.0;
    s[1] *= keep;
    s[1] += ready ? 1.0 : 0.0;
    double squared = least(residual * residual, noise > 0.0 ? 25.0 * noise : INFINITY);
    double gain = most(blend(lapse, SEASON_MEMORY), 1.0 / most(n - 5.0, 1.0));
    s[0] = noise + (n > 5.0 ? gain * (squared - noise) : 0.0);
    return (struct rarity){growth, share, shape, beyond};
}

/* Ask for a row of the state. It need not begin with a cache line, so its end may be on one more. */
static inline void fetch_state(const struct arguments *a, int64_t row) {
    for (int line = 0; line < COLUMNS; line += LINE) PREFETCH(a->state + row * COLUMNS + line);
    PREFETCH(a->state + row * COLUMNS + COLUMNS - 1);
}

/* All that needs nothing of what the second half learns: clock, season, tails, means, runs and the channels' evidence. */
EXPORT int64_t seasonal_first(struct arguments *a) {
    const int64_t wide = a->padded;
    double r[N];
    for (int64_t i = 0; i < a->count; i++) {
        if (i + AHEAD < a->count) {
            int64_t coming = a->rows[i + AHEAD], then = a->timestamps[i + AHEAD];
            fetch_state(a, coming);
            int64_t hour = floor_mod(then, MS_DAY) / MS_HOUR;
            int64_t of_week = DAY_BINS + floor_mod(floor_div(then, MS_DAY) + 3, 7) * 24 + hour;
            PREFETCH(a->bins + coming * BINS + 2 * hour);
            PREFETCH(a->bins + coming * BINS + of_week);
            PREFETCH(a->visits + coming * BINS + 2 * hour);
            PREFETCH(a->visits + coming * BINS + of_week);
        }
        double *s = a->state + a->rows[i] * COLUMNS, *bins = a->bins + a->rows[i] * BINS;
        uint16_t *visits = a->visits + a->rows[i] * BINS;
        double *logs = a->logs + i, *exps = a->exps + i, *have = a->have + i;
        const int64_t stamp = a->timestamps[i];
        const double time = (double)stamp;
        const double value = least(most(a->values[i], -LARGEST), LARGEST);

        /* the series' clock */
        const double n = s[AT_COUNT];
        const int new = n == 0.0;
        if (new) {
            s[AT_ORIGIN] = value;
            s[AT_FIRST] = s[AT_LAST] = s[AT_DAY_START] = time;
            s[AT_TAIL_FACTOR] = s[AT_PAIR_FACTOR] = FACTOR;
        }
        const double elapsed = most(time - s[AT_LAST], 0.0);
        double interval = s[AT_INTERVAL];
        const double rate = most(0.02, 1.0 / most(n, 1.0));
        const double factor =
            elapsed > 1.001 * interval ? 1.0 + rate : elapsed < 0.999 * interval ? 1.0 / (1.0 + rate) : 1.0;
        const double shifted = n < 2.0 || interval <= 0.0 ? elapsed : interval * factor;
        if (elapsed > 0.0) interval = s[AT_INTERVAL] = shifted;
        const double lapse = elapsed > LONGEST_STEP * interval ? interval : elapsed;
        const double age = time - s[AT_FIRST];
        const double first_gain = 1.0 / (n + 1.0);
        const double v = value - s[AT_ORIGIN];
        const double grain = GRAIN * fabs(value);
        const int settled = n > 5.0;

        /* what the season says */
        const int64_t of_day = floor_mod(stamp, MS_DAY);
        const int64_t day_bin = of_day / HALF_HOUR;
        const int64_t hour = floor_mod(floor_div(stamp, MS_DAY) + 3, 7) * 24 + of_day / MS_HOUR;
        const int64_t week_bin = DAY_BINS + hour;
        const double day_mean = bins[day_bin], week_mean = bins[week_bin];
        const double day_visits = visits[day_bin], week_visits = visits[week_bin];
        const int64_t earlier = floor_mod(floor_div(of_day - HALF_HOUR / 2, HALF_HOUR), DAY_BINS);
        const int64_t later = (earlier + 1) % DAY_BINS;
        const double part = (double)((of_day + HALF_HOUR / 2) % HALF_HOUR) / DAY_BIN;
        const double from_bin = bins[earlier], to_bin = bins[later];
        const int straight = visits[earlier] > 0 && visits[later] > 0;
        const double day_line = straight ? from_bin + part * (to_bin - from_bin) : day_mean;
        double slow = s[AT_MEAN_WEEK];
        const double by_day = day_line + slow;
        const int by_day_known = day_visits > 0.0 && age >= DAY;
        const int by_week_known = week_visits > 0.0 && age >= WEEK;
        const double mean = s[AT_MEAN0 + 4], recent = s[AT_MEAN0 + 2];
        const double error_season = s[AT_ERROR_SEASON], error_mean = s[AT_ERROR_MEAN];
        const double belief = by_day_known && error_mean > 0.0 ? most(0.0, 1.0 - error_season / error_mean) : 0.0;
        const double season = belief * (by_day - mean);
        const double day_rest = by_day_known ? v - by_day : 0.0;

        /* a value counts as at most one range beyond the range seen so far */
        const double low = s[AT_LOW], high = s[AT_LOW + 1];
        const double width = high - low;
        const double bounded = settled && width > 0.0 ? least(most(v, low - width), high + width) : v;
        const double rest = v - season, bounded_rest = bounded - season;

        r[0] = settled ? v - (mean + season) : 0.0;
        const double bounded_day_rest = by_day_known ? bounded - by_day : 0.0;
        s[AT_DAY_REST] += blend(lapse, HOUR / 4) * (bounded_day_rest - s[AT_DAY_REST]);
        s[AT_DAY_REST_SLOW] += blend(lapse, 4 * HOUR) * (bounded_day_rest - s[AT_DAY_REST_SLOW]);
        r[1] = by_day_known ? s[AT_DAY_REST] : 0.0;
        r[2] = by_day_known ? s[AT_DAY_REST_SLOW] : 0.0;
        r[3] = by_week_known ? v - slow - week_mean : 0.0;
        r[4] = beyond_band(v, low, high, grain);
        r[5] = beyond_band(rest, s[AT_LOW_REST], s[AT_LOW_REST + 1], grain);

        /* single values: by how much an hour of the week differs from that hour of all days may lie between neighbours */
        const double plain = rest - s[AT_MEAN0];
        const double two_hours = rest - s[AT_MEAN0 + 1], fast = rest - s[AT_MEAN_FAST];
        const double of_season = belief > 0.0 ? day_rest : plain;
        const double line_rest = v - by_day;
        double by_week = line_rest - (week_mean - of_two(bins, visits, 2 * (hour % 24)));
        for (int side = 0; side < 2; side++) {
            const int64_t other = (hour + (side ? 1 : WEEK_BINS - 1)) % WEEK_BINS;
            if (visits[DAY_BINS + other] > 0) {
                const double beside = line_rest - (bins[DAY_BINS + other] - of_two(bins, visits, 2 * (other % 24)));
                by_week = nearest(least(by_week, beside), most(by_week, beside));
            }
        }
        const double of_week = by_week_known ? by_week : plain;
        const double lowest = least(least(least(least(plain, two_hours), fast), of_season), of_week);
        const double highest = most(most(most(most(plain, two_hours), fast), of_season), of_week);
        double unexplained = nearest(lowest, highest);
        unexplained = settled && fabs(unexplained) > grain ? unexplained : 0.0;
        const double before = s[AT_UNEXPLAINED];
        const double pair = nearest(least(unexplained, before), most(unexplained, before));
        const double noise = s[AT_ONE_NOISE], lately = s[AT_LATELY];
        const double scale = noise > 0.0 ? (1.0 - LATELY_SHARE) + LATELY_SHARE * (lately / noise) : 1.0;
        const double lately_gain = most(blend(lapse, most(LATELY, LATELY_FEWEST * interval)), 1.0 / most(n - 5.0, 1.0));
        const double squared_before = least(before * before, noise > 0.0 ? 25.0 * noise : INFINITY);
        s[AT_LATELY] = lately + (n > 5.0 ? lately_gain * (squared_before - lately) : 0.0);
        s[AT_UNEXPLAINED] = unexplained;
        const int restless = s[AT_MOVES] >= most(QUANTUM_MOVES, QUANTUM_RATE * s[AT_ONE_NOISE + 1]);
        const double smallest = QUANTUM_SHARE * (restless ? s[AT_QUANTUM] : 0.0);
        for (int number = 0; number < 2; number++) {
            double *columns = s + (number ? AT_TWO_NOISE : AT_ONE_NOISE);
            const struct rarity found =
                tail(columns, number, number ? pair : unexplained, number ? scale : 1.0, smallest, lapse, n);
            a->growths[number * wide + i] = found.growth;
            logs[(LOG_SHARE + number) * wide] = found.share;
            have[(HAVE_SHAPE + number) * wide] = found.shape;
            have[(HAVE_BEYOND + number) * wide] = found.beyond ? 1.0 : 0.0;
        }

        /* means over five time scales */
        s[AT_MEAN_FAST] += most(0.2, first_gain) * (bounded_rest - s[AT_MEAN_FAST]);
        for (int one = 0; one < SCALE_COUNT; one++) {
            const double gain = most(blend(lapse, scales[one]), first_gain);
            s[AT_MEAN0 + one] += gain * (bounded_rest - s[AT_MEAN0 + one]);
        }
        for (int one = 0; one < SCALE_COUNT - 1; one++) r[8 + one] = s[AT_MEAN0 + one] - s[AT_MEAN0 + one + 1];
        if (n <= 3.0) {
            s[AT_LOW_2H] = s[AT_LOW_2H + 1] = s[AT_MEAN0 + 1];
            s[AT_LOW_8H] = s[AT_LOW_8H + 1] = s[AT_MEAN0 + 2];
        }
        r[6] = beyond_band(s[AT_MEAN0 + 1], s[AT_LOW_2H], s[AT_LOW_2H + 1], grain);
        r[7] = beyond_band(s[AT_MEAN0 + 2], s[AT_LOW_8H], s[AT_LOW_8H + 1], grain);
        const double root = new ? 0.0 : sqrt(fabs(bounded - s[AT_PREVIOUS]));
        s[AT_STEP_SHORT] += most(blend(lapse, HOUR / 2), first_gain) * (root - s[AT_STEP_SHORT]);
        s[AT_STEP_LONG] += most(blend(lapse, 16 * HOUR), first_gain) * (root - s[AT_STEP_LONG]);
        r[12] = s[AT_STEP_SHORT] - s[AT_STEP_LONG];

        /* a run of equal values; it is learned once it is over */
        const double step = new ? INFINITY : fabs(bounded - s[AT_PREVIOUS]);
        const double kept = 1.0 - blend(lapse, TAIL_MEMORY);
        s[AT_MOVES] *= kept;
        s[AT_RUNS] *= kept;
        s[AT_RUN_ON] *= kept;
        if (step <= grain) {
            s[AT_RUN] += 1.0;
        } else {
            if (s[AT_RUN] > 0.0) {
                const double longest = RUN_CUT * (s[AT_RUN_ON] + 1.0) / (s[AT_RUNS] + 1.0);
                s[AT_RUN_ON] += least(s[AT_RUN] - 1.0, longest);
                s[AT_RUNS] += 1.0;
            }
            s[AT_MOVES] += 1.0;
            s[AT_RUN] = s[AT_RUN_TOLD] = 0.0;
            if (step < (s[AT_QUANTUM] > 0.0 ? s[AT_QUANTUM] : INFINITY)) s[AT_QUANTUM] = step;
        }
        const double fewest = most(RUN_MOVES * s[AT_ONE_NOISE + 1], WARM_EVENTS);
        const int stands =
            s[AT_RUN] >= 2.0 && s[AT_MOVES] >= fewest && s[AT_RUN] * interval <= DAY && age >= KNOWN * DAY;
        logs[LOG_BEGINS * wide] = stands ? (s[AT_RUNS] + 1.0) / (s[AT_MOVES] + 2.0) : 1.0;
        logs[LOG_GOES_ON * wide] = stands ? (s[AT_RUN_ON] + 1.0) / (s[AT_RUN_ON] + s[AT_RUNS] + 2.0) : 1.0;
        have[HAVE_RUN * wide] = stands ? s[AT_RUN] : 0.0;
        s[AT_PREVIOUS] = bounded;

        /* how well the season has predicted, against the plain mean */
        const int learns = by_day_known && n > 0.0;
        const double memory_gain = most(blend(lapse, SEASON_MEMORY), 1.0 / most(n, 1.0));
        const double farthest = error_mean > 0.0 ? 25.0 * error_mean : INFINITY;
        const double from_mean = v - mean;
        const double squared_season = least(day_rest * day_rest, farthest);
        const double squared_mean = least(from_mean * from_mean, farthest);
        s[AT_ERROR_SEASON] += learns ? memory_gain * (squared_season - error_season) : 0.0;
        s[AT_ERROR_MEAN] += learns ? memory_gain * (squared_mean - error_mean) : 0.0;

        /* evidence: every channel against its own past */
        s[AT_SEASONS] += by_day_known ? 1.0 : 0.0;
        s[AT_WEEKS] += by_week_known ? 1.0 : 0.0;
        const double calibration = blend(lapse, MEMORY);
        const double gain = most(calibration, first_gain);
        const double gain_day = most(calibration, 1.0 / most(s[AT_SEASONS], 1.0)) * (by_day_known ? 1.0 : 0.0);
        const double gain_week = most(calibration, 1.0 / most(s[AT_WEEKS], 1.0)) * (by_week_known ? 1.0 : 0.0);
        for (int channel = 0; channel < N; channel++) {
            double residual = r[channel];
            if (channel < 4 || channel > 7) residual = fabs(residual) > grain ? residual : 0.0;
            const double up = s[UP + channel], down = s[DOWN + channel];
            const double squared = residual * residual;
            const int rising = residual > 0.0;
            const double usual = rising ? up : down;
            const double ratio = usual > 0.0 ? squared / (QUIET * usual) : 0.0;
            logs[channel * wide] = least(most(ratio + 0.5, 1.0), 1e30);
            const double channel_gain = channel == 3 ? gain_week : channel == 1 || channel == 2 ? gain_day : gain;
            double squared_up = rising ? squared : 0.0;
            double squared_down = squared - squared_up;
            squared_up = least(squared_up, up > 0.0 ? CLIP * up : INFINITY);
            squared_down = least(squared_down, down > 0.0 ? CLIP * down : INFINITY);
            s[UP + channel] = up + channel_gain * (squared_up - up);
            s[DOWN + channel] = down + channel_gain * (squared_down - down);
        }

        /* learn */
        widen(s + AT_LOW, v, grain);
        widen(s + AT_LOW_REST, rest, grain);
        widen(s + AT_LOW_2H, s[AT_MEAN0 + 1], grain);
        widen(s + AT_LOW_8H, s[AT_MEAN0 + 2], grain);
        slow += most(blend(lapse, WEEK), first_gain) * (bounded - slow);
        s[AT_MEAN_WEEK] = slow;
        const double day_gain = most(1.0 / (day_visits + 1.0), blend(lapse, VISITS_DAY * DAY_BIN));
        const double week_gain = most(1.0 / (week_visits + 1.0), blend(lapse, VISITS_WEEK * WEEK_BIN));
        bins[day_bin] = day_mean + day_gain * (bounded - slow - day_mean);
        bins[week_bin] = week_mean + week_gain * (bounded - slow - week_mean);
        visits[day_bin] = (uint16_t)least(day_visits + 1.0, 65535.0);
        visits[week_bin] = (uint16_t)least(week_visits + 1.0, 65535.0);
        s[AT_COUNT] = n + 1.0;
        s[AT_LAST] = most(time, s[AT_LAST]);

        /* for the second half */
        const double days_known = age / DAY;
        const double shortest = most(MINUTE * (1.0 - days_known / KNOWN), 1.0);
        logs[LOG_WANTED * wide] = most(RARE / most(interval, shortest), 2.0);
        logs[LOG_ORDINARY * wide] = most(most(DAY, FEWEST * interval) / most(interval, 1.0), 2.0);
        const double memory = most(SMOOTH, interval);
        exps[EXP_SHARES * wide] = -lapse / memory;
        exps[EXP_KEPT * wide] = -lapse / (3.0 * memory);
        have[HAVE_N * wide] = n;
        have[HAVE_V * wide] = v;
        have[HAVE_BOUNDED * wide] = bounded;
        have[HAVE_INTERVAL * wide] = interval;
        have[HAVE_EXPECTED * wide] = season + recent;
        have[HAVE_LAPSE * wide] = lapse;
        have[HAVE_ELAPSED * wide] = elapsed;
        have[HAVE_AGE * wide] = age;
        a->out[OUT_INTERVAL * a->out_width + a->out_at + i] = interval > 0.0 ? interval : NAN;
    }
    return 0;
}

/* One habit's bin takes in what its time reached. */
static inline void remember(uint8_t *bin, double gain, double peak) {
    const double known = *bin;
    *bin = (uint8_t)(known + gain * (LEVELS * peak - known) + 0.5);
}

/* Verdicts of events `begin` to `begin + count`, whose rows differ: their logarithms and exponentials are there by now. */
EXPORT int64_t seasonal_second(struct arguments *a, int64_t begin, int64_t count) {
    const int64_t wide = a->padded, out_width = a->out_width;
    double families[KINDS], loud[KINDS];
    for (int64_t i = begin; i < begin + count; i++) {
        if (i + AHEAD < begin + count) {
            int64_t coming = a->rows[i + AHEAD], hour = floor_div(a->timestamps[i + AHEAD], MS_HOUR);
            fetch_state(a, coming);
            PREFETCH(a->reached + coming * BINS + 2 * floor_mod(hour, 24));
            PREFETCH(a->reached + coming * BINS + DAY_BINS + floor_mod(hour + EPOCH_HOUR, WEEK_BINS));
        }
        double *s = a->state + a->rows[i] * COLUMNS, *out = a->out + a->out_at + i, *shares = a->shares + i * KINDS;
        uint8_t *usually = a->reached + a->rows[i] * BINS;
        const double *logs = a->logs + i, *exps = a->exps + i, *have = a->have + i;
        const double *factors = a->exponentials + a->places[i];
        double *marks = a->marks + a->places[i];
        const double time = (double)a->timestamps[i];
        const double n = have[HAVE_N * wide], v = have[HAVE_V * wide], bounded = have[HAVE_BOUNDED * wide];
        const double expected = have[HAVE_EXPECTED * wide], lapse = have[HAVE_LAPSE * wide];
        const double elapsed = have[HAVE_ELAPSED * wide], age = have[HAVE_AGE * wide], run = have[HAVE_RUN * wide];
        double rare[2];
        for (int number = 0; number < 2; number++) {
            const double growth = a->growths[number * wide + i] / have[(HAVE_SHAPE + number) * wide];
            rare[number] = have[(HAVE_BEYOND + number) * wide] > 0.0 ? growth - logs[(LOG_SHARE + number) * wide] : 0.0;
        }

        for (int family = 0; family < KINDS; family++) families[family] = 0.0;
        for (int channel = 0; channel < N; channel++) {
            const double root = sqrt(least(0.5 * logs[channel * wide], LOUDEST));
            families[family_of[channel]] += weights[channel] * (root * sqrt(sqrt(root)));
        }
        double total = 0.0;
        const double smoothing = 1.0 - exps[EXP_SHARES * wide];
        for (int family = 0; family < KINDS; family++) {
            const double gain = s[AT_GAIN0 + family];
            const double steps = least(most(gain != gain ? 0.0 : gain, -(double)LOUDNESS), (double)LOUDNESS);
            loud[family] = gains[(int)steps + LOUDNESS];
            const double share = families[family] * loud[family];
            total += share;
            s[AT_SHARE0 + family] += smoothing * (share - s[AT_SHARE0 + family]);
        }
        double kept = exps[EXP_KEPT * wide], evidence = 0.0;
        for (int back = 2; back >= 0; back--) {
            s[AT_SMOOTH0 + back] += (1.0 - kept) * (total - s[AT_SMOOTH0 + back]);
            evidence += s[AT_SMOOTH0 + back] / 3.0;
            kept = kept * kept * kept;
        }

        /* strength: against what an ordinary day reaches */
        const double days_known = age / DAY;
        const double divisor = BASE + s[AT_USUAL] + YOUNG / (1.0 + days_known);
        const double slow_strength = evidence / divisor;
        const double wanted = logs[LOG_WANTED * wide] * (1.0 + 1.4 * most(1.0 - days_known / KNOWN, 0.0));
        const double alone = 0.5 * rare[0] / (wanted * farther(s[AT_TAIL_FACTOR]));
        const double beside = 0.5 * rare[1] / (wanted * farther(s[AT_PAIR_FACTOR]));
        const double single = least(most(alone, least(beside, PAIR_MOST)) * loud[0], 1.0);
        double strength = least(most(slow_strength, single), BAR_TOP);
        strength = strength >= 1e-6 ? strength : 0.0;
        double still = 0.0;
        if (run > 0.0) {
            const double rarity = -logs[LOG_BEGINS * wide] - (run - 1.0) * logs[LOG_GOES_ON * wide];
            still = least(0.5 / RUN_POWER * rarity / wanted * loud[STANDSTILL], PAIR_MOST);
            still = still >= 0.5 ? still : 0.0;
        }

        /* the end of a day */
        s[AT_RARE_DAY] = most(s[AT_RARE_DAY], rare[0]);
        s[AT_RARE_PAIR] = most(s[AT_RARE_PAIR], rare[1]);
        const int over = time - s[AT_DAY_START] >= most(DAY, FEWEST * have[HAVE_INTERVAL * wide]);
        const int judged = over && age > 1.5 * DAY;
        s[AT_RARE_DAYS] += judged ? 1.0 : 0.0;
        const double usual = s[AT_USUAL];
        const double ordinary = logs[LOG_ORDINARY * wide] + 0.577;
        const double trust = 1.0 / (2.0 + least(s[AT_RARE_DAYS], 15.0));
        for (int number = 0; number < 2; number++) {
            double *factor = s + (number ? AT_PAIR_FACTOR : AT_TAIL_FACTOR);
            const double shown = least(s[number ? AT_RARE_PAIR : AT_RARE_DAY] / ordinary, FACTOR_STEP * *factor);
            *factor = *factor + (judged ? trust * (shown - *factor) : 0.0);
        }
        s[AT_DAYS] += over ? 1.0 : 0.0;
        const double peak = s[AT_DAYS] > 1.0 ? least(s[AT_DAY_PEAK], 2.0 * (usual + BASE)) : s[AT_DAY_PEAK];
        const double weight = most(DAY_GAIN, 1.0 / (s[AT_DAYS] + 1.0));
        s[AT_USUAL] = usual + (over ? weight * (peak - usual) : 0.0);
        if (over) {
            s[AT_RARE_DAY] = s[AT_RARE_PAIR] = s[AT_DAY_PEAK] = 0.0;
            s[AT_DAY_START] = time;
        }
        s[AT_DAY_PEAK] = most(s[AT_DAY_PEAK], evidence);

        /* one report per incident; what comes at this time every day or week is none */
        const double sinking = least(BAR_START + BAR_SHARE * age, BAR_LONGEST);
        s[AT_BAR] *= sinking / (sinking + elapsed);
        const int warming = n < WARM_EVENTS;
        double level = warming ? 0.0 : least(strength, 1.0);
        const int64_t last = floor_div((int64_t)(time - elapsed), HALF_HOUR);
        const int64_t half_hour = floor_div(a->timestamps[i], HALF_HOUR), hour = floor_div(half_hour, 2);
        const int64_t last_hour = floor_div(last, 2);
        if (half_hour != last) {
            remember(usually + floor_mod(last, DAY_BINS), DAY_GAIN, s[AT_HALF_HOUR_PEAK]);
            s[AT_HALF_HOUR_PEAK] = 0.0;
        }
        if (hour != last_hour) {
            remember(usually + DAY_BINS + floor_mod(last_hour + EPOCH_HOUR, WEEK_BINS), WEEK_GAIN, s[AT_HOUR_PEAK]);
            s[AT_HOUR_PEAK] = 0.0;
        }
        s[AT_HALF_HOUR_PEAK] = most(s[AT_HALF_HOUR_PEAK], level);
        s[AT_HOUR_PEAK] = most(s[AT_HOUR_PEAK], level);
        int habitual = 0;
        for (int near = -1; near <= 1; near++) {
            const int known = usually[floor_mod(half_hour + near, DAY_BINS)];
            habitual = known > habitual ? known : habitual;
        }
        for (int near = -1; near <= 0; near++) {
            const int known = usually[DAY_BINS + floor_mod(hour + EPOCH_HOUR + near, WEEK_BINS)];
            habitual = known > habitual ? known : habitual;
        }
        const int told = still > strength && s[AT_RUN_TOLD] > 0.0;
        strength = most(strength, still);
        level = most(level, still);
        int above = strength > s[AT_BAR] && !told;
        const int habit = strength <= BAR_RISE * ((double)habitual / LEVELS);
        const int incident = level >= 0.5 && !habit;
        const int waits = incident && !above && s[AT_WAITED] >= 0.0;
        if (level < CALM_LEVEL) s[AT_WAITED] = 0.0;
        if (waits) {
            s[AT_WAITED] += lapse;
            above = s[AT_WAITED] >= BAR_START;
        }
        if (incident && above) {
            s[AT_WAITED] = -1.0;
            s[AT_BAR] = most(s[AT_BAR], BAR_RISE * strength);
            s[AT_RUN_TOLD] += still > 0.0 ? 1.0 : 0.0;
        }
        double score = level < 0.5 ? level : floor(GRADES * level) / GRADES;
        score = least(score, habit ? HABIT : 1.0);
        score = above ? score : waits ? HELD : 0.0;

        /* shares of the families */
        total = 0.0;
        for (int family = 0; family < KINDS; family++) total += s[AT_SHARE0 + family];
        const double at_once = most(single, still);
        double by_one = at_once > slow_strength ? (at_once - slow_strength) / at_once : 0.0;
        by_one = total > 0.0 ? by_one : 1.0;
        const double per_share = (1.0 - by_one) / (total > 0.0 ? total : 1.0);
        int spoken = 0;
        for (int family = 0; family < KINDS; family++) {
            double share = s[AT_SHARE0 + family] * per_share;
            if (family == (still > single ? STANDSTILL : 0)) share += by_one;
            share *= level > 0.0 ? 1.0 : 0.0;
            shares[family] = share;
            if (share > shares[spoken]) spoken = family;
        }
        if (level >= 0.15) s[AT_KIND] = spoken + 1.0;

        /* calibrated tail, but for its exponential */
        const double tenth = 0.1 * factors[MARK_TENTH * a->marks_width];
        const double hundredth = most(0.25 * factors[MARK_HUNDREDTH * a->marks_width], 1.2 * tenth);
        const double decades = strength <= tenth ? strength / tenth : 1.0 + (strength - tenth) / (hundredth - tenth);
        a->decades[i] = DECADE * least(decades, 12.0);
        double moved = s[AT_TENTH] + (warming ? 0.0 : 0.05 * ((strength > tenth ? 1.0 : 0.0) - 0.1));
        s[AT_TENTH] = least(most(moved, -8.0), 3.0);
        moved = s[AT_HUNDREDTH] + (warming ? 0.0 : 0.05 * ((strength > hundredth ? 1.0 : 0.0) - 0.01));
        s[AT_HUNDREDTH] = least(most(moved, -8.0), 3.0);

        /* band */
        const double width = s[AT_WIDTH];
        const double up = width * 3.23 * factors[MARK_UP * a->marks_width];
        const double down = width * 3.23 * factors[MARK_DOWN * a->marks_width];
        moved = s[AT_WIDTH_UP] + 0.05 * ((v > expected + up ? 1.0 : 0.0) - 0.005);
        s[AT_WIDTH_UP] = least(most(moved, -0.7), 1.4);
        moved = s[AT_WIDTH_DOWN] + 0.05 * ((v < expected - down ? 1.0 : 0.0) - 0.005);
        s[AT_WIDTH_DOWN] = least(most(moved, -0.7), 1.4);
        const double deviation = least(fabs(bounded - expected), width > 0.0 ? 10.0 * width : INFINITY);
        s[AT_WIDTH] = width + most(blend(lapse, 2.0 * DAY), 1.0 / (n + 1.0)) * (deviation - width);

        marks[MARK_TENTH * a->marks_width] = s[AT_TENTH];
        marks[MARK_HUNDREDTH * a->marks_width] = s[AT_HUNDREDTH];
        marks[MARK_UP * a->marks_width] = s[AT_WIDTH_UP];
        marks[MARK_DOWN * a->marks_width] = s[AT_WIDTH_DOWN];

        const double middle = n < 2.0 ? NAN : expected + s[AT_ORIGIN];
        out[OUT_SCORE * out_width] = score;
        out[OUT_LEVEL * out_width] = level;
        out[OUT_LOW * out_width] = middle - down;
        out[OUT_EXPECTED * out_width] = middle;
        out[OUT_HIGH * out_width] = middle + up;
        out[OUT_WARMING * out_width] = warming ? 1.0 : 0.0;
        out[OUT_PLAIN * out_width] = warming || strength <= 0.0 ? 1.0 : 0.0;
    }
    return 0;
}
