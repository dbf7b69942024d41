/* A stand-in for NVIDIA's management library: the ABI of libnvidia-ml.so.1, as far as a meter calls it, and no GPU.
 *
 * nvidia-ml-py loads it as it loads the real one. There are STAND_IN_GPUS devices; device n draws (n + 1) times
 * STAND_IN_WATTS, and their energy counters move every STAND_IN_TICK_MS, as real ones do every 20 to 100 ms.
 * Declarations follow the NVML API reference.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15
};
enum { MOST_GPUS = 8, FIELD_POWER_INSTANT = 186, UNSIGNED_INT = 1 };

typedef struct {
    unsigned int field, scope;
    int64_t timestamp, latency_us;
    int type, result;
    union { double d; unsigned int ui; unsigned long ul; unsigned long long ull; long long sll; } value;
} field_value;

typedef struct {
    unsigned int pid;
    unsigned long long used_memory;
    unsigned int gpu_instance, compute_instance;
} process;

static int initialized;
static double began;
static int gpus[MOST_GPUS];
static int mig_instance;

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

static unsigned int count(void) { return (unsigned int)setting("STAND_IN_GPUS", 1); }

static unsigned int index_of(void *device) { return device == &mig_instance ? 0 : (unsigned int)((int *)device - gpus); }

static double watts(void *device) { return setting("STAND_IN_WATTS", 100) * (index_of(device) + 1); }

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
    case NOT_FOUND: return "Not Found";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Stand-in Error";
    }
}

int nvmlDeviceGetCount_v2(unsigned int *found) {
    *found = count();
    return initialized ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (!initialized) return UNINITIALIZED;
    if (index >= count()) return INVALID_ARGUMENT;
    *device = &gpus[index];
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
    char value[64];
    const char *kind = device == &mig_instance ? "MIG" : "GPU";
    snprintf(value, sizeof value, "%s-%08x-0000-0000-0000-000000000001", kind, index_of(device));
    return text(uuid, length, value);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    char value[64];
    if (!initialized) return UNINITIALIZED;
    for (unsigned int index = 0; index < count(); index++) {
        nvmlDeviceGetUUID(&gpus[index], value, sizeof value);
        if (strcmp(value, uuid) == 0) {
            *device = &gpus[index];
            return SUCCESS;
        }
    }
    if (set("STAND_IN_MIG") && strncmp(uuid, "MIG-", 4) == 0) {
        *device = &mig_instance;
        return SUCCESS;
    }
    return NOT_FOUND;
}

int nvmlDeviceIsMigDeviceHandle(void *device, unsigned int *is) {
    *is = device == &mig_instance;
    return initialized ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    if (!initialized) return UNINITIALIZED;
    if (set("STAND_IN_NO_ENERGY") || device == &mig_instance) return NOT_SUPPORTED;
    if (lost()) return GPU_IS_LOST;
    double tick = setting("STAND_IN_TICK_MS", 20) / 1000;
    double counted = (double)(uint64_t)(now() / tick) * tick - began + 1000;
    /* The driver was loaded again: the counter starts at 0 and goes on. */
    if (set("STAND_IN_RESET_AFTER_MS") && elapsed() * 1000 > setting("STAND_IN_RESET_AFTER_MS", 0)) counted -= 1000;
    if (set("STAND_IN_STUCK")) counted = 1000;
    *millijoules = (unsigned long long)(counted * watts(device) * setting("STAND_IN_COUNTER_FACTOR", 1) * 1000);
    return SUCCESS;
}

/* The real one is an average over the last second, which is why field 186 is asked first. */
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    if (set("STAND_IN_NO_POWER")) return NOT_SUPPORTED;
    double share = elapsed() < 1 ? elapsed() : 1;
    *milliwatts = (unsigned int)(watts(device) * 1000 * share);
    return SUCCESS;
}

int nvmlDeviceGetFieldValues(void *device, int length, field_value *values) {
    if (!initialized) return UNINITIALIZED;
    for (int place = 0; place < length; place++) {
        int known = values[place].field == FIELD_POWER_INSTANT && !set("STAND_IN_NO_INSTANT") && !set("STAND_IN_NO_POWER");
        values[place].result = known ? SUCCESS : NOT_SUPPORTED;
        values[place].type = UNSIGNED_INT;
        values[place].value.ui = (unsigned int)(watts(device) * 1000);
    }
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *milliwatts) {
    (void)device;
    *milliwatts = (unsigned int)(setting("STAND_IN_POWER_LIMIT", 250) * 1000);
    return SUCCESS;
}

int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned int *milliwatts) {
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
    if (set("STAND_IN_NO_THROTTLE")) return NOT_SUPPORTED;
    *reasons = (unsigned long long)setting("STAND_IN_THROTTLE", 0);
    return SUCCESS;
}

/* This process and STAND_IN_OTHERS more; with STAND_IN_HOST_PIDS all have numbers of another namespace. */
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *length, process *processes) {
    (void)device;
    if (set("STAND_IN_NO_PROCESSES")) return NOT_SUPPORTED;
    unsigned int found = 1 + (unsigned int)setting("STAND_IN_OTHERS", 0);
    if (*length < found) {
        *length = found;
        return INSUFFICIENT_SIZE;
    }
    *length = found;
    memset(processes, 0, found * sizeof *processes);
    for (unsigned int place = 0; place < found; place++) processes[place].pid = 4000000 + place;
    if (!set("STAND_IN_HOST_PIDS")) processes[found - 1].pid = (unsigned int)getpid();
    return SUCCESS;
}

int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
    (void)device;
    /* Parts before Ampere know no MIG. */
    if (!set("STAND_IN_KNOWS_MIG") && !set("STAND_IN_MIG")) return NOT_SUPPORTED;
    *current = *pending = (unsigned int)set("STAND_IN_MIG");
    return SUCCESS;
}
