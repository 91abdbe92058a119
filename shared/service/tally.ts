import type { Counter, Metric, Registry } from 'prom-client'

/**
 * Metrics for hot paths. prom-client looks up labels at every call, which costs more than validating an event; these are counted in plain numbers and handed
 * over at each scrape.
 */

/** A counter's count for one set of labels. */
export interface Tally {
  count: number
}

/** Adds tallies to a counter at each scrape. Returns a function that gives the tally of some labels, for the caller to keep. */
export function tallies<L extends string>(counter: Counter<L>): (labels: Record<L, string>) => Tally {
  const all = new Map<string, { labels: Record<L, string>; tally: Tally }>()
  Object.assign(counter, {
    collect() {
      for (const { labels, tally } of all.values()) {
        counter.inc(labels, tally.count)
        tally.count = 0
      }
    },
  })
  return (labels) => all.getOrInsertComputed(JSON.stringify(labels), () => ({ labels, tally: { count: 0 } })).tally
}

/** An observation, and the trace that shows why it took so long. */
export interface Exemplar {
  traceId: string
  spanId: string
  value: number
  atMs: number
}

/** One set of labels of a {@link LatencyHistogram}. */
export class LatencySeries {
  readonly buckets: number[]
  sum = 0
  count = 0

  constructor(
    readonly labels: Readonly<Record<string, string>>,
    private readonly upperBoundsSeconds: readonly number[],
  ) {
    this.buckets = upperBoundsSeconds.map(() => 0)
  }

  /** Of each bucket, the last observation whose trace is sampled. */
  exemplars: (Exemplar | undefined)[] | undefined

  /** @param trace undefined: its trace is not sampled */
  observe(seconds: number, trace?: { traceId: string; spanId: string }): void {
    this.sum += seconds
    this.count++
    const bounds = this.upperBoundsSeconds
    // The first bucket that is wide enough, by halving.
    let low = 0
    let high = bounds.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (seconds <= (bounds[middle] as number)) high = middle
      else low = middle + 1
    }
    if (low < bounds.length) this.buckets[low] = (this.buckets[low] as number) + 1
    if (trace === undefined) return
    this.exemplars ??= []
    this.exemplars[low] = { traceId: trace.traceId, spanId: trace.spanId, value: seconds, atMs: Date.now() }
  }
}

/** A Prometheus histogram whose callers keep its series. A series is shown, with zeros, as soon as it is made. */
export class LatencyHistogram {
  readonly type = 'histogram'
  readonly aggregator = 'sum'
  readonly name: string
  readonly help: string
  readonly #upperBoundsSeconds: readonly number[]
  readonly #series: LatencySeries[] = []

  constructor(options: { name: string; help: string; buckets: readonly number[]; registers: readonly Registry[] }) {
    this.name = options.name
    this.help = options.help
    this.#upperBoundsSeconds = options.buckets
    // The registry uses only what this class has; its type wants prom-client's own classes.
    for (const registry of options.registers) registry.registerMetric(this as unknown as Metric)
  }

  series(labels: Readonly<Record<string, string>> = {}): LatencySeries {
    const series = new LatencySeries(labels, this.#upperBoundsSeconds)
    this.#series.push(series)
    return series
  }

  /** Called by the registry: cumulative buckets, sum and count of every series. */
  get() {
    const values: {
      metricName: string
      labels: Record<string, string | number>
      value: number
      exemplar?: Exemplar
    }[] = []
    for (const { labels, buckets, sum, count, exemplars } of this.#series) {
      let below = 0
      const bucket = (le: string | number, value: number, index: number): void => {
        const exemplar = exemplars?.[index]
        values.push({
          metricName: `${this.name}_bucket`,
          labels: { le, ...labels },
          value,
          ...(exemplar && { exemplar }),
        })
      }
      this.#upperBoundsSeconds.forEach((bound, index) => {
        below += buckets[index] ?? 0
        bucket(bound, below, index)
      })
      bucket('+Inf', count, this.#upperBoundsSeconds.length)
      values.push({ metricName: `${this.name}_sum`, labels: { ...labels }, value: sum })
      values.push({ metricName: `${this.name}_count`, labels: { ...labels }, value: count })
    }
    return { name: this.name, help: this.help, type: this.type, values, aggregator: this.aggregator }
  }
}
