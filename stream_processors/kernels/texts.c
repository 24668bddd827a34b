/* Native metrics in KPL aggregates by templates; records/compiled.py says what these are.

   The bytes come from anybody. All that is read of them lies between a begin and an end that the caller gives: lengths that
   they tell are compared with the end before they count, and text is only compared where the numbers around it have been
   found, which tells that it ends before the end. */
#include "kernels.h"
#include "texts_face.h"

static const double powers[] = POWERS;
static const uint8_t reserved[] = RESERVED;

EXPORT uint32_t texts_stamp(void) { return STAMP; }

static inline int digit(uint8_t c) { return c >= '0' && c <= '9'; }

/* Whether a byte may belong to a number. */
static inline int numeric(uint8_t c) { return digit(c) || c == '-' || c == '.' || c == '+' || c == 'E' || c == 'e'; }

/* Where the next number is that is a member of a text's outermost object, or the text's end. */
static int64_t next_number(const uint8_t *data, int64_t begin, int64_t end, int64_t depth) {
    int64_t at = begin;
    while (at < end) {
        uint8_t c = data[at++];
        if (c == '"') {
            while (at < end && data[at] != '"') at += data[at] == '\\' ? 2 : 1;
            at++;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        } else if (depth == 1 && (digit(c) || c == '-')) {
            return at - 1;
        }
    }
    return end;
}

/* As next_number, of a text or of what is left of one behind a name: that begins with the name's last quotation mark. */
static int64_t first_number(const uint8_t *data, int64_t begin, int64_t end) {
    return begin < end && data[begin] == '"' ? next_number(data, begin + 1, end, 1) : next_number(data, begin, end, 0);
}

/* Where the two numbers are that are members of a text's outermost object; 0 if there are not just two. */
static int two_numbers(const uint8_t *data, int64_t begin, int64_t end, int64_t *found) {
    int64_t at = first_number(data, begin, end);
    for (int number = 0; number < 2; number++) {
        if (at == end) return 0;
        found[2 * number] = at;
        while (at < end && numeric(data[at])) at++;
        found[2 * number + 1] = at;
        at = next_number(data, at, end, 1);
    }
    return at == end;
}

/* Where in the table a template is looked for that begins with these bytes, LONGEST at most. Words times random weights:
   of any two texts the upper halves of the sums are the same for one in 2^32 choices of the weights. */
static int64_t place_of(const uint8_t *text, int64_t size, const uint64_t *weights) {
    uint64_t total = 0;
    uint32_t word;
    int64_t words = size / 4, rest = size % 4;
    for (int64_t n = 0; n < words; n++) {
        memcpy(&word, text + 4 * n, 4);
        total += word * weights[n];
    }
    if (rest) {
        word = 0;
        memcpy(&word, text + 4 * words, (size_t)rest);
        total += word * weights[words];
    }
    return (int64_t)((total >> 32) % PLACES);
}

static inline int same(const uint8_t *text, const uint8_t *pool, int64_t begin, int64_t end) {
    return memcmp(text, pool + begin, (size_t)(end - begin)) == 0;
}

/* Whether the bytes around a text's numbers are a template's. */
static int equals(const uint8_t *data, const int64_t *span, const int64_t *known, const uint8_t *pool) {
    return span[FIRST] - span[BEGIN] == known[MIDDLE] - known[FROM]
        && span[SECOND] - span[FIRST_END] == known[TAIL] - known[MIDDLE]
        && span[STOP] - span[SECOND_END] == known[END] - known[TAIL]
        && same(data + span[BEGIN], pool, known[FROM], known[MIDDLE])
        && same(data + span[FIRST_END], pool, known[MIDDLE], known[TAIL])
        && same(data + span[SECOND_END], pool, known[TAIL], known[END]);
}

/* The numbers of texts, whose begin and end are given; zeros where there are not just two. */
EXPORT void texts_find(struct arguments *a, const uint8_t *data, int64_t *spans, int64_t count) {
    (void)a;
    for (int64_t n = 0; n < count; n++) {
        int64_t *span = spans + SPANS * n;
        if (span[STOP] - span[BEGIN] > LONGEST || !two_numbers(data, span[BEGIN], span[STOP], span + FIRST))
            memset(span + FIRST, 0, 4 * sizeof *span);
    }
}

/* Write templates, the first with the given number; leaves their order to those that are new and had a place. */
EXPORT void texts_keep(struct arguments *a, const uint8_t *data, int64_t *spans, int64_t count, int64_t number) {
    int64_t before = -1;
    for (int64_t n = 0; n < count; n++) {
        int64_t *span = spans + SPANS * n, order = span[ORDER];
        if (order == NONE) continue;
        span[ORDER] = NONE;
        int64_t place = place_of(data + span[BEGIN], span[FIRST] - span[BEGIN], a->weights);
        for (int64_t probe = 0; probe < PROBES; probe++) {
            int64_t *here = a->places + (place + probe) % PLACES;
            if (*here) {
                if (!equals(data, span, a->table + FIELDS * (*here - 1), a->pool)) continue;
                before = *here - 1;
                break;
            }
            int64_t *known = a->table + FIELDS * number;
            int64_t at = number ? known[END - FIELDS] : 0;
            known[FROM] = at;
            for (int piece = 0; piece < 3; piece++) {
                int64_t first = piece == 0 ? span[BEGIN] : span[FIRST + 2 * piece - 1];
                int64_t last = piece == 2 ? span[STOP] : span[FIRST + 2 * piece];
                memcpy(a->pool + at, data + first, (size_t)(last - first));
                at += last - first;
                known[FROM + 1 + piece] = at;
            }
            known[TIME_FIRST] = order == TIME;
            known[AFTER] = -1;
            if (before >= 0) a->table[FIELDS * before + AFTER] = number; /* as they followed one another here */
            before = number++;
            *here = number;
            span[ORDER] = order;
            break;
        }
    }
}

/* What a text of a template says. */
struct event {
    int64_t moment; /* -1 where it is no such text */
    double value;
    int exact;          /* whether that is the value */
    int64_t first, end; /* where it is written */
};

/* Where a number ends, and its value if that is exact; -1 where it is none by JSON's grammar, or a long integer. */
static int64_t read_value(const uint8_t *data, int64_t begin, int64_t end, struct event *event) {
    int64_t at = begin, mantissa = 0, digits, decimals = 0;
    int negative = at < end && data[at] == '-';
    at += negative;
    int64_t whole = at;
    event->value = 0.0;
    event->exact = 0;
    for (; at < end && digit(data[at]); at++)
        if (at - whole < 18) mantissa = mantissa * 10 + data[at] - '0';
    digits = at - whole;
    if (digits == 0 || (digits > 1 && data[whole] == '0')) return -1;
    if (at < end && data[at] == '.') {
        int64_t point = ++at;
        for (; at < end && digit(data[at]); at++)
            if (digits + at - point < 18) mantissa = mantissa * 10 + data[at] - '0';
        decimals = at - point;
        if (decimals == 0) return -1;
    }
    if (at < end && (data[at] == 'e' || data[at] == 'E')) {
        at++;
        if (at < end && (data[at] == '+' || data[at] == '-')) at++;
        int64_t power = at;
        while (at < end && digit(data[at])) at++;
        return at > power ? at : -1;
    }
    if (digits + decimals > EXACT_DIGITS || decimals > EXACT_FRACTION) return decimals ? at : -1;
    double value = (double)mantissa / powers[decimals];
    event->value = negative ? -value + 0.0 : value; /* no -0.0 */
    event->exact = 1;
    return at;
}

/* Where epoch milliseconds end that are written as such; -1 where they are not. */
static int64_t read_moment(const uint8_t *data, int64_t begin, int64_t end, int64_t *moment) {
    int64_t at = begin, read = 0;
    for (; at < end && digit(data[at]) && at - begin <= TIME_DIGITS; at++) read = read * 10 + data[at] - '0';
    if (at <= begin || at - begin > TIME_DIGITS || data[begin] == '0') return -1;
    *moment = read;
    return at;
}

/* Time and value of a text if it is of a template. */
static struct event parse(const uint8_t *data, int64_t begin, int64_t end, const int64_t *known, const uint8_t *pool) {
    struct event none = {-1, 0.0, 0, 0, 0}, event = none;
    int64_t first = begin + known[MIDDLE] - known[FROM], gap = known[TAIL] - known[MIDDLE], stop, last;
    stop = known[TIME_FIRST] ? read_moment(data, first, end, &event.moment) : read_value(data, first, end, &event);
    if (stop < 0) return none;
    last = known[TIME_FIRST] ? read_value(data, stop + gap, end, &event) : read_moment(data, stop + gap, end, &event.moment);
    if (last < 0 || end - last != known[END] - known[TAIL]) return none;
    if (!same(data + begin, pool, known[FROM], known[MIDDLE]) || !same(data + stop, pool, known[MIDDLE], known[TAIL])
        || !same(data + last, pool, known[TAIL], known[END]))
        return none;
    event.first = known[TIME_FIRST] ? stop + gap : first;
    event.end = known[TIME_FIRST] ? last : stop;
    return event;
}

/* The template of a text, or -1, and what it says. */
static int64_t lookup(const struct arguments *a, const uint8_t *data, int64_t begin, int64_t end, struct event *event) {
    event->moment = -1;
    if (end - begin > LONGEST) return -1;
    int64_t head = first_number(data, begin, end);
    int64_t place = place_of(data + begin, head - begin, a->weights);
    for (int64_t probe = 0; probe < PROBES; probe++) {
        int64_t number = a->places[(place + probe) % PLACES] - 1;
        if (number < 0) break;
        const int64_t *known = a->table + FIELDS * number;
        if (head - begin != known[MIDDLE] - known[FROM]) continue;
        *event = parse(data, begin, end, known, a->pool);
        if (event->moment >= 0) return number;
    }
    return -1;
}

/* Where a text goes on behind a name that is left open; -1 where it does not begin as expected, or the name is not plain.
   A plain name is one by schemas.names: printable, of some bytes but not too many, and it does not begin as reserved ones do. */
static int64_t behind_name(const struct arguments *a, const uint8_t *data, int64_t begin, int64_t end) {
    int64_t size = a->open[HEAD_SIZE], at = begin + size;
    if (size == 0 || at >= end || memcmp(data + begin, a->head, (size_t)size) != 0) return -1;
    while (at < end && data[at] >= ' ' && data[at] <= '~' && data[at] != '"' && data[at] != '\\') at++;
    int64_t length = at - begin - size;
    if (at >= end || data[at] != '"' || length < 1 || length > LONGEST_NAME) return -1;
    if (length >= (int64_t)sizeof reserved && memcmp(data + begin + size, reserved, sizeof reserved) == 0) return -1;
    return at;
}

/* A protobuf number of up to five bytes; returns the place behind it, or -1 where there is none. */
static inline int64_t varint(const uint8_t *data, int64_t at, int64_t end, int64_t *number) {
    int64_t read = 0;
    for (int n = 0; n < 5 && at + n < end; n++) {
        read |= (int64_t)(data[at + n] & 127) << (7 * n);
        if (data[at + n] < 128) {
            *number = read;
            return at + n + 1;
        }
    }
    *number = 0;
    return -1;
}

/* Where the text of a user record begins, which ends with it, and its partition key; -1 where that is unusual. */
static int64_t user(const uint8_t *data, int64_t at, int64_t stop, int64_t *key) {
    int64_t size;
    if (at >= stop || data[at] != 8) return -1;
    at = varint(data, at + 1, stop, key);
    if (at >= 0 && at < stop && data[at] == 16) at = varint(data, at + 1, stop, &size); /* an explicit hash key */
    if (at < 0 || at >= stop || data[at] != 26) return -1;
    at = varint(data, at + 1, stop, &size);
    return at >= 0 && size > 0 && at + size == stop ? at : -1;
}

struct state {
    int64_t last;   /* template of the last text, or -1 */
    int64_t filled; /* events */
    int64_t unread;
    int64_t looked; /* texts that were not of the template that was expected */
};

/* Events of an aggregate's message into the columns; returns how many, or -1. A value that is not exact is left to be
   read, and with the number -1 a text without a template. */
static int64_t aggregate(
    struct arguments *a, const uint8_t *data, int64_t begin, const int64_t *message, struct state *state
) {
    int64_t at = begin, end = message[UNTIL], keys = 0, highest = -1, count = 0, size, key;
    while (at < end) {
        uint8_t tag = data[at];
        at = varint(data, at + 1, end, &size);
        if (at < 0 || at + size > end) return -1;
        int64_t stop = at + size;
        if (tag == 10 || tag == 18) { /* a partition key, an explicit hash key */
            uint8_t bits = 0;
            for (; at < stop; at++) bits |= data[at];
            if (bits > 127) return -1;
            keys += tag == 10;
            continue;
        }
        if (tag != 26 || count == message[MOST] || state->filled == a->room) return -1;
        at = user(data, at, stop, &key);
        if (at < 0) return -1;
        /* What followed the last one the last time is tried first. */
        struct event event = {-1, 0.0, 0, 0, 0};
        int64_t number = state->last >= 0 ? a->table[FIELDS * state->last + AFTER] : -1;
        int64_t from = a->open[IS_OPEN] ? behind_name(a, data, at, stop) : at;
        if (number >= 0 && from >= 0) event = parse(data, from, stop, a->table + FIELDS * number, a->pool);
        if (event.moment < 0) {
            state->looked++;
            number = from < 0 ? -1 : lookup(a, data, from, stop, &event);
            if (number >= 0 && state->last >= 0) a->table[FIELDS * state->last + AFTER] = number;
        }
        if (event.moment < message[EARLIEST] || event.moment > message[LATEST]) {
            number = -1;
            event.exact = 0;
            event.first = at;
            event.end = stop;
        }
        if (!event.exact) {
            int64_t *left = a->unread + 3 * state->unread++;
            left[0] = state->filled;
            left[1] = event.first;
            left[2] = event.end;
        }
        if (a->open[IS_OPEN]) {
            a->names[2 * state->filled] = number < 0 ? 0 : at + a->open[HEAD_SIZE];
            a->names[2 * state->filled + 1] = number < 0 ? 0 : from;
        }
        a->numbers[state->filled] = number;
        a->moments[state->filled] = event.moment;
        a->values[state->filled++] = event.value;
        highest = key > highest ? key : highest;
        state->last = number;
        count++;
        at = stop;
    }
    return count && highest < keys ? count : -1;
}

/* Events of all aggregates' messages; of one that is not read nothing stays but what was looked up. */
EXPORT void texts_read(struct arguments *a, const uint8_t *data, int64_t count) {
    struct state state = {-1, 0, 0, 0};
    int64_t begin = 0;
    for (int64_t n = 0; n < count; n++) {
        int64_t *message = a->messages + MESSAGES * n;
        struct state before = state;
        message[COUNT] = aggregate(a, data, begin, message, &state);
        if (message[COUNT] < 0) {
            before.looked = state.looked;
            state = before;
        }
        begin = message[UNTIL];
    }
    a->told[0] = state.unread;
    a->told[1] = state.looked;
}
