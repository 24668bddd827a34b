/* The recurrences of detectors/correlation.py; correlation_compiled.py tells what passes between the two. */
#include "kernels.h"

#include "correlation_face.h"

/* Restored bytes may be any number: what passes the bounds comes round again, as NumPy's numbers do. */
static inline int64_t lapsed(int64_t at, int64_t then) { return (int64_t)((uint64_t)at - (uint64_t)then); }

EXPORT uint32_t correlation_stamp(void) { return STAMP; }

/* Closes the present block of host h by the event i: learns it, and keeps what judging it takes where something may
   come of that. */
static void close_block(struct arguments *a, int64_t h, int64_t i) {
    const int64_t at = a->current[h], made = a->counts[0];
    double *restrict sum = a->sum + h * LANES, *restrict count = a->count + h * LANES, *restrict means = a->mean + h * LANES;
    double *restrict covariance = a->covariance + h * LANES * LANES;
    double *restrict deviation = a->deviation + made * LANES, *restrict clipped = a->clipped + made * LANES;
    double *restrict sizes = a->sizes + made * LANES;
    uint8_t *restrict usable = a->usable + made * LANES;
    int64_t *restrict seen = a->seen + h * LANES;
    double taken[LANES];
    int64_t last = seen[0];
    for (int k = 1; k < LANES; k++) last = seen[k] > last ? seen[k] : last;
    double lapse = 1.0;
    if (last >= 0) {
        const int64_t gap = lapsed(at, last);
        lapse = most((double)(gap < LONGEST_STEP ? gap : LONGEST_STEP), 1.0);
    }
    const double learned = a->learned[h], early = 1.0 / (learned + 1.0);
    const double pace = most(lapse / (lapse + COURSE), early);
    int whole = 1;
    for (int k = 0; k < LANES; k++) {
        const double x = sum[k] / count[k];
        const int there = count[k] > 0 && fabs(x) < 1e100;
        const int active = there || (seen[k] >= 0 && lapsed(at, seen[k]) <= LONGEST_STEP);
        const double mean = there && seen[k] < 0 ? x : means[k];
        const double d = there ? x - mean : 0.0;
        const double sd = sqrt(most(covariance[k * LANES + k], 0.0));
        const int known = active && sd > 1e-12 * fabs(mean);
        const double size = known ? d / sd : 0.0;
        whole = whole && there == active;
        sum[k] = count[k] = 0.0;
        if (there) seen[k] = at;
        deviation[k] = sd;
        usable[k] = (uint8_t)known;
        clipped[k] = least(most(size, -CLIP), CLIP);
        sizes[k] = least(size * size, 1e6);
        taken[k] = sd > 0 ? least(most(d, -TAKEN * sd), TAKEN * sd) : d;
        means[k] = mean + (there ? pace * taken[k] : 0.0);
    }
    a->touched[a->counts[1]++] = h;
    const int judged = whole && learned > DAY / 2.0;
    /* A host's events follow one another: of this one something may be open before long. */
    if (judged || a->open[h] > 0 || (made > 0 && a->closing[(made - 1) * 3] == h)) {
        memcpy(a->before + made * LANES * LANES, covariance, LANES * LANES * sizeof(double));
        int64_t *closing = a->closing + made * 3;
        closing[0] = h, closing[1] = i, closing[2] = at;
        double *scalars = a->scalars + made * 3;
        scalars[0] = lapse, scalars[1] = learned, scalars[2] = judged ? 1.0 : 0.0;
        a->counts[0]++;
    }
    /* A block in which a metric that is usually there is missing says nothing of relations. */
    const double weight = whole ? most(lapse / (lapse + MEMORY), early) : 0.0;
    for (int k = 0; k < LANES; k++) {
        for (int other = 0; other < LANES; other++) {
            const double s = covariance[k * LANES + other];
            covariance[k * LANES + other] = s + weight * (taken[k] * taken[other] - s);
        }
    }
    a->learned[h] = learned + (whole ? 1.0 : 0.0);
}

/* Takes in events from begin on until there is no room for blocks to judge: where it stopped, -1 at an event of a host
   or a lane that there is not. */
EXPORT int64_t correlation_gather(struct arguments *a, int64_t begin, int64_t events) {
    a->counts[0] = 0;
    for (int64_t i = begin; i < events; i++) {
        const int64_t h = a->host[i], lane = a->lane[i], block = a->block[i];
        if (h < 0 || h >= a->hosts || lane < 0 || lane >= LANES) return -1;
        if (block > a->current[h]) {
            if (a->current[h] < 0) {
                a->first[h] = block;
            } else {
                if (a->counts[0] == ROOM) return i;
                close_block(a, h, i);
            }
            a->current[h] = block;
        }
        a->sum[h * LANES + lane] += a->values[i];
        a->count[h * LANES + lane] += 1.0;
    }
    return events;
}

/* What a closed block whose relations are judged says: the lanes' levels, and what to report. */
static int64_t judge_block(struct arguments *a, int64_t m) {
    const int64_t h = a->closing[m * 3], at = a->closing[m * 3 + 2];
    const double lapse = a->scalars[m * 3], learned = a->scalars[m * 3 + 1], gain = lapse / (lapse + SMOOTH);
    const double *sizes = a->sizes + m * LANES, *explained = a->explained + m * LANES, *surprise = a->surprise + m * LANES;
    const uint8_t *usable = a->usable + m * LANES;
    double *evidence = a->evidence + h * LANES, *alone = a->alone + h * LANES, *levels = a->levels + m * LANES;
    double top = -INFINITY, own = -INFINITY;
    for (int k = 0; k < LANES; k++) {
        evidence[k] += gain * (surprise[k] / (surprise[k] + ORDINARY) - evidence[k]);
        alone[k] += gain * (sizes[k] / (sizes[k] + ORDINARY) - alone[k]);
        levels[k] = explained[k] >= EXPLAINED && usable[k] ? evidence[k] : 0.0;
        top = most(top, levels[k]);
    }
    /* A lane that is unusual by itself also spoils what is foretold of the others. */
    for (int k = 0; k < LANES; k++) own = most(own, levels[k] >= INVOLVED * top ? alone[k] : 0.0);
    const double peak = a->peak[h];
    const int64_t day = floor_div(at, DAY);
    const int over = day != a->day[h] && peak > 0;
    double usual = a->usual[h];
    if (over) usual = usual > 0 ? usual + DAY_WEIGHT * (least(peak, 1.5 * usual + 0.05) - usual) : peak;
    a->usual[h] = usual;
    a->day[h] = day;
    a->peak[h] = most(over ? 0.0 : peak, top);
    const double mark = most(FLOOR, USUAL * usual);
    const int ripe = lapsed(at, a->first[h]) >= MATURE && learned + 1.0 >= LEARNED && usual > 0;
    const int64_t state = a->open[h];
    const int opened = state > 0;
    const int high = ripe && !opened && top >= mark;
    const int raised = high && own < ALONE;
    const int64_t calm = opened && top < CALM * mark ? lapsed(a->calm[h], -1) : 0;
    const int ended = opened && (calm >= CALM_BLOCKS || lapsed(at, a->opened[h]) > DAY);
    a->calm[h] = calm;
    /* What a single metric showed at first stays its matter until all is calm again. */
    a->open[h] = raised ? OPEN : high ? LEFT : ended ? 0 : state;
    if (high) a->opened[h] = at;
    return raised ? RAISED : ended && state == OPEN ? OVER : 0;
}

/* What the gathered blocks say, one after the other. What is open ends after a day where no block can be judged, too. */
EXPORT int64_t correlation_judge(struct arguments *a) {
    for (int64_t m = 0; m < a->counts[0]; m++) {
        if (a->scalars[m * 3 + 2] != 0.0) {
            a->told[m] = judge_block(a, m);
            continue;
        }
        const int64_t h = a->closing[m * 3], state = a->open[h];
        const int expired = state > 0 && lapsed(a->closing[m * 3 + 2], a->opened[h]) > DAY;
        a->told[m] = expired && state == OPEN ? OVER : 0;
        if (expired) a->open[h] = 0;
        memset(a->levels + m * LANES, 0, LANES * sizeof(double));
        memset(a->explained + m * LANES, 0, LANES * sizeof(double));
    }
    return a->counts[0];
}
