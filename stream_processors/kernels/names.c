/* Numbers of names; name_table.py says what these are.

   A place of the table is empty or holds a name's number and the upper half of its hash. Names are looked for in groups:
   of each group the places come first, then where the names lie, then the names, so that the processor waits for memory
   that no cache holds once a group and not once a name. */
#include "kernels.h"
#include "names_face.h"

EXPORT uint32_t names_stamp(void) { return STAMP; }

static const uint64_t spread = 0x9E3779B97F4A7C15; /* as in series_index.py */

struct name {
    const uint8_t *text;
    int64_t size;
    uint64_t hash;
};

/* A multiplication moves every bit to those above it, and the fold the upper half to the lower one. */
static inline uint64_t mixed(uint64_t hash) {
    hash *= spread;
    return hash ^ hash >> 32;
}

static uint64_t hash_of(const uint8_t *text, int64_t size) {
    uint64_t hash = (uint64_t)size, word;
    for (; size >= 8; text += 8, size -= 8) {
        memcpy(&word, text, 8);
        hash = mixed(hash ^ word);
    }
    word = 0;
    memcpy(&word, text, (size_t)size);
    return mixed(mixed(hash ^ word));
}

/* The next name, which ends before the mark; the place behind it. */
static const uint8_t *next(const uint8_t *text, const uint8_t *end, struct name *name) {
    const uint8_t *mark = memchr(text, MARK, (size_t)(end - text));
    if (!mark) mark = end;
    name->text = text;
    name->size = mark - text;
    name->hash = hash_of(text, name->size);
    return mark < end ? mark + 1 : end;
}

static inline int tagged(uint64_t place, const struct name *name) { return place && place >> 32 == name->hash >> 32; }

static inline int64_t number_at(uint64_t place) { return (int64_t)(place & UINT32_MAX); }

static int same(const struct arguments *a, int64_t number, const struct name *name) {
    const int64_t *span = a->spans + 2 * number;
    return span[1] - span[0] == name->size && memcmp(a->pool + span[0], name->text, (size_t)name->size) == 0;
}

/* A name's number, or 0; and its place, or the empty one that it may have, or -1 where there are none of either. */
static int64_t look(const struct arguments *a, const struct name *name, int64_t *at) {
    for (uint64_t probe = 0; probe < PROBES; probe++) {
        *at = (int64_t)((name->hash + probe) & (uint64_t)a->mask);
        uint64_t place = a->places[*at];
        if (place == 0) return 0;
        if (tagged(place, name) && same(a, number_at(place), name)) return number_at(place);
    }
    *at = -1;
    return 0;
}

/* The numbers of so many names, 0 where one has none here. */
EXPORT void names_find(struct arguments *a, const uint8_t *data, int64_t size, int64_t count, int64_t *found) {
    const uint8_t *end = data + size;
    struct name names[GROUP];
    uint64_t places[GROUP];
    int64_t at;
    while (count > 0) {
        int64_t some = count < GROUP ? count : GROUP;
        for (int64_t n = 0; n < some; n++) {
            data = next(data, end, names + n);
            PREFETCH(a->places + (names[n].hash & (uint64_t)a->mask));
        }
        for (int64_t n = 0; n < some; n++) {
            places[n] = a->places[names[n].hash & (uint64_t)a->mask];
            if (tagged(places[n], names + n)) PREFETCH(a->spans + 2 * number_at(places[n]));
        }
        for (int64_t n = 0; n < some; n++)
            if (tagged(places[n], names + n)) PREFETCH(a->pool + a->spans[2 * number_at(places[n])]);
        for (int64_t n = 0; n < some; n++) found[n] = look(a, names + n, &at);
        found += some;
        count -= some;
    }
}

/* Take in so many names with their numbers; none that is here already, or has no place. */
EXPORT void names_learn(struct arguments *a, const uint8_t *data, int64_t size, int64_t count, const int64_t *numbers) {
    const uint8_t *end = data + size;
    int64_t at;
    struct name name;
    for (int64_t n = 0; n < count; n++) {
        data = next(data, end, &name);
        if (look(a, &name, &at) || at < 0) continue;
        int64_t *span = a->spans + 2 * numbers[n];
        memcpy(a->pool + a->used[BYTES], name.text, (size_t)name.size);
        span[0] = a->used[BYTES];
        span[1] = a->used[BYTES] += name.size;
        a->places[at] = (name.hash >> 32 << 32) | (uint64_t)numbers[n];
        a->used[TAKEN]++;
    }
}
