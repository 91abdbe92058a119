/** What a Prometheus says, over its HTTP API. */

const REQUEST_TIMEOUT_MS = 20_000
/** Longer than a check takes. */
const EXEMPLARS_OF_SECONDS = 3_600

export interface Sample {
  metric: Record<string, string>
  value: [number, string]
}

export interface FiringAlert {
  alert: string
  summary: string
}

export interface Prometheus {
  isReady(): Promise<boolean>
  query(expr: string): Promise<Sample[]>
  /** The trace ids that a histogram's buckets name. */
  exemplars(histogram: string): Promise<string[]>
  /** Alerts that are firing now. */
  firing(): Promise<FiringAlert[]>
}

/** @param url without a path */
export function prometheusAt(url: string): Prometheus {
  const asked = async <T>(path: string): Promise<T> => {
    const answer = await fetch(`${url}${path}`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) })
    const body = (await answer.json()) as { status: string; data: T; error?: string }
    if (body.status !== 'success') throw new Error(`Prometheus: ${body.error}`)
    return body.data
  }
  return {
    async isReady() {
      const answer = await fetch(`${url}/-/ready`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) }).catch(
        () => undefined,
      )
      return answer?.ok === true
    },
    query: async (expr) =>
      (await asked<{ result: Sample[] }>(`/api/v1/query?query=${encodeURIComponent(expr)}`)).result,
    async exemplars(histogram) {
      const endSeconds = Date.now() / 1_000
      const period = `start=${endSeconds - EXEMPLARS_OF_SECONDS}&end=${endSeconds}`
      const found = await asked<{ exemplars: { labels: Record<string, string> }[] }[]>(
        `/api/v1/query_exemplars?query=${histogram}&${period}`,
      )
      return found.flatMap(({ exemplars }) => exemplars.map(({ labels }) => labels['trace_id'] ?? ''))
    },
    async firing() {
      const { alerts } = await asked<{
        alerts: { state: string; labels: Record<string, string>; annotations: Record<string, string> }[]
      }>('/api/v1/alerts')
      return alerts
        .filter(({ state }) => state === 'firing')
        .map(({ labels, annotations }) => ({
          alert: labels['alertname'] ?? '',
          summary: annotations['summary'] ?? '',
        }))
    },
  }
}
