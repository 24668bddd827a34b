/* What the kernels share. Bits must be those of NumPy: nothing is reassociated or fused, and no function of the C
   library is called whose last bit may differ. */
#ifndef OPSRIVER_KERNELS_H
#define OPSRIVER_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch((address), 1, 3)
#else
#define PREFETCH(address) ((void)(address))
#endif

/* NumPy's minimum: NaN passes, and of equals the second is taken. */
static inline double least(double a, double b) { return a < b || a != a ? a : b; }

/* NumPy's maximum. */
static inline double most(double a, double b) { return a > b || a != a ? a : b; }

/* Quotient and rest as Python rounds them; the divisor is positive, so a rest is a valid index. */
static inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static inline int64_t floor_mod(int64_t a, int64_t b) { return a % b + (a % b < 0 ? b : 0); }

#endif
