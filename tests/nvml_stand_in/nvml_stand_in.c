/* A stand-in for NVIDIA's management library: the ABI of libnvidia-ml.so.1, as far as a meter calls it, and no GPU.
 *
 * nvidia-ml-py loads it as it loads the real one. The simulated device draws STAND_IN_WATTS, and its energy counter moves
 * every STAND_IN_TICK_MS, as real ones do every 20 to 100 ms. Declarations follow the NVML API reference.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, GPU_IS_LOST = 15 };

static int initialized;
static double began;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static double setting(const char *name, double otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtod(text, NULL) : otherwise;
}

static int set(const char *name) { return setting(name, 0) != 0; }

static double elapsed(void) { return now() - began; }

static int lost(void) { return set("STAND_IN_LOST_AFTER_MS") && elapsed() * 1000 > setting("STAND_IN_LOST_AFTER_MS", 0); }

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    if (set("STAND_IN_INIT_ERROR")) return (int)setting("STAND_IN_INIT_ERROR", 0);
    if (!initialized) began = now();
    initialized = 1;
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    int was = initialized;
    initialized = 0;
    return was ? SUCCESS : UNINITIALIZED;
}

const char *nvmlErrorString(int result) {
    switch (result) {
    case SUCCESS: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Stand-in Error";
    }
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = 1;
    return initialized ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (!initialized) return UNINITIALIZED;
    if (index != 0) return INVALID_ARGUMENT;
    *device = &initialized;
    return SUCCESS;
}

static int text(char *target, unsigned int length, const char *value) {
    snprintf(target, length, "%s", value);
    return initialized ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    (void)device;
    return text(name, length, "Stand-in GPU");
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    (void)device;
    return text(uuid, length, "GPU-00000000-0000-0000-0000-000000000001");
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    (void)device;
    if (!initialized) return UNINITIALIZED;
    if (set("STAND_IN_NO_ENERGY")) return NOT_SUPPORTED;
    if (lost()) return GPU_IS_LOST;
    double tick = setting("STAND_IN_TICK_MS", 20) / 1000;
    double counted = (double)(uint64_t)(now() / tick) * tick - began + 1000;
    if (set("STAND_IN_RESET_AFTER_MS") && elapsed() * 1000 > setting("STAND_IN_RESET_AFTER_MS", 0)) counted = 0;
    if (set("STAND_IN_STUCK")) counted = 1000;
    *millijoules = (unsigned long long)(counted * setting("STAND_IN_WATTS", 100) * 1000);
    return SUCCESS;
}

/* The real one is an average over the last second, which is why no energy is computed from it. */
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    (void)device;
    double share = elapsed() < 1 ? elapsed() : 1;
    *milliwatts = (unsigned int)(setting("STAND_IN_WATTS", 100) * 1000 * share);
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *milliwatts) {
    (void)device;
    *milliwatts = 250000;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *celsius) {
    (void)device;
    (void)sensor;
    *celsius = 61;
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(void *device, int kind, unsigned int *mhz) {
    (void)device;
    (void)kind;
    *mhz = 1410;
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    (void)device;
    *reasons = (unsigned long long)setting("STAND_IN_THROTTLE", 0);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
    (void)device;
    /* Parts before Ampere know no MIG. */
    if (!set("STAND_IN_KNOWS_MIG") && !set("STAND_IN_MIG")) return NOT_SUPPORTED;
    *current = *pending = (unsigned int)set("STAND_IN_MIG");
    return SUCCESS;
}
