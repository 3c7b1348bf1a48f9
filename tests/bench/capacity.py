"""The capacity model of docs/capacity.md: what N calls a day need, from measured costs, and a simulation that checks what it
assumes about queues. Prints the tables of that paper; ends with an error where the simulation does not bear the model out.

    python3 tests/bench/capacity.py            tables and check
    python3 tests/bench/capacity.py check      check only"""

import math
import random
import sys

# Measured (docs/decisions.md, sections 7, 8, 32 and 34): seconds of one processor, bytes.
MESSAGES_A_CALL = 2.57
TAKE_IN = 51e-6  # a message over HTTP to the embedded log; wrk's half of two processors taken off
TAKE_IN_KAFKA = 78e-6  # the same to Kafka, read back and decoded; the broker's part included
FOLD = 26e-6  # a message folded, swapped and indexed, at 10 million calls
POLL = 17e-6  # a poll of a report that is remembered
EVENTS_BYTES, CALLS_BYTES = 293, 188  # of tables, a call
KAFKA_BYTES = 900  # a message with its headers in a topic, lz4, before copies
INDEX_BYTES = 20  # on disk, a call
NODE_MEMORY, CALL_MEMORY = 120e6, 19  # an idle node, and what its indexes hold in memory of a call (280 MiB at 10 million)
FOLD_MEMORY = 900e6  # while it folds and swaps at full speed
# Assumed, and to be replaced by one's own.
BUSY_HOUR = 0.14  # of a day's calls
BURST = 3.0  # a second in the busy hour against its mean
FULL = 0.5  # how much of its processors a node may use in such a second
CORES, MEMORY = 8, 32e9  # of a node
RECORDED, RECORDED_BYTES = 0.3, 360e3  # of calls; three minutes of MP3 at 16 kbit/s
KEPT_DAYS = 365
KAFKA_DAYS, COPIES = 14, 3
BROKER_BYTES_A_SECOND = 100e6  # written by one broker, copies included
# Money, in dollars: list prices of a large cloud.
CORE_HOUR, STORE_MONTH, DISK_MONTH, PUT = 0.045, 0.023e-9, 0.08e-9, 5e-6
FOLDS_A_DAY, PUTS_A_FOLD = 1440, 12


def need(calls_a_day):
    messages = calls_a_day * MESSAGES_A_CALL
    peak = messages * BUSY_HOUR / 3600 * BURST
    clustered = calls_a_day >= 1e8
    take_in = TAKE_IN_KAFKA if clustered else TAKE_IN
    cores = peak * (take_in + FOLD) / FULL
    indexes = calls_a_day * KEPT_DAYS * CALL_MEMORY
    nodes = max(1 if not clustered else 2, math.ceil(cores / CORES), math.ceil(indexes / (MEMORY - NODE_MEMORY - FOLD_MEMORY)))
    # A partition is folded by one node, in order, on about one processor.
    partitions = max(1, math.ceil(peak * FOLD / FULL))
    written = peak * KAFKA_BYTES * COPIES
    brokers = max(3, math.ceil(written / BROKER_BYTES_A_SECOND)) if clustered else 0
    tables = calls_a_day * KEPT_DAYS * (EVENTS_BYTES + CALLS_BYTES)
    audio = calls_a_day * KEPT_DAYS * RECORDED * RECORDED_BYTES
    kafka = messages * KAFKA_DAYS * KAFKA_BYTES * COPIES if clustered else 0
    index = calls_a_day * KEPT_DAYS * INDEX_BYTES
    memory = (NODE_MEMORY + FOLD_MEMORY) * nodes + indexes
    # Recordings above 64 KiB are a put each.
    puts = calls_a_day * RECORDED + FOLDS_A_DAY * PUTS_A_FOLD * partitions
    month = {
        "processors": (nodes * CORES + brokers * CORES) * CORE_HOUR * 730,
        "tables": tables * STORE_MONTH,
        "audio": audio * STORE_MONTH,
        "disks": (kafka + index) * DISK_MONTH,
        "puts": puts * 30 * PUT,
    }
    return {
        "calls a day": f"{calls_a_day:.0e}",
        "messages/s, mean": messages / 86400,
        "messages/s, peak": peak,
        "processors at the peak": cores,
        "nodes": nodes,
        "partitions": partitions,
        "brokers": brokers,
        "tables, TB": tables / 1e12,
        "audio, TB": audio / 1e12,
        "Kafka, TB": kafka / 1e12,
        "index, GB": index / 1e9,
        "memory, GB": memory / 1e9,
        **{f"$ a month: {name}": cost for name, cost in month.items()},
        "$ a month": sum(month.values()),
    }


def figure(value):
    if isinstance(value, str):
        return value
    if value == 0:
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def tables():
    columns = [need(10.0**power) for power in (6, 8, 10)]
    names = list(columns[0])
    print("| " + " | ".join([names[0], *(column[names[0]] for column in columns)]) + " |")
    print("|---|---|---|---|")
    for name in names[1:]:
        print("| " + " | ".join([name, *(figure(column[name]) for column in columns)]) + " |")


# The queue: groups form while the one before is written. Who comes waits for the rest of that, then for its own.


def cycle(rate, fixed, each):
    """Seconds of a group where as many come as are taken: fixed + each * (rate * cycle)."""
    return fixed / (1 - rate * each)


def predicted(rate, fixed, each):
    """Mean seconds from arrival to acknowledgement: what is left of the group under way, then one's own. Groups vary as
    a count of arrivals does."""
    mean = cycle(rate, fixed, each)
    variance = rate * mean * each**2 / (1 - (rate * each) ** 2)
    # An empty queue begins at once: a share of arrivals that grows as the queue empties.
    idle = math.exp(-rate * mean)
    left = (mean + variance / mean) / 2
    return left * (1 - idle) + mean


def simulated(rate, fixed, each, count, seed):
    """Mean and 99th percentile of the same, by playing it."""
    dice = random.Random(seed)
    now, waiting, free, taken = 0.0, [], 0.0, []
    arrivals = []
    for _ in range(count):
        now += dice.expovariate(rate)
        arrivals.append(now)
    at = 0
    while at < count:
        begin = max(free, arrivals[at])
        while at < count and arrivals[at] <= begin:
            waiting.append(arrivals[at])
            at += 1
        free = begin + fixed + each * len(waiting)
        taken.extend(free - arrival for arrival in waiting)
        waiting.clear()
    taken.sort()
    return sum(taken) / count, taken[int(count * 0.99)]


def check():
    """At half load the p99 stays below three cycles, and the mean is as predicted; nearer to full it does not."""
    worst = 0.0
    print("\n| log | load | messages/s | mean, ms: model | simulated | p99, ms | cycles |")
    print("|---|---|---|---|---|---|---|")
    for name, fixed, each in (("embedded, 0.2 ms a sync", 0.2e-3, 20e-6), ("slow disk, 5 ms a sync", 5e-3, 20e-6), ("Kafka, 3 ms a batch", 3e-3, 26e-6)):
        for load in (0.1, 0.3, 0.5, 0.7):
            rate = load / each
            model = predicted(rate, fixed, each)
            mean, p99 = simulated(rate, fixed, each, 200_000, 7)
            cycles = p99 / cycle(rate, fixed, each)
            print(f"| {name} | {load} | {rate:,.0f} | {model * 1e3:.2f} | {mean * 1e3:.2f} | {p99 * 1e3:.2f} | {cycles:.1f} |")
            worst = max(worst, abs(mean / model - 1))
            if load <= FULL and cycles > 3:
                sys.exit(f"FAILED: at load {load} the p99 of {name} is {cycles:.1f} cycles; the model says 3 at most")
    if worst > 0.15:
        sys.exit(f"FAILED: the mean of the model is off by {worst:.0%}")
    # A partition that is folded on one processor at half load catches up with a burst of a minute before the next.
    backlog = 60 * BURST * FULL / FOLD - 60 / FOLD
    catch_up = max(0.0, backlog) / ((1 - FULL) / FOLD)
    print(f"\nThe mean of the model is off by {worst:.0%} at most. A minute at {BURST} times the load leaves {catch_up:.0f} s to catch up.")


if __name__ == "__main__":
    if sys.argv[1:] != ["check"]:
        tables()
    check()
